"""Synchronous calls: one loop in one thread, from wherever they are made."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import anyio
import pytest

from lamella import (
    ChatRequest,
    ChatResponse,
    Finish,
    Handler,
    MisuseError,
    Pipeline,
    StillOpenError,
    TextDelta,
    begin,
    ending,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lamella import Event

HELLO = ChatRequest.of("hello")


async def echo(request: ChatRequest) -> ChatResponse:
    """Say it back."""
    return ChatResponse.of(request.messages[-1].text)


async def words(request: ChatRequest) -> ChatResponse:
    """Three words, streamed."""

    async def events() -> AsyncIterator[Event]:
        for word in ("one ", "two ", "three"):
            yield TextDelta(word)
        yield Finish("stop")

    return await begin(request, events())


def test_run_sync_in_a_script() -> None:
    """A synchronous call gives the same complete response."""
    assert Pipeline([], echo).run_sync(HELLO).text == "hello"


def test_stream_sync_reads_event_by_event() -> None:
    """A synchronous stream is read with an ordinary loop and is complete after it."""
    with Pipeline([], words).stream_sync(HELLO) as response:
        with pytest.raises(StillOpenError, match="collect"):
            _ = response.text
        texts = [event.text for event in response if isinstance(event, TextDelta)]

    assert texts == ["one ", "two ", "three"]
    assert response.text == "one two three"


def test_leaving_a_synchronous_stream_ends_it() -> None:
    """A reader who stops early leaves a response that has been left."""
    with Pipeline([], words).stream_sync(HELLO) as response:
        for _ in response:
            break

    assert response.outcome == "left"


def test_beside_a_running_loop() -> None:
    """It works where a loop is running already, as in a notebook."""

    async def notebook() -> str:
        return Pipeline([], echo).run_sync(HELLO).text

    assert asyncio.run(notebook()) == "hello"


def test_from_many_threads_at_once() -> None:
    """Threads share the one loop and do not wait for each other."""
    pipeline = Pipeline([], echo)
    meeting = threading.Barrier(8, timeout=10)

    async def together(request: ChatRequest, call_next: Handler) -> ChatResponse:
        await request.context.ports.thread(meeting.wait)
        return await call_next(request)

    pipeline = Pipeline([together], echo)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(pipeline.run_sync, [HELLO] * 8))

    assert [answer.answer.text for answer in answers] == ["hello"] * 8


def test_inside_a_tool_of_a_synchronous_call() -> None:
    """A blocking function that a synchronous call runs may itself make one, and again."""

    async def tool(request: ChatRequest, call_next: Handler) -> ChatResponse:
        depth = int(request.messages[-1].text)
        if depth == 0:
            return await call_next(request)
        deeper = ChatRequest.of(str(depth - 1))
        answer = await request.context.ports.thread(pipeline.run_sync, deeper)
        return ChatResponse.of(answer.answer.text + "!")

    pipeline = Pipeline([tool], echo)

    assert pipeline.run_sync(ChatRequest.of("3")).text == "0!!!"


def test_the_callers_context_variables_are_seen() -> None:
    """Layers see the context variables of the synchronous caller."""
    variable = contextvars.ContextVar("variable", default="unset")

    async def look(request: ChatRequest) -> ChatResponse:
        return ChatResponse.of(variable.get())

    variable.set("seen")

    assert Pipeline([], look).run_sync(HELLO).text == "seen"


def test_on_the_loops_own_thread_it_names_the_remedy() -> None:
    """A synchronous call on the bridge's own loop is refused: it would wait for itself."""

    async def wrong(request: ChatRequest) -> ChatResponse:
        return Pipeline([], echo).run_sync(request)

    with pytest.raises(MisuseError, match=r"await pipeline\.run"):
        Pipeline([], wrong).run_sync(HELLO)


def test_errors_reach_the_caller() -> None:
    """An exception is raised in the caller's thread as it is."""

    async def broken(request: ChatRequest) -> ChatResponse:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Pipeline([], broken).run_sync(HELLO)


PROGRAM = """
import os, signal, threading, anyio
from lamella import ChatRequest, ChatResponse, Ending, Pipeline, ending

signal.signal(signal.SIGINT, signal.default_int_handler)  # what shells start aside ignores it

async def echo(request):
    return ChatResponse.of("hello")

HELLO = ChatRequest.of("hello")
"""


