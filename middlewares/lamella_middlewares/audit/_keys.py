"""The keys of an audit log: one for digests, and a chain of them for signatures.

Digests are HMAC-SHA256, so that who has the log but not the key cannot try out what was said. Heads
are signed with Ed25519 (RFC 8032). A key is followed by another through a statement that both sign:
who trusts either can then trust the other.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

from lamella import ConfigurationError, SecretError
from lamella._canonical import encode, form
from lamella_middlewares.audit._record import canonical

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

LEAST_KEY: Final = 16
"""Bytes that the text of a digest key has at least; shorter ones can be tried out."""

KEY_TYPE: Final = "lamella-audit-key-1"

_FORMS: Final = "an Ed25519 key as PEM, or its 32 bytes in base64"


def has_cryptography() -> bool:
    """Whether signatures can be made and checked."""
    return importlib.util.find_spec("cryptography") is not None


def need_cryptography(option: str) -> None:
    """Refuse an option that needs the extra, where it is not installed.

    Raises:
        ConfigurationError: Naming the extra.
    """
    if not has_cryptography():
        msg = f"{option} needs the package cryptography, which is not installed."
        raise ConfigurationError(msg, hint='Install it: pip install "lamella[audit]".')


# --- digests -----------------------------------------------------------------------------------


@attrs.frozen(repr=False)
class DigestKey:
    """Makes digests of content and of names.

    Attributes:
        id: Which key it is, in 16 hexadecimal digits that tell nothing of it.
    """

    id: str
    _content: bytes
    _identity: bytes

    @classmethod
    def of(cls, text: str) -> DigestKey:
        """The key from the value of a secret.

        Raises:
            SecretError: If it is too short to be one.
        """
        key = text.encode("utf-8", "surrogatepass")
        if len(key) < LEAST_KEY:
            msg = f"Audit(key=...): the secret has less than {LEAST_KEY} bytes."
            hint = "Make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'."
            raise SecretError(msg, hint=hint)
        return cls(
            hmac.digest(key, b"lamella audit 1: id", "sha256").hex()[:16],
            hmac.digest(key, b"lamella audit 1: content", "sha256"),
            hmac.digest(key, b"lamella audit 1: identity", "sha256"),
        )

    def content(self, tenant: str | None, field: str, value: Any) -> str:
        """The digest of a field of a request or an answer: 64 hexadecimal digits.

        Equal for two values if and only if they say the same, in the same field, for the same
        tenant.

        Raises:
            TypeError: If the value has no canonical form.
        """
        data = content_bytes(tenant, field, value)
        return hmac.digest(self._content, data, "sha256").hex()

    def identity(self, what: str, tenant: str | None, name: str) -> str:
        """What stands for a user, session or tenant where names are not to be written down."""
        data = encode([1, what, None if what == "tenant" else tenant, name])
        return f"hmac:{hmac.digest(self._identity, data, 'sha256').hex()[:32]}"


def content_bytes(tenant: str | None, field: str, value: Any) -> bytes:
    """What a digest of content is made of.

    Raises:
        TypeError: If the value has no canonical form; the message shows nothing of it.
    """
    try:
        return encode([1, tenant, field, form(value)])
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        what = str(error) if type(error) is TypeError else type(error).__name__
        raise TypeError(f"the field {field!r} has no canonical form: {what}") from None


# --- signatures --------------------------------------------------------------------------------


class Signer:
    """An Ed25519 private key.

    Attributes:
        public: The public key: 32 bytes in base64.
    """

    __slots__ = ("_private", "public")

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = _b64(private.public_key().public_bytes_raw())

    @classmethod
    def of(cls, text: str) -> Signer:
        """The key from the value of a secret: PEM (PKCS 8), or 32 bytes in base64.

        Raises:
            SecretError: If it is neither. The message shows nothing of it.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            if "-----BEGIN" in text:
                private = load_pem_private_key(text.encode("ascii"), None)
            else:
                private = Ed25519PrivateKey.from_private_bytes(_raw(text))
        except (ValueError, TypeError, ArithmeticError):
            private = None
        if not isinstance(private, Ed25519PrivateKey):
            msg = "Audit(sign_with=...): the secret is no Ed25519 private key without a password."
            hint = f"Give {_FORMS}: openssl genpkey -algorithm ed25519 -out audit.pem makes one."
            raise SecretError(msg, hint=hint)
        return cls(private)

    def sign(self, data: bytes) -> str:
        """The signature: 64 bytes in base64."""
        return _b64(self._private.sign(data))


