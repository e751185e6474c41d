"""Who asks: a token, or what a login gives one for."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol, TypeAlias

import attrs

from lamella import Secret, SecretError

_SERVICE_ACCOUNT: Final = "file:/var/run/secrets/kubernetes.io/serviceaccount/token"

HINT: Final = (
    "Set VAULT_TOKEN or VAULT_TOKEN_FILE, log in with `vault login`, or set VAULT_ROLE_ID and "
    "VAULT_SECRET_ID, or VAULT_KUBERNETES_ROLE."
)


def _secret(given: Secret | str) -> Secret:
    return Secret.of(given)


@attrs.frozen
class Token:
    """A token that somebody else gives and renews.

    Attributes:
        token: A `Secret` or a reference: `"env:VAULT_TOKEN"`, `"file:PATH"`. It is read for each
            request, as agents replace it.
    """

    token: Secret = attrs.field(converter=_secret)


@attrs.frozen(kw_only=True)
class AppRole:
    """A login by AppRole.

    Attributes:
        role_id: The role's id, which is no secret.
        secret_id: The secret id, as a `Secret` or a reference; None for roles that need none.
        mount: Where the method is mounted.
    """

    role_id: str
    secret_id: Secret | None = attrs.field(
        default=None, converter=attrs.converters.optional(_secret)
    )
    mount: str = "approle"

    async def proof(self) -> Mapping[str, str]:
        """What is sent to log in."""
        found = {"role_id": self.role_id}
        if self.secret_id is not None:
            found["secret_id"] = (await self.secret_id.fetch()).strip()
        return found


@attrs.frozen(kw_only=True)
class Kubernetes:
    """A login by the service account of a pod.

    Attributes:
        role: The role that Vault knows.
        jwt: Where the service account's token is; None is where Kubernetes puts it.
        mount: Where the method is mounted.
    """

    role: str
    jwt: Secret | None = attrs.field(default=None, converter=attrs.converters.optional(_secret))
    mount: str = "kubernetes"

    async def proof(self) -> Mapping[str, str]:
        """What is sent to log in."""
        jwt = self.jwt or Secret(_SERVICE_ACCOUNT)
        return {"role": self.role, "jwt": (await jwt.fetch()).strip()}


class Login(Protocol):
    """How to get a token."""

    @property
    def mount(self) -> str:
        """Where the method is mounted."""
        ...

    async def proof(self) -> Mapping[str, str]:
        """What is sent to log in.

        Raises:
            SecretError: If something of it cannot be had.
        """
        ...


Auth: TypeAlias = Token | AppRole | Kubernetes
"""How a program shows who it is."""


def from_environment(environ: Mapping[str, str]) -> Auth | None:
    """What the environment says; None if it says nothing, and there is no token of `vault login`.

    Args:
        environ: The variables.
    """
    for ready, make in _WAYS:
        if all(environ.get(name) for name in ready):
            return make(environ)
    home = environ.get("HOME") or str(Path("~").expanduser())
    file = Path(home) / ".vault-token"
    return Token(Secret(f"file:{file}")) if file.is_file() else None


def _by_role(environ: Mapping[str, str]) -> Auth:
    secret = "env:VAULT_SECRET_ID" if environ.get("VAULT_SECRET_ID") else None
    return AppRole(role_id=environ["VAULT_ROLE_ID"], secret_id=secret)


def _by_token(_: Mapping[str, str]) -> Auth:
    return Token(Secret("env:VAULT_TOKEN"))


def _by_file(environ: Mapping[str, str]) -> Auth:
    return Token(Secret(f"file:{environ['VAULT_TOKEN_FILE']}"))


def _by_pod(environ: Mapping[str, str]) -> Auth:
    return Kubernetes(role=environ["VAULT_KUBERNETES_ROLE"])


_WAYS: Final[tuple[tuple[tuple[str, ...], Callable[[Mapping[str, str]], Auth]], ...]] = (
    (("VAULT_TOKEN",), _by_token),
    (("VAULT_TOKEN_FILE",), _by_file),
    (("VAULT_ROLE_ID",), _by_role),
    (("VAULT_KUBERNETES_ROLE",), _by_pod),
)


def nobody() -> SecretError:
    """The error of a program that does not say who it is."""
    return SecretError("There are no credentials for Vault.", hint=HINT, elsewhere=True)


def system_environment() -> Mapping[str, str]:
    """The variables of this process."""
    return os.environ
