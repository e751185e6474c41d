"""What observers may see of a call: the request and the answer, masked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from lamella import (
    Answer,
    ChatAnswer,
    Event,
    InspectionError,
    Request,
    Response,
    Shown,
    Surface,
    map_texts,
)

Mask = Callable[[str, Surface], str]


class Masked(Shown):
    """One model turn as it may be seen. The answer is made of its events when somebody asks for it.

    Args:
        request: The request, masked.
    """

    def __init__(self, request: Request[Any]) -> None:
        self.request = request
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
        self._kind, self._mask = type(response), mask
        self._events = response.events  # not the response, which knows the trace that this is in

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
    if not isinstance(answer, ChatAnswer):
        return answer
    choices = tuple(
        [
            attrs.evolve(one, message=map_texts(one.message, mask), logprobs=())
            for one in answer.choices
        ]
    )
    # The last of the messages is the first choice's.
    earlier = tuple([map_texts(one, mask) for one in answer.messages[:-1]])
    messages = (*earlier, choices[0].message) if answer.messages else ()
    return attrs.evolve(answer, choices=choices, messages=messages)
