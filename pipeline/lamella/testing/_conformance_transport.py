"""Checks of a transport."""

from __future__ import annotations

import gc
import itertools
import warnings
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import anyio
import attrs

from lamella._closing import CLEANUP_SECONDS
from lamella._errors import ClosedError, LamellaError, TimedOutError
from lamella._events import UsageReport
from lamella._handlers import Transport
from lamella._limits import Limits
from lamella._outcomes import Outcome
from lamella._pipeline import Pipeline
from lamella._requests import Request
from lamella._responses import Response
from lamella._trace import Trace
from lamella.testing._conformance_world import (
    caught,
    eventually,
    expect,
    no_group,
    plain,
    well_formed,
)
from lamella.testing._steps import Steps, steps_cancelled_at

_WAIT = 0.1
"""Seconds within which a connection that nobody needs any more is closed."""


@attrs.frozen
class Subject:
    """What is checked, and how."""

    make: Callable[[], Transport]
    request: Request[Any]
    failing: Sequence[Request[Any]]
    settled: Callable[[Pipeline], Awaitable[object] | object] | None


class _World:
    """A transport in a pipeline of its own, and the traces of its calls."""

    def __init__(self, subject: Subject, *outside: Any) -> None:
        self.subject = subject
        self.traces: list[Trace] = []
        self.pipeline = Pipeline([self._keep, *outside], subject.make())
        self._asked = (subject.request, *subject.failing)
        self._before = plain(self._asked)

    async def _keep(self, request: Any, call_next: Any) -> Any:
        self.traces.append(request.context.trace)
        return await call_next(request)

    async def call(self, *, stream: bool, request: Request[Any] | None = None) -> Response:
        """Make one call and read it to its end; its complete response, checked for its shape."""
        asked = request or self.subject.request
        if stream:
            async with self.pipeline.stream(asked) as opened:
                response: Response = await opened.collect()
        else:
            response = await self.pipeline.run(asked)
        kind = asked.response_type
        expect(
            isinstance(response, kind),
            f"A {type(asked).__name__} is answered by {kind.__name__}, not by "
            f"{type(response).__name__}.",
        )
        well_formed(response.events)
        reports = sum(type(event) is UsageReport for event in response.events)
        expect(reports <= 1, f"Usage is reported at most once for an attempt, not {reports} times.")
        return response

    async def settle(self) -> None:
        """Check that nothing is left, then close."""
        await eventually(self._nothing_running)
        expect(
            plain(self._asked) == self._before, "A request is not written to, nested JSON included."
        )
        for trace in self.traces:
            expect(trace.finished, "Every call has ended.")
            expect(len(trace.attempts) <= 1, "A transport asks once: retrying is for a layer.")
            for attempt in trace.attempts:
                expect(attempt.outcome is not None, "Every attempt has ended.")
        if self.subject.settled is not None:
            await eventually(partial(self.subject.settled, self.pipeline))
        await self.pipeline.aclose()

    async def _nothing_running(self) -> None:
        running = (await self.pipeline.health()).running
        expect(running == 0, f"A call that is over is over; {running} are still counted.")


async def answers(subject: Subject) -> None:
    """It answers, streamed or not, with the request's own kind of response; one attempt each."""
    for stream in (False, True):
        world = _World(subject)
        response = await world.call(stream=stream)
        outcomes = [attempt.outcome for attempt in response.trace.attempts]
        expect(outcomes == [Outcome.COMPLETE], f"A good answer is one attempt, not {outcomes}.")
        expect(response.served_by, "The answer names the transport that gave it.")
        await world.settle()


async def same_streamed_or_not(subject: Subject) -> None:
    """A collected stream is what `run` returns."""
    world = _World(subject)
    ran, streamed = await world.call(stream=False), await world.call(stream=True)
    expect(
        ran.answer == streamed.answer,
        f"Running gave {ran.answer!r}, and collecting a stream {streamed.answer!r}.",
    )
    await world.settle()


async def many_at_once(subject: Subject) -> None:
    """Calls that run at once are all answered."""
    world = _World(subject)
    found: list[Response] = []

    async def call(stream: bool) -> None:  # noqa: FBT001 - a task takes arguments by position
        found.append(await world.call(stream=stream))

    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(call, number % 2 == 1)
    expect(len(found) == 8, "Calls that run at once are all answered.")
    await world.settle()


async def left_early(subject: Subject) -> None:
    """A consumer who leaves closes the connection, at once and without an error."""
    for events in (0, 1, 2):
        world = _World(subject)
        async with world.pipeline.stream(subject.request) as response:
            cursor = aiter(response)
            for _ in range(events):
                await anext(cursor, None)
            start = anyio.current_time()
        took = anyio.current_time() - start
        expect(took < CLEANUP_SECONDS, f"Leaving takes less than a second, not {took:.3g} s.")
        expect(
            response.outcome in {Outcome.LEFT, Outcome.COMPLETE},
            f"An answer that was left is *left*, not {response.outcome}.",
        )
        await world.settle()


