"""A journal of rows: what has become of each is on disk before its row counts as done.

A result, its place and the sums over all of them are one transaction, and those that come while one
is being written share the next. Whoever has asked for a row waits for that, and keeps its place
under way meanwhile: after the death of the process so many rows at most are asked again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs
import msgspec

from lamella._bulk_errors import JournalError, RowError
from lamella._bulk_journal_rows import FORM, Claim, Entry, JournalRows, Known
from lamella._bulk_lock import JournalLock
from lamella._errors import copy_of
from lamella._requests import Request
from lamella._sqlite_file import SQLiteFile, Step
from lamella._sqlite_queue import Queue

if TYPE_CHECKING:
    from lamella._bulk_rows import Row
    from lamella._ports import ThreadPort

_ROW_BYTES: Final = 1_000  # of what a row adds besides its result, about


class Numbers:
    """A set of numbers that begin at 1 and are close together: one bit for each."""

    __slots__ = ("_bits",)

    def __init__(self) -> None:
        self._bits = bytearray()

    def add(self, number: int) -> None:
        """Add one."""
        place, bit = divmod(number, 8)
        if place >= len(self._bits):
            self._bits.extend(bytes(max(1024, place + 1 - len(self._bits))))
        self._bits[place] |= 1 << bit

    def update(self, numbers: Sequence[int]) -> None:
        """Add some."""
        for number in numbers:
            self.add(number)

    def __contains__(self, number: object) -> bool:
        if not isinstance(number, int):
            return False
        place, bit = divmod(number, 8)
        return place < len(self._bits) and bool(self._bits[place] >> bit & 1)


@attrs.define(eq=False)
class _Batch:
    """Results that are written together.

    Attributes:
        entries: The results.
        size: Their bytes.
        over: Set when they are on disk, or cannot be.
        error: Why they cannot.
    """

    entries: list[Entry] = attrs.field(factory=list[Entry])
    size: int = 0
    over: anyio.Event = attrs.field(factory=anyio.Event)
    error: Exception | None = None


@attrs.define(eq=False)
class Admitted:
    """A row that was looked up in the journal.

    Attributes:
        row: The row.
        known: What is to be done with it.
        key: Its key there.
        hash: Of what it asks.
    """

    row: Row
    known: Known
    key: bytes
    hash: bytes


class Journal:
    """The journal of one run. For one event loop.

    Args:
        path: Its file.
        thread: Runs blocking work off the loop; None is a thread of its own.
        sums: What is to be kept with the results, as it is now.
    """

    def __init__(self, path: Path, thread: ThreadPort | None, sums: Callable[[], bytes]) -> None:
        self.path = path
        self._sums = sums
        self._file = SQLiteFile(path, FORM, JournalRows)
        self._queue = Queue(self._file, thread)
        self._lock = JournalLock(path)
        self._seen = Numbers()
        self._claimed: dict[bytes, int] = {}
        self._copies: dict[bytes, int] = {}
        self._batch = _Batch()
        self._wake = anyio.Event()
        self._closing = False
        self._identity = b""

    async def open(
        self, configuration: Mapping[str, str], *, restart: bool, identity: str
    ) -> bytes | None:
        """Take the journal for this run: the sums of what it has.

        Args:
            configuration: What decides the answers, besides the rows: a digest for each word.
            restart: Whether to forget what it has.
            identity: What tells this journal from others, if it has nothing for that yet.

        Raises:
            JournalError: If another run is at it, or it was begun with another configuration.
            StoreUnavailableError: If its file cannot be used.
        """
        try:
            self._lock.take()
        except OSError as error:
            msg = f"The journal {str(self.path)!r} cannot be locked: {error.strerror or error}."
            raise JournalError(msg, hint="Give it a place that can be written to.") from None
        try:
            work = partial(
                JournalRows.begin_run,
                configuration=configuration,
                restart=restart,
                identity=identity,
            )
            sums: bytes | None
            before, sums, known = await self._queue.ask(Step(work, writes=True))
            self._identity = _bytes(known)
            if before != configuration:
                raise self._differs(before, configuration)
        except BaseException:
            with anyio.CancelScope(shield=True):  # no other run may have it before it is closed
                await self._let_go()
            raise
        return sums

    def _differs(self, before: Mapping[str, str], now: Mapping[str, str]) -> JournalError:
        names = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
        said = ", ".join(_WORDS.get(name, name) for name in names)
        msg = f"The journal {str(self.path)!r} was begun with something else: {said}."
        hint = (
            "Its answers would not be those of this run. Go on as it was begun, give this run a "
            "journal of its own, or have it begin anew (restart): it then forgets its answers."
        )
        return JournalError(msg, hint=hint)

    # --- rows --------------------------------------------------------------------------------

    async def admit(
        self, rows: Sequence[Row], again: frozenset[int], *, changed: bool
    ) -> list[Admitted]:
        """Look rows up, in their order. Those to be asked are then claimed by this run.

        Args:
            rows: The rows.
            again: The states in which a row is asked again.
            changed: Whether a row that was answered, and asks something else now, is asked again.

        Raises:
            JournalError: If one was answered, asks something else now, and is not to be.
            StoreUnavailableError: If the file cannot be used.
        """
        found = [self._named(row) for row in rows]
        waiting = list(range(len(found)))
        while waiting:
            waiting = await self._look_up(found, waiting, again, changed=changed)
        return found

    def key_of(self, admitted: Admitted) -> str:
        """A row's idempotency key: the same in each run on this journal, and in no other."""
        seen = hashlib.blake2b(self._identity, digest_size=16, usedforsecurity=False)
        seen.update(b"%b:%b" % (admitted.hash, admitted.key))
        return f"row-{seen.hexdigest()}"

    def _named(self, row: Row) -> Admitted:
        try:
            hashed = hash_of(row.given)
        except TypeError as error:
            row.asked = RowError(f"The row cannot be told from others: {error}")
            hashed = hash_of(repr(row.given))
        named = row.id
        if named is None:
            return Admitted(row, Known("new"), b"h" + hashed, hashed)
        key = b"n%d" % named if isinstance(named, int) else b"t" + _bytes(named)
        return Admitted(row, Known("new"), key, hashed)

    async def _look_up(
        self, found: list[Admitted], places: list[int], again: frozenset[int], *, changed: bool
    ) -> list[int]:
        """Look some up; those that have to be looked up again, under another key."""
        later: list[int] = []
        asked: list[int] = []
        put_off: set[bytes] = set()  # whose copies wait, so that they are numbered in their order
        for place in places:
            one = found[place]
            if one.row.id is None and one.hash in put_off:
                later.append(place)
                continue
            if one.row.id is None and (copies := self._copies.get(one.hash)):
                self._copies[one.hash] = copies + 1
                one.key = b"h%b#%d" % (one.hash, copies + 1)
            if one.key in self._claimed:
                self._is_copy(one)
                put_off.add(one.hash)
                later.append(place)
            else:
                self._claimed[one.key] = one.row.index
                asked.append(place)
        claims = [Claim(found[at].row.index, found[at].key, found[at].hash) for at in asked]
        work = partial(
            JournalRows.admit, claims=claims, seen=self._seen, again=again, changed=changed
        )
        known: list[Known] = await self._queue.ask(Step(work, writes=True), keeps=True)
        for place, said in zip(asked, known, strict=True):
            admitted = found[place]
            admitted.known = said
            if said.verdict == "twice":
                self._claimed.pop(admitted.key, None)
                self._is_copy(admitted)
                later.append(place)
            elif said.verdict == "kept" and said.number is not None:
                self._seen.add(said.number)
                self._claimed.pop(admitted.key, None)
            elif said.verdict == "changed":
                raise self._changed(admitted.row)
        return sorted(later)

    def _is_copy(self, one: Admitted) -> None:
        """A row that there is already: another copy of it, or an id that was given twice."""
        row = one.row
        if row.id is None:
            self._copies.setdefault(one.hash, 1)
            return
        msg = f"The row's id {row.id!r} is that of an earlier row."
        row.asked = RowError(msg, code="duplicate_id", hint="Give each row an id of its own.")
        one.key = b"!%d" % row.index
        one.hash = hashlib.blake2b(_bytes(str(row.id)), digest_size=16).digest()

    def _changed(self, row: Row) -> JournalError:
        named = f"Row {row.index}" + ("" if row.id is None else f" ({row.id!r})")
        msg = f"{named} asks something else than when {str(self.path)!r} was given its answer."
        hint = (
            "Have changed rows asked again (changed='again'; `--changed again`), give them ids "
            "of their own, or give this run a journal of its own."
        )
        return JournalError(msg, hint=hint)

    async def keep(self, entry: Entry) -> None:
        """Write a result; on return it is on disk.

        Raises:
            StoreUnavailableError: If it cannot be written.
        """
        batch = self._batch
        batch.entries.append(entry)
        batch.size += len(entry.data) + _ROW_BYTES
        self._wake.set()
        await batch.over.wait()
        if batch.error is not None:
            raise copy_of(batch.error)
        self._claimed.pop(entry.key, None)

    async def write(self) -> None:
        """Write results as they come; to be run beside those who keep some, until `finish`."""
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            if self._batch.entries:
                await self._write()
            elif self._closing:
                return

    async def _write(self) -> None:
        batch, self._batch = self._batch, _Batch()
        work = partial(JournalRows.keep, entries=batch.entries, sums=self._sums())
        try:
            step = Step(work, size=batch.size, writes=True)
            # Only what is committed has a place: a transaction that fails may be tried again.
            self._seen.update(await self._queue.ask(step, keeps=True))
        except Exception as error:  # noqa: BLE001 - those who wait are told
            batch.error = error
        finally:
            batch.over.set()

    def finish(self) -> None:
        """No more results will come."""
        self._closing = True
        self._wake.set()

    async def page(self, place: int) -> list[tuple[int, bytes]]:
        """The results from a place on, in order: some of them."""
        found: list[tuple[int, bytes]] = await self._queue.ask(
            Step(partial(JournalRows.page, place=place))
        )
        return found

    # --- the end -----------------------------------------------------------------------------

    async def aclose(self, *, remove: bool = False) -> None:
        """Let go of it, after what is kept by then is written.

        Args:
            remove: Whether to remove its files.
        """
        await self.flush()
        await self._let_go(remove=remove)

    async def flush(self) -> None:
        """Write what was to be kept and is not written yet, as nobody writes any more.

        What cannot be written has been told to those who waited for it.
        """
        if self._batch.entries:
            await self._write()

    async def _let_go(self, *, remove: bool = False) -> None:
        try:
            await self._queue.ask(Step(_nothing, alone=True, closes=True), keeps=True)
            self._queue.rest()
            if remove:
                for end in ("", "-wal", "-shm"):
                    with suppress(FileNotFoundError):
                        self.path.with_name(f"{self.path.name}{end}").unlink()
        finally:
            self._lock.release()


