"""Slow work that a process does once: in a thread, for all who need it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from lamella import ChatRequest, ChatResponse, Pipeline
from lamella._warm import Warm
from lamella_middlewares.deadline import Deadline

pytestmark = pytest.mark.anyio


class Work:
    """Blocks until it may end; the first times it may fail."""

    def __init__(self, *, failures: int = 0) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()
        self.threads: list[int] = []
        self.failures = failures

    def __call__(self) -> None:
        self.threads.append(threading.get_ident())
        self.begun.set()
        assert self.go.wait(10)
        if len(self.threads) <= self.failures:
            raise OSError("disk")


def needing(warm: Warm, *layers: Any) -> Callable[[], Any]:
    """A call that needs the work."""

    async def transport(request: Any) -> ChatResponse:
        await warm.ready(request.context)
        return ChatResponse.of(f"done: {warm.done}")

    pipe = Pipeline(list(layers), transport)
    return lambda: pipe.run(ChatRequest.of("x"))


async def begun(work: Work) -> None:
    """Wait for its thread."""
    assert await anyio.to_thread.run_sync(work.begun.wait, 10)


async def test_it_is_done_once_for_all_and_off_the_loop() -> None:
    """A hundred calls that need it at once take one thread."""
    work, texts = Work(), []
    call = needing(Warm(work))

    async def one() -> None:
        texts.append((await call()).text)

    async with anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(one)
        await begun(work)
        work.go.set()
    assert texts == ["done: True"] * 100
    assert len(work.threads) == 1
    assert work.threads[0] != threading.get_ident()


async def test_loops_of_other_threads_wait_for_it_too() -> None:
    """And are woken."""
    work, texts = Work(), []
    call = needing(Warm(work))
    threads: list[threading.Thread] = []

    def elsewhere() -> None:
        texts.append(anyio.run(call).text)

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await begun(work)
        threads += [threading.Thread(target=elsewhere) for _ in range(3)]
        for thread in threads:
            thread.start()
        await anyio.sleep(0.01)
        work.go.set()
    for thread in threads:
        await anyio.to_thread.run_sync(thread.join)
    assert texts == ["done: True"] * 3
    assert len(work.threads) == 1


async def test_a_call_that_is_cancelled_leaves_it_to_its_thread() -> None:
    """Who waits is served by that."""
    work = Work()
    call = needing(Warm(work))
    async with anyio.create_task_group() as group:
        scope = anyio.CancelScope()

        async def first() -> None:
            with scope:
                await call()

        group.start_soon(first)
        await begun(work)
        scope.cancel()
        group.start_soon(call)
        await anyio.wait_all_tasks_blocked()
        work.go.set()
    assert len(work.threads) == 1


async def test_what_was_cancelled_before_it_began_is_begun_by_the_next() -> None:
    """Nothing is stuck."""
    work = Work()
    work.go.set()
    warm = Warm(work)
    call = needing(warm)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await call()
    assert (await call()).text == "done: True"


async def test_a_failure_is_the_first_ones_and_the_next_tries_anew() -> None:
    """Those who waited do it themselves."""
    work = Work(failures=1)
    work.go.set()
    call = needing(Warm(work))
    with pytest.raises(OSError, match="disk"):
        await call()
    assert (await call()).text == "done: True"


async def test_a_deadline_ends_the_wait_and_is_no_error_here() -> None:
    """What follows finds it not done, and has its own word on the deadline."""
    work = Work()
    warm = Warm(work)
    texts: list[bool] = []

    async def late(request: Any) -> ChatResponse:
        await warm.ready(request.context.evolve(deadline=request.context.clock.now() + 0.02))
        texts.append(warm.done)
        return ChatResponse.of("late")

    assert (await Pipeline([Deadline(60)], late).run(ChatRequest.of("x"))).text == "late"
    assert texts == [False]
    work.go.set()
