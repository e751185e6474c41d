"""What was reserved, until it is settled: exactly once, and not forgotten on the way.

In a store of this process a grant is held for as long as there is somebody to end it. In others a
lease that nobody renews expires, so that the places of a process that died come back. There a grant
is renewed while its answer lasts: by one timer for each event loop, which is not even set for
answers that are over within a third of the time.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar
from weakref import WeakKeyDictionary, ref

from lamella._errors import ClosedError
from lamella._loops import Loop, current_loop

if TYPE_CHECKING:
    from lamella._context import Context
    from lamella._lines import Terms
    from lamella._memory_leases import Hold
    from lamella._stores import Dimension, Lease, LeaseStore
    from lamella._waiting_lines import WaitingLines

T = TypeVar("T")

logger = logging.getLogger("lamella")

FIRST_PAUSE: Final = 0.1
"""Seconds before a settlement that failed is tried again; doubled each time."""

LONGEST_PAUSE: Final = 30.0
"""... up to this."""


def is_immediate(leases: LeaseStore) -> bool:
    """Whether the store's operations never suspend: it is memory of this process."""
    return getattr(leases, "immediate", False) is True


def at_once(operation: Coroutine[Any, Any, T]) -> T:
    """Run what never suspends, outside of any task if need be."""
    try:
        operation.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    operation.close()
    raise RuntimeError("A lease store that calls itself immediate has suspended.")


class LocalLeases(Protocol):
    """What a lease store of this process can do besides; see `MemoryLeases`."""

    lines: WaitingLines

    def hold(self, dimensions: tuple[Dimension, ...], loop: Loop) -> Hold | Lease:
        """Reserve all dimensions or none."""
        ...

    def end(self, hold: Hold, amounts: Sequence[int] | None) -> None:
        """Replace what is held by what was used."""
        ...

    def drop(self, hold: Hold) -> None:
        """Give back what nobody can end any more."""
        ...


def local_leases(leases: LeaseStore) -> LocalLeases | None:
    """The store, if it is one of this process that can `hold`."""
    if getattr(leases, "immediate", False) is True and hasattr(leases, "hold"):
        local: LocalLeases = leases  # type: ignore[assignment]
        return local
    return None


class Grant:
    """A reservation that was granted.

    It has to be ended once, by `finish`; a further ending changes nothing.

    Attributes:
        waited: Seconds that it stood in lines; 0 if there was room at once.
        ended: Whether it has been ended.
    """

    __slots__ = ("__weakref__", "ended", "waited")

    def __init__(self) -> None:
        self.waited = 0.0
        self.ended = False

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """What was reserved."""
        raise NotImplementedError

    @property
    def immediate(self) -> bool:
        """Whether its store's operations never suspend."""
        return True

    @property
    def remaining(self) -> tuple[int, ...]:
        """What was left of each dimension just after."""
        raise NotImplementedError

    def finish(self, amounts: Sequence[int] | None) -> Coroutine[Any, Any, None] | None:
        """End it: replace what was reserved by what was used, or give everything back.

        Use it as the last line of an `on_end` callback, plain or asynchronous: `return
        grant.finish(...)`. With a store in memory it is done when this returns. Otherwise it is
        done by what is returned, and, if that fails or is cut short, in the background.

        Args:
            amounts: What was used of each dimension, in order; None gives everything back.

        Returns:
            What is to be awaited; None if it is done.
        """
        raise NotImplementedError

    def expect(self, amounts: Sequence[int]) -> None:
        """Have these amounts charged if nobody can end it: its event loop may be closed before.

        In a store of this process; a lease in another one expires, and gives everything back.

        Args:
            amounts: What may have been used of each dimension, in order; 0 or more.
        """

    def settle(self, amounts: Sequence[int]) -> Coroutine[Any, Any, None] | None:
        """`finish` with what was used."""
        return self.finish(amounts)

    def refund(self) -> Coroutine[Any, Any, None] | None:
        """`finish` with nothing used: as if it had never been reserved."""
        return self.finish(None)


