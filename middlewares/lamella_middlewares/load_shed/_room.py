"""The room for calls: who is inside, who waits, and the handing over of places."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet, ref

import anyio

from lamella import LimitedError, Waiter
from lamella._fork_locks import fork_safe_lock
from lamella._hold_times import HoldTimes
from lamella._lines import SHORTEST
from lamella._loops import Loop, left_behind
from lamella_middlewares.load_shed._overload import Overload
from lamella_middlewares.load_shed._queue import Queue, Waiting

if TYPE_CHECKING:
    from lamella import Context

NAME: Final = "load_shed"

_HINT: Final = "Come back after retry_after, or give LoadShed more room if this process has it."

_LOOK: Final = 1.0
"""Seconds between two looks for places whose event loop has been closed."""

WATCH: Final = 5.0
"""Every how many seconds a call that waits looks whether a place has been lost."""

_SLACK: Final = 64
"""How many calls without a place may be remembered besides one for each place."""

_rooms: WeakSet[Room] = WeakSet()


class Place:
    """What a call holds while it is worked on. Several requests of one call share it.

    Args:
        call_id: The call's id.
        loop: Its event loop.
        since: The monotonic instant of its entry.
        lost: Told of its reference if it becomes garbage.

    Attributes:
        calls: The ids of the call, and of those detached from it that take part.
        reference: Under which its room knows it.
        since: The monotonic instant of its entry.
        users: How many requests of the call are inside.
    """

    __slots__ = ("__weakref__", "calls", "loop", "reference", "since", "users")

    def __init__(
        self, call_id: str, loop: Loop, since: float, lost: Callable[[Any], object]
    ) -> None:
        self.calls: tuple[str, ...] = (call_id,)
        self.reference: ref[Place] = ref(self, lost)
        self.loop = loop
        self.since = since
        self.users = 1


class Room:
    """Room for so many calls at once, for all pipelines and loops of the process. Thread-safe.

    Args:
        size: How many calls may be inside.
        max_waiting: How many may wait.
        overload: What watches the waiting times.
    """

    def __init__(self, size: int, max_waiting: int, overload: Overload) -> None:
        self.size = size
        self.overload = overload
        self._max_waiting = max_waiting
        self._looked = -math.inf
        self._lock = fork_safe_lock()
        self._queue = Queue()
        self._holds = HoldTimes()
        # Weak: what nobody can give back any more comes back with the garbage.
        self._inside: set[ref[Place]] = set()
        self._calls: dict[str, ref[Place]] = {}
        _rooms.add(self)

    @property
    def in_flight(self) -> int:
        """How many calls are inside."""
        return len(self._inside)

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return len(self._queue)

    async def enter(self, context: Context, max_wait: float | None) -> Place:
        """A place for a call: the one that it has, or a free one, or one that it waits for.

        Raises:
            LimitedError: If it has to go without; `retry_after` is when there may be room.
            DeadlineExceeded: If the deadline passes although nothing said so before.
            ClosedError: If the pipeline closes meanwhile.
        """
        place = self.at_once(context, context.ports.monotonic())
        return await self.wait(context, max_wait) if place is None else place

    def at_once(self, context: Context, now: float) -> Place | None:
        """The place that a call has already, or a free one; None if it has to wait for one."""
        with self._lock:
            if context.call_id in self._calls or context.parent_id is not None:
                place = self._shared(context)
                if place is not None:
                    return place
            if self._queue.count or len(self._inside) >= self.size:
                return None
            if not self.overload.calm:
                self.overload.entered(now, 0.0)
            return self._place(context.call_id, context.call.loop, now)

    async def wait(self, context: Context, max_wait: float | None) -> Place:
        """A place for a call that has found none; see `enter`."""
        now = context.ports.monotonic()
        call = Waiting(context, now, Waiter())
        limit = math.inf if max_wait is None else max_wait
        self._join(call, context, limit)
        try:
            now = await self._until_called(call, context, limit)
        except BaseException:
            self._withdraw(call, context.ports.monotonic())
            raise
        with self._lock:
            if self._queue.discard(call):
                self._look(now)
            estimate = self._estimate(call)
        if call.place is None:
            raise self._refusal(context, call.shed or "max_wait", estimate)
        context.note(NAME, "load_shed.waited", seconds=now - call.arrived)
        return call.place

    async def _until_called(self, call: Waiting, context: Context, limit: float) -> float:
        """Wait until it has a place, or is told to go, or the limit has passed; when that is."""
        now = call.arrived
        while True:
            # No less than event loops can wait, or a rounded clock would never be over the limit.
            span = max(SHORTEST, min(WATCH, limit - (now - call.arrived)))
            await context.wait(partial(_woken, call.waiter, span), what="waiting for load_shed")
            now = context.ports.monotonic()
            if not call.settled:
                self._give_up(now)  # nobody announces that a place was lost
                with self._lock:
                    woken = self._hand_over(now)
                self._wake(woken, now)
            if call.settled or now - call.arrived >= limit:
                return now

    def leave(self, place: Place, now: float) -> None:
        """One request is done with its place; whoever is next gets it once all of them are."""
        with self._lock:
            place.users -= 1
            if place.users or place.reference not in self._inside:
                return
            self._inside.discard(place.reference)
            for call_id in place.calls:
                self._calls.pop(call_id, None)
            self._holds.add(now - place.since)
            if not self._queue.count:
                if not self.overload.calm:
                    self._look(now)
                return
            woken = self._hand_over(now)
        self._wake(woken, now)

    def forget(self) -> None:
        """Nobody is inside and nobody waits: a forked child has none of those who did."""
        self._queue = Queue()
        self._inside = set()
        self._calls = {}

    # --- under the lock ---------------------------------------------------------------------

    def _shared(self, context: Context) -> Place | None:
        """The place that the call has already, or the call that this one was detached from."""
        reference = self._calls.get(context.call_id)
        if reference is None and context.parent_id is not None:
            reference = self._calls.get(context.parent_id)
        place = None if reference is None else reference()
        if place is None or reference not in self._inside:
            return None
        place.users += 1
        if context.call_id not in place.calls:
            place.calls = (*place.calls, context.call_id)
            self._calls[context.call_id] = place.reference
        return place

    def _place(self, call_id: str, loop: Loop, now: float) -> Place:
        # The references' callback takes no lock, for the garbage may be collected anywhere.
        place = Place(call_id, loop, now, self._inside.discard)
        if len(self._calls) > 2 * len(self._inside) + _SLACK:  # what the garbage has left behind
            self._calls = {
                name: reference
                for name, reference in self._calls.items()
                if reference in self._inside
            }
        self._calls[call_id] = place.reference
        self._inside.add(place.reference)
        return place

    def _hand_over(self, now: float) -> list[Waiting]:
        """Give free places to those whose turn it is; who has to be woken."""
        woken = self._shed(now)
        while len(self._inside) < self.size:
            call = self._queue.next()
            if call is None:
                break
            call.place = self._place(call.call_id, call.call.loop, now)
            self.overload.entered(now, now - call.arrived)
            woken.append(call)
        self._look(now)
        return woken

    def _shed(self, now: float) -> list[Waiting]:
        """Where there is too much to do, those that matter least and have waited too long go."""
        overload = self.overload
        if not overload.on or overload.target is None:
            return []
        gone = self._queue.stale(now - overload.target)
        for call in gone:
            self._queue.discard(call)
            call.shed = "overload"
            overload.shed(now)
        return gone

    def _look(self, now: float) -> None:
        self.overload.look(now, len(self._queue))
        self._queue.newest_first = self.overload.on

    def _estimate(self, call: Waiting) -> float | None:
        """Seconds until there may be room for a call like this; None if nobody knows."""
        return self._holds.until(self._queue.ahead(call) + 1, self.size)

    # --- coming and going -------------------------------------------------------------------

    def _join(self, call: Waiting, context: Context, limit: float) -> None:
        """Let a call wait.

        Raises:
            LimitedError: If that makes no sense, or there is no room to wait.
        """
        why: str | None = None
        self._give_up(call.arrived)
        with self._lock:
            woken = self._hand_over(call.arrived)  # to those whom a lost place has kept waiting
            estimate = self._estimate(call)
            if limit <= 0 or (estimate is not None and estimate > limit):
                why = "max_wait"
            elif estimate is not None and estimate > context.left():
                why = "deadline"
            elif len(self._queue) >= self._max_waiting:
                least = self._queue.least(call)
                if least is call:
                    why = "full"
                else:
                    self._queue.discard(least)
                    least.shed = "pushed out"
                    woken.append(least)
            if why is None:
                self._queue.add(call)
                woken += self._hand_over(call.arrived)
        self._wake(woken, call.arrived)
        if why is not None:
            raise self._refusal(context, why, estimate)

    def _wake(self, calls: list[Waiting], now: float) -> None:
        """Wake calls; what one was given whose event loop has been closed goes on to the next."""
        calls = list(calls)
        while calls:
            call = calls.pop()
            if call.waiter.wake() or call.place is None:
                continue
            with self._lock:
                self._inside.discard(call.place.reference)
                calls += self._hand_over(now)

    def _give_up(self, now: float) -> None:
        """Take out the calls whose event loop has been closed."""
        if 0 <= now - self._looked < _LOOK:
            return
        self._looked = now
        with self._lock:
            inside = list(self._inside)
        lost = left_behind([place for reference in inside if (place := reference()) is not None])
        with self._lock:
            for place in lost:
                self._inside.discard(place.reference)

    def _withdraw(self, call: Waiting, now: float) -> None:
        """A call waits no longer; a place that it was given meanwhile goes on to the next."""
        with self._lock:
            self._queue.discard(call)
            self._look(now)
        if call.place is not None:
            self.leave(call.place, now)

    def _refusal(self, context: Context, why: str, retry_after: float | None) -> LimitedError:
        context.note(NAME, "load_shed.refused", why=why, retry_after=retry_after)
        return LimitedError(
            f"This process works on {self.in_flight} calls and may work on {self.size}: "
            f"{_REASONS[why]}.",
            hint=_HINT,
            code="overloaded",
            layer=NAME,
            retry_after=retry_after,
        )


_REASONS: Final = {
    "deadline": "the wait would pass the call's deadline",
    "full": "as many calls that matter no less wait already as may (max_waiting)",
    "max_wait": "the call would wait longer than it may (max_wait)",
    "overload": "calls have waited too long for a while, and this one is among the least important",
    "pushed out": "a call that matters more took its place among those that wait",
}


async def _woken(waiter: Waiter, seconds: float) -> None:
    with anyio.move_on_after(seconds):
        await waiter.wait()


def _forget_all() -> None:
    for room in list(_rooms):
        room.forget()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_forget_all)
