"""What the stores in a SQLite file have alike: each can be looked at, asked, and closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from lamella._errors import StoreUnavailableError
from lamella._health import PartHealth
from lamella._ports import run_in_thread
from lamella._sqlite_file import Step

if TYPE_CHECKING:
    from lamella._ports import ThreadPort
    from lamella._sqlite_file import SQLiteFile
    from lamella._sqlite_queue import Queue


class SQLiteStore:
    """The base of such a store.

    Attributes:
        thread: Runs a blocking function off the loop; None is a thread of the store's own.
    """

    __slots__ = ()

    thread: ThreadPort | None
    _file: SQLiteFile
    _queue: Queue
    _look: ClassVar[Any]
    """Reads something of the file that costs little."""

    async def check(self) -> None:
        """See that the file is one of this store's, or could be made; nothing is made or changed.

        Raises:
            StoreUnavailableError: If it cannot be used.
        """
        await (self.thread or run_in_thread)(self._file.check)

    async def health(self) -> PartHealth:
        """Whether the file can be read now."""
        try:
            await self._queue.ask(Step(self._look))
        except StoreUnavailableError as error:
            return PartHealth(well=False, detail={"error": error.message})
        return PartHealth(well=True)

    async def aclose(self) -> None:
        """Close the file for all loops, once what waits is done. A later use opens it anew."""
        if self._file.opened or self._queue.busy:
            await self._queue.ask(Step(_nothing, alone=True, closes=True), keeps=True)
        self._queue.rest()


def _nothing(_: object) -> None:
    """Only the connection is meant."""
