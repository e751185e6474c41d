"""Checks of a middleware: what its answers are."""

from __future__ import annotations

from lamella._chat import ChatResponse
from lamella._events import Event, Finish, ToolCallDelta
from lamella._parts import Opaque
from lamella._responses import Response
from lamella.testing._conformance_world import TEXT, Subject, World, chat, expect, pieces
from lamella.testing._scripted import Step


async def answers(subject: Subject) -> None:
    """It answers, streamed or not, with the request's own kind of response."""
    for stream in (False, True):
        world = World(subject)
        await world.call(stream=stream)
        await world.settle()


async def same_streamed_or_not(subject: Subject) -> None:
    """A collected stream is what `run` returns: the same answer, usage and attempts."""
    ran, streamed = await _both(subject)
    _same(ran, streamed, "collecting a stream and running")


async def same_however_it_is_cut(subject: Subject) -> None:
    """An answer does not depend on where its text is cut: `f(a + b) == f(a) + f(b)`."""
    if not chat(subject.request):
        return
    whole, _ = await _both(subject, pieces(TEXT, len(TEXT)))
    for size in (1, 2, 7):
        for response in await _both(subject, pieces(TEXT, size)):
            _same(whole, response, f"the whole text in one event and in pieces of {size}")


async def empty_answers(subject: Subject) -> None:
    """An answer that says nothing (filtered, refused) ends well, as one that says something."""
    if not chat(subject.request):
        return
    ran, streamed = await _both(subject, [Finish("content_filter")])
    _same(ran, streamed, "collecting an empty stream and running")


async def whole_answers(subject: Subject) -> None:
    """A transport may answer a stream with a complete response."""
    if not chat(subject.request):
        return

    async def whole(_: object, __: object) -> ChatResponse:
        return ChatResponse.of(TEXT)

    for stream in (False, True):
        world = World(subject, inside=[whole])
        await world.call(stream=stream)
        await world.settle()


async def events_of_all_kinds(subject: Subject) -> None:
    """Tool calls in pieces, and events that only their provider knows, pass alike."""
    if not chat(subject.request):
        return
    unknown = Opaque({"type": "new", "deep": {"list": [1, {"two": 2}]}}, content=False)
    events: list[Event] = [
        unknown,
        ToolCallDelta(0, "call_1", "look", extra={"signature": {"kept": [1]}}),
        ToolCallDelta(1, "call_2", "say"),
        ToolCallDelta(0, arguments='{"at"'),
        ToolCallDelta(1, arguments="{}"),
        ToolCallDelta(0, arguments=': "x"}'),
        Finish("tool_calls"),
    ]
    # The second answer is for layers that run tools, and go on.
    ran, streamed = await _both(subject, events, pieces(TEXT, 9))
    _same(ran, streamed, "collecting tool calls and running")


async def _both(subject: Subject, *script: Step) -> tuple[Response, Response]:
    found: list[Response] = []
    for stream in (False, True):
        world = World(subject, script or None)
        found.append(await world.call(stream=stream))
        await world.settle()
    return found[0], found[1]


def _same(one: Response, other: Response, what: str) -> None:
    expect(
        one.answer == other.answer,
        f"Answers differ between {what}: {one.answer!r}, and {other.answer!r}.",
    )
    outcomes = [[attempt.outcome for attempt in found.trace.attempts] for found in (one, other)]
    expect(
        outcomes[0] == outcomes[1],
        f"Attempts differ between {what}: {outcomes[0]}, and {outcomes[1]}.",
    )
