"""Reading secrets with Azure's own libraries, which block and so run in worker threads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

import attrs

from lamella import ConfigurationError, SecretError
from lamella._fork_locks import fork_safe_lock
from lamella._nothing import NOTHING
from lamella._options import span
from lamella_azure_keyvault._problems import problem_of
from lamella_azure_keyvault._reference import Reference, parsed

CONNECT_SECONDS: Final = 5.0
RETRIES: Final = 2
_MOST_CLIENTS: Final = 64


def _is_credential(_: object, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not callable(getattr(value, "get_token", None)):
        msg = f"AzureKeyVault({option.name}=...) is a {type(value).__name__}."
        hint = "Give a credential of azure.identity (not of azure.identity.aio), or None."
        raise SecretError(msg, hint=hint)


@attrs.frozen(kw_only=True, eq=False)
class AzureKeyVault:
    """A source of secrets. Called, in a worker thread, with what stands behind `azure-keyvault:`.

    Give another one a name of its own with
    `lamella.registry().add(secret_sources={"azure-eu": AzureKeyVault(credential=...)})`.

    Attributes:
        credential: Who asks: a credential of `azure.identity`. None is `DefaultAzureCredential`:
            variables, workload identity, managed identity, the login of `az`.
        timeout: Seconds that the vault may be silent; above 0. Connecting has 5, and two retries.
        client_options: What else Azure's `SecretClient` is made with, such as
            `{"verify_challenge_resource": False}` for a vault behind a host of one's own.
    """

    credential: Any = attrs.field(default=None, validator=_is_credential, repr=False)
    timeout: float = attrs.field(default=10.0, validator=span)
    client_options: Mapping[str, Any] = attrs.field(default=NOTHING, repr=False)
    # By process: a fork must not speak over its parent's connections.
    _clients: dict[tuple[int, str], Any] = attrs.field(
        init=False, factory=dict[tuple[int, str], Any], repr=False
    )
    _found: dict[int, Any] = attrs.field(init=False, factory=dict[int, Any], repr=False)
    _lock: Any = attrs.field(init=False, factory=fork_safe_lock, repr=False)

    def __call__(self, reference: str, /) -> str:
        """The value of a secret.

        Args:
            reference: What stands behind `azure-keyvault:`.

        Raises:
            SecretError: If it cannot be had. Neither values nor Azure's own words are in it.
        """
        wanted = parsed(reference)
        value, problem = self._read(wanted)
        if problem is not None:
            raise problem
        return value

    def close(self) -> None:
        """Close its connections; it can be used again."""
        with self._lock:
            clients = [one for (pid, _), one in self._clients.items() if pid == os.getpid()]
            self._clients.clear()
        for client in clients:
            client.close()

    def _read(self, wanted: Reference) -> tuple[str, SecretError | None]:
        try:
            found = self._client(wanted.host).get_secret(wanted.name, wanted.version).value
        except ConfigurationError:
            raise
        except Exception as error:  # noqa: BLE001 - Azure's libraries raise many kinds
            return "", problem_of(error, wanted)
        if isinstance(found, str) and found:
            return found, None
        return "", SecretError(f"The {wanted.shown} is empty.", hint="Write a value to it.")

    def _client(self, host: str) -> Any:
        key = os.getpid(), host
        client = self._clients.get(key)
        if client is None:
            made = self._made(host)
            with self._lock:
                if len(self._clients) >= _MOST_CLIENTS:
                    self._clients.clear()
                client = self._clients.setdefault(key, made)
        return client

    def _made(self, host: str) -> Any:
        try:
            secrets = import_module("azure.keyvault.secrets")
            credential = self.credential or self._default_credential()
        except ImportError as error:
            msg = "Secrets of Azure Key Vault need azure-identity and azure-keyvault-secrets."
            hint = "Run `pip install lamella-azure-keyvault`."
            raise ConfigurationError(msg, hint=hint) from error
        options: dict[str, Any] = {
            "connection_timeout": CONNECT_SECONDS,
            "read_timeout": self.timeout,
            "retry_total": RETRIES,
            "retry_backoff_factor": 0.2,
            "retry_backoff_max": 1,
            **self.client_options,
        }
        return secrets.SecretClient(f"https://{host}", credential, **options)

    def _default_credential(self) -> Any:
        found = self._found.get(os.getpid())
        if found is None:
            made = import_module("azure.identity").DefaultAzureCredential()
            with self._lock:
                found = self._found.setdefault(os.getpid(), made)
        return found


azure_keyvault = AzureKeyVault()
"""The source of `azure-keyvault:...`: all as the environment says."""