def public_key(text: str) -> str:
    """A public key as it stands in heads, from PEM or base64.

    Raises:
        ConfigurationError: If it is neither.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        if "-----BEGIN" in text:
            public = load_pem_public_key(text.encode("ascii"))
        else:
            public = Ed25519PublicKey.from_public_bytes(_raw(text))
    except (ValueError, TypeError, ArithmeticError):
        public = None
    if not isinstance(public, Ed25519PublicKey):
        msg = "What was given as the public key of an audit log is none."
        hint = (
            f"Give {_FORMS}, or the path of a file that is there: "
            "openssl pkey -in audit.pem -pubout prints it."
        )
        raise ConfigurationError(msg, hint=hint)
    return _b64(public.public_bytes_raw())


def signed_by(public: Any, signature: Any, data: bytes) -> bool:
    """Whether a signature over bytes is that key's. Needs cryptography."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if not isinstance(public, str) or not isinstance(signature, str):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(_raw(public)).verify(_raw(signature, 64), data)
    except (InvalidSignature, ValueError):
        return False
    return True


def _raw(text: str, size: int = 32) -> bytes:
    try:
        data = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if len(data) != size:
        raise ValueError(f"not {size} bytes in base64")
    return data


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


# --- one key after another ---------------------------------------------------------------------


def succession(old: Signer, new: Signer, *, log: str, at: int) -> dict[str, Any]:
    """The statement that a key is followed by another, signed by both.

    Args:
        old: The key that was trusted so far.
        new: The one after it.
        log: The log's id.
        at: When, in microseconds since the epoch.
    """
    statement = {"type": KEY_TYPE, "log": log, "old": old.public, "new": new.public, "at": at}
    data = canonical(statement)
    return {**statement, "signed_by_old": old.sign(data), "signed_by_new": new.sign(data)}


def succeeds(record: Mapping[str, Any], log: str | None) -> bool:
    """Whether a statement of a succession is signed by both keys, and is about this log.

    Without cryptography it is not known whether it is signed.
    """
    names = ("type", "log", "old", "new", "at")
    statement = {name: record.get(name) for name in names}
    if statement["type"] != KEY_TYPE or (log is not None and statement["log"] != log):
        return False
    try:
        data = canonical(statement)
    except (TypeError, ValueError):
        return False
    old, new = statement["old"], statement["new"]
    if not has_cryptography():
        return isinstance(old, str) and isinstance(new, str)
    return signed_by(old, record.get("signed_by_old"), data) and signed_by(
        new, record.get("signed_by_new"), data
    )


def trusted(keys: Iterable[str], pairs: Iterable[tuple[str, str]]) -> frozenset[str]:
    """The keys that can be trusted if these are: those before them, and those after them.

    Not those after one before: a key that was given up, perhaps because it was stolen, must not
    introduce others to who trusts its successor.

    Args:
        keys: The keys that are trusted anyway.
        pairs: Each key that is followed by another, and that one.
    """
    after: dict[str, list[str]] = {}
    before: dict[str, list[str]] = {}
    for old, new in set(pairs):
        after.setdefault(old, []).append(new)
        before.setdefault(new, []).append(old)
    given = frozenset(keys)
    return _reached(given, before) | _reached(given, after)


def _reached(keys: frozenset[str], ways: Mapping[str, Sequence[str]]) -> frozenset[str]:
    found, left = set(keys), list(keys)
    while left:
        fresh = [key for key in ways.get(left.pop(), ()) if key not in found]
        found.update(fresh)
        left += fresh
    return frozenset(found)
