"""What observers may see of a call: the request and the answer, masked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs

from lamella import (
    Answer,
    Channel,
    ChatAnswer,
    Event,
    InspectionError,
    Message,
    Request,
    Response,
    Shown,
    Surface,
    Text,
    TextFilter,
    ToolCall,
    map_texts,
)
from lamella._context import NO_CONTEXT
from lamella._evolve import changed
from lamella._surfaces import map_json

Mask = Callable[[str, Surface], str]
Make = Callable[[Channel], TextFilter]

_VALUE: Final = Channel("value")


class Masked(Shown):
    """One model turn as it may be seen. The answer is made of its events when somebody asks for it.

    Args:
        request: The request, masked.
    """

    def __init__(self, request: Request[Any]) -> None:
        # Without the call, which has a trace that this is in: a ring would outlive the call.
        self.request = changed(request, "context", NO_CONTEXT)
        self._found: Answer | None = None
        self._events: Sequence[Event] = ()
        self._kind: type[Response] = Response
        self._mask: Mask | None = None

    def answered(self, response: Response, mask: Mask | None) -> None:
        """Say what the model answered.

        Args:
            response: It, before anything was restored.
            mask: What masks its texts; None where that has been done.
        """
        self.came(type(response), response.events, mask)

    def came(self, kind: type[Response], events: Sequence[Event], mask: Mask | None) -> None:
        """Say what the model answered, as events: a response knows the trace that this is in.

        Args:
            kind: The class of the response.
            events: What it had.
            mask: As for `answered`. Nor may that know the trace.
        """
        self._kind, self._events, self._mask = kind, events, mask

    @property
    def answer(self) -> Answer | None:  # type: ignore[override] # pyright: ignore[reportIncompatibleVariableOverride]
        """The answer, masked; None while there is none, or if it could not be looked into."""
        events, mask = self._events, self._mask
        if events:
            answer = self._kind(events).partial
            try:
                self._found = answer if mask is None else masked_answer(answer, mask)
            except InspectionError:
                self._found = None
            self._events, self._mask = (), None  # last: another thread may be here as well
        return self._found

    def __reduce__(self) -> Any:
        return Shown, (self.request, self.answer)


def masked_answer(answer: Answer, mask: Mask) -> Answer:
    """An answer with its texts masked; one without texts as it is.

    Raises:
        InspectionError: If a text could not be looked into.
    """
    return _changed(answer, lambda message: map_texts(message, mask))


def answer_through(answer: Answer, makes: Sequence[Make]) -> Answer:
    """What an answer would be if its texts had gone through filters while they arrived.

    Args:
        answer: What came of it.
        makes: Make the filters of each channel, those that a text goes through first first.

    Raises:
        InspectionError: If a text could not be looked into.
    """

    def message(one: Message) -> Message:
        return attrs.evolve(one, parts=tuple([_part_through(part, makes) for part in one.parts]))

    return _changed(answer, message)


def _changed(answer: Answer, change: Callable[[Message], Message]) -> Answer:
    if not isinstance(answer, ChatAnswer):
        return answer
    choices = tuple(
        [attrs.evolve(one, message=change(one.message), logprobs=()) for one in answer.choices]
    )
    # The last of the messages is the first choice's.
    earlier = tuple([change(one) for one in answer.messages[:-1]])
    messages = (*earlier, choices[0].message) if answer.messages else ()
    return attrs.evolve(answer, choices=choices, messages=messages)


def _part_through(part: Any, makes: Sequence[Make]) -> Any:
    words = Channel("text") if type(part) is Text else _VALUE

    def change(text: str, surface: Surface) -> str:
        return _through(text, words if surface.field == "text" else _VALUE, makes)

    if type(part) is not ToolCall:
        return map_texts(part, change)
    channel = Channel("arguments", json=part.kind == "function", tool=part.name)
    extra = map_json(part.extra, change, Surface(None, None, "extra", "value"))
    return attrs.evolve(part, arguments=_through(part.arguments, channel, makes), extra=extra)


def _through(text: str, channel: Channel, makes: Sequence[Make]) -> str:
    for make in makes:
        one = make(channel)
        text = one.feed(text) + one.flush()
    return text
