"""Records of spend on disk: the `SpendStore` port in one SQLite file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import attrs

from lamella._nothing import NOTHING
from lamella._spend_checks import storable
from lamella._spend_pages import Place, SpendReading
from lamella._spend_records import SpendQuery, SpendRecord, SpendTotal
from lamella._sqlite_file import SQLiteFile, Step
from lamella._sqlite_paths import absolute, usable
from lamella._sqlite_queue import Queue
from lamella._sqlite_spend_rows import FORM, SpendRows
from lamella._sqlite_store import SQLiteStore

if TYPE_CHECKING:
    from lamella._ports import ThreadPort

_ROW_BYTES: Final = 600  # of a record, about
_NOW_SECONDS: Final = 2.0


@attrs.define(eq=False)
class SQLiteSpend(SQLiteStore):
    """`SpendStore` in a file, for one machine: it survives the process, and processes share it.

    Nothing is opened before the first use. Any number of event loops, threads, and processes may
    use it at once, and a fork ends nothing. What was appended and has returned survives the death
    of the process and a loss of power, as far as the disk keeps what it says it has written. Only
    the user who makes the file may read it.

    No loop ever waits for the disk: a worker thread does what waits, one step after another. A file
    that is damaged, or not such a file, raises `StoreUnavailableError` and is left as it is.

    Records are never removed but by `forget`. A record takes some 350 bytes, with its
    part of the indexes.

    Args:
        path: The file; its directory must be there. Beside it are a `-wal` and a `-shm` while it is
            in use. Not on a network file system: SQLite cannot lock there.
        thread: Runs blocking work off the loop. None is a thread of the store's own, which ends
            when nothing has been asked for some seconds. Give the port of a virtual world
            (`virtual_ports().thread`), where the clock would jump while a thread works.

    Raises:
        ConfigurationError: If there can be no such file.
    """

    path: Path = attrs.field(converter=absolute, validator=usable("memory_spend"))
    thread: ThreadPort | None = attrs.field(default=None, kw_only=True, repr=False)
    _file: SQLiteFile = attrs.field(init=False, repr=False)
    _queue: Queue = attrs.field(init=False, repr=False)
    _look: ClassVar[Any] = staticmethod(SpendRows.look)

    def __attrs_post_init__(self) -> None:
        """Make the way to the file, which is not opened."""
        self._file = SQLiteFile(self.path, FORM, SpendRows)
        self._queue = Queue(self._file, self.thread)

    async def append(self, records: Sequence[SpendRecord]) -> int:
        """Append records together; see `SpendStore.append`.

        A caller that is cancelled takes its records back, unless the thread has begun to write.
        """
        step = _appending(records)
        return 0 if step is None else int(await self._queue.ask(step))

    def append_now(self, records: Sequence[SpendRecord]) -> int:
        """Append records in this thread, without an event loop; see `SpendStore.append`.

        For a process that ends: no thread is started. It waits for the disk, and for others who use
        the file, for two seconds each at most.

        Raises:
            StoreUnavailableError: If the file cannot be used, or others used it for that long.
            ValueError: If a record has what no store can keep.
        """
        step = _appending(records)
        if step is None:
            return 0
        self._file.run_now(step, _NOW_SECONDS)
        if step.error is not None:
            raise step.error
        return int(step.result)

    async def totals(self, query: SpendQuery) -> Sequence[SpendTotal]:
        """What the records amount to, all at one moment; see `SpendStore.totals`."""
        found: Sequence[SpendTotal] = await self._queue.ask(
            Step(partial(SpendRows.totals, query=query))
        )
        return found

    def read(self, query: SpendQuery) -> AsyncIterator[SpendRecord]:
        """The records, 500 at a time; see `SpendStore.read`."""

        async def next_page(after: Place | None) -> Sequence[SpendRecord]:
            step = Step(partial(SpendRows.page, query=query, after=after))
            found: Sequence[SpendRecord] = await self._queue.ask(step)
            return found

        return SpendReading(next_page)

    async def forget(
        self, *, before: float | None = None, where: Mapping[str, str | None] = NOTHING
    ) -> int:
        """Remove the records that are old, somebody's, or both; see `SpendStore.forget`.

        They are looked for and go 500 at a time, and others are answered in between. What is
        forgotten is overwritten in the file, the log of changes emptied, unless another process is
        reading it at that moment, and the file made smaller if more than a quarter of it is free
        then.

        Raises:
            ConfigurationError: As there.
            StoreUnavailableError: If the file cannot be used.
            ValueError: As there.
        """
        query = SpendQuery.forgetting(before, where)
        count, place = 0, None
        while places := await self._queue.ask(
            # Looking may take long, and must not keep other processes from writing.
            Step(partial(SpendRows.places, query=query, after=place))
        ):
            gone = partial(SpendRows.forget, ids=[id_ for _, id_ in places])
            count += await self._queue.ask(Step(gone, writes=True))
            place = places[-1]
        while await self._queue.ask(Step(SpendRows.give_back, alone=True)):
            pass
        return count


def _appending(records: Sequence[SpendRecord]) -> Step | None:
    kept = [storable(record) for record in records]
    if not kept:
        return None
    return Step(partial(SpendRows.append, records=kept), size=_ROW_BYTES * len(kept), writes=True)


def sqlite_spend(path: str | Path = "spend.db") -> SQLiteSpend:
    """Records of spend in a file: the store `sqlite` for `spend`.

    Args:
        path: As for `SQLiteSpend`.

    Raises:
        ConfigurationError: If there can be no such file.
    """
    return SQLiteSpend(path)
