"""What happens to limits when the store that counts them for a fleet does not answer.

A store across a network is slow, frozen, full, restarted, or gone. No call may wait for it longer
than a limit is worth, and none may be sent that it would have refused, or not many.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, Final, Literal, TypeAlias, TypeVar

import anyio
import attrs

from lamella._errors import StoreUnavailableError
from lamella._fork_locks import fork_safe_lock
from lamella._health import PartHealth
from lamella._memory_leases import MemoryLeases
from lamella._options import one_of, optional_seconds, seconds, span, whole
from lamella._store_arrears import Arrears
from lamella._store_asking import MISTAKES, REST, TIMEOUT, Asking, NoAnswer
from lamella._stores import Dimension, Lease, LeaseStore

logger = logging.getLogger("lamella")

T = TypeVar("T")

Outage: TypeAlias = Literal["local", "deny", "allow"]
"""What a reservation comes to while the store does not answer."""

PATIENCE: Final = 60.0
"""Seconds for which the store is told in the background what it did not hear."""

MOST_PROCESSES: Final = 1_000_000

DENYING_TIMEOUT: Final = 1.0
"""Seconds that an operation may take where a store that is out refuses reservations."""

_KEPT: Final = 100_000

_FAREWELL: Final = 1.0  # seconds for which a store that is closed is told what it did not hear
_DEBT: Final = 60.0  # seconds for which what is charged without a lease is out

_TRUSTED: Final = 10.0  # seconds for which the store is not asked again what time it is
_SET: Final = 0.5  # seconds by which clocks part only if one of them has been set


def _timeout(store: object, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None:
        span(store, option, value)


@attrs.frozen(eq=False)
class _Ahead:
    """How far the store's clock was ahead of the one here, in seconds, and when."""

    seconds: float
    monotonic: float
    wall: float

    def stale(self, monotonic: float, wall: float) -> bool:
        """Whether the store is to be asked anew."""
        passed = monotonic - self.monotonic
        return passed >= _TRUSTED or abs(wall - self.wall - passed) >= _SET


