"""Records on their way to a store: nobody waits for it, and none leaves before the store has it.

A record has the id of its attempt, and a store passes over one that it has. So a batch whose answer
was lost is written again, two event loops may write the same one, and what an ending loop leaves
behind is written by the next one, by `aclose`, or when the process ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs

from lamella import PartHealth, SpendRecord, SpendStore, StoreUnavailableError, storable
from lamella._fork_locks import fork_safe_lock
from lamella._loops import Loop, PerLoop, current_loop
from lamella_middlewares.spend import _told
from lamella_middlewares.spend._at_exit import know
from lamella_middlewares.spend._pending import Pending
from lamella_middlewares.spend._turn import Turn

if TYPE_CHECKING:
    from lamella import Ports

WRITE_SECONDS: Final = 30.0
"""How long a store may take for a batch before it counts as out."""
CLOSE_SECONDS: Final = 4.0
"""How long closing waits for the store; less than a pipeline gives a layer for it."""
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
"""Seconds between two tries of a store that is out."""
DAY: Final = 86_400.0


@attrs.frozen
class Pace:
    """When records are written, and how many may wait.

    Attributes:
        interval: Seconds from the first record that waits until it is written.
        batch: How many are written together.
        most: How many may wait; then the oldest go.
        keep: Seconds for which the store keeps them; None for ever.
    """

    interval: float
    batch: int
    most: int
    keep: float | None


class Spool:
    """What waits for one store. Thread-safe, for any number of event loops.

    Args:
        store: Where records are to go.
        pace: When, and how many may wait.

    Attributes:
        store: See above.
        written: How many the store has taken.
        refused: How many the store would never take.
        problem: Why the last batch could not be written; None if it was.
    """

    def __init__(self, store: SpendStore, pace: Pace) -> None:
        self.store = store
        self._pace = pace
        self._lock = fork_safe_lock()
        self._locks: PerLoop[anyio.Lock] = PerLoop(anyio.Lock)
        know(self)
        self.begin_anew()

    def begin_anew(self) -> None:
        """With nothing; also in a forked child, for what waits is its parent's."""
        self._pending = Pending(self, self._pace.most)
        self._turn: Turn | None = None
        self._sweeper: Turn | None = None
        self._swept: float | None = None
        self._told_of_drops = False
        self._locks.clear()
        self.written = self.refused = 0
        self.problem: str | None = None

    @property
    def pending(self) -> int:
        """How many wait."""
        return len(self._pending)

    def health(self) -> PartHealth:
        """Whether records can be written, and how many wait or were lost."""
        detail: dict[str, Any] = {
            "pending": self.pending,
            "written": self.written,
            "dropped": self._pending.dropped,
            "refused": self.refused,
        }
        if self.problem is not None:
            return PartHealth(well=False, detail={**detail, "error": self.problem})
        return PartHealth(well=True if self.written else None, detail=detail)

    # --- on the way of requests ------------------------------------------------------------------

    def put(self, record: SpendRecord, ports: Ports) -> None:
        """Take a record; never waits."""
        pending = self._pending
        pending.put(record)
        if pending.dropped and not self._told_of_drops:
            self._told_of_drops = True
            _told.dropped(self.store, self._pace.most)
        try:
            loop = current_loop()
        except RuntimeError:
            return  # a finaliser, outside of any loop: whoever comes next sees to it
        turn = self._turn
        if turn is None or turn.lost(loop, ports):
            turn = self._take_turn(loop, ports, turn)
        if len(pending) >= self._pace.batch and turn.scope is None and turn.loop is loop:
            self._begin(turn, ports)  # a whole batch waits for nothing

    def _take_turn(
        self, loop: Loop, ports: Ports, before: Turn | None, waited: float = 0.0
    ) -> Turn:
        """Give this loop its turn, unless another has taken it by now; whose it is.

        Args:
            loop: The loop that runs.
            ports: Whose clock it is.
            before: The turn that is given up.
            waited: For how many seconds something waits already.
        """
        interval = max(0.0, self._pace.interval - waited)
        turn = Turn(loop, ports.monotonic() + interval)
        with self._lock:
            taken = self._turn
            if taken is not None and taken is not before:
                return taken
            self._turn = turn
        try:
            turn.take_back = loop.call_at(loop.now() + interval, partial(self._begin, turn, ports))
        except BaseException:
            self._pass_on(turn)
            raise
        return turn

    def _begin(self, turn: Turn, ports: Ports) -> None:
        """The turn's time has come, or a batch is whole. On its loop."""
        if turn.over or turn.scope is not None:
            return
        if turn.take_back is not None:
            turn.take_back()
        turn.scope = anyio.CancelScope()
        try:
            turn.loop.spawn(partial(self._work, turn, ports), "lamella spend", Context())
        except BaseException:
            self._pass_on(turn)
            raise

    # --- writing ---------------------------------------------------------------------------------

    async def _work(self, turn: Turn, ports: Ports) -> None:
        """What a turn is for. What has come meanwhile waits for the next one."""
        since = ports.monotonic()
        try:
            with turn.scope or anyio.CancelScope():
                since = await self._write_waiting(turn, ports)
            stopped = turn.over
        finally:
            self._pass_on(turn)
        if stopped:
            return
        if self._pending:
            self._take_turn(turn.loop, ports, None, ports.monotonic() - since)
        await self._sweep(turn, ports)

    async def _write_waiting(self, turn: Turn, ports: Ports) -> float:
        """Write what waits now, and whole batches; try until the store takes it.

        Since when what is left waits at most, by the port's clock.
        """
        failures, last, since = 0, self._pending.last(), ports.monotonic()
        while last in self._pending or len(self._pending) >= self._pace.batch:
            turn.due = ports.monotonic() + WRITE_SECONDS
            if await self._write() is None:
                failures = 0
                continue
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures, 10))
            failures += 1
            pause *= ports.random.uniform(0.75, 1.25)  # the processes of a fleet
            turn.due = ports.monotonic() + pause
            await ports.sleep(pause)
            # The one before may have been dropped.
            last, since = self._pending.last(), ports.monotonic()
        return since

    def _pass_on(self, turn: Turn) -> None:
        with self._lock:
            turn.over = True
            if self._turn is turn:
                self._turn = None

    async def _write(self) -> Exception | None:
        """Write the next batch, one at a time on each loop; why it failed, if the store is out."""
        async with self._locks.get():
            batch = self._pending.first(self._pace.batch)
            if not batch:
                return None
            try:
                with anyio.move_on_after(WRITE_SECONDS) as scope:
                    await self.store.append(batch)
                if scope.cancelled_caught:
                    raise _silent(self.store)
            except Exception as error:  # noqa: BLE001 - it is tried again; the log and health say so
                return self._failed(batch, error)
            self._done(batch)
        return None

    def _done(self, batch: Sequence[SpendRecord]) -> None:
        """The store has these."""
        self.written += self._pending.remove(batch)
        if self.problem is not None:
            self.problem, self._told_of_drops = None, False
            _told.back(self.store, self.pending)

    def _failed(self, batch: Sequence[SpendRecord], error: Exception) -> Exception | None:
        """What no store can keep goes alone; None if that was the reason, the others being tried.

        Whatever else a store raises, its word is not enough to drop what has been spent.
        """
        wrong = {record.id: why for record in batch if (why := _unstorable(record)) is not None}
        if not wrong:
            self._out(error)
            return error
        self._pending.remove([record for record in batch if record.id in wrong])
        if not self.refused:
            _told.refused(self.store, *next(iter(wrong.items())))
        self.refused += len(wrong)
        return None

    def _out(self, error: Exception) -> None:
        first = self.problem is None
        self.problem = type(error).__name__
        if first:
            _told.out(self.store, error, self._pace.most)

    async def _sweep(self, turn: Turn, ports: Ports) -> None:
        """Forget what is older than it is to be kept, once a day; closing breaks it off."""
        keep, now = self._pace.keep, ports.monotonic()
        if keep is None or (self._swept is not None and now - self._swept < DAY):
            return
        self._swept = now
        self._sweeper = turn
        try:
            with anyio.CancelScope() as turn.scope, anyio.fail_after(WRITE_SECONDS):
                await self.store.forget(before=ports.wall() - keep)
        except Exception as error:  # noqa: BLE001 - it is done the next day
            _told.not_forgotten(self.store, error)
        finally:
            if self._sweeper is turn:
                self._sweeper = None

    # --- for those who wait ----------------------------------------------------------------------

    async def flush(self) -> None:
        """Wait until what waits now is in the store.

        Raises:
            Exception: What the store raises. The records still wait, and are tried again.
        """
        last = self._pending.last()
        while last is not None and last in self._pending:
            error = await self._write()
            if error is not None:
                raise error

    async def settle(self) -> None:
        """The same for who closes: that the store is out has been logged, and is no error here."""
        try:
            await self.flush()
        except Exception as error:  # noqa: BLE001 - what is left is told by `tell_left`
            self.problem = type(error).__name__

    def tell_left(self) -> None:
        """Log how many records still wait although the layer has been closed."""
        if self.pending:
            _told.left(self.store, self.pending)

    def stop(self) -> None:
        """No loop has its turn any more; the next record takes another."""
        with self._lock:
            turns, self._turn, self._sweeper = (self._turn, self._sweeper), None, None
        for turn in turns:
            if turn is None:
                continue
            if turn.loop is current_loop():
                turn.end()
            else:
                turn.loop.call_soon(turn.end)

    def write_now(self, more_time: Callable[[], bool]) -> None:
        """Write what waits without an event loop: the process ends.

        Args:
            more_time: Whether there is time for another batch.
        """
        append_now: Callable[[Sequence[SpendRecord]], object] | None = getattr(
            self.store, "append_now", None
        )
        while append_now is not None and more_time():
            batch = self._pending.first(self._pace.batch)
            if not batch:
                return
            try:
                append_now(batch)
            except Exception as error:  # noqa: BLE001 - told below
                if self._failed(batch, error) is not None:
                    break
            else:
                self._done(batch)
        if self.pending:
            _told.lost(self.store, self.pending)


def _unstorable(record: SpendRecord) -> Exception | None:
    """Why no store can keep it; None if one can."""
    try:
        storable(record)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it
        return error
    return None


def _silent(store: SpendStore) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"Spend: {_told.name_of_store(store)} has not answered within {WRITE_SECONDS:g} s.",
        hint="See whether it is reached and has room. Its records wait, and are tried again.",
        phase="local",
    )
