"""Answers before the rules, streamed or not."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Final, TypeAlias, TypeVar, cast

import anyio
import attrs

from lamella import (
    Channel,
    ClosedError,
    Event,
    Finish,
    Head,
    LamellaError,
    MisuseError,
    ReasoningDelta,
    RefusalDelta,
    Request,
    Response,
    TextChannels,
    TextDelta,
    TextFilter,
    ToolCallDelta,
)
from lamella._answer_shape import as_read
from lamella_middlewares.guard._lanes import JSONLane, Lane, Place, Steps
from lamella_middlewares.guard._rules import Rule
from lamella_middlewares.guard._scene import MUCH, Scene

R = TypeVar("R", bound=Response)

_Lane: TypeAlias = Lane | JSONLane


async def guard_answer(scene: Scene, rules: Sequence[Rule], response: R, *, waits: bool) -> R:
    """The answer as the rules let it pass: changed as it comes, or at once if it is complete.

    Args:
        scene: The request's.
        rules: Those for answers.
        response: The answer.
        waits: Whether a rule or an approver is to be awaited.
    """
    make = _lanes(scene, rules)
    if not waits and not _is_much(rules, response):
        guarded = _changed_at_once(scene, make, response)
    else:
        guarded = await _changed_later(scene, make, response)
    if guarded.head.raw is not None:  # it would show the answer as it was
        guarded.head = _without_raw(guarded.head)
    return guarded


class _Unchanged:
    """A transform that changes nothing."""

    __slots__ = ()

    def feed(self, event: Event) -> tuple[Event, ...]:
        return (event,)

    def flush(self) -> tuple[Event, ...]:
        return ()


_UNCHANGED: Final = _Unchanged()


def passed(response: R) -> R:
    """A complete answer that passes as it is, without what the provider has sent."""
    if response.head.raw is None:
        return response
    guarded = response.transform(_UNCHANGED)  # another: inside of the guard it keeps that
    guarded.head = _without_raw(guarded.head)
    return guarded


def _without_raw(head: Head) -> Head:
    return attrs.evolve(head, raw=None)


def _is_much(rules: Sequence[Rule], response: Response) -> bool:
    """Whether texts may be so long that the loop has to be let go while they are judged.

    Of an answer that is still coming that is so where a rule wants a text as a whole.
    """
    if response.open:
        return any(rule.look_behind is None for rule in rules)
    return sum(map(_length, response.events)) >= MUCH


def _length(event: Event) -> int:
    if isinstance(event, TextDelta | ReasoningDelta | RefusalDelta):
        return len(event.text)
    return len(event.arguments) if isinstance(event, ToolCallDelta) else 0


def _lanes(scene: Scene, rules: Sequence[Rule]) -> Callable[[Channel], _Lane]:
    def make(channel: Channel) -> _Lane:
        place = Place(scene, "out", channel=channel)
        return JSONLane(rules, place) if channel.json else Lane(rules, place)

    return as_read(scene.request, make)


# --- rules that answer at once -------------------------------------------------------------------


class _Filter:
    """One text, by rules that answer at once."""

    __slots__ = ("_lane", "_scene")

    def __init__(self, lane: _Lane, scene: Scene) -> None:
        self._lane = lane
        self._scene = scene

    def feed(self, text: str, /) -> str:
        return self._scene.decide(self._lane.feed(text))

    def flush(self) -> str:
        return self._scene.decide(self._lane.close())


def _changed_at_once(scene: Scene, make: Callable[[Channel], _Lane], response: R) -> R:
    channels = TextChannels(lambda channel: _Filter(make(channel), scene))
    try:
        return response.transform(channels)
    except LamellaError as error:
        raise _paid(error, response) from None


def _paid(error: LamellaError, response: Response) -> LamellaError:
    """The error of a complete answer: it has been paid for, whoever gets to see it."""
    return error.copy(usage=error.usage or response.usage)


# --- rules that have to be awaited ---------------------------------------------------------------


class _Scout:
    """A filter that notes what would be asked of it."""

    __slots__ = ("_lane", "_plan")

    def __init__(self, lane: _Lane, plan: list[Steps]) -> None:
        self._lane = lane
        self._plan = plan

    def feed(self, text: str, /) -> str:
        self._plan.append(self._lane.feed(text))
        return text

    def flush(self) -> str:
        self._plan.append(self._lane.close())
        return ""


class _Answered:
    """A filter that gives what was decided before, in the same order."""

    __slots__ = ("_decided",)

    def __init__(self, decided: deque[str]) -> None:
        self._decided = decided

    def feed(self, _: str, /) -> str:
        return self._decided.popleft()

    def flush(self) -> str:
        return self._decided.popleft()


class _Channels:
    """`TextChannels` whose filters may be awaited.

    Which text an event belongs to, and where it ends, is known there alone, and it waits for
    nobody. So there are two of them: the first says what will be asked of which text; that is
    decided, one after the other; the second changes the events by what was decided.
    """

    def __init__(self, scene: Scene, make: Callable[[Channel], _Lane]) -> None:
        self._scene = scene
        self._plan: list[Steps] = []
        self._decided: deque[str] = deque()
        self._scout = TextChannels(self._scouts(make))
        self._channels = TextChannels(lambda _: _Answered(self._decided))

    def _scouts(self, make: Callable[[Channel], _Lane]) -> Callable[[Channel], TextFilter]:
        return lambda channel: _Scout(make(channel), self._plan)

    async def feed(self, event: Event) -> list[Event]:
        """The events to let through in place of `event`."""
        self._scout.feed(event)
        await self._decide()
        return list(self._channels.feed(event))

    async def flush(self) -> list[Event]:
        """What was held back, at the end."""
        self._scout.flush()
        await self._decide()
        return self._channels.flush()

    async def _decide(self) -> None:
        plan, self._plan[:] = list(self._plan), []
        for steps in plan:
            self._decided.append(await self._scene.decide_later(steps))


class GuardSource:
    """The events of an inner answer, as rules that have to be awaited let them pass.

    Between two reads nothing of it runs: no task, no scope.
    """

    def __init__(self, inner: Response, channels: _Channels) -> None:
        self._inner = inner
        self._events: AsyncIterator[Event] = aiter(inner)
        self._channels = channels
        self._pending: deque[Event] = deque()
        self._error: Exception | None = None
        self._scope: anyio.CancelScope | None = None
        self._closed = False

    async def __anext__(self) -> Event:
        while not self._pending:
            if self._error is not None:
                raise self._error
            if self._closed:
                raise ClosedError("The answer was closed while it was being inspected.")
            await self._read()
        return self._pending.popleft()

    async def _read(self) -> None:
        try:
            event = await anext(self._events)
        except Exception as error:  # noqa: BLE001 - raised once what was held back is out
            self._error = error
            with suppress(Exception):  # never replaces the error under way; nothing gets out then
                await self._let_through(None)
            return
        await self._let_through(event)

    async def _let_through(self, event: Event | None) -> None:
        with anyio.CancelScope() as scope:
            self._scope = scope
            try:
                if event is None or type(event) is Finish:
                    self._pending.extend(await self._channels.flush())
                    if event is not None:
                        self._pending.append(event)
                else:
                    self._pending.extend(await self._channels.feed(event))
            finally:
                self._scope = None

    async def aclose(self) -> None:
        """Close the inner answer, and end a verdict that is being waited for."""
        self._closed = True
        if self._scope is not None:
            self._scope.cancel()
        await self._inner.aclose()


async def _changed_later(scene: Scene, make: Callable[[Channel], _Lane], response: R) -> R:
    channels = _Channels(scene, make)
    request = cast("Request[R]", scene.request)
    with suppress(MisuseError):  # a plain function's answer has no context yet
        request = request.evolve(context=response.context)
    if response.open:
        return request.open(GuardSource(response, channels), response.head)
    events: list[Event] = []
    try:
        for event in response.events:
            if type(event) is Finish:
                events += await channels.flush()
                events.append(event)
            else:
                events += await channels.feed(event)
    except LamellaError as error:
        raise _paid(error, response) from None
    return request.answer(events, response.head)
