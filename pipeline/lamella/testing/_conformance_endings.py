"""Checks of a middleware: how its calls end."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any

import anyio

from lamella._ending import Ending, ending
from lamella._errors import (
    ConnectError,
    ConnectionLostError,
    InvalidRequestError,
    LamellaError,
    RateLimitError,
    ServerError,
)
from lamella._outcomes import Outcome
from lamella.testing._conformance_world import TEXT, Subject, World, caught, chat, expect, no_group
from lamella.testing._scripted import Step
from lamella.testing._steps import Steps, steps_cancelled_at

_ERRORS = (
    RateLimitError("Too many requests.", status=429, retry_after=0.5),
    ServerError("The provider failed.", status=500),
    InvalidRequestError("The request is malformed.", status=400),
    ConnectError("No connection."),
)


class HostStop(BaseException):
    """Stands for what host frameworks steer with: no Exception, and none of our business."""


async def errors_before_commitment(subject: Subject) -> None:
    """An error before the first event is answered, or leaves uncommitted, single and unmutated."""
    broken: Step = ["Half an ans"] if chat(subject.request) else ServerError("Broken.", status=500)
    for failure, stream in itertools.product((*_ERRORS, broken), (False, True)):
        if stream and isinstance(failure, list):
            continue  # a stream shows its half: that is a committed error
        world = World(subject, [failure])
        found = await caught(partial(world.call, stream=stream))
        if isinstance(found, BaseException):
            no_group(found)
            expect(found is not failure, "An error is never given to two receivers: it is copied.")
        if isinstance(found, LamellaError):
            expect(not found.committed, f"Nothing was shown before {found!r}: it is uncommitted.")
        branches = [request.context.branch for request in world.inner.requests]
        expect(
            len(branches) == len(set(branches)),
            f"Each further try has a branch of its own; these were sent: {branches}.",
        )
        await world.settle()


async def errors_after_commitment(subject: Subject) -> None:
    """Once an event is out nothing is tried again: the error reaches the consumer, committed."""
    if not chat(subject.request):
        return
    for end in ((), (ConnectionLostError("Lost."),), (RateLimitError("Now?", status=429),)):
        script: list[Step] = [[*TEXT.split(" ")[:6], *end]]
        world = World(subject, script)
        asked: list[int] = []
        found = await caught(partial(_consume, world, asked))
        expect(isinstance(found, BaseException), "A broken answer does not look like a good one.")
        if asked and isinstance(found, LamellaError):
            expect(found.committed and not found.retryable, f"{found!r} is committed and final.")
            expect(asked[0] == len(world.transport.requests), "A committed error was tried again.")
        await world.settle()


async def _consume(world: World, asked: list[int]) -> None:
    """Read a stream, and note with each event how often the transport has been asked."""
    async with world.pipeline.stream(world.subject.request) as response:
        async for _ in response:
            asked += [len(world.transport.requests)]


async def foreign_errors(subject: Subject) -> None:
    """What is no Exception (control flow of a host framework, Ctrl-C) passes as it is."""
    for stream in (False, True):
        stop = HostStop()
        world = World(subject, [stop])
        found = await caught(partial(world.call, stream=stream))
        expect(found is stop, f"{stop!r} passes every layer; {found!r} came out instead.")
        await world.settle()


async def expired_deadlines(subject: Subject) -> None:
    """With a deadline that has passed nothing is sent."""

    async def expired(request: Any, call_next: Any) -> Any:
        context = request.context
        return await call_next(
            request.evolve(context=context.evolve(deadline=context.clock.now() - 1))
        )

    for stream in (False, True):
        world = World(subject, outside=[expired])
        found = await caught(partial(world.call, stream=stream))
        sent = len(world.transport.requests)
        expect(sent == 0, f"Nothing is sent after the deadline; {sent} requests were.")
        if isinstance(found, BaseException):
            no_group(found)
            expect(isinstance(found, LamellaError), f"A passed deadline is no {found!r}.")
        await world.settle()


async def cancelled_anywhere(subject: Subject) -> None:
    """Cancelled at each step, once and twice, streamed and not, it leaves nothing behind."""
    # Four pieces: the first, two in which an address and a number are cut, and the last. Between
    # more of them there would be more of the same steps.
    answer = subject.answer_in(24)
    scripts = ([answer], [ServerError("Try again.", status=503), answer])
    for script, stream in itertools.product(scripts, (False, True)):
        for first in itertools.count(1):
            once = await _cancelled(subject, script, stream=stream, at=(first,))
            if not once.cancelled:
                break
            for second in once.further((1, 2)):
                await _cancelled(subject, script, stream=stream, at=(first, second))
            expect(first < 5_000, "A call of a few events is over after 5,000 steps.")


async def _cancelled(
    subject: Subject, script: Sequence[Step], *, stream: bool, at: Sequence[int]
) -> Steps:
    world = World(subject, script)
    errors: list[BaseException] = []

    async def scenario() -> None:
        found = await caught(partial(world.call, stream=stream))
        if isinstance(found, BaseException):
            errors.append(found)

    steps = await steps_cancelled_at(at, scenario)
    for error in errors:
        expect(
            isinstance(error, ServerError) or not steps.cancelled,
            f"Cancellation is never turned into an error; at step {at[0]} it became {error!r}.",
        )
    try:
        await world.settle()
    except AssertionError as error:
        kind = "streamed" if stream else "unstreamed"
        raise AssertionError(f"{error} (A {kind} call was cancelled at step {at[0]}.)") from None
    return steps


async def left_early(subject: Subject) -> None:
    """A consumer who leaves closes everything, down to the source, and is no error."""
    for events in (0, 1, 3):
        world = World(subject)
        async with world.pipeline.stream(subject.request) as response:
            cursor = aiter(response)
            for _ in range(events):
                await anext(cursor, None)
        outcomes = {end.outcome for end in (*world.inner.endings, *world.outer.endings)}
        expect(
            outcomes <= {Outcome.LEFT, Outcome.COMPLETE, Outcome.CANCELLED},
            f"An answer that was left is *left*, not {sorted(outcomes)}.",
        )
        await world.settle()


async def dropped(subject: Subject) -> None:
    """An answer that is dropped without being left is closed all the same."""
    world = World(subject)
    block = world.pipeline.stream(subject.request)
    await block.__aenter__()
    del block
    gc.collect()
    await world.settle()


async def failing_callbacks(subject: Subject) -> None:
    """A callback that fails, plain or async, stops nobody else and reaches the consumer."""

    def plain(_: Ending) -> None:
        raise LookupError("A callback failed.")

    async def later(_: Ending) -> None:
        await anyio.sleep(0.01)
        raise LookupError("A callback failed.")

    for callback, stream, inside in itertools.product((plain, later), (False, True), (False, True)):
        layer = partial(_telling, callback)
        world = World(subject, inside=[layer] * inside, outside=[layer] * (not inside))
        found = await caught(partial(world.call, stream=stream))
        heard = not inside or bool(world.inner.requests)
        expect(
            isinstance(found, LookupError) or not heard,
            f"A failing callback is raised to the consumer of a good answer, not {found!r}.",
        )
        await world.settle()


async def _telling(callback: Any, request: Any, call_next: Any) -> Any:
    return await ending(call_next, request, callback)