class LocalGrant(Grant):
    """One in a store of this process, which lives as long as somebody may end it."""

    __slots__ = ("_hold", "_leases")

    def __init__(self, leases: LocalLeases, hold: Hold) -> None:
        self._leases = leases
        self._hold = hold
        self.waited = 0.0
        self.ended = False

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """See `Grant.dimensions`."""
        return self._hold.dimensions

    def __repr__(self) -> str:
        state = "ended" if self.ended else "out"
        return f"<Grant {state}, {len(self.dimensions)} dimensions>"

    def finish(self, amounts: Sequence[int] | None) -> None:
        """See `Grant.finish`; done when this returns."""
        if not self.ended:
            self._leases.end(self._hold, amounts)
            self.ended = True
            lines = self._leases.lines
            if not lines.empty:
                lines.wake(self._hold.dimensions)

    @property
    def remaining(self) -> tuple[int, ...]:
        """See `Grant.remaining`."""
        return self._hold.remaining

    def expect(self, amounts: Sequence[int]) -> None:
        """See `Grant.expect`."""
        self._hold.used = amounts

    def __del__(self) -> None:
        """The net under a dropped grant: its event loop was closed, or its layer forgot it."""
        if not self.ended:
            self._leases.drop(self._hold)
            what = "comes back" if self._hold.used is None else "is charged"
            logger.warning("what was reserved %s unsettled: %r was dropped", what, self)


class LeasedGrant(Grant):
    """One in a store that other processes may share: a lease with a name, which is renewed.

    Attributes:
        lease_id: Its name in the store.
        due: The monotonic instant at which it is to be renewed.
    """

    __slots__ = (
        "_context", "_debt", "_dimensions", "_immediate", "_leases", "_lines", "_remaining",
        "_renewals", "_terms", "due", "lease_id",
    )  # fmt: skip

    def __init__(
        self,
        context: Context,
        terms: Terms,
        lines: WaitingLines,
        lease_id: str,
        dimensions: tuple[Dimension, ...],
    ) -> None:
        super().__init__()
        self._lines = lines
        self._dimensions = dimensions
        self._context = context
        self._terms = terms
        self._leases = context.ports.stores.leases
        self._immediate = is_immediate(self._leases)
        self.lease_id = lease_id
        self.due = math.inf
        self._debt: str | None = None
        self._remaining: tuple[int, ...] = ()
        self._renewals = _renewals_of(context.call.loop)

    def granted(self, remaining: tuple[int, ...]) -> None:
        """The store has granted it."""
        self._remaining = remaining
        self._renewals.add(self, self.now())

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """See `Grant.dimensions`."""
        return self._dimensions

    @property
    def immediate(self) -> bool:
        """See `Grant.immediate`."""
        return self._immediate

    @property
    def remaining(self) -> tuple[int, ...]:
        """See `Grant.remaining`."""
        return self._remaining

    def __repr__(self) -> str:
        state = "ended" if self.ended else "out"
        return f"<Grant {self.lease_id} {state}, {len(self.dimensions)} dimensions>"

    def finish(self, amounts: Sequence[int] | None) -> Coroutine[Any, Any, None] | None:
        """See `Grant.finish`."""
        if self.ended:
            return None
        self.ended = True
        self._renewals.forget(self)
        if not self.immediate:
            return self._finish(amounts)
        at_once(self._end(amounts))
        self._lines.wake(self.dimensions)
        return None

    def now(self) -> float:
        """The monotonic instant, in seconds."""
        return self._context.ports.monotonic()

    async def renew(self) -> None:
        """Let the lease live on."""
        there = await self._leases.renew(self.lease_id, ttl=self._terms.ttl)
        if not there and not self.ended:
            self.due = math.inf
            self._note("lease_lost")

    def renew_soon(self) -> None:
        """Let the lease live on, without waiting for it. On the loop that it was granted on."""
        if self.immediate:
            at_once(self.renew())
            return
        try:
            self._context.background.spawn(self.renew, name=f"{self._terms.layer} renewal")
        except ClosedError:
            logger.debug("a lease is not renewed: its pipeline has been closed")

    @property
    def third(self) -> float:
        """A third of its time to live, in seconds."""
        return self._terms.ttl / 3

    async def _end(self, amounts: Sequence[int] | None) -> None:
        leases = self._leases
        if amounts is None:
            await leases.refund(self.lease_id)
        elif not await leases.settle(self.lease_id, amounts):
            await self._owe(amounts)

    async def _owe(self, amounts: Sequence[int]) -> None:
        """The lease has expired, and what it held was given back: charge what was used."""
        nothing = [each.want(0) for each in self.dimensions]
        if self._debt is None:  # of one name however often it is tried: it is charged once
            self._debt = self._context.ports.new_id()
            self._note("lease_lost")
        await self._leases.reserve(self._debt, nothing, ttl=self._terms.ttl)
        await self._leases.settle(self._debt, amounts)

    async def _finish(self, amounts: Sequence[int] | None) -> None:
        done = False
        try:
            await self._end(amounts)
            done = True
        except Exception as error:  # noqa: BLE001 - noted, and tried again in the background
            self._note("store_failed", error=type(error).__name__)
        finally:
            if done:
                self._lines.wake(self.dimensions)
            else:
                in_background(self._context, self._terms, self._later, amounts)

    def _note(self, word: str, **fields: Any) -> None:
        if not self._context.trace.finished:
            layer = self._terms.layer
            self._context.note(layer, f"{layer}.{word}", **fields)

    async def _later(self, amounts: Sequence[int] | None) -> None:
        """Try again until it is done, or the lease has expired anyway and nobody insists."""
        seconds = None if amounts is None else self._terms.insist
        await persist(self._context, self._terms, lambda: self._end(amounts), seconds)
        self._lines.wake(self.dimensions)


