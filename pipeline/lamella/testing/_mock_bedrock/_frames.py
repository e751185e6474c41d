"""Amazon's event streams as bytes: each event a message with its lengths, headers and checksums.

A message is its length and that of its headers, a CRC-32 of these two, the headers, the payload,
and a CRC-32 of all before it; numbers are 32 bits, the most significant byte first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import pack
from typing import Final
from zlib import crc32

from lamella.testing._http_body import Chunk, Pause
from lamella.testing._mock_faults import MockFaults
from lamella.testing._mock_sse import Frame

EVENT_STREAM: Final = "application/vnd.amazon.eventstream"

EXCEPTIONS: Final = frozenset(
    {"internalServerException", "modelStreamErrorException", "serviceUnavailableException",
     "throttlingException", "validationException"}
)  # fmt: skip
"""The exceptions that the stream of Converse can bring."""

ERROR: Final = "error "
"""How the name of a frame begins that is an error of no modelled kind; its code follows."""

_STRING: Final = 7


def write_frames(frames: Sequence[Frame], faults: MockFaults, pause: float) -> list[Chunk]:
    """The bytes of a stream, one chunk for each event, with the pauses between them.

    Args:
        frames: The events. The name says what each is: an event, one of `EXCEPTIONS`, or `ERROR`.
        faults: Not asked: this framing can be written in one way only.
        pause: Seconds before each event that is a token, except the first.
    """
    del faults
    chunks: list[Chunk] = []
    tokens = 0
    for frame in frames:
        if frame.token:
            if tokens and pause > 0:
                chunks.append(Pause(pause))
            tokens += 1
        chunks.append(message(_headers(frame), b"" if _is_error(frame) else frame.data.encode()))
    return chunks


def message(headers: Mapping[str, str], payload: bytes) -> bytes:
    """One message; its headers are texts."""
    head = b"".join([_header(name, value) for name, value in headers.items()])
    lengths = pack("!II", 12 + len(head) + len(payload) + 4, len(head))
    body = b"".join([lengths, pack("!I", crc32(lengths)), head, payload])
    return body + pack("!I", crc32(body))


def _header(name: str, value: str) -> bytes:
    word, text = name.encode(), value.encode()
    return b"".join([pack("!B", len(word)), word, pack("!BH", _STRING, len(text)), text])


def _is_error(frame: Frame) -> bool:
    return (frame.event or "").startswith(ERROR)


def _headers(frame: Frame) -> Mapping[str, str]:
    name = frame.event or ""
    if _is_error(frame):
        return {
            ":error-code": name.removeprefix(ERROR),
            ":error-message": frame.data,
            ":message-type": "error",
        }
    if name in EXCEPTIONS:
        return {
            ":exception-type": name,
            ":content-type": "application/json",
            ":message-type": "exception",
        }
    return {
        ":event-type": name,
        ":content-type": "application/json",
        ":message-type": "event",
    }
