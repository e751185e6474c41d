"""Checks of a middleware: what its calls have to do with each other and with the world."""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio

from lamella._chat import ChatRequest
from lamella._errors import ServerError
from lamella._loops import TrioLoop, current_loop
from lamella._pipeline import Pipeline
from lamella._requests import Request
from lamella._responses import Response
from lamella.testing._conformance_world import Subject, World, caught, echo, expect
from lamella.testing._virtual import run_virtual

_SECRET = "zanzibar-7f3a91"  # noqa: S105 - stands for what nobody may write down


async def called_again(subject: Subject) -> None:
    """A layer outside may call it twice in one call, one after the other and at once."""

    async def in_turn(request: Any, call_next: Any) -> Any:
        first = await (await call_next(request.branch("try1"))).collect()
        return _equal(first, await (await call_next(request.branch("try2"))).collect())

    async def at_once(request: Any, call_next: Any) -> Any:
        found: dict[str, Response] = {}

        async def ask(name: str) -> None:
            found[name] = await (await call_next(request.branch(name))).collect()

        async with anyio.create_task_group() as group:
            for name in ("hedge1", "hedge2"):
                group.start_soon(ask, name)
        return _equal(found["hedge1"], found["hedge2"])

    for layer in (in_turn, at_once):
        for stream in (False, True):
            world = World(subject, outside=[layer])
            await world.call(stream=stream)
            await world.settle()


def _equal(one: Response, other: Response) -> Response:
    expect(one.answer == other.answer, "The same request, asked twice, has the same answer.")
    return other


async def many_at_once(subject: Subject) -> None:
    """Calls that run at once through one layer get each its own answer."""
    request = subject.request
    if not isinstance(request, ChatRequest):
        return
    asked = [request.evolve(messages=f"This is call number {number}.") for number in range(12)]
    alone: list[Any] = []
    for one in asked:
        world = World(subject, [echo])
        alone.append((await world.call(stream=False, request=one)).answer)
        await world.settle()
    world = World(subject, [echo])
    together: dict[int, Any] = {}

    async def call(number: int) -> None:
        stream = number % 2 == 1
        found = await caught(partial(world.call, stream=stream, request=asked[number]))
        together[number] = found.answer if isinstance(found, Response) else found

    async with anyio.create_task_group() as group:
        for number in range(len(asked)):
            group.start_soon(call, number)
    for number, answer in enumerate(alone):
        found = together[number]
        text = found if isinstance(found, BaseException) else found.text
        expect(text == answer.text, f"Call {number} got the answer {text!r}, not {answer.text!r}.")
    await world.settle()


async def nested(subject: Subject) -> None:
    """It works in a pipeline that is another's transport, in the caller's call."""
    for stream in (False, True):
        world = World(subject)
        outer = Pipeline([], world.pipeline, ports=subject.ports())
        if stream:
            async with outer.stream(subject.request) as opened:
                response: Response = await opened.collect()
        else:
            response = await outer.run(subject.request)
        world.shape(subject.request, response)
        here = world.transport.name  # a layer may ask others as well
        sent = len(world.transport.requests)
        known = len([one for one in response.trace.attempts if one.provider == here])
        expect(sent == known, f"{sent} requests were sent in the call, and its trace has {known}.")
        await world.settle()


async def loop_after_loop(subject: Subject) -> None:
    """One layer works on one event loop after another."""
    layer: Any = subject.make()
    backend = "trio" if isinstance(current_loop(), TrioLoop) else "asyncio"

    async def once() -> None:
        world = World(subject, layer=layer)
        await world.call(stream=False)
        await world.call(stream=True)

    for _ in range(3):
        await anyio.lowlevel.checkpoint()
        in_thread(lambda: run_virtual(once, backend=backend))


async def context_variables(subject: Subject) -> None:
    """It leaves the caller's context variables as they were."""
    before = _variables()
    world = World(subject)
    await world.call(stream=False)
    _unchanged(before)
    async with world.pipeline.stream(subject.request) as response:
        _unchanged(before)
        await response.collect()
        _unchanged(before)
    _unchanged(before)
    await world.settle()


def _variables() -> dict[contextvars.ContextVar[Any], Any]:
    return dict(contextvars.copy_context().items())


def _unchanged(before: dict[contextvars.ContextVar[Any], Any]) -> None:
    changed = [
        variable.name
        for variable, value in _variables().items()
        if variable not in before or before[variable] is not value
    ]
    expect(not changed, f"The caller's context variables stay as they are; {changed} changed.")


class _Listener(logging.Handler):
    def __init__(self) -> None:
        super().__init__(level=0)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record.getMessage())


async def nothing_private(subject: Subject) -> None:
    """Prompt and answer stand in no note, no error and no log record."""
    request = subject.request
    if not isinstance(request, ChatRequest):
        return
    asked: Request[Any] = request.evolve(messages=f"My secret is {_SECRET}.")
    listener, root = _Listener(), logging.getLogger()
    root.addHandler(listener)
    try:
        for step in (f"I keep {_SECRET}.", ServerError("The provider failed.", status=500)):
            for stream in (False, True):
                world = World(subject, [step])
                found = await caught(partial(world.call, stream=stream, request=asked))
                traces = {id(r.context.trace): r.context.trace for r in world.outer.requests}
                notes = [note for trace in traces.values() for note in trace.notes]
                _silent("note of the trace", *[repr((n.name, dict(n.fields))) for n in notes])
                _silent("error", str(found) if isinstance(found, BaseException) else "")
                await world.settle()
        _silent("log record", *listener.heard)
    finally:
        root.removeHandler(listener)


def _silent(where: str, *texts: str) -> None:
    expect(not any(_SECRET in text for text in texts), f"What was said stands in a {where}.")


def in_thread(function: Callable[[], object]) -> None:
    """Run a function in a thread, where it may have an event loop of its own, and wait for it."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            errors.append(error)

    thread = threading.Thread(target=run, name="lamella conformance")
    thread.start()
    thread.join()
    for error in errors:
        raise error
