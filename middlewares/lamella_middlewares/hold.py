"""Hold: read the beginning of an answer before anybody sees it: until then it can be replaced."""

from __future__ import annotations

from typing import Any, TypeVar

import attrs

from lamella import Handler, Ports, Request, Response, middleware
from lamella._events import (
    Event,
    MediaDelta,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
)
from lamella._options import flag, optional_seconds, refused, span_or_none, whole
from lamella._parts import Opaque
from lamella._token_estimate import ESTIMATOR

R = TypeVar("R", bound=Response)

TOKENS = 20
SECONDS = 1.0
"""The window where none is given."""


def _count_or_none(hold: Any, option: attrs.Attribute[Any], value: object) -> None:
    if value is not None:
        whole(1)(hold, option, value)


def _alone(hold: Any, option: attrs.Attribute[Any], value: Any) -> None:
    flag(hold, option, value)
    if value and (hold.tokens, hold.seconds, hold.characters) != (None, None, None):
        raise refused(hold, option, value, "either all=True or the size of a window, not both")


@middleware(
    phase="attempt",
    rank=80,
    inside={
        "retry": "what breaks off while Hold still reads would reach nobody who tries again, and a "
        "good answer is lost for nothing"
    },
)
@attrs.frozen
class Hold:
    """Reads ahead in a stream before it hands it on: a break in what was read is no harm yet.

    The commitment is the return, so that an error in the window is one of `await call_next(...)`:
    `Retry`, `Hedge` and `Fallback` outside may go on, and nobody has seen a word of it. The price
    is time to the first event. `run` shows nothing before its end, and is not held.

    The window ends with the event that fills the first of the given sizes. Without any it is 20
    tokens or 1 second.

    Args:
        tokens: Estimated tokens of whatever the answer says, reasoning and tool calls included; 1
            or more. None sets no such end.
        seconds: Since the first event, above 0. The window ends with the next event after that: a
            read is not broken off, and a silence in the window is for `Timeout(idle=...)` to end.
            None sets no such end.
        characters: Of text, 1 or more. None sets no such end.
        all: Hold until the end of the answer: it is shown whole or not at all, and the time to the
            first event is the time to the last.
        max_bytes: How much is held at most, 1 or more, whatever else is asked. Then the window
            ends, and the trace has a note.
    """

    tokens: int | None = attrs.field(default=None, validator=_count_or_none)
    seconds: float | None = attrs.field(
        default=None, converter=optional_seconds, validator=span_or_none
    )
    characters: int | None = attrs.field(default=None, validator=_count_or_none)
    all: bool = attrs.field(default=False, validator=_alone)
    max_bytes: int = attrs.field(default=1 << 20, validator=whole(1))

    async def __call__(self, request: Request[R], call_next: Handler) -> R:
        """Send the request on, and hand a stream on once enough of it is there.

        Raises:
            LamellaError: What broke the answer within the window; uncommitted, with what had come
                in `partial`.
        """
        response = await call_next(request)
        if not request.stream or not response.open:
            return response
        attempt = response.context.attempt
        if attempt is not None:
            attempt.committed = False
        window = _Window(self, request.context.ports)
        events = aiter(response)
        try:
            while window.open and response.open:
                window.saw(await anext(events))
        except BaseException:
            await response.aclose()  # has ended already, unless something here went wrong
            raise
        if attempt is not None:
            attempt.committed = True
        request.context.note(
            "hold", "hold.released", why=window.full or "end", events=window.events
        )
        return response


class _Window:
    """How much of an answer has been read ahead."""

    __slots__ = ("_bytes", "_characters", "_hold", "_now", "_seconds", "_tokens", "_tokens_read",
                 "_until", "events", "full")  # fmt: skip

    def __init__(self, hold: Hold, ports: Ports) -> None:
        self._hold = hold
        unsaid = (hold.tokens, hold.seconds, hold.characters, hold.all) == (None, None, None, False)
        self._tokens = TOKENS if unsaid else hold.tokens
        self._seconds = SECONDS if unsaid else hold.seconds
        self._now = ports.monotonic
        self._until: float | None = None if self._seconds is None else self._now() + self._seconds
        self._tokens_read = 0
        self._bytes = 0
        self._characters = 0
        self.events = 0
        self.full: str | None = None  # which size

    @property
    def open(self) -> bool:
        """Whether it takes more."""
        return self.full is None

    def saw(self, event: Event) -> None:
        """Count one event that has been read."""
        text = _text_of(event)
        hold = self._hold
        self.events += 1
        self._bytes += len(text.encode(errors="replace"))
        if isinstance(event, MediaDelta):
            self._bytes += len(event.data)
        elif isinstance(event, TextDelta):
            self._characters += len(text)
        if self._bytes >= hold.max_bytes:
            self.full = "max_bytes"
        elif hold.characters is not None and self._characters >= hold.characters:
            self.full = "characters"
        elif self._until is not None and self._now() >= self._until:
            self.full = "seconds"
        elif self._tokens is not None and event.semantic and text:
            self._tokens_read += max(1, ESTIMATOR.count((text,)))
            if self._tokens_read >= self._tokens:
                self.full = "tokens"


def _text_of(event: Event) -> str:
    if isinstance(event, TextDelta | ReasoningDelta | RefusalDelta):
        return event.text
    if isinstance(event, ToolCallDelta):
        return (event.name or "") + event.arguments
    if isinstance(event, MediaDelta):
        return event.transcript
    return str(dict(event.data)) if isinstance(event, Opaque) else ""
