"""The journal of batches: which request is in which batch is on disk before the batch is made."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio

from lamella._bulk_errors import JournalError
from lamella._bulk_lock import JournalLock
from lamella._fork_locks import fork_safe_lock
from lamella._loops import PerLoop
from lamella._ports import Ports, run_in_thread
from lamella._sqlite_file import SQLiteFile, Step
from lamella._sqlite_queue import Queue
from lamella.transports._batch_rows import FORM, Answer, Batch, BatchRows, Kept

KEPT_SECONDS: Final = 30 * 86_400.0
"""How long batches and answers are kept: as long as the provider keeps the files of answers."""


class BatchJournal:
    """The journal of one transport, for any number of event loops. It is opened when it is used.

    Args:
        path: Its file; None is one of this object's own, which goes with it.
    """

    def __init__(self, path: Path | None) -> None:
        self._given = path
        self._own: Path | None = None
        self._queue: Queue | None = None
        self._lock: JournalLock | None = None
        self._opening = PerLoop(anyio.Lock)
        self._making = fork_safe_lock()

    async def open(self, ports: Ports) -> None:
        """Take the journal, unless it is open.

        Raises:
            JournalError: If another process or transport is at it.
            StoreUnavailableError: If its file cannot be used.
        """
        if self._queue is not None:
            return
        async with self._opening.get():
            with self._making:
                if self._queue is None:
                    self._queue = self._opened(ports)
            before = ports.wall() - KEPT_SECONDS
            await self._write(partial(BatchRows.forget, before=before))

    def _opened(self, ports: Ports) -> Queue:
        path = self._given
        if path is None:
            self._own = Path(tempfile.mkdtemp(prefix="lamella-batches-"))
            path = self._own / "batches"
        lock = JournalLock(path)
        try:
            lock.take()
        except OSError as error:
            msg = f"The journal of batches {str(path)!r} cannot be locked: {error.strerror}."
            raise JournalError(msg, hint="Give it a place that can be written to.") from None
        self._lock = lock
        thread = ports.thread
        own = None if thread is run_in_thread else thread
        return Queue(SQLiteFile(path, FORM, BatchRows), own)

    async def known(self, ids: Sequence[str]) -> Mapping[str, Kept]:
        """What is known of requests; nothing of those that are new."""
        found: Mapping[str, Kept] = await self._read(partial(BatchRows.known, ids=ids))
        return found

    async def begin(
        self, token: str, began: float, api: str, ids: Sequence[str]
    ) -> Mapping[str, str]:
        """Write down a batch that is going to be made.

        Returns:
            The requests that another batch has by now, with that batch's token.
        """
        work = partial(BatchRows.begin_batch, token=token, began=began, api=api, ids=ids)
        found: Mapping[str, str] = await self._write(work)
        return found

    async def uploaded(self, token: str, file: str) -> None:
        """The file of a batch is with the provider."""
        await self._write(partial(BatchRows.uploaded, token=token, file=file))

    async def created(self, token: str, batch: str) -> None:
        """A batch is with the provider."""
        await self._write(partial(BatchRows.created, token=token, batch=batch))

    async def batch(self, token: str) -> Batch | None:
        """A batch; None if there is none of that name."""
        found: Batch | None = await self._read(partial(BatchRows.batch, token=token))
        return found

    async def ids(self, token: str) -> list[str]:
        """The requests of a batch, in the order of its file."""
        found: list[str] = await self._read(partial(BatchRows.ids, token=token))
        return found

    async def under_way(self) -> list[Batch]:
        """The batches that are not over."""
        found: list[Batch] = await self._read(BatchRows.under_way)
        return found

    async def keep(self, token: str, answers: Sequence[Answer], failed: Sequence[str]) -> None:
        """Keep answers of a batch; on return they are on disk. What has failed is forgotten."""
        size = sum([len(answer.body) for answer in answers])
        work = partial(BatchRows.keep, token=token, answers=answers, failed=failed)
        await self._write(work, size)

    async def finish(self, token: str) -> None:
        """A batch is over: its requests without an answer are forgotten."""
        await self._write(partial(BatchRows.finish, token=token))

    async def aclose(self) -> None:
        """Let go of it. Idempotent."""
        with self._making:
            queue, self._queue = self._queue, None
        if queue is None:
            return
        try:
            await queue.ask(Step(_nothing, alone=True, closes=True), keeps=True)
            queue.rest()
        finally:
            lock, self._lock = self._lock, None
            if lock is not None:
                lock.release()
            if self._own is not None:
                shutil.rmtree(self._own, ignore_errors=True)

    async def _read(self, work: Callable[[Any], Any]) -> Any:
        return await self._asked(Step(work))

    async def _write(self, work: Callable[[Any], Any], size: int = 0) -> Any:
        return await self._asked(Step(work, size=size, writes=True), keeps=True)

    async def _asked(self, step: Step, *, keeps: bool = False) -> Any:
        queue = self._queue
        if queue is None:
            msg = "The journal of batches was closed."
            raise JournalError(msg, hint="Make a new transport; a closed one stays closed.")
        return await queue.ask(step, keeps=keeps)


def _nothing(_: object) -> None:
    """Only the connection is meant."""
