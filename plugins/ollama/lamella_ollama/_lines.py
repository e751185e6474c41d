"""Lines of JSON: bytes in, messages out.

Each line is one message; empty ones are none. Where the bytes are cut makes no difference. At the
end of the bytes a line without its newline counts if it is whole, which a JSON object shows itself.
"""

from __future__ import annotations

import msgspec

from lamella._errors import ResponseTooLargeError
from lamella.transports._dialect import Message
from lamella.transports._wire_json import NOT_THAT


class LineReader:
    """Reads one stream; see `MessageReader`.

    Args:
        max_message_bytes: The most bytes that one line may have; at least 1.
    """

    __slots__ = ("_max", "_pending")

    def __init__(self, *, max_message_bytes: int) -> None:
        self._max = max_message_bytes
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The lines that are complete with these bytes.

        Raises:
            ResponseTooLargeError: If a line is larger than the bound.
        """
        end = data.rfind(b"\n")
        if end < 0:
            self._keep(data)
            return []
        whole = bytes(self._pending) + data[:end]
        self._pending.clear()
        self._keep(data[end + 1 :])
        lines = whole.split(b"\n")
        for line in lines:
            self._check(len(line))
        return [(None, line) for line in lines if line and not line.isspace()]

    def finish(self) -> list[Message]:
        """What the end of the bytes completes: a line that lacks only its newline."""
        rest = bytes(self._pending)
        self._pending.clear()
        if not rest or rest.isspace():
            return []
        try:
            msgspec.json.decode(rest, type=msgspec.Raw)
        except NOT_THAT:
            return []
        return [(None, rest)]

    def _keep(self, data: bytes) -> None:
        self._check(len(self._pending) + len(data))
        self._pending += data

    def _check(self, size: int) -> None:
        if size > self._max:
            msg = f"A line of the stream is larger than {self._max} bytes."
            hint = "If that is to be expected, raise HTTPOptions.max_message_bytes."
            raise ResponseTooLargeError(msg, hint=hint)
