"""How long sound is and how many pages a document has, from the bytes: what providers bill by.

Nothing is decoded. Where a file does not say, its size stands in: 16 kB of compressed sound for a
second, 20 bytes of a document for a token.
"""

from __future__ import annotations

import re
import struct
from typing import Final

AUDIO_BYTES: Final = 1_600
"""Of compressed sound for a token: 16 kB and 10 tokens a second."""
AUDIO_TOKENS: Final = 10
"""Tokens of a second of sound, where no card says more: OpenAI's audio models."""
FILE_BYTES: Final = 20
"""Of a document for a token; documents are mostly not text."""

_SECOND: Final = AUDIO_BYTES * AUDIO_TOKENS
_PCM: Final = 48_000
"""Bytes of a second of bare `pcm16`: 24,000 samples of two bytes."""
_CHUNKS: Final = 64
_SCANNED: Final = 2 * 1024 * 1024
"""Bytes of a document in which pages are counted; the rest is taken to be like them."""
_REMEMBERED: Final = 256
_TEXTUAL: Final = frozenset(
    {"application/json", "application/xml", "application/yaml", "application/javascript"}
)
_PAGE: Final = re.compile(rb"/Type\s*/Page(?![A-Za-z])")

_BITRATES: Final = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
"""Of an MP3's first layer-3 frame, version 1, in kilobits."""
_BITRATES_2: Final = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
"""The same of versions 2 and 2.5."""

_seen: dict[tuple[int, int], int] = {}


def sound_seconds(data: bytes, kind: str | None) -> float:
    """About how long a sound is.

    WAV, FLAC and MP3 of a constant bit rate say it; of an MP3 with a varying one the first frame
    speaks for all.

    Args:
        data: The file.
        kind: `Audio.format`; it only matters for `pcm16`, which has no header.
    """
    try:
        found = _stated_seconds(data)
    except (struct.error, IndexError):
        found = None
    if found is not None:
        return found
    return len(data) / (_PCM if kind in {"pcm16", "pcm"} else _SECOND)


def _stated_seconds(data: bytes) -> float | None:
    if data.startswith(b"RIFF") and data[8:12] == b"WAVE":
        return _wav(data)
    if data.startswith(b"fLaC"):
        packed = int.from_bytes(data[18:26], "big")
        rate = packed >> 44
        return (packed & 0xFFFFFFFFF) / rate if rate else None
    at = 0
    if data.startswith(b"ID3"):
        at = 10 + sum((data[6 + place] & 0x7F) << 7 * (3 - place) for place in range(4))
    if data[at] == 0xFF and data[at + 1] & 0xE6 == 0xE2:  # a frame of layer 3
        rates = _BITRATES if data[at + 1] & 0x18 == 0x18 else _BITRATES_2
        rate = rates[data[at + 2] >> 4] * 125
        return (len(data) - at) / rate if rate else None
    return None


def _wav(data: bytes) -> float | None:
    at, rate = 12, 0
    for _ in range(_CHUNKS):
        name, size = struct.unpack_from("<4sI", data, at)
        if name == b"fmt ":
            rate = struct.unpack_from("<I", data, at + 16)[0]
        elif name == b"data":
            # A stream's header may say any size; there is never more than there is.
            return min(size, len(data) - at - 8) / rate if rate else None
        at += 8 + size + size % 2
    return None


def document_pages(data: bytes) -> int | None:
    """How many pages a PDF has; None if it is none, or hides them in compressed objects.

    Of documents above 2 MB the first 2 MB are looked at. A count is remembered by a hash.
    """
    if not data.startswith(b"%PDF-"):
        return None
    key = (hash(data), len(data))
    found = _seen.get(key)
    if found is None:
        looked_at = data[:_SCANNED]
        found = round(len(_PAGE.findall(looked_at)) * len(data) / len(looked_at))
        if len(_seen) >= _REMEMBERED:
            _seen.clear()
        _seen[key] = found
    return found or None


def is_text(media_type: str | None) -> bool:
    """Whether a document of that type is read as the text that it is."""
    if media_type is None:
        return False
    plain = media_type.partition(";")[0].strip().lower()
    return plain.startswith("text/") or plain in _TEXTUAL or plain.endswith(("+json", "+xml"))
