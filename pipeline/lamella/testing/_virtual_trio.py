"""Virtual time for trio: a clock that jumps instead of waiting, and scheduling by a seed.

trio's own `MockClock` either jumps before bytes on their way can arrive, or waits a fixed real time
before every jump; this one waits only while sockets are open.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import trio
import trio._core._run as scheduler  # its source of chance has no public door
from trio.abc import Clock, Instrument


class VirtualClock(Clock):
    """trio's clock in virtual time; each run starts at 0, with the same chance.

    Args:
        seed: Decides in which order tasks run that can run at the same time.
        grace: Real seconds to wait for the peer on this machine before a jump, while sockets
            are open.
    """

    def __init__(self, seed: int, grace: float) -> None:
        self._seed = seed
        self._grace = grace
        self._now = 0.0
        self._steps = _Steps()
        self._polled_at = -1

    def start_clock(self) -> None:
        """Begin at 0; trio calls this once for each run."""
        self._now = 0.0
        self._polled_at = -1
        self._steps = _Steps()
        trio.lowlevel.add_instrument(self._steps)
        trio.lowlevel.add_instrument(_Chance(self._seed))

    def current_time(self) -> float:
        """Seconds since the run began, of virtual time."""
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """How long trio may wait for sockets; called when no task can run."""
        if deadline <= self._now:
            return 0.0
        if _somebody_waits_until_all_are_blocked():
            return 1.0  # trio wakes them at once
        if deadline == float("inf"):
            return deadline
        if self._polled_at != self._steps.taken:
            self._polled_at = self._steps.taken
            found = trio.lowlevel.current_statistics()
            if _sockets_are_open(found):
                return self._grace
            if found.run_sync_soon_queue_size:  # it is served through trio's own socket
                return 0.0
        self._now = deadline
        return 0.0


class _Steps(Instrument):
    """Counts the steps of all tasks, so that the clock knows whether something has happened."""

    def __init__(self) -> None:
        self.taken = 0

    def before_task_step(self, task: Any) -> None:
        self.taken += 1


class _Chance(Instrument):
    """Gives one run trio's scheduler a seed, and takes it back."""

    def __init__(self, seed: int) -> None:
        module: Any = scheduler
        self._before = (module._ALLOW_DETERMINISTIC_SCHEDULING, module._r.getstate())  # noqa: SLF001
        module._ALLOW_DETERMINISTIC_SCHEDULING = True  # noqa: SLF001
        module._r.seed(seed)  # noqa: SLF001

    def after_run(self) -> None:
        module: Any = scheduler
        flag, state = self._before
        module._ALLOW_DETERMINISTIC_SCHEDULING = flag  # noqa: SLF001
        module._r.setstate(state)  # noqa: SLF001


def _somebody_waits_until_all_are_blocked() -> bool:
    module: Any = scheduler
    return bool(module.GLOBAL_RUN_CONTEXT.runner.waiting_for_idle)


def _sockets_are_open(statistics: trio.lowlevel.RunStatistics) -> bool:
    found: Any = statistics.io_statistics
    waiting = sum(
        [
            getattr(found, name, 0)
            for name in ("tasks_waiting_read", "tasks_waiting_write", "tasks_waiting")
        ]
    )
    return waiting > 1  # one is trio's own wake-up socket


@contextmanager
def ticking(tick: Callable[[], object]) -> Generator[None, None, None]:
    """Call `tick` after every step of any task of this run."""
    watch = _Ticks(tick)
    trio.lowlevel.add_instrument(watch)
    try:
        yield
    finally:
        trio.lowlevel.remove_instrument(watch)


class _Ticks(Instrument):
    def __init__(self, tick: Callable[[], object]) -> None:
        self._tick = tick

    def after_task_step(self, task: Any) -> None:
        self._tick()
