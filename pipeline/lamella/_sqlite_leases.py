"""Leases on disk: the `LeaseStore` port in one SQLite file, which survives the process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import attrs

from lamella._memory_buckets import ticks_up
from lamella._options import seconds, span
from lamella._sqlite_file import SQLiteFile, Step
from lamella._sqlite_lease_books import MOST
from lamella._sqlite_lease_clock import FileClock
from lamella._sqlite_lease_rows import FORM, LeaseRows
from lamella._sqlite_paths import absolute, usable
from lamella._sqlite_queue import Queue
from lamella._sqlite_store import SQLiteStore
from lamella._store_outages import GuardedLeases, Outage
from lamella._stores import Dimension, Lease

if TYPE_CHECKING:
    from lamella._ports import ThreadPort

_ROW_BYTES: Final = 500  # of a decision, about


@attrs.define(eq=False)
class SQLiteLeases(SQLiteStore):
    """`LeaseStore` in a file, for one machine: it survives the process, and processes share it.

    Nothing is opened before the first use. Any number of event loops, threads, and processes may
    use it at once, and a fork ends nothing. What was decided and has returned survives the death of
    the process, and what was settled a loss of power, which never damages the file.

    Each decision is exact and as the store in memory makes it, in one transaction with those that
    wait at the same time. No loop ever waits for the disk: a worker thread does what waits. Leases
    and rates go by the machine's time, but not where it is set while somebody uses the file: then
    nothing expires or flows back early or late. A number of a total may be 2**63 - 1 at most.

    A file that is damaged, or not such a file, raises `StoreUnavailableError` and is left as it is.
    By itself the store waits as long as the disk does: wrap it in `GuardedLeases`, or use
    `sqlite_leases`, which does.

    Args:
        path: The file; its directory must be there. Beside it are a `-wal` and a `-shm` while it is
            in use. Not on a network file system: SQLite cannot lock there.
        remember: Seconds, or a timedelta, for which ended leases are remembered, to answer
            repetitions.
        thread: Runs blocking work off the loop. None is a thread of the store's own, which ends
            when nothing has been asked for some seconds. Give the port of a virtual world
            (`virtual_ports().thread`), where the clock would jump while a thread works.
        wall: The clock, in seconds since the epoch.
        monotonic: The clock that nobody sets, in seconds.

    Raises:
        ConfigurationError: If an option is wrong, or there can be no such file.
    """

    path: Path = attrs.field(converter=absolute, validator=usable("memory_stores"))
    remember: float = attrs.field(default=120.0, kw_only=True, converter=seconds, validator=span)
    thread: ThreadPort | None = attrs.field(default=None, kw_only=True, repr=False)
    wall: Callable[[], float] = attrs.field(
        default=time.time,  # noqa: TID251 - the real port's clock
        kw_only=True,
        repr=False,
    )
    monotonic: Callable[[], float] = attrs.field(
        default=time.monotonic,  # noqa: TID251 - the real port's clock
        kw_only=True,
        repr=False,
    )
    _file: SQLiteFile = attrs.field(init=False, repr=False)
    _queue: Queue = attrs.field(init=False, repr=False)
    _look: ClassVar[Any] = staticmethod(LeaseRows.look)

    def __attrs_post_init__(self) -> None:
        """Make the way to the file, which is not opened."""
        clock = FileClock(self.wall, self.monotonic)
        opens = partial(LeaseRows, clock=clock, remember=ticks_up(float(self.remember)))
        self._file = SQLiteFile(self.path, FORM, opens)
        self._queue = Queue(self._file, self.thread)

    async def reserve(self, lease_id: str, dimensions: Sequence[Dimension], *, ttl: float) -> Lease:
        """Reserve all dimensions or none; see `LeaseStore.reserve`.

        A caller that is cancelled takes its reservation back, unless the thread has it already.

        Raises:
            ValueError: If `ttl` is not above 0 and finite, the id was used for other dimensions, or
                a number of a total is above 2**63 - 1.
            StoreUnavailableError: If the file cannot be used, as everywhere here.
        """
        wanted, life = tuple(dimensions), _life(ttl)
        for each in wanted:
            if not each.per and max(each.amount, each.capacity) > MOST:
                raise ValueError(
                    f"SQLiteLeases: {each.amount!r} of {each.capacity!r} {each.key[-1]} is more "
                    f"than the file counts, {MOST}; count in larger units."
                )
        work = partial(LeaseRows.reserve, lease_id=lease_id, dimensions=wanted, ttl=ttl, life=life)
        lease: Lease = await self._decide(work)
        return lease

    async def settle(self, lease_id: str, amounts: Sequence[int]) -> bool:
        """Replace the reserved amounts by the real ones; see `LeaseStore.settle`.

        It is done even if the caller is cancelled.
        """
        work = partial(LeaseRows.settle, lease_id=lease_id, amounts=tuple(amounts))
        return bool(await self._decide(work, ends=True, lasts=True))

    async def refund(self, lease_id: str) -> bool:
        """Give everything back, as if it had not been reserved. Whether there was such a lease.

        It is done even if the caller is cancelled.
        """
        return bool(await self._decide(partial(LeaseRows.refund, lease_id=lease_id), ends=True))

    async def renew(self, lease_id: str, *, ttl: float) -> bool:
        """Let the lease live `ttl` seconds from now. Whether it was still there."""
        work = partial(LeaseRows.renew, lease_id=lease_id, life=_life(ttl))
        return bool(await self._decide(work))

    async def level(self, dimension: Dimension) -> int:
        """What could be reserved of the dimension now; negative while in debt."""
        return int(await self._decide(partial(LeaseRows.level, dimension=dimension)))

    async def now(self) -> float:
        """The machine's clock; see `LeaseStore.now`."""
        return self.wall()

    async def _decide(
        self, work: Callable[[Any], Any], *, ends: bool = False, lasts: bool = False
    ) -> Any:
        step = Step(work, size=_ROW_BYTES, writes=True, lasts=lasts)
        answer = await self._queue.ask(step, keeps=ends)
        if isinstance(answer, ValueError):
            raise answer
        return answer


def _life(ttl: float) -> int:
    """The ticks that a lease lives."""
    if not 0 < ttl < math.inf:
        raise ValueError(
            f"LeaseStore: ttl {ttl!r} must be above 0 and finite: the seconds after which a lease "
            "whose holder has died is refunded."
        )
    return ticks_up(float(ttl))


def sqlite_leases(
    path: str | Path,
    *,
    outage: Outage = "deny",
    timeout: float | timedelta = 2.0,
    rest: float | timedelta = 2.0,
) -> GuardedLeases:
    """Limits in a file, and what happens to them while it cannot be used: the store `sqlite`.

    Args:
        path: As for `SQLiteLeases`.
        outage: As for `GuardedLeases`, whose own default is to count in this process meanwhile:
            but a budget that was spent would then be whole again.
        timeout: As for `GuardedLeases`.
        rest: As for `GuardedLeases`.

    Raises:
        ConfigurationError: If an option is wrong, or there can be no such file.
    """
    return GuardedLeases(SQLiteLeases(path), outage=outage, timeout=timeout, rest=rest)
