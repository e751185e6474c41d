"""The framing of AWS's event streams (`application/vnd.amazon.eventstream`).

A frame is a prelude (the frame's length, that of its headers, a checksum of these), headers, a
payload, and a checksum of all of it; numbers are big-endian. Both checksums are verified, so that
what arrives damaged is an error and no answer.
"""

from __future__ import annotations

from struct import Struct
from typing import Final
from zlib import crc32

import msgspec

from lamella._errors import ProtocolError, ResponseTooLargeError
from lamella.transports._dialect import Message

FAILURE: Final = "!"
"""In front of a message's kind: the service reports an exception of that name."""

_PRELUDE: Final = Struct(">III")
_NUMBER: Final = Struct(">I")
_CHECKSUM_BYTES: Final = 4
_LEAST: Final = _PRELUDE.size + _CHECKSUM_BYTES
_BYTES, _STRING = 6, 7
_FIXED: Final = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""How many bytes the values of the other types of headers have."""


class EventStreamReader:
    """Reads one stream; see `MessageReader`. Where the bytes are cut makes no difference.

    An event is a message of its event type. An exception's kind is its name behind `FAILURE`.

    Args:
        max_message_bytes: The most bytes that one frame may have; at least 1.
        provider: Who sends them, for messages.
    """

    __slots__ = ("_kinds", "_max", "_pending", "_provider")

    def __init__(self, max_message_bytes: int, provider: str = "bedrock") -> None:
        self._max = max_message_bytes
        self._provider = provider
        self._pending = bytearray()
        self._kinds: dict[bytes, str] = {}  # a stream has a handful of distinct headers

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are complete with these bytes.

        Raises:
            ResponseTooLargeError: If a frame is larger than the bound.
            ProtocolError: If the bytes are no frames, or damaged ones.
        """
        pending = self._pending
        pending += data
        messages: list[Message] = []
        start, end = 0, len(pending)
        while end - start >= _PRELUDE.size:
            total, headers, checksum = _PRELUDE.unpack_from(pending, start)
            if crc32(pending[start : start + 8]) != checksum:
                raise self._broken("a frame whose prelude does not match its checksum")
            if total > self._max:
                msg = f"A message of the stream is larger than {self._max} bytes."
                hint = "If that is to be expected, raise HTTPOptions.max_message_bytes."
                raise ResponseTooLargeError(msg, hint=hint, provider=self._provider)
            if total < _LEAST + headers:
                raise self._broken("a frame shorter than its headers")
            if end - start < total:
                break
            frame = bytes(pending[start : start + total])
            messages.append(self._message(frame, headers))
            start += total
        if start:
            del pending[:start]
        return messages

    def finish(self) -> list[Message]:
        """Nothing: a frame that is not whole is none."""
        self._pending.clear()
        return []

    def _message(self, frame: bytes, headers: int) -> Message:
        end = len(frame) - _CHECKSUM_BYTES
        if crc32(frame[:end]) != _NUMBER.unpack_from(frame, end)[0]:
            raise self._broken("a frame that does not match its checksum")
        begin = _PRELUDE.size + headers
        head, payload = frame[_PRELUDE.size : begin], frame[begin:end]
        kind = self._kinds.get(head)
        if kind is not None:
            return kind, payload
        named = self._headers(head)
        match named.get(":message-type", "event"):
            case "exception":
                return FAILURE + named.get(":exception-type", ""), payload
            case "error":  # one that the service's model does not have
                said = {"message": named.get(":error-message", "")}
                return FAILURE + named.get(":error-code", ""), msgspec.json.encode(said)
            case _:
                kind = self._kinds[head] = named.get(":event-type", "")
                return kind, payload

    def _headers(self, head: bytes) -> dict[str, str]:
        """The headers whose values are text."""
        found: dict[str, str] = {}
        place = 0
        try:
            while place < len(head):
                name, place = _text(head, place, 1)
                kind = head[place]
                place += 1
                if kind == _STRING:
                    found[name], place = _text(head, place, 2)
                elif kind == _BYTES:
                    place += 2 + int.from_bytes(head[place : place + 2])
                else:
                    place += _FIXED[kind]
        except (IndexError, KeyError, UnicodeDecodeError):
            place = -1
        if place != len(head):
            raise self._broken("a frame with malformed headers")
        return found

    def _broken(self, what: str) -> ProtocolError:
        return ProtocolError(f"{self._provider} sent {what}.", provider=self._provider)


def _text(data: bytes, place: int, width: int) -> tuple[str, int]:
    """A text behind its length, and where it ends."""
    begin = place + width
    end = begin + int.from_bytes(data[place:begin])
    if end > len(data):
        raise IndexError
    return data[begin:end].decode(), end
