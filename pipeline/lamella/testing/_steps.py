"""Cancelling a scenario at every step of the scheduler, one run for each.

What a program leaves behind when it is cancelled shows only at the await where it happens, so all of
them are tried.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from typing import TypeAlias

import anyio

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
            `(1, 2, 3)` also cancels during the clean-up. Empty cancels once.
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
    for first in range(1, limit + 1):
        reached = False
        for second in (None, *again):
            at = (first,) if second is None else (first, first + second)
            run = _Run(make, at)
            function = run.on_trio if backend == "trio" else run.as_task if by_task else run.in_scopes
            try:
                run_virtual(function, backend=backend, seed=seed)
            except BaseException as error:
                error.add_note(f"The scenario was cancelled at step {at} on {backend}.")
                raise
            reached = reached or run.cancelled
        if not reached:
            return first - 1
    raise AssertionError(f"The scenario was not through after {limit} steps on {backend}.")


class _Run:
    """One run of a scenario, cancelled at certain steps."""

    def __init__(
        self, make: Callable[[], tuple[Scenario, Scenario]], at: Sequence[int]
    ) -> None:
        self._make = make
        self._at = at
        self._steps = itertools.count(1)
        self.cancelled = False

    async def on_trio(self) -> None:
        from lamella.testing._virtual_trio import ticking

        scenario, check = self._make()
        await self._within_scopes(scenario, ticking)
        await check()

    async def in_scopes(self) -> None:
        from lamella.testing._virtual_asyncio import ticking, unhandled

        scenario, check = self._make()
        with unhandled() as reports:
            await self._within_scopes(scenario, ticking)
            await check()
        _nothing_reported(reports)

    async def as_task(self) -> None:
        from lamella.testing._virtual_asyncio import in_task, unhandled

        scenario, check = self._make()
        with unhandled() as reports:
            await in_task(scenario, self._tick)
            await check()
        _nothing_reported(reports)

    async def _within_scopes(
        self,
        scenario: Scenario,
        ticking: Callable[[Callable[[], bool]], AbstractContextManager[None]],
    ) -> None:
        with anyio.CancelScope() as outer, anyio.CancelScope() as inner:
            cancels = iter((inner.cancel, outer.cancel))
            with ticking(lambda: self._tick(lambda: next(cancels)())):
                await scenario()

    def _tick(self, cancel: Callable[[], object]) -> bool:
        if next(self._steps) not in self._at:
            return False
        self.cancelled = True
        cancel()
        return True


def _nothing_reported(reports: Sequence[str]) -> None:
    if reports:
        raise AssertionError(f"The event loop reported: {'; '.join(reports)}")