@attrs.define(eq=False)
class GuardedLeases:
    """A lease store that always answers in time: another one, and what to do while that is out.

    Every operation on the store is bounded by `timeout`. After five that failed in a row, one after
    the other, the store is left alone for `rest` seconds; then one operation tries it, and so on
    until it answers. A warning is logged when that begins, and when it ends; `health` says so
    meanwhile.

    A lease that was counted here is settled and refunded here. One that the store has granted, and
    whose end it does not hear, is told to it in the background for a minute; then it expires there.
    `settle`, `refund` and `renew` of such a lease answer True: nothing is known to the contrary. So
    what was settled of a total, such as money, and has certainly not been heard, is told for as
    long as this process lives, and once more when the store is closed; if the lease has expired
    meanwhile it is charged all the same. A reservation that the store may have made although it did
    not answer is refunded there as well.

    Args:
        store: The store that counts for the fleet.
        outage: `"local"` counts in this process, with its share of each limit; `"deny"` raises
            `StoreUnavailableError`; `"allow"` grants without counting. What is more than a limit's
            capacity is refused even then.
        processes: How many processes share the limits; 1 to a million. In an outage each counts
            with capacity / processes: of 100 a minute, 4 processes let through 25 each, and of 2 a
            minute 1 in two minutes. Of what does not flow back each has at least 1. A reservation
            larger than its share takes all of it, and what was used beyond it is waited out.
        timeout: Seconds, or a timedelta, above 0, that an operation may take. None is 0.05, and 1
            with `"deny"`: where a slow answer costs a request, and not only some exactness, the
            store of a busy machine gets its time.
        rest: Seconds, or a timedelta, between the tries while the store is out.
        monotonic: The clock, in seconds.
        wall: The wall clock, in seconds since the epoch.

    Raises:
        ConfigurationError: If an option is wrong.
    """

    store: LeaseStore
    outage: Outage = attrs.field(
        default="local", kw_only=True, validator=one_of("local", "deny", "allow")
    )
    processes: int = attrs.field(default=1, kw_only=True, validator=whole(1, MOST_PROCESSES))
    timeout: float | timedelta | None = attrs.field(
        default=None, kw_only=True, converter=optional_seconds, validator=_timeout
    )
    rest: float | timedelta = attrs.field(
        default=REST, kw_only=True, converter=seconds, validator=span
    )
    monotonic: Callable[[], float] = attrs.field(
        default=time.monotonic,  # noqa: TID251 - the real port's clock
        kw_only=True,
        repr=False,
    )
    wall: Callable[[], float] = attrs.field(
        default=time.time,  # noqa: TID251 - the real port's clock
        kw_only=True,
        repr=False,
    )
    _asking: Asking = attrs.field(init=False, repr=False)
    _local: MemoryLeases = attrs.field(init=False, repr=False)
    _here: OrderedDict[str, None] = attrs.field(
        init=False, factory=OrderedDict[str, None], repr=False
    )
    _spending: OrderedDict[str, tuple[Dimension, ...]] = attrs.field(
        init=False, factory=OrderedDict[str, "tuple[Dimension, ...]"], repr=False
    )
    _lock: Any = attrs.field(init=False, factory=fork_safe_lock, repr=False)
    _arrears: Arrears = attrs.field(init=False, repr=False)
    _ahead: _Ahead | None = attrs.field(init=False, default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        """Make what an outage needs."""
        clock = self.monotonic
        if self.timeout is None:
            self.timeout = DENYING_TIMEOUT if self.outage == "deny" else TIMEOUT
        self._asking = Asking(
            self._named,
            self._meanwhile,
            timeout=seconds(self.timeout),
            rest=seconds(self.rest),
            monotonic=clock,
        )
        self._local = MemoryLeases(monotonic=clock, max_buckets=_KEPT, wall=self.wall)
        self._arrears = Arrears(self._tell, most=10_000, patience=PATIENCE, monotonic=clock)

    async def reserve(self, lease_id: str, dimensions: Sequence[Dimension], *, ttl: float) -> Lease:
        """Reserve all dimensions or none; see `LeaseStore.reserve`.

        Raises:
            ValueError: As the store does.
            StoreUnavailableError: In an outage, with `outage="deny"`.
        """
        wanted = tuple(dimensions)
        if lease_id in self._here:
            return await self._reserve_here(lease_id, wanted, ttl)
        try:
            if lease_id in self._arrears:  # the store may have it, and is about to give it back
                raise NoAnswer(unknown=False)
            lease = await self._ask(lambda: self.store.reserve(lease_id, wanted, ttl=ttl))
        except NoAnswer as silence:
            if silence.unknown:
                self._arrears.add(lease_id, None)
            cause = silence.__cause__
        except MISTAKES:
            raise
        except BaseException:  # cancelled: nobody will hear the answer
            self._arrears.add(lease_id, None)
            raise
        else:
            if lease.granted and any(_is_spent(each) for each in wanted):
                self._remember(self._spending, lease_id, wanted)
            return lease
        if self.outage == "deny":
            raise self._unavailable() from cause
        lease = await self._reserve_here(lease_id, wanted, ttl)
        if lease.granted:
            self._remember(self._here, lease_id, None)
        return lease

    async def settle(self, lease_id: str, amounts: Sequence[int]) -> bool:
        """Replace the reserved amounts by the real ones; see `LeaseStore.settle`."""
        real = tuple(amounts)
        if lease_id in self._here:
            return await self._local.settle(lease_id, () if self.outage == "allow" else real)
        return await self._end(lease_id, real)

    async def refund(self, lease_id: str) -> bool:
        """Give everything back; see `LeaseStore.refund`."""
        if lease_id in self._here:
            return await self._local.refund(lease_id)
        return await self._end(lease_id, None)

    async def renew(self, lease_id: str, *, ttl: float) -> bool:
        """Let the lease live on; see `LeaseStore.renew`."""
        if lease_id in self._here:
            return await self._local.renew(lease_id, ttl=ttl)
        try:
            return await self._ask(lambda: self.store.renew(lease_id, ttl=ttl))
        except NoAnswer:
            return True

    async def level(self, dimension: Dimension) -> int:
        """What could be reserved now; in an outage, of this process's share.

        Raises:
            StoreUnavailableError: In an outage, with `outage="deny"`.
        """
        try:
            return await self._ask(lambda: self.store.level(dimension))
        except NoAnswer as silence:
            cause = silence.__cause__
        if self.outage == "deny":
            raise self._unavailable() from cause
        if self.outage == "allow":
            return dimension.capacity
        return await self._local.level(self._share(dimension))

    async def now(self) -> float:
        """The store's wall clock; see `LeaseStore.now`.

        The store is asked when it has not been for ten seconds, or when the clock here was set.
        Between, and in an outage, it is the clock here and how far the store's was ahead of it.
        """
        ahead = self._ahead
        if ahead is None or ahead.stale(self.monotonic(), self.wall()):
            try:
                told = await self._ask(self.store.now)
            except NoAnswer:
                return self.wall() + (ahead.seconds if ahead is not None else 0.0)
            wall = self.wall()
            ahead = self._ahead = _Ahead(told - wall, self.monotonic(), wall)
        return self.wall() + ahead.seconds

    def health(self) -> PartHealth:
        """Whether the store answers, and what is done if not."""
        said = self._asking.health(outage=self.outage)
        detail = {"store": type(self.store).__name__, "untold": len(self._arrears), **said.detail}
        return PartHealth(well=said.well, detail=detail)

    async def aclose(self) -> None:
        """Close the store. What it has not heard yet is told it now, or is left to expire."""
        try:
            with anyio.move_on_after(_FAREWELL):
                await self._arrears.tell()
        finally:
            self._arrears.stop()
            await self.store.aclose()

    # --- the store ---------------------------------------------------------------------------

    async def _ask(self, operation: Callable[[], Awaitable[T]]) -> T:
        """The store's answer.

        Raises:
            NoAnswer: If there is none in time.
        """
        answer = await self._asking.ask(operation)
        self._arrears.resume()
        return answer

    async def _end(self, lease_id: str, amounts: tuple[int, ...] | None) -> bool:
        try:
            there = await self._ask(lambda: self._told(lease_id, amounts))
        except MISTAKES:
            raise
        except NoAnswer as silence:
            self._owe(lease_id, amounts, unknown=silence.unknown)
            return True
        except BaseException:  # cancelled: it has ended all the same
            self._owe(lease_id, amounts, unknown=True)
            raise
        self._spending.pop(lease_id, None)
        return there

    def _owe(self, lease_id: str, amounts: tuple[int, ...] | None, *, unknown: bool) -> None:
        lasts = amounts is not None and not unknown and lease_id in self._spending
        self._arrears.add(lease_id, amounts, lasts=lasts)

    async def _tell(self, lease_id: str, amounts: tuple[int, ...] | None) -> bool:
        """Tell the store what it did not hear; whether it has answered."""
        try:
            there = await self._ask(lambda: self._told(lease_id, amounts))
            spent = self._spending.get(lease_id)
            if not there and amounts is not None and spent is not None:
                await self._charge(lease_id, spent, amounts)
        except NoAnswer as silence:
            if silence.unknown:
                self._arrears.doubt(lease_id)
            return False
        except MISTAKES:
            logger.exception("%s: lease %r could not be ended", self._named, lease_id)
        self._spending.pop(lease_id, None)
        return True

    async def _charge(
        self, lease_id: str, dimensions: tuple[Dimension, ...], amounts: tuple[int, ...]
    ) -> None:
        """Charge what was settled of a lease that has expired meanwhile.

        Of what flows back, or was only held, nothing is out any more.
        """
        paired = zip(dimensions, amounts, strict=True)
        owed = [(each.want(0), amount) for each, amount in paired if _is_spent(each)]
        debt = f"{lease_id}/owed"  # one name, however often it is tried: it is charged once
        nothing, real = [each for each, _ in owed], tuple([amount for _, amount in owed])
        await self._ask(lambda: self.store.reserve(debt, nothing, ttl=_DEBT))
        await self._ask(lambda: self.store.settle(debt, real))

    def _remember(self, known: OrderedDict[str, Any], lease_id: str, what: Any) -> None:
        with self._lock:
            known[lease_id] = what
            if len(known) > _KEPT:
                known.popitem(last=False)

    async def _told(self, lease_id: str, amounts: tuple[int, ...] | None) -> bool:
        if amounts is None:
            return await self.store.refund(lease_id)
        return await self.store.settle(lease_id, amounts)

    # --- this process ------------------------------------------------------------------------

    async def _reserve_here(
        self, lease_id: str, wanted: tuple[Dimension, ...], ttl: float
    ) -> Lease:
        """Without the store."""
        if self.outage == "allow":
            never = next((each for each in wanted if each.amount > each.capacity), None)
            if never is not None:
                left = tuple([each.capacity for each in wanted])
                return Lease(granted=False, retry_after=None, refused=never, remaining=left)
            await self._local.reserve(lease_id, (), ttl=ttl)
            left = tuple([each.capacity - each.amount for each in wanted])
            return Lease(granted=True, remaining=left)
        shares = tuple([self._share(each) for each in wanted])
        lease = await self._local.reserve(lease_id, shares, ttl=ttl)
        if lease.refused is None:
            return lease
        return attrs.evolve(lease, refused=wanted[shares.index(lease.refused)])

    def _share(self, dimension: Dimension) -> Dimension:
        """This process's share of a limit."""
        capacity, per = dimension.capacity // self.processes, dimension.per
        if not capacity and dimension.capacity:
            capacity, per = 1, per * self.processes / dimension.capacity
        # What is more than a share, but not than the limit, waits for a whole one, not for ever.
        amount = dimension.amount
        if capacity < amount <= dimension.capacity:
            amount = capacity
        return attrs.evolve(dimension, amount=amount, capacity=capacity, per=per)

    def _unavailable(self) -> StoreUnavailableError:
        why = self._asking.error
        hint = "Look why it is out; outage='local' would count in this process meanwhile."
        if "no answer in" in why:
            hint = f"If it is well and this machine is busy, give it a longer timeout. {hint}"
        return StoreUnavailableError(
            f"{self._named} does not answer ({why}), and limits are not to be passed uncounted.",
            retry_after=self._asking.retry_after,
            hint=hint,
        )

    @property
    def _named(self) -> str:
        return f"The lease store {type(self.store).__name__}"

    @property
    def _meanwhile(self) -> str:
        if self.outage == "deny":
            return "reservations are refused"
        if self.outage == "allow":
            return "reservations are granted uncounted"
        share = f"1/{self.processes}" if self.processes > 1 else "the whole"
        return f"this process counts by itself, with {share} of each limit"


def _is_spent(dimension: Dimension) -> bool:
    """Whether what is settled of it does not come back by itself."""
    return not dimension.per and not dimension.held
