"""What stands for a value: `⟦EMAIL_K7Q2M9XA⟧`, the same for the same value wherever it comes from.

The token is a keyed digest: nobody without the key can tell from it what it stands for, nor make
one that stands for something. Tenants, and sessions where they have vaults, have tokens of their
own. A random number for each request would do the same, and no cache would ever hit.
"""

from __future__ import annotations

import hmac
import re
from base64 import b32encode
from typing import Final

OPEN: Final = "⟦"
CLOSE: Final = "⟧"
LITERAL: Final = "literal"
"""The kind of what looks like a placeholder, and is not one of ours."""

KIND: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
"""What a kind is called."""

SHORTEST: Final = 8
LONGEST: Final = 32
"""Characters of a token. Eight are 40 bits: two values of one vault rarely share them."""

TOKEN: Final = f"[0-9A-HJKMNP-TV-Z]{{{SHORTEST},{LONGEST}}}"
BODY: Final = f"[A-Z][A-Z0-9_]{{0,39}}_{TOKEN}"
FORM: Final = re.compile(f"{OPEN}{BODY}{CLOSE}")
"""All that could be taken for a placeholder."""

_VERSION: Final = "1"
_CROCKFORD: Final = bytes.maketrans(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"
)
"""Crockford's alphabet has no I, L, O and U, which are misread; the other one is RFC 4648's."""

_NOTHING: Final = b"\xff" * 8


def packed(*parts: str | None) -> bytes:
    """Texts as bytes from which each can be told: its length before it; None is not the empty."""
    pieces: list[bytes] = []
    for part in parts:
        if part is None:
            pieces.append(_NOTHING)
        else:
            data = part.encode("utf-8", "surrogatepass")
            pieces += (len(data).to_bytes(8, "big"), data)
    return b"".join(pieces)


class Mint:
    """Makes placeholders for one tenant and scope.

    Args:
        key: The key of the digests.
        tenant: Whose values they are.
        session: The session whose vault keeps them; None for what lasts as long as a call.
    """

    __slots__ = ("_key", "_scope", "_session", "_tenant")

    def __init__(self, key: bytes, tenant: str | None, session: str | None) -> None:
        self._key = key
        self._tenant = tenant
        self._session = session
        self._scope = b""  # made when there is something to digest

    def digest(self, kind: str, value: str) -> bytes:
        """What a value's tokens are made of."""
        if not self._scope:
            self._scope = packed(_VERSION, self._tenant, self._session)
        return hmac.digest(self._key, self._scope + packed(kind, value), "sha256")

    def placeholder(self, kind: str, digest: bytes, length: int = SHORTEST) -> str:
        """What stands for the value with that digest.

        Args:
            kind: What it is.
            digest: Its digest.
            length: Characters of the token.
        """
        data = digest[:5] if length == SHORTEST else digest[:20]
        token = b32encode(data).translate(_CROCKFORD)[:length].decode("ascii")
        return f"{OPEN}{kind.upper()}_{token}{CLOSE}"

    def mark(self, kind: str, value: str) -> str:
        """A digest to be shown in place of a value that nobody is to get back."""
        return f"[{kind.upper()}:{self.digest(kind, value)[:6].hex()}]"


def kind_of(placeholder: str) -> str:
    """The kind of what it stands for."""
    return placeholder[1:].rpartition("_")[0].lower()
