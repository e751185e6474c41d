"""Cancelling a scenario at every step of the scheduler, one run for each.

What a program leaves behind when it is cancelled shows only at the await where it happens, so all
of them are tried.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from typing import Any, TypeAlias

import anyio

from lamella._loops import TrioLoop, current_loop
from lamella.testing._virtual import run_virtual

Scenario: TypeAlias = Callable[[], Awaitable[object]]
"""An async function without arguments."""


def each_step(
    make: Callable[[], tuple[Scenario, Scenario]],
    *,
    backend: str = "asyncio",
    again: Sequence[int] = (),
    by_task: bool = False,
    seed: int = 0,
    limit: int = 10_000,
) -> int:
    """Run a scenario again and again, cancelled at its 1st, 2nd, 3rd ... step, until it is through.

    Each run has an event loop of its own, in virtual time. A step is one round of asyncio's loop,
    or one step of any task on trio.

    Args:
        make: Makes everything anew for one run and returns the scenario, and a check that is run,
            uncancelled, on the same loop after it: what it raises ends all.
        backend: `"asyncio"` or `"trio"`.
        again: Steps after the cancellation at which to cancel once more, each in a run of its own:
            `(1, 2, 3)` also cancels during the clean-up, for as many steps as it takes. Empty
            cancels once.
        by_task: On asyncio, cancel with `Task.cancel()`, which goes through every shield, instead
            of with anyio's scopes. Has no meaning on trio.
        seed: The order of tasks on trio.
        limit: After so many steps it must be through.

    Returns:
        How many steps the scenario takes when nothing cancels it.

    Raises:
        AssertionError: If it is not through after `limit` steps, or the event loop reported an
            error that nobody handled.
        BaseException: What the scenario or the check raised; a note names the step.
    """

    async def run(at: Sequence[int]) -> Steps:
        scenario, check = make()
        steps = await steps_cancelled_at(at, scenario, by_task=by_task)
        await check()
        return steps

    def cancelled(*at: int) -> Steps:
        try:
            return run_virtual(run, at, backend=backend, seed=seed)
        except BaseException as error:
            error.add_note(f"The scenario was cancelled at step {at} on {backend}.")
            raise

    for first in range(1, limit + 1):
        once = cancelled(first)
        if not once.cancelled:
            return first - 1
        for second in once.further(again):
            cancelled(first, second)
    raise AssertionError(f"The scenario was not through after {limit} steps on {backend}.")


async def cancelled_at(at: Sequence[int], scenario: Scenario, *, by_task: bool = False) -> bool:
    """Run a scenario on the running loop, cancelled at certain steps, and swallow that.

    On asyncio's ordinary loops, which cannot be watched, a step is a suspension of the scenario
    itself.

    Args:
        at: The steps, from 1. The second cancellation comes from a scope around the first's.
        scenario: What to run.
        by_task: As for `each_step`; on asyncio it needs a loop in virtual time.

    Returns:
        Whether it got as far as to be cancelled.

    Raises:
        AssertionError: If the event loop reported an error that nobody handled.
    """
    return (await steps_cancelled_at(at, scenario, by_task=by_task)).cancelled


async def steps_cancelled_at(
    at: Sequence[int], scenario: Scenario, *, by_task: bool = False
) -> Steps:
    """As `cancelled_at`; what was counted meanwhile."""
    steps = Steps(at)
    if isinstance(current_loop(), TrioLoop):
        from lamella.testing._virtual_trio import ticking

        with anyio.CancelScope() as outer, anyio.CancelScope() as inner:
            steps.cancels(inner.cancel, outer.cancel)
            with ticking(steps.tick):
                await scenario()
        return steps
    from lamella.testing._virtual_asyncio import in_task, is_virtual, unhandled
    from lamella.testing._virtual_asyncio import ticking as rounds

    with unhandled() as reports:
        if by_task:
            await in_task(scenario, steps)
        else:
            with anyio.CancelScope() as outer, anyio.CancelScope() as inner:
                steps.cancels(inner.cancel, outer.cancel)
                if is_virtual():
                    with rounds(steps.tick):
                        await scenario()
                else:
                    await _Watched(scenario(), steps.tick)
    if reports:
        raise AssertionError(f"The event loop reported: {'; '.join(reports)}")
    return steps


class Steps:
    """Counts steps, and cancels at the ones it was told.

    Args:
        at: Those steps, from 1.

    Attributes:
        taken: How many steps the scenario has taken.
        cancelled: Whether it got as far as to be cancelled.
    """

    def __init__(self, at: Sequence[int]) -> None:
        self._at = at
        self._cancels: Iterator[Callable[[], object]] = iter(())
        self.taken = 0
        self.cancelled = False

    def cancels(self, *cancels: Callable[[], object]) -> None:
        """Cancel with these, in turn; the last one serves for all further ones."""
        self._cancels = itertools.chain(cancels, itertools.repeat(cancels[-1]))

    def tick(self) -> bool:
        """A step has been taken; whether something was cancelled."""
        self.taken += 1
        if self.taken not in self._at:
            return False
        self.cancelled = True
        next(self._cancels)()
        return True

    def further(self, again: Sequence[int]) -> list[int]:
        """Where to cancel once more, so many steps after the first cancellation.

        A step that was not taken is left out: a run takes the steps of the one before, so nothing
        would be cancelled there.
        """
        return [step for step in (self._at[0] + later for later in again) if step <= self.taken]


class _Watched:
    """An awaitable that ticks whenever the one inside suspends."""

    def __init__(self, awaitable: Awaitable[object], tick: Callable[[], object]) -> None:
        self._awaitable = awaitable
        self._tick = tick

    def __await__(self) -> Generator[Any, Any, object]:
        steps = self._awaitable.__await__()
        error: BaseException | None = None
        while True:
            try:
                waiting = steps.throw(error) if error is not None else steps.send(None)
            except StopIteration as done:
                return done.value
            self._tick()
            error = None
            try:
                yield waiting
            except BaseException as thrown:  # noqa: BLE001 - thrown into the one inside
                error = thrown