async def persist(
    context: Context, terms: Terms, operation: Any, seconds: float | None = None
) -> None:
    """Try a store's operation until it succeeds, for so long; None: while a lease lives."""
    ports = context.ports
    until, pause = ports.monotonic() + (seconds or terms.ttl), FIRST_PAUSE
    while True:
        try:
            await operation()
            return
        except Exception:
            if ports.monotonic() + pause > until:
                logger.warning("%s: a lease is left to expire", terms.layer, exc_info=True)
                return
        await ports.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def in_background(context: Context, terms: Terms, function: Any, *args: Any) -> None:
    """Go on with an operation of the store whose caller can no longer wait for it."""
    try:
        context.background.spawn(function, *args, name=f"{terms.layer} settlement")
    except (ClosedError, RuntimeError):  # there is no pipeline, or no event loop, any more
        logger.warning("%s: a lease is left to expire: its pipeline is closed", terms.layer)


class _Renewals:
    """The grants of one event loop that are out, and the timer that renews those that last."""

    __slots__ = ("_grants", "_until")

    def __init__(self) -> None:
        self._grants: dict[str, ref[LeasedGrant]] = {}
        self._until = math.inf

    def add(self, grant: LeasedGrant, now: float) -> None:
        """Renew it when a third of its time has passed, if it is still out then."""
        grant.due = now + grant.third
        self._grants[grant.lease_id] = ref(grant)
        if grant.due < self._until:
            self._set(grant.due, now)

    def forget(self, grant: LeasedGrant) -> None:
        """It has ended. From any thread."""
        self._grants.pop(grant.lease_id, None)

    def _set(self, instant: float, now: float) -> None:
        self._until = instant
        loop = current_loop()
        loop.call_at(loop.now() + instant - now, lambda: self._look(instant))

    def _look(self, instant: float) -> None:
        if instant != self._until:
            return  # an earlier one was set meanwhile
        self._until = math.inf
        now, soonest, slack = instant, math.inf, math.inf
        for lease_id, reference in list(self._grants.items()):
            grant = reference()
            if grant is None or grant.ended:
                self._grants.pop(lease_id, None)
                continue
            now = max(now, grant.now())
            if grant.due <= now:
                grant.due = now + grant.third
                grant.renew_soon()
            soonest = min(soonest, grant.due)
            slack = min(slack, grant.third / 4)
        if soonest < math.inf:
            # Not for each one anew: a quarter of a third later is soon enough.
            self._set(max(soonest, now + slack), now)


_RENEWALS: WeakKeyDictionary[Loop, _Renewals] = WeakKeyDictionary()


def _renewals_of(loop: Loop) -> _Renewals:
    found = _RENEWALS.get(loop)
    if found is None:
        found = _RENEWALS[loop] = _Renewals()
    return found
