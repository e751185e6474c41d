"""From the pieces of an answer to the reply, with what goes wrong worked into them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import attrs

from lamella._chat import ChatRequest
from lamella._events import Event, UsageReport
from lamella._mock_answers import Answer, chat_events
from lamella._mock_rejections import Rejection
from lamella._mock_tokens import Draw
from lamella.testing._http_body import Chunk
from lamella.testing._http_framing import Reply
from lamella.testing._mock_faults import MockFaults
from lamella.testing._mock_openai._requests import JSON
from lamella.testing._mock_sse import Frame, json_text, render, reset_place

CREATED = 1_735_689_600
"""The instant that answers state: the beginning of 2025, so that they are always the same."""

SSE = "text/event-stream; charset=utf-8"


def answer_events(request: ChatRequest, answer: Answer | None) -> tuple[Event, ...]:
    """What the embedded provider answers to a conversation.

    Raises:
        Rejection: If a provider would not accept it.
    """
    if request.model == "mock-embedding":
        message = "This is not a chat model and thus not supported by this API."
        raise Rejection(404, "model_not_found", message, "model")
    return chat_events(request, answer)


def span(events: Sequence[Event], latency_per_token: float) -> float:
    """The seconds that writing an answer takes which is not streamed."""
    usage = next((each.usage for each in events if isinstance(each, UsageReport)), None)
    tokens = 0 if usage is None else usage.output_tokens
    return max(tokens - 1, 0) * latency_per_token


def word_for(number: int, body: Any) -> str:
    """A word for an answer's id: the same for the same request at the same place in a run."""
    return Draw.of(number, body).word("answer")


def streamed(
    frames: Sequence[Frame],
    failure: Frame,
    faults: MockFaults,
    pause: float,
    *,
    kind: str = SSE,
    written: Callable[[Sequence[Frame], MockFaults, float], list[Chunk]] = render,
) -> Reply:
    """A streamed answer.

    Args:
        frames: Its events, in order, when nothing goes wrong.
        failure: The event that says that the provider failed.
        faults: What goes wrong.
        pause: Seconds before each event that is a token, except the first.
        kind: The content type.
        written: Writes the events as bytes, one chunk for each.
    """
    told = list(frames)
    if (failing := faults.failing_event) is not None:
        told = [*islice(told, failing), failure]
    if faults.truncate is not None:
        told = told[: faults.truncate]
    chunks = written(told, faults, pause)
    wire = faults.wire
    if faults.reset is not None:
        wire = attrs.evolve(wire, reset_at=reset_place(chunks, faults.reset))
    headers = {"Content-Type": kind, "Cache-Control": "no-cache"}
    return Reply(200, headers, chunks, wire)


def whole(document: Any, failure: JSON, faults: MockFaults) -> Reply:
    """An answer that is not streamed; what would cut a stream cuts it in its middle.

    Args:
        document: What it says when nothing goes wrong.
        failure: What it says where the provider fails with a status that is a success.
        faults: What goes wrong.
    """
    if faults.failing_event is not None:
        document = failure
    body = json_text(document).encode()
    wire, middle = faults.wire, len(body) // 2
    if faults.truncate is not None:
        wire = attrs.evolve(wire, limit_data=middle if faults.truncate else 0)
    if faults.reset is not None:
        wire = attrs.evolve(wire, reset_at=middle if faults.reset else 0)
    return Reply(200, {"Content-Type": "application/json"}, body, wire)


def plain(document: Any, status: int = 200) -> Reply:
    """A document as it is: lists of models, errors."""
    return Reply(status, {"Content-Type": "application/json"}, json_text(document).encode())
