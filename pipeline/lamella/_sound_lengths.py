"""How long sound is, from the bytes of its file: what providers bill by.

Nothing is decoded. No header is believed that says less than the fastest sound of its kind would
take: what is reserved for a call goes by it, and the file may come from anybody.
"""

from __future__ import annotations

import struct
from typing import Final

COMPRESSED: Final = 16_000
"""Bytes of a second, where a file does not say."""

_PCM: Final = 48_000
"""Bytes of a second of bare `pcm16`: 24,000 samples of two bytes."""
_FASTEST: Final = 1_536_000
"""Bytes of a second at most: 192,000 samples of two channels, of four bytes each."""
_FASTEST_LOSSY: Final = 64_000
"""The same of MP3, Opus, Vorbis and AAC."""
_CHUNKS: Final = 64
_PLAIN_WAV: Final = frozenset({1, 3, 0xFFFE})
"""Forms of a WAV whose samples are stored as they are."""

_BITRATES: Final = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
"""Of an MP3's frames of layer 3, version 1, in kilobits."""
_BITRATES_2: Final = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
"""The same of versions 2 and 2.5."""
_RATES: Final = (44_100, 48_000, 32_000)
"""Samples of a second in version 1; half of them in version 2, a quarter in version 2.5."""
_OPUS_RATE: Final = 48_000
_LAST_PAGE: Final = 66_000
"""Bytes from the end within which an Ogg file's last page begins."""


def sound_seconds(data: bytes, kind: str | None) -> float:
    """About how long a sound is.

    WAV, FLAC, Ogg, M4A and MP3 say it. Of an MP3 with a varying bit rate that does not say how many
    frames it has, the first frame speaks for all; of everything else its size speaks, at 16 kB a
    second.

    Args:
        data: The file.
        kind: `Audio.format`; it only matters for `pcm16`, which has no header.
    """
    try:
        found = _stated_seconds(data)
    except (struct.error, IndexError):
        found = None
    if found is None:
        found = len(data) / (_PCM if kind in {"pcm16", "pcm"} else COMPRESSED)
    return max(found, len(data) / _FASTEST)


def _stated_seconds(data: bytes) -> float | None:
    if data.startswith(b"RIFF") and data[8:12] == b"WAVE":
        return _wav(data)
    if data.startswith(b"fLaC"):
        return _flac(data)
    if data.startswith(b"OggS"):
        found = _ogg(data)
    elif data[4:8] == b"ftyp":
        found = _iso_media(data)
    else:
        found = _mp3(data)
    return None if found is None else max(found, len(data) / _FASTEST_LOSSY)


def _wav(data: bytes) -> float | None:
    at, rate = 12, 0
    for _ in range(_CHUNKS):
        name, size = struct.unpack_from("<4sI", data, at)
        if name == b"fmt ":
            form, channels, samples, rate, _, bits = struct.unpack_from("<HHIIHH", data, at + 8)
            if form in _PLAIN_WAV:  # players go by these, and never look at the bytes of a second
                rate = samples * channels * bits // 8
        elif name == b"data":
            held = len(data) - at - 8
            # A stream's header may say nothing, or any size; there is never more than there is.
            return min(size or held, held) / rate if rate else None
        at += 8 + size + size % 2
    return None


def _flac(data: bytes) -> float | None:
    packed = int.from_bytes(data[18:26], "big")
    samples, rate = packed & 0xFFFFFFFFF, packed >> 44
    if not samples or not rate:  # a stream does not know how many there will be
        return None
    raw = rate * ((packed >> 41 & 7) + 1) * ((packed >> 36 & 31) + 1) / 8
    return max(samples / rate, len(data) / raw)


def _ogg(data: bytes) -> float | None:
    last = data.rfind(b"OggS", max(0, len(data) - _LAST_PAGE))
    end: int = struct.unpack_from("<Q", data, last + 6)[0]
    if data[28:36] == b"OpusHead":
        rate = _OPUS_RATE
    elif data[28:35] == b"\x01vorbis":
        rate = struct.unpack_from("<I", data, 40)[0]
    else:
        return None
    return end / rate if rate and end >> 63 == 0 else None


def _iso_media(data: bytes) -> float | None:
    at = data.find(b"mvhd") + 4
    if at < 4:
        return None
    long = data[at] == 1
    rate, length = struct.unpack_from(">IQ" if long else ">II", data, at + (20 if long else 12))
    return length / rate if rate and length else None


def _mp3(data: bytes) -> float | None:
    at = 0
    if data.startswith(b"ID3"):
        at = 10 + sum((data[6 + place] & 0x7F) << 7 * (3 - place) for place in range(4))
    if data[at] != 0xFF or data[at + 1] & 0xE6 != 0xE2:  # no frame of layer 3
        return None
    version = data[at + 1] >> 3 & 3  # 3 is version 1, 2 is 2, 0 is 2.5
    first = version == 3
    stated = data[at + 4 : at + 48]
    tag = max(stated.find(b"Xing"), stated.find(b"Info"))
    if tag >= 0 and stated[tag + 7] & 1 and data[at + 2] >> 2 & 3 < len(_RATES):
        frames: int = struct.unpack_from(">I", stated, tag + 8)[0]
        samples = _RATES[data[at + 2] >> 2 & 3] // (1 if first else 2 if version else 4)
        return frames * (1_152 if first else 576) / samples or None
    rate = (_BITRATES if first else _BITRATES_2)[data[at + 2] >> 4] * 125
    return (len(data) - at) / rate if rate else None
