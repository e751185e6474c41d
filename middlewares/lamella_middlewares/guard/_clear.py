"""Requests and answers that every rule lets pass at a glance, as most: nothing is asked of them.

That a message is clear is remembered for as long as it lives, by its identity, so that those of a
conversation are looked at once and not at every turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from lamella import (
    ChatRequest,
    Finish,
    Message,
    Response,
    Surface,
    Text,
    TextDelta,
    UsageReport,
    map_texts,
)
from lamella._answer_shape import answer_shape
from lamella._plain_requests import has_only_messages
from lamella._remembered import Remembered, is_fixed
from lamella_middlewares.guard._scene import MUCH

if TYPE_CHECKING:
    from lamella import Request
    from lamella_middlewares.guard._rules import Rule

_WORDLESS: Final = frozenset({Finish, UsageReport})


class _NotClear(Exception):
    """A rule has to be asked."""


class Clear:
    """What the rules of one guard let pass at a glance.

    Args:
        requests: The rules for requests, all of which can tell (`Rule.clears`).
        answers: Those for answers.
    """

    __slots__ = ("_answers", "_known", "_requests")

    def __init__(self, requests: Sequence[Rule], answers: Sequence[Rule]) -> None:
        self._requests = tuple(requests)
        self._answers = tuple(answers)
        self._known: Remembered[int] = Remembered()

    def __reduce__(self) -> tuple[type[Clear], tuple[Any, ...]]:
        return Clear, (self._requests, self._answers)

    def request(self, request: Request[Any]) -> bool:
        """Whether a request passes as it is; False says nothing."""
        if not self._requests:
            return True
        if type(request) is not ChatRequest or not has_only_messages(request):
            return False
        known, room = self._known, MUCH
        for message in request.messages:
            if known.get(message) is None:
                room -= self._looked_at(message, room)
                if room <= 0:
                    return False
        return True

    def answer(self, request: Request[Any], response: Response) -> bool:
        """Whether an answer passes as it is; False says nothing."""
        if not self._answers:
            return True
        if response.open or type(request) is not ChatRequest or answer_shape(request.context).json:
            return False
        if request.response_format is not None:
            return False
        text: str | None = None
        for event in response.events:
            if type(event) is TextDelta and text is None and not event.extra:
                text = event.text
            elif type(event) not in _WORDLESS:
                return False
        if not text:
            return True
        if len(text) >= MUCH:
            return False
        try:
            return all(rule.clears(text) for rule in self._answers)
        except Exception:  # noqa: BLE001 - the rule is asked then, and fails as any does
            return False

    def _looked_at(self, message: Message, room: int) -> int:
        """How many characters were looked at in a message that is clear; `room` if it is not."""
        if not is_fixed(message):
            return room
        rules = [one for one in self._requests if one.roles is None or message.role in one.roles]
        size = 0

        def look(text: str, _: Surface | None = None) -> str:
            nonlocal size
            size += len(text)
            if size >= room:
                raise _NotClear
            for rule in rules:
                if not rule.clears(text):
                    raise _NotClear
            return text

        try:
            parts = message.parts
            if len(parts) == 1 and message.name is None and type(parts[0]) is Text:
                if parts[0].text:
                    look(parts[0].text)
            else:
                map_texts(message, look)
        except Exception:  # noqa: BLE001 - not clear; a rule that fails is asked, and fails as any
            return room
        self._known.put(message, size)
        return size
