"""How many pixels a picture has, from the first bytes of its file: PNG, JPEG, GIF, WebP, BMP.

Nothing is decoded: a few numbers at known places are read, so that a damaged or hostile file costs
no more than a good one.
"""

from __future__ import annotations

import struct
from typing import Final, TypeAlias

Size: TypeAlias = tuple[int, int]
"""Width and height in pixels, each at least one."""

_SEGMENTS: Final = 512
"""So many parts of a JPEG before its picture are looked at; cameras write less than thirty."""
_EXTENDED: Final = 30
_LOSSLESS: Final = 25
"""Bytes of a WebP's beginning up to the end of its size."""
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Marks of a JPEG after which its size stands."""
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
"""Marks of a JPEG without a length after them."""


def image_size(data: bytes) -> Size | None:
    """The width and height of a picture as it is stored; None if that cannot be told.

    A rotation that stands in its metadata changes no count: every published rule takes both sides
    alike.

    Args:
        data: The file.
    """
    try:
        found = _read(data)
    except (struct.error, IndexError):
        return None
    return found if found is not None and min(found) > 0 else None


def _read(data: bytes) -> Size | None:
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _pair(">II", data, 16) if data[12:16] == b"IHDR" else None
    if data.startswith(b"\xff\xd8"):
        return _jpeg(data)
    if data.startswith((b"GIF87a", b"GIF89a")):
        return _pair("<HH", data, 6)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp(data)
    if data.startswith(b"BM"):
        width, height = _pair("<ii", data, 18)
        return abs(width), abs(height)
    return None


def _pair(form: str, data: bytes, at: int) -> Size:
    first, second = struct.unpack_from(form, data, at)
    return first, second


def _jpeg(data: bytes) -> Size | None:
    at = 2
    for _ in range(_SEGMENTS):
        if data[at] != 0xFF:
            return None
        mark = data[at + 1]
        at += 2
        if mark == 0xFF:  # filling, of which as much may stand there as somebody likes
            at -= 1
            continue
        if mark in _ALONE:
            continue
        if mark in _FRAMES:
            height, width = _pair(">HH", data, at + 3)
            return width, height
        if mark in {0xD9, 0xDA}:  # the end, or the picture itself: no size came
            return None
        length: int = struct.unpack_from(">H", data, at)[0]
        at += length
    return None


def _webp(data: bytes) -> Size | None:
    kind = data[12:16]
    if kind == b"VP8X" and len(data) >= _EXTENDED:
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = _pair("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L" and data[20:21] == b"\x2f" and len(data) >= _LOSSLESS:
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return None
