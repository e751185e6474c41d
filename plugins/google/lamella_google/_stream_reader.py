"""The framing of Google's streams: server-sent events, and errors that come without any framing.

An error in the middle of a stream is bare JSON over several lines, without `data:`; Google's own
SDK gathers such lines as well. Only whole JSON counts: a piece of it is the cut of a stream.
"""

from __future__ import annotations

import msgspec

from lamella.transports._dialect import Message
from lamella.transports._sse import EventReader
from lamella.transports._wire_json import NOT_THAT


class GoogleReader(EventReader):
    """Reads one stream; see `EventReader`."""

    __slots__ = ()

    def finish(self) -> list[Message]:
        """What the end of the bytes completes; bare JSON needs no line end."""
        rest = bytes(self._pending)
        messages = super().finish()
        return messages or ([(None, rest)] if _is_bare(rest) else [])

    def _parse(self, part: bytes) -> Message | None:
        return (None, part) if _is_bare(part) else super()._parse(part)


def _is_bare(part: bytes) -> bool:
    if part.lstrip()[:1] not in {b"{", b"["}:
        return False
    try:
        msgspec.json.decode(part)
    except NOT_THAT:
        return False
    return True
