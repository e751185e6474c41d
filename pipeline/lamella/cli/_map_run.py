"""The work of `lamella map`: until there are no more rows, or a signal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio

from lamella._bulk_errors import MapStoppedError
from lamella._loops import current_loop
from lamella.cli._map_progress import rows

if TYPE_CHECKING:
    from lamella import MapReport, MapRun, Pipeline
    from lamella.cli._interrupts import Interrupts
    from lamella.cli._map_file import AnswerFile
    from lamella.cli._map_output import AnswerStream
    from lamella.cli._map_progress import Progress

    Target: TypeAlias = AnswerFile | AnswerStream

CLEANING: Final = 2.5
"""Seconds that are kept for closing after the rows under way have had theirs."""


class Job:
    """One run of the command.

    Args:
        pipeline: What answers.
        run: The rows.
        file: Where their lines go in their order; None if they are delivered as they come.
        progress: Shows how far it is.

    Attributes:
        stopped: Why no further row was begun, if something was wrong.
        report: What it has come to; None if it could not begin.
    """

    def __init__(
        self, pipeline: Pipeline, run: MapRun[Any], file: Target | None, progress: Progress
    ) -> None:
        self._pipeline = pipeline
        self._run = run
        self._file = file
        self._progress = progress
        self.stopped: MapStoppedError | None = None
        self.report: MapReport | None = None
        self._written = False

    async def work(self, interrupts: Interrupts, drain: float) -> None:
        """Answer all rows.

        Args:
            interrupts: What tells of signals.
            drain: Seconds that rows under way get after a signal.

        Raises:
            OSError: If an answer cannot be written.
        """
        from lamella.cli._interrupts import GRACE_SECONDS

        bound = max(GRACE_SECONDS, drain + CLEANING)
        async with self._pipeline:
            await self._run.__aenter__()
            try:
                with interrupts.draining(lambda: self._drain(drain), bound=bound):
                    await self._write_all()
            finally:
                try:
                    await self._run.aclose(remove_journal=self._written)
                finally:
                    self.report = self._run.so_far

    async def _write_all(self) -> None:
        try:
            await self._lines()
        except BaseException as error:
            # After a signal what is done is written; a file that has failed has lost lines.
            signalled = not isinstance(error, Exception)
            if signalled and self._file is not None and self._run.well:
                self._run.cancel()
                with anyio.CancelScope(shield=True):
                    await self._lines()
                    await self._file.finish()
            raise
        if self._file is not None:
            await self._file.finish()
        self._written = True

    async def _lines(self) -> None:
        try:
            if self._file is None:
                async for _ in self._run:  # delivered already
                    continue
            else:
                line: Any
                async for line in self._run:
                    await self._file.add(line)
        except MapStoppedError as error:
            self.stopped = error

    def _drain(self, seconds: float) -> None:
        """Begin no further row, and give those that are under way so many seconds."""
        from lamella.cli._output import say

        running = self._run.progress.running
        self._run.stop()
        loop = current_loop()
        loop.call_at(loop.now() + seconds, self._run.cancel)
        if running:
            self._progress.clear()
            left = f"{rows(running)} under way"
            say(f"Stopping: {left} may take {seconds:g} s more; a second signal breaks them off.")