_WORDS: Final = {
    "pipeline": "the pipeline (its layers, their options, or its transport)",
    "model": "the transport's model",
    "returns": "what the answers are to be (returns)",
    "kept": "how results are kept (by another version, or for files rather than for a program)",
}


def _nothing(_: object) -> None:
    """Only the connection is meant."""


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def hash_of(given: Any) -> bytes:
    """The hash of what a row asks, as it was given: equal for rows that say the same."""
    if isinstance(given, Request):
        return _hash_of_request(given)  # pyright: ignore[reportUnknownArgumentType]
    table: Any = given
    if isinstance(given, Mapping):
        given = {name: table[name] for name in table if name != "id"}
    try:
        data = given if isinstance(given, bytes) else _encode(given)
    except (TypeError, ValueError, RecursionError, OverflowError):
        data = _bytes(repr(given))  # no JSON, so that it is no request either
    return hashlib.blake2b(data, digest_size=16, usedforsecurity=False).digest()


def _hash_of_request(request: Request[Any]) -> bytes:
    from lamella._canonical import encode
    from lamella._request_keys import request_key

    context = request.context
    whose = [context.user, context.session, dict(context.tags)]
    data = f"{request_key(request)}".encode() + encode(whose)
    return hashlib.blake2b(data, digest_size=16, usedforsecurity=False).digest()


_encode: Final = msgspec.json.Encoder(order="deterministic").encode
