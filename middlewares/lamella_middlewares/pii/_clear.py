"""Requests in which nothing is found, as in most: they go as they are, and nothing is kept of them.

That nothing was found in a message is remembered for as long as the message lives, by its identity
and never by its words, so that those of a conversation are looked into once and not at every turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lamella import (
    ChatRequest,
    Finish,
    InspectionError,
    Message,
    Response,
    Surface,
    Text,
    UsageReport,
    map_texts,
)
from lamella._plain_requests import has_only_messages
from lamella._remembered import Remembered, is_fixed
from lamella_middlewares.pii._inspecting import AT_ONCE, LAYER
from lamella_middlewares.pii._placeholders import OPEN
from lamella_middlewares.pii._restoring import tokens_in
from lamella_middlewares.pii._showing import Masked

if TYPE_CHECKING:
    from lamella import Ending, Event, Request
    from lamella_middlewares.pii._inspecting import Inspector


_WORDLESS: Final = frozenset({Finish, UsageReport})


class _Found(Exception):
    """There is something in a message, or may be."""


class ClearRequests:
    """Says of which requests it is certain, without any walk, that nothing is to be masked in them.

    Args:
        inspector: Finds personal data.
    """

    __slots__ = ("_inspector", "_known")

    def __init__(self, inspector: Inspector) -> None:
        self._inspector = inspector
        self._known: Remembered[int] = Remembered()

    def has(self, request: object, most: int) -> bool:
        """Whether it is certain; False says nothing.

        What is new is looked into there and then, unless that may take long.

        Args:
            request: Of any operation.
            most: The most characters that are looked into at all.
        """
        if type(request) is not ChatRequest or not has_only_messages(request):
            return False
        known, total = self._known, 0
        room = 0 if self._inspector.blocking else AT_ONCE
        for message in request.messages:
            size = known.get(message)
            if size is None:
                size = self._look(message, room)
                if size is None:
                    return False
                room -= size
            total += size
        return total <= most

    def remember(self, request: object) -> None:
        """Nothing was found in a request, which somebody has walked."""
        if type(request) is ChatRequest:
            for message in request.messages:
                if self._known.get(message) is None and is_fixed(message):
                    self._known.put(message, _characters(message))

    def _look(self, message: Message, room: int) -> int | None:
        """How many characters it has; None if there is something in them, or may be."""
        if not room or not is_fixed(message):
            return None
        parts = message.parts
        try:
            if len(parts) == 1 and message.name is None and type(parts[0]) is Text:
                text = parts[0].text
                size = len(text)
                if size > room or OPEN in text or self._inspector.findings(text):
                    return None
            else:
                size = _characters(message)
                if size > room:
                    return None
                map_texts(message, self._nothing_in, _unread)
        except (InspectionError, _Found):  # who masks it sees that again, and says what is to be
            return None
        self._known.put(message, size)
        return size

    def _nothing_in(self, text: str, _: Surface) -> str:
        if OPEN in text or self._inspector.findings(text):
            raise _Found
        return text


def _unread(_: Surface) -> None:
    raise _Found  # something that nobody can look into


def _characters(message: Message) -> int:
    size = 0

    def count(text: str, _: Surface) -> str:
        nonlocal size
        size += len(text)
        return text

    map_texts(message, count)
    return size


class ClearVisit:
    """One call that nothing had to be masked in.

    Args:
        inspector: Finds personal data.
        request: The call's.
    """

    __slots__ = ("_below", "_inspector", "_request", "_shown")

    def __init__(self, inspector: Inspector, request: Request[Any]) -> None:
        self._inspector = inspector
        self._request = request
        self._below: Response | None = None
        self._shown = Masked(request)
        context = request.context
        context.trace.content[context.branch] = self._shown

    def answered(self, response: Response) -> None:
        """Its answer has begun."""
        if isinstance(response, Response):  # pyright: ignore[reportUnnecessaryIsInstance]
            self._below = response

    def end(self, _: Ending) -> None:
        """Say what looks like a placeholder and is none, and show the answer to observers."""
        below = self._below
        if below is None:
            return
        self._below = None
        events = below.events
        unknown = len(tokens_in(events)) if _has_brackets(events) else 0
        if unknown:
            self._request.context.note(LAYER, "pii.unknown", count=unknown)
        if not self._inspector.blocking:
            self._shown.came(type(below), events, self._inspector.redacted)


def _has_brackets(events: tuple[Event, ...]) -> bool:
    for event in events:
        if type(event) in _WORDLESS:
            continue
        text: Any = getattr(event, "text", "") or getattr(event, "arguments", "")
        if text and OPEN in text:
            return True
    return False
