"""`Pipeline.map`: the block in which many rows are run, and what reads their results."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from lamella._bulk_configuration import configuration_of
from lamella._bulk_errors import MapStoppedError
from lamella._bulk_options import MapOptions
from lamella._bulk_results import Answers, MapResult
from lamella._bulk_rows import RowReader
from lamella._bulk_run import Run
from lamella._bulk_source import Source, source_of
from lamella._errors import MisuseError, copy_of
from lamella._responses import Response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lamella._bulk_report import MapProgress, MapReport
    from lamella._bulk_results import Lines
    from lamella._pipeline import Pipeline

R_co = TypeVar("R_co", bound=Response, covariant=True)


class MapRun(Generic[R_co]):
    """Many rows through one pipeline; `Pipeline.map` makes it.

    ``async with pipeline.map(rows) as work:`` begins, and ``async for result in work:`` gives the
    results in the order of the rows, while the rest is asked. ``await pipeline.map(...).report()``
    does all of it and gives the sums only. Leaving the block ends the rows under way.

    It is used once, on one event loop.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        rows: Any,
        options: MapOptions,
        *,
        form: Answers | Lines | None = None,
        reader: RowReader | None = None,
        deliver: Callable[[Any], Awaitable[None]] | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._deliver = deliver
        self._options = options
        self._source: Source = source_of(rows, pipeline.ports)
        self._form = form or _answers(pipeline, options.returns)
        if reader is None:
            has_model = getattr(pipeline.transport, "model", "") is not None
            reader = RowReader(options.defaults, has_model=has_model)
        self._reader = reader
        self._run: Run | None = None
        self._asked_to_stop = False
        self._told = False

    # --- its life ----------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._run is not None:
            msg = "These rows have been run already."
            raise MisuseError(msg, hint="Call pipeline.map(rows) again for another run.")
        options = self._options
        self._run = Run(
            self._pipeline,
            self._source,
            self._reader,
            options,
            self._form,
            configuration_of(self._pipeline, options.defaults, options.returns, self._form.name)
            if options.journal is not None
            else {},
            self._deliver,
        )
        await self._run.begin()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
        if kind is None and not self._told:
            self._raise_error()

    async def aclose(self, *, remove_journal: bool = False) -> None:
        """End the rows under way, and let go of the journal; leaving the block does so.

        Args:
            remove_journal: Whether to remove the journal's file, if all rows were answered.
        """
        await self._begun.aclose(remove=remove_journal)

    def stop(self) -> None:
        """Begin no further row. Those under way go on, and have their results."""
        self._asked_to_stop = True
        self._begun.stop("it was asked to")

    def cancel(self) -> None:
        """Begin no further row, and end those under way, which have no results then."""
        self._asked_to_stop = True
        self._begun.cancel()

    @property
    def _begun(self) -> Run:
        if self._run is None:
            msg = "These rows are not being run yet."
            hint = "Write `async with pipeline.map(rows) as work:` and use it inside."
            raise MisuseError(msg, hint=hint)
        return self._run

    # --- results -----------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[MapResult[R_co]]:
        self._begun  # noqa: B018 - says so if it was not entered
        return self

    async def __anext__(self) -> MapResult[R_co]:
        run = self._begun
        found = await run.next()
        if found is not None:
            return cast("MapResult[R_co]", found)
        self._raise_error()
        if run.stopped and not self._asked_to_stop:
            raise self._stopped(run) from run.cause
        raise StopAsyncIteration

    async def report(self) -> MapReport:
        """What it comes to in the end; results that were not read are passed over.

        Raises:
            LamellaError: What has ended the run before its time, such as a journal that cannot be
                written. A run that was stopped raises nothing: see `MapReport.stopped`.
        """
        if self._run is None:
            async with self:
                return await self.report()
        await self._run.finished()
        self._raise_error()
        return self._run.report

    @property
    def progress(self) -> MapProgress:
        """How far it is."""
        return self._begun.progress

    @property
    def so_far(self) -> MapReport:
        """What it has come to by now."""
        return self._begun.report

    @property
    def well(self) -> bool:
        """Whether nothing has ended the run before its time."""
        return self._begun.error is None

    def _raise_error(self) -> None:
        error = None if self._run is None else self._run.error
        if error is not None:
            self._told = True
            raise copy_of(error)

    def _stopped(self, run: Run) -> MapStoppedError:
        report = run.report
        hint = "Begin it again without the cause; with a journal, it goes on from there."
        msg = f"Not all rows were begun ({report.rows:,} have results): {report.stopped}."
        error = MapStoppedError(msg.replace("..", "."), hint=hint)
        error.report = report
        return error


def _answers(pipeline: Pipeline, returns: Any) -> Answers:
    if returns is None:
        return Answers()
    from lamella._chat import ChatRequest

    # No row could be asked if this pipeline has no values to give.
    pipeline._to_return(ChatRequest(messages=[]), returns)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    from lamella._returns import asked_type
    from lamella._typed_forms import form_of

    return Answers(form_of(asked_type(returns)))


class SyncMapRun(Generic[R_co]):
    """The same for synchronous code: `with pipeline.map_sync(rows) as work: for result in work:`.

    Args:
        run: What it is of.
    """

    def __init__(self, run: Callable[[], MapRun[R_co]]) -> None:
        from lamella._bridge import bridge

        self._bridge = bridge()
        self._run = run()

    def __enter__(self) -> Self:
        self._bridge.call(self._run.__aenter__)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bridge.call(self._run.__aexit__, kind, error, traceback)

    def __iter__(self) -> Iterator[MapResult[R_co]]:
        return self

    def __next__(self) -> MapResult[R_co]:
        found = self._bridge.call(self._take)
        if found is None:
            raise StopIteration
        return found

    async def _take(self) -> MapResult[R_co] | None:
        return await anext(self._run, None)

    def report(self) -> MapReport:
        """As `MapRun.report`."""
        return self._bridge.call(self._run.report)

    def stop(self) -> None:
        """As `MapRun.stop`."""
        self._bridge.call(self._stop)

    async def _stop(self) -> None:
        self._run.stop()

    @property
    def progress(self) -> MapProgress:
        """As `MapRun.progress`."""
        return self._run.progress
