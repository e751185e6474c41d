"""What kind of file some bytes are, from how they begin. A file's name is never asked."""

from __future__ import annotations

import re
from typing import Final

IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
"""Pictures that every provider with eyes takes."""

SOUNDS: Final = frozenset(
    {"audio/wav", "audio/mpeg", "audio/flac", "audio/ogg", "audio/aac", "audio/mp4", "audio/aiff"}
)
"""Sound that some provider takes."""

FORMATS: Final = {
    "audio/wav": "wav",
    "audio/mpeg": "mp3",
    "audio/flac": "flac",
    "audio/ogg": "ogg",
    "audio/aac": "aac",
    "audio/mp4": "m4a",
    "audio/aiff": "aiff",
}
"""How `Audio.format` calls them."""

LOOKED_AT: Final = 4_096
"""Bytes from the beginning of a file that tell what it is."""

_BEGINNINGS: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"%PDF-", "application/pdf"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"\x1a\x45\xdf\xa3", "video/webm"),
    (b"{\\rtf", "application/rtf"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
)
_RIFF: Final = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
_BRANDS: Final = {
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"hevc": "image/heic",
    b"mif1": "image/heif",
    b"msf1": "image/heif",
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
    b"qt  ": "video/quicktime",
}
"""The kinds of ISO media files, which all begin alike; others are video."""
_OFFICE: Final = "application/vnd.openxmlformats-officedocument."
_ZIPPED: Final = (
    (b"word/", f"{_OFFICE}wordprocessingml.document"),
    (b"xl/", f"{_OFFICE}spreadsheetml.sheet"),
    (b"ppt/", f"{_OFFICE}presentationml.presentation"),
)
_NO_TEXT: Final = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_SVG: Final = re.compile(rb"\A\s*(?:<[?!][^>]*>\s*)*<svg\b")
_HTML: Final = re.compile(rb"\A\s*(?:<!--[^>]*-->\s*)*<(?:!doctype html|html)\b", re.IGNORECASE)


def media_type_of(data: bytes) -> str | None:
    """The MIME type of a file, from its first bytes; None for what is not known.

    Text is `text/plain`, or `text/html` and `image/svg+xml` where it begins as such: nobody can
    tell Markdown from CSV by looking.

    Args:
        data: The file, or at least its first 4,096 bytes.
    """
    for beginning, kind in _BEGINNINGS:
        if data.startswith(beginning):
            return kind
    return _boxed(data) or _framed(data) or _text(data[:LOOKED_AT])


def _boxed(data: bytes) -> str | None:
    """Of files that begin alike and say further on what is in them."""
    if data.startswith(b"RIFF"):
        return _RIFF.get(data[8:12])
    if data.startswith(b"FORM") and data[8:12] in {b"AIFF", b"AIFC"}:
        return "audio/aiff"
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12], "video/mp4")
    if data.startswith(b"PK\x03\x04"):
        return next((kind for inside, kind in _ZIPPED if inside in data), "application/zip")
    return None


def _framed(data: bytes) -> str | None:
    """Of files with so short a beginning that more of them must fit."""
    if data.startswith(b"BM") and data[6:10] == bytes(4):
        return "image/bmp"
    if data.startswith(b"ID3") and data[3:4] < b"\x10":
        return "audio/mpeg"
    if data[:1] == b"\xff" and b"\xe0" <= data[1:2] < b"\xfe":  # FF FE is UTF-16
        return "audio/aac" if data[1] & 0xF6 == 0xF0 else "audio/mpeg"
    return None


def _text(beginning: bytes) -> str | None:
    if not beginning or _NO_TEXT.search(beginning):
        return None
    try:
        beginning.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(beginning) - 3:  # not just a character that was cut
            return None
    if _SVG.match(beginning):
        return "image/svg+xml"
    return "text/html" if _HTML.match(beginning) else "text/plain"
