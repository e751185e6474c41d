"""How kept bytes are packed: compressed, and signed or sealed where others could write them."""

from __future__ import annotations

import hashlib
import hmac
import zlib
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

import attrs

from lamella._answer_codec import UnreadableError
from lamella._canonical import encode, form
from lamella._errors import ConfigurationError
from lamella._options import flag, refused, whole
from lamella._secrets import Secret

LEAST: Final = 16
"""Characters of a key. What is shorter could be found by trying."""

MOST: Final = 64 << 20
"""Bytes of an answer before it is compressed, and that what was compressed may unfold to."""


def _secret(value: Any) -> Any:
    return Secret.of(value) if isinstance(value, str) else value


def _a_secret(layer: object, option: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, Secret):
        # What was given may be the key itself, in whatever form.
        raise ConfigurationError(
            f"{type(layer).__name__}({option.name}=...) was given {type(value).__name__}.",
            hint="Give a Secret, a reference such as 'env:CACHE_KEY', or None.",
        )


def _from_or_none(layer: object, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise refused(layer, option, value, "bytes, 0 or more, or None to compress nothing")


@attrs.frozen
class Packing:
    """How answers are packed before they are kept.

    With another key, or another `encrypt`, nothing is found of what was kept before: it is kept
    anew, beside the old, which stays until it expires or is purged. What was kept under another key
    is not purged by its tenant or tags, only with all.

    Args:
        compress_above: Bytes from which on an answer is compressed, 0 or more; None never does.
        max_bytes: The most bytes that one answer may take when packed, 1 or more; a larger one is
            not kept.
        key: With what kept answers are signed, so that nobody else's are believed: a `Secret`, or a
            reference such as `"env:CACHE_KEY"`, of 16 characters at least. A store that others can
            write to (it says so by `shared`) needs one. None checks for damage only.
        encrypt: Whether they are encrypted with the key too, so that nobody else can read them.
            Needs `pip install 'lamella[audit]'` (cryptography).

    Raises:
        ConfigurationError: If an option is wrong.
    """

    compress_above: int | None = attrs.field(default=4096, validator=_from_or_none)
    max_bytes: int = attrs.field(default=1 << 20, validator=whole(1))
    key: Secret | None = attrs.field(default=None, converter=_secret, validator=_a_secret)
    encrypt: bool = attrs.field(default=False, validator=flag)

    def __attrs_post_init__(self) -> None:
        """Refuse to encrypt with nothing."""
        if not self.encrypt:
            return
        if self.key is None:
            raise ConfigurationError(
                "Packing(encrypt=True) has no key to encrypt with.",
                hint="Give one: Packing(key='env:CACHE_KEY', encrypt=True).",
            )
        if find_spec("cryptography") is None:
            raise ConfigurationError(
                "Packing(encrypt=True) needs the package cryptography, which is not installed.",
                hint="Run: pip install 'lamella[audit]'.",
            )


class Packer:
    """Packs and unpacks under one key.

    What it makes begins with a mark, a version and what was done, holds a digest or seal over all
    of that and the place, and ends with a checksum. The checksum tells damage from what somebody
    else has written, or was written for another place.

    Args:
        packing: How.
        secret: The key's value; None where there is none.

    Raises:
        ConfigurationError: If the key is too short to be one.
    """

    __slots__ = ("_compress_above", "_max_bytes", "_mode", "_names", "_seal", "_sign")

    def __init__(self, packing: Packing, secret: bytes | None = None) -> None:
        if secret is not None and len(secret) < LEAST:
            raise ConfigurationError(
                f"Packing(key=...): the key has fewer than {LEAST} characters.",
                hint="Give a random one, for example by `openssl rand -base64 32`.",
            )
        self._max_bytes = packing.max_bytes
        above = packing.compress_above
        self._compress_above = MOST if above is None else above
        self._sign = b"" if secret is None else _subkey(secret, b"signature")
        self._names = b"" if secret is None else _subkey(secret, b"names")
        self._seal: Any = None
        self._mode = 0 if secret is None else _SIGNED
        if packing.encrypt and secret is not None:
            self._mode = _SEALED
            self._seal = _sealing(secret)

    def __repr__(self) -> str:
        return "<Packer>"

    def pack(self, place: str, data: bytes, *, limited: bool = True) -> bytes:
        """The bytes to keep at a place: they can be unpacked from there only.

        Args:
            place: Where.
            data: What.
            limited: Whether `max_bytes` holds for them.

        Raises:
            ValueError: If they are more than `max_bytes`.
        """
        if len(data) > MOST:
            raise _too_large(len(data), MOST)
        head, body = self.way, data
        if len(data) > self._compress_above and _shrinks(data):
            small = zlib.compress(data, 1)
            if len(small) + _SIZE < len(data) - len(data) // _WORTH:
                head, body = _HEADS[self._mode | _SMALL] + len(data).to_bytes(_SIZE, "big"), small
        elif not data and self._seal is not None:
            # Before its version 46 cryptography seals some bytes, not none: as if compressed.
            head, body = _HEADS[self._mode | _SMALL] + bytes(_SIZE), zlib.compress(data)
        where = _place(place)
        if self._seal is not None:
            packed: bytes = head + self._seal.encrypt(body, [where, head])
        else:
            packed = head + self._digest(where, head, body) + body
        packed += zlib.crc32(packed).to_bytes(_CHECK, "big")
        if limited and len(packed) > self._max_bytes:
            raise _too_large(len(packed), self._max_bytes)
        return packed

    def unpack(self, place: str, data: bytes) -> bytes:
        """What was packed.

        Raises:
            UnreadableError: If it was not packed so, or is damaged.
        """
        flags = _flags(data)
        if flags & ~_SMALL != self._mode:
            raise UnreadableError("foreign")
        after = _HEAD + (_SIZE if flags & _SMALL else 0)
        head, rest = data[:after], data[after:-_CHECK]
        body: bytes = self._opened(_place(place), head, rest)
        return _unfolded(body, int.from_bytes(head[_HEAD:], "big")) if flags & _SMALL else body

    @property
    def way(self) -> bytes:
        """The version, and whether it signs or seals: what was packed in another way is foreign."""
        return _HEADS[self._mode]

    @property
    def unpacked(self) -> tuple[int, int] | None:
        """Up to how many bytes of text nothing is compressed, and how many may be kept at all.

        None where answers are signed or sealed, so that they are to be kept packed in any case.
        """
        return None if self._mode else (self._compress_above, self._max_bytes)

    def digest(self, *texts: Any) -> str:
        """32 hexadecimal digits for texts (of a tenant), under the key where there is one.

        Other values that a key can be made of are taken too; `1` and `"1"` differ, and so do
        `"ab", "c"` and `"a", "bc"`.
        """
        made = hashlib.blake2b(digest_size=16, key=self._names, person=b"lamella names")
        for text in texts:
            if isinstance(text, str):
                kind, data = b"s", text.encode("utf-8", "surrogatepass")
            else:
                kind, data = b"v", encode(form(text))
            made.update(kind + len(data).to_bytes(8, "big") + data)
        return made.hexdigest()

    def _opened(self, where: bytes, head: bytes, rest: bytes) -> bytes:
        """What stands behind the head, if it was written with this key and for this place."""
        if self._seal is not None:
            return _unsealed(self._seal, rest, [where, head])
        digest, body = rest[:_DIGEST], rest[_DIGEST:]
        if not hmac.compare_digest(digest, self._digest(where, head, body)):
            raise UnreadableError("foreign")
        return body

    def _digest(self, where: bytes, head: bytes, body: bytes) -> bytes:
        made = hashlib.blake2b(
            where, digest_size=_DIGEST, key=self._sign, person=b"lamella packing"
        )
        made.update(head)
        made.update(body)
        return made.digest()


# --- the form of what is kept --------------------------------------------------------------------

_MARK: Final = b"LAM"
_VERSION: Final = 1
_HEAD: Final = len(_MARK) + 2
_SIZE: Final = 4
_DIGEST: Final = 32
_CHECK: Final = 4

_SAMPLE: Final = 1024
_WORTH: Final = 8  # what compressing does not make smaller by this part is kept as it is

_SMALL, _SIGNED, _SEALED = 1, 2, 4
_HEADS: Final = tuple([_MARK + bytes([_VERSION, flags]) for flags in range(8)])


def _flags(data: bytes) -> int:
    """What was done to make the data, which are whole.

    Raises:
        UnreadableError: If they are damaged, of another version, or nothing of this kind.
    """
    ours = data.startswith(_MARK) or _MARK.startswith(data)
    if len(data) < _HEAD + _CHECK:
        raise UnreadableError("corrupt" if ours else "foreign")
    check = zlib.crc32(data[len(_MARK) : -_CHECK], zlib.crc32(_MARK))
    if int.from_bytes(data[-_CHECK:], "big") != check:
        raise UnreadableError("corrupt" if ours else "foreign")
    if not ours:
        raise UnreadableError("corrupt")  # all is as it was but the mark
    if data[_HEAD - 2] != _VERSION:
        raise UnreadableError("outdated")
    flags = data[_HEAD - 1]
    if flags & _SMALL and len(data) < _HEAD + _SIZE + _CHECK:
        raise UnreadableError("foreign")
    return flags


def unpacked_size(data: bytes) -> int:
    """Bytes that unpacking packed ones makes at most, as they say themselves."""
    if len(data) >= _HEAD + _SIZE and data[_HEAD - 1] & _SMALL:
        return max(len(data), min(int.from_bytes(data[_HEAD : _HEAD + _SIZE], "big"), MOST))
    return len(data)


def _shrinks(data: bytes) -> bool:
    """Whether compressing is worth a try: of long data, a piece of the middle tells.

    Numbers and pictures hardly shrink, and would be unfolded each time that they are read.
    """
    if len(data) <= 4 * _SAMPLE:
        return True
    middle = len(data) // 2
    sample = data[middle : middle + _SAMPLE]
    return len(zlib.compress(sample, 1)) < _SAMPLE - _SAMPLE // _WORTH


def _unfolded(data: bytes, size: int) -> bytes:
    """What was compressed, of that size and never more."""
    if size > MOST:
        raise UnreadableError("foreign")
    work = zlib.decompressobj()
    try:
        found = work.decompress(data, size + 1)
    except zlib.error:
        found = b""
    if len(found) != size or not work.eof or work.unused_data:
        raise UnreadableError("foreign")  # the digest is right: whoever wrote it, wrote it wrong
    return found


def _place(place: str) -> bytes:
    data = place.encode("utf-8", "surrogatepass")
    return len(data).to_bytes(4, "big") + data


def _too_large(size: int, most: int) -> ValueError:
    return ValueError(f"An answer takes {size} bytes, and at most {most} are kept.")


# --- keys ----------------------------------------------------------------------------------------


def _subkey(secret: bytes, use: bytes) -> bytes:
    """A key of its own for each use."""
    return hmac.digest(secret, b"lamella kept answers 1 " + use, "sha256")


def import_sealing() -> None:
    """Import what seals, which takes tens of milliseconds."""
    import_module("cryptography.hazmat.primitives.ciphers.aead")


def _sealing(secret: bytes) -> Any:
    """AES-256 in SIV mode (RFC 5297).

    It needs no number that is used once, so that many processes may seal under one key.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

    return AESSIV(_subkey(secret, b"sealing a") + _subkey(secret, b"sealing b"))


def _unsealed(seal: Any, data: bytes, bound: list[bytes]) -> bytes:
    from cryptography.exceptions import InvalidTag

    try:
        found: bytes = seal.decrypt(data, bound)
    except InvalidTag:
        found = b""
    else:
        return found
    raise UnreadableError("foreign")
