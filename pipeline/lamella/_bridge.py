"""Synchronous code's way in: one event loop, in one daemon thread per process.

Started on first use and kept, so that connection pools, limits and breakers go on working from
call to call. Callers wait on an ordinary future, so it works beside a running loop, from many
threads, and inside a tool that a synchronous call runs.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextvars
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from lamella._errors import MisuseError

if TYPE_CHECKING:
    from lamella._once import Streaming

T = TypeVar("T")
P = ParamSpec("P")

_CANCEL_SECONDS = 2.0
"""How long an interrupted caller waits for its call to clean up."""

_LOOK_SECONDS = 0.2
"""How long a caller waits at a stretch. In between Python runs the handlers of signals.

A signal interrupts a wait, but not one that a thread is just about to begin; on Windows, none.
"""


class Bridge:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="lamella", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    @property
    def alive(self) -> bool:
        """Whether its thread runs: false in the child of a fork."""
        return self._thread.is_alive() and not self._loop.is_closed()

    def call(
        self, function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `function(...)` on the loop and wait for it, in the caller's context variables.

        Ctrl-C in the caller, or whatever else a signal handler raises, cancels the work and waits,
        bounded, for its clean-up.

        Raises:
            MisuseError: On the loop's own thread, which would wait for itself.
        """
        if threading.current_thread() is self._thread:
            msg = "A synchronous call was made on the event loop that would have to run it."
            hint = "In async code use `await pipeline.run(...)`; in a tool, `await` it there."
            raise MisuseError(msg, hint=hint)
        context = _callers_context()
        done: concurrent.futures.Future[T] = concurrent.futures.Future()
        started: list[asyncio.Task[None]] = []

        async def work() -> None:
            try:
                result = await function(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
                if not done.cancelled():
                    done.set_exception(error)
            else:
                if not done.cancelled():
                    done.set_result(result)

        def start() -> None:
            started.append(self._loop.create_task(work(), context=context))

        self._loop.call_soon_threadsafe(start)
        try:
            while not done.done():
                with suppress(TimeoutError):  # the work's own, if that was it, is raised below
                    done.result(_LOOK_SECONDS)
            return done.result()
        except BaseException:
            if not done.done():
                self._cancel(started, done)
            raise

    def _cancel(
        self, started: list[asyncio.Task[None]], done: concurrent.futures.Future[Any]
    ) -> None:
        self._loop.call_soon_threadsafe(lambda: [task.cancel() for task in started])
        concurrent.futures.wait([done], timeout=_CANCEL_SECONDS)

    def close(self) -> None:
        """Cancel what runs, give it a moment, and stop the loop."""
        if not self.alive or threading.current_thread() is self._thread:
            return
        future = asyncio.run_coroutine_threadsafe(self._cancel_all(), self._loop)
        concurrent.futures.wait([future], timeout=_CANCEL_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=_CANCEL_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()

    async def _cancel_all(self) -> None:
        me = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not me]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._loop.shutdown_asyncgens()


def _callers_context() -> contextvars.Context:
    """The caller's context variables, save the one that names the event loop it runs on."""
    context = contextvars.copy_context()
    # Where trio runs there is sniffio; another thread may be half-way through importing it.
    variable = getattr(sys.modules.get("sniffio"), "current_async_library_cvar", None)
    if variable is not None:
        context.run(variable.set, "asyncio")
    return context


_bridge: Bridge | None = None
_lock = threading.RLock()  # a finaliser or a signal handler may come in between


def bridge() -> Bridge:
    """The process's bridge, started on first use."""
    global _bridge  # noqa: PLW0603 - one a process is the point
    with _lock:
        if _bridge is None or not _bridge.alive:
            _bridge = Bridge()
        return _bridge


def _after_fork() -> None:
    """The child has neither the thread nor anybody who would release the lock."""
    global _bridge, _lock  # noqa: PLW0603 - as above
    _bridge = None
    _lock = threading.RLock()


def close_bridge() -> None:
    """End it, with what runs on it; the end of the process does so."""
    if _bridge is not None:
        _bridge.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(close_bridge)


class SyncStreaming:
    """The block of a streamed call in synchronous code."""

    def __init__(self, block: Streaming) -> None:
        self._block = block
        self._bridge = bridge()

    def __enter__(self) -> Any:
        response = self._bridge.call(self._block.__aenter__)
        response.outermost(response.context.clock, self._bridge)
        return response

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bridge.call(self._block.__aexit__, kind, error, traceback)
