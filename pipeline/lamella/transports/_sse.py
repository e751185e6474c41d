"""Server-sent events: bytes in, messages out.

Follows the WHATWG HTML standard, section 9.2, with two differences that providers ask for. A
message whose data is empty is not a message: some send such as a sign of life. And at the end of
the bytes a message counts if its last line was complete: some leave out the empty line after it.

Where the bytes are cut makes no difference. Data stay bytes and messages are cut out whole, so that
a character is never split.
"""

from __future__ import annotations

from lamella._errors import ResponseTooLargeError
from lamella.transports._dialect import Message

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""The default bound on one message: far above text, enough for a picture in one piece."""

_BOM = b"\xef\xbb\xbf"
_END = b"\n\n"
_DATA = b"data: "
_EVENT = b"event: "
_NEXT = _END + _DATA


class EventReader:
    """Reads one stream; see `MessageReader`.

    A message is its `event:` field, None without one, and its `data:` lines joined by newlines.

    Args:
        max_message_bytes: The most bytes that one message may have; at least 1.
    """

    __slots__ = ("_after_cr", "_begun", "_max", "_pending")

    def __init__(self, *, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._max = max_message_bytes
        self._pending = bytearray()
        self._begun = False
        self._after_cr = False

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are complete with these bytes.

        Raises:
            ResponseTooLargeError: If a message is larger than the bound.
        """
        if not self._begun:
            data = self._begin(data)
        if self._after_cr or b"\r" in data:
            data = self._with_newlines(data)
        pending = self._pending
        if not pending:
            if data.count(b"\n") == 2 and data.startswith(_DATA) and data.endswith(_END):
                self._check(len(data) - 2)
                line = data[6:-2]
                return [(None, line)] if line and not line.isspace() else []
            end = data.rfind(_END)
            if end < 0:
                self._keep(data)
                return []
            whole = data[:end]
            if end + 2 < len(data):
                self._keep(data[end + 2 :])
            return self._messages(whole)
        seen = len(pending) - 1  # the end may lie across the cut
        pending += data
        end = pending.rfind(_END, max(seen, 0))
        if end < 0:
            self._check(len(pending))
            return []
        whole = bytes(pending[:end])
        del pending[: end + 2]
        self._check(len(pending))
        return self._messages(whole)

    def finish(self) -> list[Message]:
        """What the end of the bytes completes: a message that lacks only its empty line."""
        whole = bytes(self._pending)
        self._pending.clear()
        return self._messages(whole) if whole.endswith(b"\n") else []

    def _begin(self, data: bytes) -> bytes:
        """Leave out a byte order mark, which may itself come in pieces."""
        data = bytes(self._pending) + data
        self._pending.clear()
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._pending += data
            return b""
        self._begun = True
        return data.removeprefix(_BOM)

    def _with_newlines(self, data: bytes) -> bytes:
        """CR LF and CR as LF. A CR at the end counts at once; its LF may follow and does not."""
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if data.endswith(b"\r"):
            self._after_cr = True
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _keep(self, data: bytes) -> None:
        self._check(len(data))
        self._pending += data

    def _check(self, size: int) -> None:
        if size > self._max:
            msg = f"A message of the stream is larger than {self._max} bytes."
            hint = "If that is to be expected, raise HTTPOptions.max_message_bytes."
            raise ResponseTooLargeError(msg, hint=hint)

    def _messages(self, whole: bytes) -> list[Message]:
        if whole.startswith(_DATA):
            lines = whole[6:].split(_NEXT)
            if whole.count(b"\n") == 2 * len(lines) - 2:  # nothing but such lines: the rule
                if len(whole) > self._max:
                    for line in lines:
                        self._check(len(line) + 6)
                # No byte above a space is one: most lines are not asked whether they are empty.
                return [
                    (None, line) for line in lines if line and (line[0] > 32 or not line.isspace())
                ]
        parsed = [self._parse(part) for part in whole.split(_END)]
        return [message for message in parsed if message is not None]

    def _parse(self, part: bytes) -> Message | None:
        self._check(len(part))
        if part.startswith(_EVENT):  # mostly one line each
            kind, _, rest = part.partition(b"\n")
            if rest.startswith(_DATA) and b"\n" not in rest:
                data = rest[6:]
                if not data or data.isspace():
                    return None
                return kind[7:].decode("utf-8", "replace") or None, data
        event: str | None = None
        lines: list[bytes] = []
        for line in part.split(b"\n"):
            name, _, value = line.partition(b":")
            if name == b"data":
                lines.append(value.removeprefix(b" "))
            elif name == b"event":
                event = value.removeprefix(b" ").decode("utf-8", "replace") or None
        data = b"\n".join(lines)
        return (event, data) if data.strip() else None
