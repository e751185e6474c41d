"""Files of every kind, as small as they can be and still say what they are."""

from __future__ import annotations

import struct
import zlib


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int = 640, height: int = 480) -> bytes:
    """A PNG's beginning, and its end."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IEND", b"")


def jpeg(width: int = 640, height: int = 480, *, camera: int = 0) -> bytes:
    """A JPEG up to its size, behind so many bytes of what a camera writes."""
    exif = b"\xff\xe1" + struct.pack(">H", camera + 2) + bytes(camera) if camera else b""
    frame = b"\xff\xff\xc2" + struct.pack(">HBHHB", 8, 8, height, width, 0)
    return b"\xff\xd8" + exif + frame + b"\xff\xd9"


def gif(width: int = 640, height: int = 480) -> bytes:
    """A GIF's beginning."""
    return b"GIF89a" + struct.pack("<HH", width, height) + bytes(3)


def webp(kind: str, width: int = 640, height: int = 480) -> bytes:
    """A WebP of one of its three kinds: `lossy`, `lossless` or `extended`."""
    bodies = {
        "lossy": b"VP8 " + bytes(7) + b"\x9d\x01\x2a" + struct.pack("<HH", width, height),
        "lossless": b"VP8L" + bytes(4) + b"\x2f" + struct.pack("<I", width - 1 | height - 1 << 14),
        "extended": b"VP8X"
        + bytes(8)
        + (width - 1).to_bytes(3, "little")
        + (height - 1).to_bytes(3, "little"),
    }
    body = b"WEBP" + bodies[kind]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp(width: int = 640, height: int = 480) -> bytes:
    """A BMP's beginning; its height may be negative."""
    return b"BM" + bytes(12) + struct.pack("<Iii", 40, width, -height)


def wav(seconds: float, rate: int = 8_000) -> bytes:
    """Silence, one byte a sample."""
    body = bytes(round(seconds * rate))
    form = struct.pack("<HHIIHH", 1, 1, rate, rate, 1, 8)
    chunks = b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def mp3(seconds: float) -> bytes:
    """As long as it would be at 128 kilobits, behind a tag."""
    tag = b"ID3\x04\x00\x00" + bytes([0, 0, 1, 0]) + bytes(128)
    return tag + (b"\xff\xfb\x90\x00").ljust(round(seconds * 16_000), b"\0")


def flac(seconds: float, rate: int = 44_100) -> bytes:
    """A FLAC's description of itself."""
    packed = rate << 44 | 1 << 41 | 15 << 36 | round(seconds * rate)
    return b"fLaC\x80\x00\x00\x22" + bytes(10) + packed.to_bytes(8, "big") + bytes(16)


def pdf(pages: int) -> bytes:
    """A document of so many pages, in plain objects."""
    objects = b"".join(b"<< /Type /Page /Parent 1 0 R >>\n" for _ in range(pages))
    return b"%PDF-1.7\n<< /Type /Pages /Count 9 >>\n" + objects + b"%%EOF"


def ogg(seconds: float) -> bytes:
    """Opus: the first page, and the last with the number of its last sample."""
    first = b"OggS\0\x02" + bytes(8) + bytes(12) + b"\x01\x13" + b"OpusHead" + bytes(11)
    last = b"OggS\0\x04" + struct.pack("<Q", round(seconds * 48_000)) + bytes(12)
    return first + last


def m4a(seconds: float) -> bytes:
    """Sound in an ISO media file, of 1,000 units a second."""
    length = struct.pack(">II", 1_000, round(seconds * 1_000))
    head = b"\0\0\0\x6cmvhd" + bytes(12) + length + bytes(80)
    return b"\0\0\0\x10ftypM4A " + bytes(4) + head


def vbr(seconds: float) -> bytes:
    """An MP3 of a varying bit rate, which says how many frames it has."""
    frames = round(seconds * 44_100 / 1_152)
    return b"\xff\xfb\x90\x00" + bytes(32) + b"Xing\0\0\0\x01" + struct.pack(">I", frames)