async def dropped(subject: Subject) -> None:
    """An answer that is dropped is closed by the net, and nothing complains."""
    world = _World(subject)
    with _nothing_complains():
        block = world.pipeline.stream(subject.request)
        await block.__aenter__()
        del block
        gc.collect()
        await anyio.sleep(_WAIT)
    await world.settle()


@contextmanager
def _nothing_complains() -> Generator[None, None, None]:
    """Collect garbage at the end, and let no ResourceWarning pass."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        yield
        gc.collect()
    complaints = [str(one.message) for one in heard if issubclass(one.category, ResourceWarning)]
    expect(not complaints, f"Nothing stays open: {complaints}.")


async def closed_under_a_read(subject: Subject) -> None:
    """Closing an answer wakes the read that waits for its next event, with ClosedError."""
    for turns in (1, 2, 10, 30):
        with _nothing_complains():
            await _closed_under_a_read(subject, turns)


async def _closed_under_a_read(subject: Subject, turns: int) -> None:
    world = _World(subject)
    found: list[object] = []
    woken = False
    async with world.pipeline.stream(subject.request) as response:

        async def read() -> None:
            found.append(await caught(response.collect))

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            await response.aclose()
            await anyio.sleep(_WAIT)
            woken = bool(found)
            group.cancel_scope.cancel()
    expect(woken, "`aclose` of its source does not wake a read that waits.")
    good = found[0] is response or isinstance(found[0], ClosedError)
    expect(good, f"A read of an answer that was closed raises ClosedError, not {found[0]!r}.")
    await world.settle()


async def cancelled_anywhere(subject: Subject) -> None:
    """Cancelled at each step, streamed and not, it leaves nothing behind."""
    for stream in (False, True):
        for first in itertools.count(1):
            once = await _cancelled(subject, stream=stream, at=(first,))
            if not once.cancelled:
                break
            for second in once.further((1,)):
                await _cancelled(subject, stream=stream, at=(first, second))
            expect(first < 5_000, "A call is over after 5,000 steps.")


async def _cancelled(subject: Subject, *, stream: bool, at: Sequence[int]) -> Steps:
    world = _World(subject)
    errors: list[BaseException] = []

    async def scenario() -> None:
        found = await caught(partial(world.call, stream=stream))
        if isinstance(found, BaseException):
            errors.append(found)

    steps = await steps_cancelled_at(at, scenario)
    expect(not errors, f"Cancellation is never turned into an error; it became {errors}.")
    for trace in world.traces:
        outcomes = {attempt.outcome for attempt in trace.attempts}
        expect(
            outcomes <= {Outcome.CANCELLED, Outcome.COMPLETE, Outcome.LEFT},
            f"A cancelled attempt is *cancelled*, not {outcomes}.",
        )
    await world.settle()
    return steps


async def limits(subject: Subject) -> None:
    """An attempt that is out of time is recorded as *timed out*, and the error says so."""

    async def hurry(request: Any, call_next: Any) -> Any:
        context = request.context.evolve(limits=Limits(attempt=0.001))
        return await call_next(request.evolve(context=context))

    for stream in (False, True):
        world = _World(subject, hurry)
        found = await caught(partial(world.call, stream=stream))
        outcomes = [attempt.outcome for attempt in world.traces[0].attempts]
        if isinstance(found, BaseException):
            no_group(found)
            expect(isinstance(found, TimedOutError), f"A limit ends an attempt, not {found!r}.")
            timed = {Outcome.TIMED_OUT, Outcome.NOT_SENT}
            expect(set(outcomes) <= timed, f"It is recorded as *timed out*, not {outcomes}.")
        await world.settle()


async def errors(subject: Subject) -> None:
    """An error is one of the library's, single, uncommitted, and without what was asked."""
    for request, stream in itertools.product(subject.failing, (False, True)):
        world = _World(subject)
        found = await caught(partial(world.call, stream=stream, request=request))
        expect(isinstance(found, BaseException), f"It answered what it was said to fail: {found}.")
        if isinstance(found, BaseException):
            no_group(found)
        expect(isinstance(found, LamellaError), f"Errors are the library's own, not {found!r}.")
        if isinstance(found, LamellaError) and found.partial is None:
            expect(not found.committed, f"Nothing was shown before {found!r}: it is uncommitted.")
        for text in _texts(request):
            expect(text not in str(found), "What was asked does not stand in the error.")
        await world.settle()


def _texts(request: Any) -> list[str]:
    found = [message.text for message in getattr(request, "messages", ())]
    found += list(getattr(request, "inputs", ()))
    return [text for text in found if len(text) > 8]


async def closing_twice(subject: Subject) -> None:
    """Closing the transport twice is closing it once."""
    world = _World(subject)
    await world.call(stream=False)
    await world.settle()
    transport: Any = world.pipeline.transport
    close = getattr(transport, "aclose", None)
    if close is not None:
        await close()


CHECKS: tuple[Callable[[Subject], Awaitable[None]], ...] = (
    answers,
    same_streamed_or_not,
    many_at_once,
    left_early,
    dropped,
    closed_under_a_read,
    cancelled_anywhere,
    limits,
    errors,
    closing_twice,
)
