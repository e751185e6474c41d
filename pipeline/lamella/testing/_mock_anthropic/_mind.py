"""What the embedded provider is asked by a request of Anthropic's API, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from lamella._chat import ChatRequest
from lamella._events import Event, Finish, TextDelta
from lamella._mock_answers import Answer
from lamella.testing._mock_anthropic._search import for_the_mind
from lamella.testing._mock_openai._requests import JSON
from lamella.testing._mock_replies import answer_events

_NO_EFFORT: Final = frozenset({"disabled", "between_tools"})


def asked_events(
    request: ChatRequest, answer: Answer | None, told: JSON
) -> tuple[tuple[Event, ...], str | None]:
    """What is answered, and the stop sequence at which it ends.

    Raises:
        Rejection: If a provider would not accept the request.
    """
    if told["max_tokens"] == 0:
        return (), None
    asked = for_the_mind(_thinking(request, told))
    said = None if answer is None else answer(request)
    given: Answer | None = None if said is None else lambda _: said
    events = answer_events(asked, given)
    reason = next((event.reason for event in events if isinstance(event, Finish)), "stop")
    if not request.stop or reason == "length":
        return events, None
    text = _text(answer_events(asked.evolve(stop=(), max_output_tokens=None), given))
    met = [(place, each) for each in request.stop if (place := text.find(each)) >= 0]
    return events, min(met)[1] if met else None


def _thinking(request: ChatRequest, told: JSON) -> ChatRequest:
    """The request with an effort that thinks if, and only if, thinking is asked for."""
    kind = cast("JSON", told.get("thinking") or {}).get("type")
    if kind in _NO_EFFORT:
        return request.evolve(reasoning_effort="none")
    if kind is not None and request.reasoning_effort is None:
        return request.evolve(reasoning_effort="medium")
    return request


def _text(events: Sequence[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))
