"""Where Vault is, how its certificate is checked, and the tokens that are kept for it."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from lamella import SecretError
from lamella._fork_locks import fork_safe_lock
from lamella.transports._headers import encoded_headers
from lamella.transports._http import HTTPOptions

if TYPE_CHECKING:
    from lamella.transports._dialect import Headers
    from lamella_vault._tokens import Tokens

MAX_BYTES: Final = 4 << 20
"""The most bytes of an answer. Vault itself takes no larger secrets."""


@attrs.frozen
class TLS:
    """What decides how Vault's certificate is checked."""

    authorities: str | None
    certificate: str | None
    key: str | None
    unchecked: bool

    def options(self) -> HTTPOptions:
        """Reads files, if there is a client certificate: call it in a thread."""
        verify: bool | str | ssl.SSLContext = False if self.unchecked else self.authorities or True
        if self.certificate is not None and self.key is not None:
            try:
                verify = self._context()
                # With a password, so that nobody is asked for one at the terminal.
                verify.load_cert_chain(self.certificate, self.key, password="")
            except (OSError, ssl.SSLError) as error:
                msg = f"The client certificate for Vault cannot be used ({type(error).__name__})."
                hint = "VAULT_CLIENT_CERT, VAULT_CLIENT_KEY and VAULT_CACERT name PEM files."
                raise SecretError(msg, hint=hint) from None
        elif self.certificate is not None or self.key is not None:
            msg = "The client certificate for Vault is half of one."
            raise SecretError(msg, hint="Set both VAULT_CLIENT_CERT and VAULT_CLIENT_KEY.")
        return HTTPOptions(verify=verify, max_body_bytes=MAX_BYTES, max_idle=0)

    def _context(self) -> ssl.SSLContext:
        path = self.authorities
        if self.unchecked:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return context
        if path is not None and Path(path).is_dir():
            return ssl.create_default_context(capath=path)
        return ssl.create_default_context(cafile=path)


@attrs.frozen
class Server:
    """Where one asking goes."""

    address: str
    namespace: str | None
    tls: TLS
    agent: bool

    def headers(self, token: str | None, more: Mapping[str, str]) -> Headers:
        found = {"X-Vault-Request": "true", "Accept": "application/json", **more}
        if self.namespace:
            found["X-Vault-Namespace"] = self.namespace
        if token is not None:
            found["X-Vault-Token"] = token
        return encoded_headers(found)


class KnownTokens:
    """The tokens of one source. Thread-safe."""

    __slots__ = ("_lock", "_tokens")

    def __init__(self) -> None:
        self._lock = fork_safe_lock()
        self._tokens: tuple[object, Tokens] | None = None

    def get(self, key: object, make: Callable[[], Tokens]) -> Tokens:
        """The tokens of a way to log in; those of another are forgotten."""
        held = self._tokens
        if held is None or held[0] != key:
            new = key, make()  # its lock is made outside of ours
            with self._lock:
                held = self._tokens
                if held is None or held[0] != key:
                    held = self._tokens = new
        return held[1]
