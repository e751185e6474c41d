"""The keys that placeholders and sessions' vaults are made with."""

from __future__ import annotations

import hashlib
import hmac
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from lamella import ConfigurationError
from lamella._warm import Warm

if TYPE_CHECKING:
    from lamella import Context, Secret

LEAST: Final = 16
"""Characters of a key. What is shorter could be guessed from the placeholders that it makes."""

_HOME: Final = ("shared", "pii", "key")


def _import() -> None:
    import_module("cryptography.hazmat.primitives.ciphers.aead")
    import_module("cryptography.hazmat.primitives.kdf.hkdf")


_loading: Final = Warm(_import)


class Keys:
    """What one secret is used for, each use with a key of its own.

    Args:
        secret: The secret's value.
    """

    __slots__ = ("_seal", "_secret", "tokens")

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._seal: Any = None
        self.tokens = hmac.digest(secret, b"lamella pii placeholders 1", "sha256")

    def __repr__(self) -> str:
        return "<Keys>"

    @property
    def seal(self) -> Any:
        """AES-256 in SIV mode (RFC 5297), under a key by HKDF (RFC 5869).

        It needs no number that is used once, so that many processes may seal under one key; and it
        gives the same for the same, so that a value need not be opened to see whether it is one.
        """
        if self._seal is None:
            from cryptography.hazmat.primitives.ciphers.aead import AESSIV
            from cryptography.hazmat.primitives.hashes import SHA256
            from cryptography.hazmat.primitives.kdf.hkdf import HKDF

            derive = HKDF(algorithm=SHA256(), length=64, salt=None, info=b"lamella pii vault 1")
            self._seal = AESSIV(derive.derive(self._secret))
        return self._seal


def must_have_sealing() -> None:
    """Refuse sessions where nothing can seal their values.

    Raises:
        ConfigurationError: If the extra is not installed.
    """
    if find_spec("cryptography") is None:
        raise ConfigurationError(
            'PII(scope="session") seals what it keeps, and `cryptography` is not installed.',
            hint='Run: pip install "lamella[pii]".',
        )


def must_be_a_key(value: str) -> None:
    """Refuse what could be guessed.

    Raises:
        ConfigurationError: If it is too short.
    """
    if len(value) < LEAST:
        raise ConfigurationError(
            f"PII(key=...): the key has fewer than {LEAST} characters.",
            hint="Give a random one, for example by `openssl rand -base64 32`.",
            layer="pii",
        )


async def keys_of(secret: Secret | None, context: Context, *, sealing: bool = False) -> Keys:
    """The keys made of a secret; without one, of a number that this process keeps to itself.

    Args:
        secret: The secret, or None.
        context: The call that needs them.
        sealing: Whether values are to be sealed, which takes imports.

    Raises:
        SecretError: If the secret has no value.
        ConfigurationError: If it is too short to be one.
    """
    local = context.ports.stores.local
    if secret is None:
        return local.get(_HOME, lambda: Keys(context.ports.random.randbytes(32)))
    if sealing and not _loading.done:
        await _loading.ready(context)
    fetch = partial(secret.fetch, ports=context.ports)
    return kept(local, await context.wait(fetch, what="PII fetched its key"))


def kept(local: Any, value: str) -> Keys:
    """The keys of a secret's value, worked out once.

    Raises:
        ConfigurationError: If it is too short to be one.
    """
    must_be_a_key(value)
    data = value.encode("utf-8", "surrogatepass")
    name = hashlib.sha256(b"lamella pii keys" + data).hexdigest()
    found: Keys = local.get((*_HOME, name), partial(Keys, data))
    return found
