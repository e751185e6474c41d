"""The work of `lamella map`: so many rows at a time, until there are no more, or a signal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import anyio

from lamella._errors import (
    AuthenticationError,
    BudgetExceededError,
    ClosedError,
    LamellaError,
    QuotaError,
)
from lamella._loops import current_loop
from lamella._many import first_error
from lamella.cli._map_results import Tally, answered, attempts_of, failed, line_of, rows
from lamella.cli._map_rows import RowError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lamella import Attempt, Money, Pipeline
    from lamella.cli._interrupts import Interrupts
    from lamella.cli._map_input import Line, Lines
    from lamella.cli._map_output import Results
    from lamella.cli._map_rows import Reader, Row

_FINAL: Final = (AuthenticationError, ClosedError, QuotaError)
"""What every further row would meet as well."""

_ENOUGH: Final = 3
"""Refusals by a budget for all together that has a little left, without an answer between them,
after which no further row is begun: one row may be dear, and the others fit."""

CLEANING: Final = 2.5
"""Seconds that are kept for closing after the rows under way have had theirs."""


class Run:
    """One run.

    Args:
        pipeline: What answers.
        lines: What to read.
        reader: Makes requests of it.
        results: Where the answers go.
        progress: Shows how far it is.

    Attributes:
        tally: How far it has come.
        stopped: The error because of which no further row was begun; None if there was none.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        lines: Lines,
        reader: Reader,
        results: Results,
        progress: Progress,
    ) -> None:
        self._pipeline = pipeline
        self._lines = lines
        self._reader = reader
        self._results = results
        self._progress = progress
        self._group: anyio.CancelScope | None = None
        self._too_dear = 0
        self.tally = Tally()
        self.stopped: LamellaError | None = None

    async def work(self, concurrency: int, interrupts: Interrupts, drain: float) -> None:
        """Answer all rows.

        Args:
            concurrency: How many at once.
            interrupts: What tells of signals.
            drain: Seconds that rows under way get after a signal.

        Raises:
            OSError: If an answer cannot be written.
        """
        from lamella.cli._interrupts import GRACE_SECONDS

        bound = max(GRACE_SECONDS, drain + CLEANING)
        try:
            with interrupts.draining(lambda: self._drain(drain), bound=bound):
                async with anyio.create_task_group() as group:
                    self._group = group.cancel_scope
                    for _ in range(concurrency):
                        group.start_soon(self._take_rows)
        except BaseExceptionGroup as errors:
            group_of: BaseExceptionGroup[BaseException] = errors
            raise first_error(group_of) from None

    def _drain(self, seconds: float) -> None:
        """Begin no further row, and give those that are under way so many seconds."""
        from lamella.cli._output import say

        self._lines.stop()
        if self._group is not None:
            self._group.deadline = current_loop().now() + seconds
        if self.tally.running:
            self._progress.clear()
            left = f"{rows(self.tally.running)} under way"
            say(f"Stopping: {left} may take {seconds:g} s more; a second signal breaks them off.")

    async def _take_rows(self) -> None:
        while (line := await self._lines.take()) is not None:
            self.tally.begun += 1
            await self._answer(line)

    async def _answer(self, line: Line) -> None:
        row = self._reader.read(line)
        form, attempts, error = await self._come_to(row)
        await self._results.write(line_of(form))
        self.tally.count(attempts, error)
        self._progress.tell(self.tally)

    async def _come_to(
        self, row: Row
    ) -> tuple[dict[str, Any], Sequence[Attempt], Exception | None]:
        if isinstance(row.asked, RowError):
            return failed(row, row.asked), (), row.asked
        monotonic = self._pipeline.ports.monotonic
        begun = monotonic()
        try:
            response = await self._pipeline.run(row.asked)
            self._too_dear = 0
            return answered(row, response), response.trace.attempts, None
        except Exception as error:  # noqa: BLE001 - it stands in its row's line
            if isinstance(error, LamellaError):
                self._look_at(error)
            return failed(row, error, monotonic() - begun), attempts_of(error), error

    def _look_at(self, error: LamellaError) -> None:
        """Begin no further row if it would meet the same."""
        if self.stopped is None and self._would_meet_all(error):
            self.stopped = error
            self._lines.stop()

    def _would_meet_all(self, error: LamellaError) -> bool:
        """Whether every further row would meet the same.

        So it is with a budget that all rows share, once it is used up. One that is counted for each
        user or session may have something for the next row, and what rows under way have reserved
        may come back.
        """
        if not isinstance(error, BudgetExceededError):
            return isinstance(error, _FINAL)
        limit, spent, wanted = map(_units, (error.limit, error.spent, error.wanted))
        if error.scope:
            return False
        if spent >= limit:
            return True
        if wanted <= limit - spent or wanted > limit:
            return False
        self._too_dear += 1
        return self._too_dear >= _ENOUGH


def _units(amount: Money | int) -> int:
    return amount if isinstance(amount, int) else amount.nano


class Progress:
    """How far it is, on a terminal."""

    def __init__(self, monotonic: Callable[[], float], *, hidden: bool) -> None:
        from lamella.cli._output import is_terminal

        self._monotonic = monotonic
        self._began = monotonic()
        self._shown = self._began
        self._hidden = hidden or not is_terminal(sys.stderr)

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return self._monotonic() - self._began

    def tell(self, tally: Tally) -> None:
        """A row is done. No terminal is written to more often than it is looked at."""
        now = self._monotonic()
        if self._hidden or now - self._shown < _LOOK:
            return
        self._shown = now
        words = f"{tally.done:,} done, {tally.failed:,} failed, {tally.running:,} under way"
        rate = tally.done / max(now - self._began, _LOOK)
        sys.stderr.write(f"\r{words}, {rate:,.1f} a second, {tally.spent()}\x1b[K")
        sys.stderr.flush()

    def clear(self) -> None:
        """Take it off the terminal."""
        if not self._hidden:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


_LOOK: Final = 0.1
