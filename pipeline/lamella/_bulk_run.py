"""Many rows through one pipeline: asked so many at a time, given in their order.

A row is under way from the moment it is begun until its result is durable, or given. What is ready
before its turn waits in memory up to a bound; beyond that it waits in the journal, or without one
no further row is begun.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final

import anyio

from lamella._bulk_asking import Asked, Asker, Ceiling
from lamella._bulk_errors import RowError
from lamella._bulk_journal import Admitted, Journal
from lamella._bulk_journal_rows import BROKEN_OFF, FAILED, MAY_PASS, NEW, Entry
from lamella._bulk_report import MapProgress, MapReport, Tally
from lamella._bulk_results import MapResult
from lamella._bulk_work import Work
from lamella._errors import LamellaError
from lamella._loops import current_loop
from lamella._many import first_error
from lamella._ports import run_in_thread

if TYPE_CHECKING:
    from lamella._bulk_options import MapOptions
    from lamella._bulk_results import Answers, Lines
    from lamella._bulk_rows import RowReader
    from lamella._bulk_source import Source
    from lamella._pipeline import Pipeline

WINDOW: Final = 1_000
"""Results that wait in memory for their turn, or for who reads them."""

_AHEAD: Final = 256
"""Rows that are read ahead, since a thread, or the journal, takes as long for one as for many."""

_LONGEST_STRIDE: Final = 1_000
"""Rows that are looked up in the journal together while it has all of them."""


class Run:
    """One run over rows: its tasks, and what they have come to. For one event loop.

    Args:
        pipeline: What answers.
        source: Where the rows come from.
        reader: Makes requests of them.
        options: How they are run.
        form: What results are given and kept as.
        configuration: What decides the answers, for the journal.
        deliver: Takes each result as it comes, before its row counts as done, in place of who would
            read them in their order; None for that.

    Attributes:
        tally: The sums.
        stopped: Why no further row was begun; empty if all were.
        cause: The error that every further row would have met.
        over: Set when nothing more will come.
        error: What has ended the run before its time.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the parts of one run
        self,
        pipeline: Pipeline,
        source: Source,
        reader: RowReader,
        options: MapOptions,
        form: Answers | Lines,
        configuration: Mapping[str, str],
        deliver: Callable[[Any], Awaitable[None]] | None = None,
    ) -> None:
        self._pipeline = pipeline
        # For others a key would promise what they need not keep: that they answer it once.
        self._keyed = getattr(pipeline.transport, "answers_by_key", False) is True
        self._source = source
        self._reader = reader
        self._options = options
        self._form: Any = form
        self._configuration = configuration
        self._pace = options.pace
        self.tally = Tally()
        self._ceiling = None if options.budget is None else Ceiling(options.budget, self.tally)
        self._asker = Asker(
            pipeline,
            options.returns,
            options.row_timeout,  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
            self._pace,
            self.tally,
            self._stop_for,
        )
        self._work: Work[Admitted] = Work(self._take, self._answer, self._pace)
        self._journal: Journal | None = None
        if options.journal is not None:
            port = pipeline.ports.thread
            own = None if port is run_in_thread else port
            self._journal = Journal(options.journal, own, self.tally.kept)
        self._again = frozenset({BROKEN_OFF, *((MAY_PASS,) if options.retry_failed else ())})
        self._ids: set[str | int] = set()
        self._began = 0.0
        self._ended: float | None = None
        self._taken = 0
        self._under_way: set[int] = set()
        self._live: dict[int, Any] = {}
        self._next = 0
        self._awaited = -1
        self._arrived = anyio.Event()
        self._changed = anyio.Event()
        self._deliver = deliver
        self._unread = deliver is not None
        self._broken_off = 0
        self._backlog: deque[Admitted] = deque()
        self._stride = 0
        self._scope = anyio.CancelScope()
        self._restored: deque[tuple[int, Any]] = deque()
        self.stopped = ""
        self.cause: LamellaError | None = None
        self.over = anyio.Event()
        self.error: Exception | None = None

    # --- its life ----------------------------------------------------------------------------

    async def begin(self) -> None:
        """Open the journal, and begin with the first rows.

        Raises:
            JournalError: If the journal cannot be gone on with.
            StoreUnavailableError: If its file cannot be used.
        """
        self._began = self._pipeline.ports.monotonic()
        if self._journal is not None:
            options = self._options
            sums = await self._journal.open(
                self._configuration,
                restart=options.restart,
                identity=self._pipeline.ports.new_id(),
            )
            if sums is not None:
                self.tally.go_on(sums)
        current_loop().spawn(self._serve, "lamella map", copy_context())

    async def _serve(self) -> None:
        try:
            with self._scope:
                await self._do_all()
        except BaseExceptionGroup as errors:
            group: BaseExceptionGroup[BaseException] = errors
            self._fail(first_error(group))
        except Exception as error:  # noqa: BLE001 - raised where results are read
            self._fail(error)
        finally:
            self._ended = self._pipeline.ports.monotonic()
            self.over.set()
            self._arrived.set()

    def _fail(self, error: BaseException) -> None:
        if not isinstance(error, Exception):
            raise error
        self.error = error

    async def _do_all(self) -> None:
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._source.pull)
                if self._journal is not None:
                    group.start_soon(self._journal.write)
                await self._work.run()
                self._source.stop()
                if self._journal is not None:
                    self._journal.finish()
        finally:
            with anyio.CancelScope(shield=True):
                await self._source.aclose()
                if self._journal is not None:
                    await self._journal.flush()

    def stop(self, why: str) -> None:
        """Begin no further row; those under way go on."""
        if not self.stopped and not self._work.over:
            self.stopped = why
            self._work.stop()
            self._source.stop()
            self._changed.set()

    def cancel(self) -> None:
        """End the rows under way, too."""
        self.stop("it was cancelled")
        self._scope.cancel()

    async def aclose(self, *, remove: bool) -> None:
        """End it, and let go of the journal, which can be removed if all rows were answered."""
        with anyio.CancelScope(shield=True):
            if not self.over.is_set():
                self.cancel()
                await self.over.wait()
            if self._journal is not None:
                report = self.report
                whole = report.complete and not report.failed and self.error is None
                await self._journal.aclose(remove=remove and whole)

    def _stop_for(self, error: LamellaError) -> None:
        if self.cause is None and not self.stopped:
            self.cause = error
            self.stop(f"every further row would have met the same: {error}")

    # --- taking rows -------------------------------------------------------------------------

    async def _take(self, most: int) -> list[Admitted] | None:
        """The next rows to be asked: some, none yet, or None at the end."""
        room = _AHEAD
        if self._journal is None and not self._unread:
            while len(self._live) >= WINDOW and not self.stopped:
                await self._change()
            room = WINDOW - len(self._live)
        while not self._backlog:
            if self.stopped or not await self._read(most):
                return None
        if self._ceiling is not None:
            room = await self._afforded(most)
        if self.stopped:
            return None
        backlog = self._backlog
        return [backlog.popleft() for _ in range(min(max(room, 1), len(backlog)))]

    async def _read(self, most: int) -> bool:
        """Read more rows; False at the end. What the journal has is passed in larger steps."""
        most = max(most, min(_AHEAD, 4 * self._pace.limit), self._stride)
        given = await self._source.take(most)
        if not given or self.stopped:
            return False
        read, first = self._reader.read, self._taken
        rows = [read(first + number, one) for number, one in enumerate(given)]
        self._taken += len(rows)
        if self._journal is None:
            for row in rows:
                self._once(row)
            self._under_way.update(range(first, self._taken))
            self._backlog.extend([Admitted(row, NEW, b"", b"") for row in rows])
            return True
        asked = await self._looked_up(self._journal, rows)
        self._stride = 0 if asked else min(_LONGEST_STRIDE, 2 * most)
        self._backlog.extend(asked)
        return True

    def _once(self, row: Any) -> None:
        if row.id is None:
            return
        if row.id in self._ids:
            msg = f"The row's id {row.id!r} is that of an earlier row."
            row.asked = RowError(msg, code="duplicate_id", hint="Give each row an id of its own.")
        self._ids.add(row.id)

    async def _looked_up(self, journal: Journal, rows: Sequence[Any]) -> list[Admitted]:
        """Those of the rows that the journal has no result of."""
        indexes = [row.index for row in rows]
        self._under_way.update(indexes)
        again = self._options.changed == "again"
        found = await journal.admit(rows, self._again, changed=again)
        asked: list[Admitted] = []
        for one in found:
            if one.known.verdict != "kept":
                asked.append(one)
                continue
            self.tally.restore(one.known.kind, one.known.model)
            self._settle(one.row.index)
        return asked

    async def _afforded(self, most: int) -> int:
        """How many more rows the budget allows, once it allows one; otherwise the run stops."""
        ceiling, work = self._ceiling, self._work
        assert ceiling is not None  # noqa: S101 - as who calls it has seen
        while why := ceiling.why_not(work.running):
            if not work.running:
                self.stop(why)
                return most
            await self._change()
            if self.stopped:
                return most
        while most > 1 and ceiling.why_not(work.running + most - 1):
            most -= 1
        return most

    async def _change(self) -> None:
        self._changed = anyio.Event()
        await self._changed.wait()

    # --- answering rows ----------------------------------------------------------------------

    async def _answer(self, admitted: Admitted) -> None:
        try:
            journal = self._journal
            if journal is None:
                await self._give(await self._asker.ask(admitted.row))
            else:
                key = journal.key_of(admitted) if self._keyed else None
                asked = await self._asker.ask(admitted.row, key)
                await self._keep(journal, admitted, asked)
        except BaseException:
            self._broken_off += 1
            raise
        self._settle(admitted.row.index)
        if self._options.on_progress is not None:
            self._options.on_progress(self.progress)

    async def _give(self, asked: Asked) -> None:
        """Hand a result to who reads them."""
        if self._deliver is not None:
            await self._deliver(self._form.given(asked.result, asked.fingerprint))
        elif not self._unread:
            index = asked.result.index
            self._live[index] = self._form.given(asked.result, asked.fingerprint)
        self.tally.ended(asked.kind, asked.model)

    async def _keep(self, journal: Journal, admitted: Admitted, asked: Asked) -> None:
        """Keep a result; on return it is durable."""
        data, asked = self._written(asked)
        number, index = admitted.known.number, admitted.row.index
        key, hash_, kind, model = admitted.key, admitted.hash, asked.kind, asked.model
        await journal.keep(Entry(number, key, hash_, asked.state, kind, model, data, index))
        self.tally.ended(kind, model)
        if not self._unread and index - self._next < WINDOW:
            self._live[index] = self._form.live(asked.result, data)

    def _written(self, asked: Asked) -> tuple[bytes, Asked]:
        """What is kept of a row, whatever it holds."""
        try:
            return self._form.write(asked.result, asked.fingerprint), asked
        except RowError as error:
            found = asked.result
            result: MapResult[Any] = MapResult(
                found.index, found.id, None, error, found.seconds, found.cost, found.attempts
            )
            asked = Asked(result, FAILED, type(error).__name__)
            return self._form.write(result, ""), asked

    def _settle(self, index: int) -> None:
        """A row is done."""
        self._under_way.discard(index)
        self._changed.set()
        if index == self._awaited:
            self._arrived.set()

    # --- giving results ----------------------------------------------------------------------

    async def next(self) -> Any:
        """The next row's result, in the order of the rows; None at the end."""
        if self._unread:
            await self.over.wait()
            return None
        while True:
            index = self._next
            if index in self._live:
                self._next = index + 1
                self._changed.set()
                return self._live.pop(index)
            if self._restored and self._restored[0][0] >= index:
                place, data = self._restored.popleft()
                self._next = place + 1
                return self._live.pop(place, None) or self._form.read(place, data)
            self._restored.clear()
            if index < self._taken and index not in self._under_way:
                if await self._turn_page(index):
                    continue
                if self.over.is_set():
                    return None
            elif self.over.is_set() and not await self._turn_page(index):
                return None
            if not self.over.is_set() and not self._restored:
                await self._arrival(index)

    async def _arrival(self, index: int) -> None:
        """Wait until a row is done, or all are."""
        self._awaited = index
        self._arrived = anyio.Event()
        if (index >= self._taken or index in self._under_way) and not self.over.is_set():
            await self._arrived.wait()

    async def _turn_page(self, index: int) -> bool:
        """Fetch what is ready from a row on; whether there is any."""
        if self._journal is None:
            rest = sorted(place for place in self._live if place >= index)
            if rest:
                self._next = rest[0]
            return bool(rest)
        page = await self._journal.page(index)
        if not self.over.is_set():  # only as far as no row is missing, for it may still come
            whole = 0
            while whole < len(page) and page[whole][0] == index + whole:
                whole += 1
            page = page[:whole]
        self._restored.extend(page)
        return bool(page)

    async def finished(self) -> None:
        """Wait until all rows are done, without giving their results."""
        self._unread = True
        self._live.clear()
        self._restored.clear()
        self._changed.set()
        await self.over.wait()

    # --- looking -----------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """Since it began, up to its end."""
        ended = self._ended
        return (self._pipeline.ports.monotonic() if ended is None else ended) - self._began

    @property
    def progress(self) -> MapProgress:
        """How far it is."""
        total = self._options.total
        return self.tally.progress(
            self.seconds,
            self._work.running,
            self._source.total if total is None else total,
            self._pace.limit,
        )

    @property
    def report(self) -> MapReport:
        """What it has come to."""
        return self.tally.report(self.seconds, self.stopped, self._broken_off)
