"""What was reserved, until it is settled: exactly once, and not forgotten on the way.

A lease that nobody renews expires, so that the places of a process that died come back. A grant is
therefore renewed while its answer lasts: by one timer for each event loop, which is not even set
for answers that are over within a third of the time.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import WeakKeyDictionary, ref

import attrs

from lamella._errors import ClosedError
from lamella._loops import Loop, current_loop

if TYPE_CHECKING:
    from lamella._context import Context
    from lamella._lines import Terms
    from lamella._stores import Dimension, LeaseStore
    from lamella._waiting_lines import WaitingLines

T = TypeVar("T")

logger = logging.getLogger("lamella")

FIRST_PAUSE: Final = 0.1
"""Seconds before a settlement that failed is tried again; doubled each time."""


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


class Grant:
    """A reservation that was granted.

    It has to be ended once, by `finish`; a further ending changes nothing.

    Attributes:
        lease_id: Its name in the store.
        dimensions: What was reserved.
        remaining: What was left of each dimension just after.
        waited: Seconds that it stood in lines; 0 if there was room at once.
    """

    __slots__ = (
        "__weakref__", "_context", "_leases", "_lines", "_renewals", "_terms", "dimensions", "due",
        "ended", "immediate", "lease_id", "remaining", "waited",
    )  # fmt: skip

    def __init__(
        self,
        context: Context,
        terms: Terms,
        lines: WaitingLines,
        lease_id: str,
        dimensions: tuple[Dimension, ...],
    ) -> None:
        self._context = context
        self._terms = terms
        self._lines = lines
        self._leases = context.ports.stores.leases
        self.immediate = is_immediate(self._leases)
        self.lease_id = lease_id
        self.dimensions = dimensions
        self.remaining: tuple[int, ...] = ()
        self.waited = 0.0
        self.ended = False
        self.due = math.inf
        self._renewals = _renewals_of(context.call.loop)

    def granted(self, remaining: tuple[int, ...], now: float, waited: float) -> None:
        """The store has granted it, at a monotonic instant."""
        self.remaining = remaining
        self.waited = waited
        self._renewals.add(self, now)

    def __repr__(self) -> str:
        state = "ended" if self.ended else "out"
        return f"<Grant {self.lease_id} {state}, {len(self.dimensions)} dimensions>"

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
        if self.ended:
            return None
        self.ended = True
        self._renewals.forget(self)
        if not self.immediate:
            return self._finish(amounts)
        at_once(self._end(amounts))
        self._lines.wake(self.dimensions)
        return None

    def settle(self, amounts: Sequence[int]) -> Coroutine[Any, Any, None] | None:
        """`finish` with what was used."""
        return self.finish(amounts)

    def refund(self) -> Coroutine[Any, Any, None] | None:
        """`finish` with nothing used: as if it had never been reserved."""
        return self.finish(None)

    def now(self) -> float:
        """The monotonic instant, in seconds."""
        return self._context.ports.monotonic()

    async def renew(self) -> None:
        """Let the lease live on."""
        there = await self._leases.renew(self.lease_id, ttl=self._terms.ttl)
        if not there and not self.ended:
            self.due = math.inf
            layer = self._terms.layer
            self._context.note(layer, f"{layer}.lease_lost")

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
        layer = self._terms.layer
        self._context.note(layer, f"{layer}.lease_lost")
        nothing = [attrs.evolve(each, amount=0) for each in self.dimensions]
        fresh = self._context.ports.new_id()
        await self._leases.reserve(fresh, nothing, ttl=self._terms.ttl)
        await self._leases.settle(fresh, amounts)

    async def _finish(self, amounts: Sequence[int] | None) -> None:
        done = False
        try:
            await self._end(amounts)
            done = True
        except Exception as error:  # noqa: BLE001 - noted, and tried again in the background
            layer = self._terms.layer
            self._context.note(layer, f"{layer}.store_failed", error=type(error).__name__)
        finally:
            if done:
                self._lines.wake(self.dimensions)
            else:
                in_background(self._context, self._terms, self._later, amounts)

    async def _later(self, amounts: Sequence[int] | None) -> None:
        """Try again until it is done, or the lease has expired anyway."""
        await persist(self._context, self._terms, lambda: self._end(amounts))
        self._lines.wake(self.dimensions)


async def persist(context: Context, terms: Terms, operation: Any) -> None:
    """Try a store's operation until it succeeds, at most for as long as a lease lives."""
    ports = context.ports
    until, pause = ports.monotonic() + terms.ttl, FIRST_PAUSE
    while True:
        try:
            await operation()
            return
        except Exception:
            if ports.monotonic() + pause > until:
                logger.warning("%s: a lease is left to expire", terms.layer, exc_info=True)
                return
        await ports.sleep(pause)
        pause *= 2


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
        self._grants: dict[str, ref[Grant]] = {}
        self._until = math.inf

    def add(self, grant: Grant, now: float) -> None:
        """Renew it when a third of its time has passed, if it is still out then."""
        grant.due = now + grant.third
        self._grants[grant.lease_id] = ref(grant)
        if grant.due < self._until:
            self._set(grant.due, now)

    def forget(self, grant: Grant) -> None:
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