def run_program(body: str) -> subprocess.CompletedProcess[str]:
    """Run a program of its own, warnings as errors."""
    program = PROGRAM + textwrap.dedent(body)
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_after_a_fork_the_child_has_a_loop_of_its_own() -> None:
    """A child process that inherited a used bridge makes synchronous calls."""
    done = run_program("""
        pipeline = Pipeline([], echo)
        assert pipeline.run_sync(HELLO).text == "hello"
        import warnings
        warnings.simplefilter("ignore")
        child = os.fork()
        if child == 0:
            os._exit(0 if pipeline.run_sync(HELLO).text == "hello" else 1)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status))
    """)

    assert (done.stdout.strip(), done.stderr) == ("0", "")


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_ctrl_c_cancels_the_call() -> None:
    """Ctrl-C in the caller cancels the call, which hears of it, and nothing is left behind."""
    done = run_program("""
        outcomes = []

        async def account(request, call_next):
            return await ending(call_next, request, lambda end: outcomes.append(end.outcome))

        async def forever(request):
            os.kill(os.getpid(), signal.SIGINT)
            await anyio.sleep_forever()

        try:
            Pipeline([account], forever).run_sync(HELLO)
        except KeyboardInterrupt:
            print(*outcomes)
    """)

    assert (done.stdout.strip(), done.stderr) == ("cancelled", "")


def test_a_program_ends_with_its_bridge_running() -> None:
    """The daemon thread neither holds up nor disturbs the end of the program."""
    done = run_program("""
        print(Pipeline([], echo).run_sync(HELLO).text)
    """)

    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "hello", "")


def test_a_signal_that_wakes_nobody_is_heard_of_soon() -> None:
    """As one does that comes just before the caller begins to wait."""
    done = run_program("""
        import _thread

        outcomes = []

        async def account(request, call_next):
            return await ending(call_next, request, lambda end: outcomes.append(end.outcome))

        async def forever(request):
            threading.Timer(0.05, _thread.interrupt_main).start()
            await anyio.sleep_forever()

        try:
            Pipeline([account], forever).run_sync(HELLO)
        except KeyboardInterrupt:
            print(*outcomes)
    """)

    assert (done.stdout.strip(), done.stderr) == ("cancelled", "")


def test_what_takes_long_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own timeout is none of the wait's."""
    monkeypatch.setattr("lamella._bridge._LOOK_SECONDS", 0.001)
    failures = [False, True]

    async def slow(request: ChatRequest) -> ChatResponse:
        await anyio.sleep(0.02)
        if failures.pop():
            raise TimeoutError("its own")
        return ChatResponse.of("hello")

    with pytest.raises(TimeoutError, match="its own"):
        Pipeline([], slow).run_sync(HELLO)
    assert Pipeline([], slow).run_sync(HELLO).text == "hello"


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_what_a_signal_handler_raises_cancels_the_call() -> None:
    """A time limit that is no Ctrl-C ends the work as well as the wait for it."""
    done = run_program("""
        class TimeIsUp(Exception): ...

        def handler(*_): raise TimeIsUp

        outcomes = []

        async def account(request, call_next):
            return await ending(call_next, request, lambda end: outcomes.append(end.outcome))

        async def forever(request):
            os.kill(os.getpid(), signal.SIGTERM)
            await anyio.sleep_forever()

        signal.signal(signal.SIGTERM, handler)
        try:
            Pipeline([account], forever).run_sync(HELLO)
        except TimeIsUp:
            print(*outcomes)
    """)

    assert (done.stdout.strip(), done.stderr) == ("cancelled", "")


def test_on_a_thread_that_runs_trio() -> None:
    """The bridge's loop is asyncio's, whichever loop the caller's context variables name."""

    async def waiting(request: ChatRequest) -> ChatResponse:
        await anyio.lowlevel.checkpoint()
        return ChatResponse.of("through")

    async def main() -> str:
        return Pipeline([], waiting).run_sync(HELLO).text

    assert anyio.run(main, backend="trio") == "through"


def test_a_dropped_synchronous_stream_ends_its_call() -> None:
    """A block that was entered and dropped is left by the net."""
    ended = threading.Event()

    async def account(request: ChatRequest, call_next: Handler) -> ChatResponse:
        return await ending(call_next, request, lambda _: ended.set())

    block = Pipeline([account], words).stream_sync(HELLO)
    block.__enter__()
    with pytest.raises(MisuseError, match="already been entered"):
        block.__enter__()
    del block
    gc.collect()
    assert ended.wait(10)
