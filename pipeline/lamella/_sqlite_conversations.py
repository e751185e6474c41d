"""Conversations on disk: the `ConversationStore` port in one SQLite file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import attrs

from lamella._conversation_stores import ConversationInfo, checked_where
from lamella._errors import ConfigurationError
from lamella._nothing import NOTHING
from lamella._sqlite_conversations_rows import FORM, ConversationRows
from lamella._sqlite_file import SQLiteFile, Step
from lamella._sqlite_paths import absolute, usable
from lamella._sqlite_queue import Queue
from lamella._sqlite_store import SQLiteStore

if TYPE_CHECKING:
    from lamella._conversation_records import ConversationRecord
    from lamella._ports import ThreadPort

_TURN_BYTES: Final = 4096  # of what one save adds, about


@attrs.define(eq=False)
class SQLiteConversations(SQLiteStore):
    """`ConversationStore` in a file, for one machine: it survives the process, which others share.

    Nothing is opened before the first use. Any number of event loops, threads, and processes may
    use it at once, and a fork ends nothing. What was saved and has returned survives the death of
    the process and a loss of power, as far as the disk keeps what it says it has written. Only the
    user who makes the file may read it.

    No loop ever waits for the disk: a worker thread does what waits, one step after another. A file
    that is damaged, or not such a file, raises `StoreUnavailableError` and is left as it is.

    Messages are only ever added, each once, whichever lines it belongs to; they go with `delete`.

    Args:
        path: The file; its directory must be there. Beside it are a `-wal` and a `-shm` while it is
            in use. Not on a network file system: SQLite cannot lock there.
        thread: Runs blocking work off the loop. None is a thread of the store's own, which ends
            when nothing has been asked for some seconds. Give the port of a virtual world
            (`virtual_ports().thread`), where the clock would jump while a thread works.

    Raises:
        ConfigurationError: If there can be no such file.
    """

    path: Path = attrs.field(converter=absolute, validator=usable("Conversation.to_json"))
    thread: ThreadPort | None = attrs.field(default=None, kw_only=True, repr=False)
    _file: SQLiteFile = attrs.field(init=False, repr=False)
    _queue: Queue = attrs.field(init=False, repr=False)
    _look: ClassVar[Any] = staticmethod(ConversationRows.look)

    def __attrs_post_init__(self) -> None:
        """Make the way to the file, which is not opened."""
        self._file = SQLiteFile(self.path, FORM, ConversationRows)
        self._queue = Queue(self._file, self.thread)

    async def save(self, record: ConversationRecord, /) -> None:
        """Add what is not kept yet, in one transaction; done even if the caller is cancelled.

        Raises:
            StoreUnavailableError: If the file cannot be used, as everywhere here.
            MisuseError: If a message holds what JSON cannot say.
        """
        work = partial(ConversationRows.save, record=record)
        await self._queue.ask(Step(work, size=_TURN_BYTES, writes=True), keeps=True)

    async def load(
        self, session: str, /, *, tenant: str | None = None
    ) -> ConversationRecord | None:
        """What is kept under a name; see `ConversationStore.load`."""
        work = partial(ConversationRows.load, session=session, tenant=tenant)
        found: ConversationRecord | None = await self._queue.ask(Step(work))
        return found

    async def delete(self, session: str, /, *, tenant: str | None = None) -> bool:
        """Forget a conversation. It is overwritten in the file, and the log of changes emptied.

        Another process that reads at that moment keeps the log for as long.
        """
        work = partial(ConversationRows.delete, session=session, tenant=tenant)
        gone = bool(await self._queue.ask(Step(work, writes=True)))
        while gone and await self._queue.ask(Step(ConversationRows.give_back, alone=True)):
            pass
        return gone

    async def find(
        self, *, where: Mapping[str, str | None] = NOTHING, limit: int = 100, offset: int = 0
    ) -> Sequence[ConversationInfo]:
        """Conversations, the ones changed last first; see `ConversationStore.find`.

        Raises:
            ConfigurationError: If they cannot be looked for by that.
        """
        if limit < 1 or offset < 0:
            msg = f"find(limit={limit!r}, offset={offset!r}): limit is 1 or more, offset 0 or more."
            raise ConfigurationError(msg)
        wanted = checked_where(where)
        work = partial(ConversationRows.find, where=wanted, limit=limit, offset=offset)
        found: Sequence[ConversationInfo] = await self._queue.ask(Step(work))
        return found
