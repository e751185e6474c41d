"""Virtual time for asyncio: an event loop whose clock jumps instead of waiting."""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import Executor
from contextlib import contextmanager
from contextvars import Context
from typing import Any, Protocol, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_Ready = list[tuple[selectors.SelectorKey, int]]


class _Selector(selectors.DefaultSelector):
    """A selector that lets time pass where the ordinary one waits."""

    def __init__(self, grace: float) -> None:
        super().__init__()
        self.now = 0.0
        self.threads = 0
        self.ticked: Callable[[], bool] | None = None
        self._grace = grace

    def select(self, timeout: float | None = None) -> _Ready:
        if self.ticked is not None and self.ticked():
            return super().select(0)
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None or self.threads:
            # No timer is set, or a thread works that knows nothing of virtual time.
            return super().select(timeout if timeout is None else self._grace)
        if len(self.get_map()) > 1:  # more than the loop's own wake-up socket
            ready = super().select(self._grace)  # bytes may be on their way
            if ready:
                return ready
        self._jump(timeout)
        return []

    def _jump(self, seconds: float) -> None:
        # A sum that rounds down to the same instant must not keep the clock there for ever.
        self.now = max(self.now + seconds, math.nextafter(self.now, math.inf))


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time. It starts at 0.

    When nothing can run, its clock jumps to the next timer. Sockets work: while any is open the
    loop really waits `grace` seconds for bytes on their way before it jumps. So does the executor
    of `loop.run_in_executor`; other threads are not seen.

    Args:
        grace: Real seconds to wait for the peer on this machine before a jump.
    """

    def __init__(self, grace: float) -> None:
        self._virtual = _Selector(grace)
        super().__init__(self._virtual)

    @property
    def _clock_resolution(self) -> float:
        # asyncio runs a timer that is due before now plus this. With the distance to the next
        # float no timer is early: one that finds itself early and sets itself again, for the
        # same instant, would keep the clock from ever getting there.
        return math.ulp(self._virtual.now)

    @_clock_resolution.setter
    def _clock_resolution(self, _: float) -> None:
        """Asyncio sets it to the resolution of the real clock."""

    def time(self) -> float:
        """Seconds since the loop was made, of virtual time."""
        return self._virtual.now

    def on_tick(self, ticked: Callable[[], bool] | None) -> None:
        """Call a function whenever all that was ready has run, before time may jump.

        Args:
            ticked: Returns whether it has made something ready. None ends it.
        """
        self._virtual.ticked = ticked

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        if math.isinf(when):  # a timer that never fires would let time jump for ever
            return asyncio.TimerHandle(when, callback, args, self, context)
        return super().call_at(when, callback, *args, context=context)

    def run_in_executor(  # type: ignore[override] # pyright: ignore[reportIncompatibleMethodOverride]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self._virtual.threads += 1
        future.add_done_callback(self._thread_is_done)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        # Python >= 3.12 gives a bound, of real seconds: this clock would jump past it at once.
        self._virtual.threads += 1
        try:
            await super().shutdown_default_executor()
        finally:
            self._virtual.threads -= 1

    def _thread_is_done(self, _: object) -> None:
        self._virtual.threads -= 1


@contextmanager
def ticking(tick: Callable[[], bool]) -> Generator[None, None, None]:
    """Call `tick` after every round of the running loop; it returns whether it readied anything."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, VirtualLoop):
        raise TypeError(f"Steps are counted on a loop in virtual time, not on {loop!r}.")
    loop.on_tick(tick)
    try:
        yield
    finally:
        loop.on_tick(None)


@contextmanager
def unhandled() -> Generator[list[str], None, None]:
    """What the running loop reports meanwhile: errors of tasks that nobody awaits."""
    loop = asyncio.get_running_loop()
    reports: list[str] = []

    def report(_: asyncio.AbstractEventLoop, found: dict[str, Any]) -> None:
        reports.append(f"{found.get('message')} {found.get('exception')!r}")

    before = loop.get_exception_handler()
    loop.set_exception_handler(report)
    try:
        yield reports
    finally:
        loop.set_exception_handler(before)


def is_virtual() -> bool:
    """Whether the running loop is one in virtual time."""
    return isinstance(asyncio.get_running_loop(), VirtualLoop)


class Ticks(Protocol):
    """Counts steps and cancels at some of them."""

    def cancels(self, *cancels: Callable[[], object]) -> None:
        """Cancel with these."""
        ...

    def tick(self) -> bool:
        """A step has been taken; whether something was cancelled."""
        ...


async def in_task(function: Callable[[], Awaitable[object]], steps: Ticks) -> None:
    """Run an async function as a task of its own, which `steps` may cancel after every round.

    Args:
        function: What to run. Its cancellation ends here.
        steps: Told of each round, and of what cancels the task.
    """

    async def run() -> None:
        with ticking(steps.tick):
            await function()

    task = asyncio.get_running_loop().create_task(run())
    steps.cancels(task.cancel)
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
