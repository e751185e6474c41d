"""The gate of one key under an adaptive limit: who is inside, and what their endings teach."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any, Final, Protocol
from weakref import WeakSet, ref

from lamella import (
    Ending,
    LimitedError,
    MisuseError,
    Outcome,
    OverloadedError,
    ProviderError,
    QuotaError,
    RateLimitError,
)
from lamella._fork_locks import fork_safe_lock
from lamella._hold_times import HoldTimes
from lamella._line_order import Ticket
from lamella._lines import Line, Refused, Terms
from lamella._loops import Loop, left_behind

if TYPE_CHECKING:
    from lamella import Context

THROTTLES: Final = frozenset({429, 503, 529})
"""The statuses by which a provider asks for less."""

HINT: Final = "Try again later, spread the calls, or raise Concurrency(limit=...) if it may be."


POLL: Final = 1.0
"""Every how many seconds the first who waits looks by itself, in case a place came back unheard."""


class Algorithm(Protocol):
    """What sets a limit; see `AIMD`."""

    limit: float

    def succeeded(
        self,
        now: float,
        in_flight: int,
        first_event: float | None,
        *,
        started: float,
        streamed: bool,
    ) -> None:
        """An attempt has ended well."""
        ...

    def throttled(self, now: float, started: float) -> bool:
        """The provider has asked for less; whether the limit was lowered."""
        ...


_gates: WeakSet[Gate] = WeakSet()


class Gate:
    """Who is inside, for all pipelines and loops of the process. Thread-safe.

    Args:
        algorithm: Sets the limit.
        max_waiting: How many may wait.
    """

    def __init__(self, algorithm: Algorithm, max_waiting: int) -> None:
        self.line = Line(max_waiting=max_waiting)
        self._algorithm = algorithm
        self._holds = HoldTimes()
        # Weak: what nobody can give back any more comes back with the garbage.
        self._inside: set[ref[Place]] = set()
        self._looked = -math.inf
        self._lock = fork_safe_lock()
        _gates.add(self)

    @property
    def limit(self) -> int:
        """How many may be inside now."""
        return int(self._algorithm.limit)

    @property
    def in_flight(self) -> int:
        """How many are inside; more than the limit for a while after it was lowered."""
        return len(self._inside)

    def at_once(self, context: Context, *, streamed: bool) -> Place | None:
        """A place, where there is one and nobody waits."""
        if self.line.head() is not None:
            return None
        place = Place(self, context, streamed=streamed)
        return place if self.admit(place) else None

    async def enter(
        self, context: Context, terms: Terms, weight: float, *, streamed: bool
    ) -> Place:
        """Wait for a place. Its `__call__` gives it back.

        Args:
            context: Of the request.
            terms: How to wait.
            weight: The tenant's share, above 0.
            streamed: Whether the attempt is streamed.

        Raises:
            LimitedError: If there is none in time; see `Line.enter`.
        """
        place = Place(self, context, streamed=streamed)
        if self.line.head() is None and self.admit(place):
            return place

        async def attempt() -> Place | Refused:
            return place if self.admit(place) else self._refused()

        ticket = Ticket(
            tenant=context.tenant or "",
            priority=context.priority,
            arrived=place.since,
            weight=weight,
        )
        try:
            await self.line.enter(context, ticket, attempt, terms, predict=self._predict)
        except LimitedError as error:
            raise dated(error, self._predict(len(self.line), 0)) from None
        arrived, place.since = place.since, context.ports.monotonic()
        context.note("concurrency", "concurrency.waited", seconds=place.since - arrived)
        return place

    def admit(self, place: Place) -> bool:
        """Whether there was room; if so, the place is inside."""
        with self._lock:
            if len(self._inside) < int(self._algorithm.limit):
                # Its callback takes no lock, for the garbage may be collected anywhere.
                place.reference = reference = ref(place, self._inside.discard)
                self._inside.add(reference)
                return True
        return self._give_up(place.now()) and self.admit(place)

    def _give_up(self, now: float) -> bool:
        """Take out those whose event loop has been closed; whether there were any."""
        if 0 <= now - self._looked < POLL:
            return False
        self._looked = now
        with self._lock:
            inside = list(self._inside)
        lost = left_behind([place for reference in inside if (place := reference()) is not None])
        with self._lock:
            for place in lost:
                if place.reference is not None:
                    self._inside.discard(place.reference)
        return bool(lost)

    def _refused(self) -> Refused:
        return Refused(
            why=f"{self.in_flight} attempts are in flight, and {self.limit} may be",
            hint=HINT,
            poll=POLL,
        )

    def _predict(self, ahead: int, _: int) -> float | None:
        """Seconds until there is room for one who has so many before it; None if unknown."""
        limit = self.limit
        over = max(0, self.in_flight - limit)
        return self._holds.until(ahead + over + 1, limit)

    def leave(self, place: Place, ending: Ending, now: float) -> bool:
        """One has gone; whether its ending has lowered the limit. Idempotent."""
        lowered = False
        with self._lock:
            in_flight = len(self._inside)
            reference = place.reference
            if reference is None or reference not in self._inside:
                return False
            self._inside.remove(reference)
            if ending.outcome is Outcome.COMPLETE:
                self._algorithm.succeeded(
                    now,
                    in_flight,
                    place.first_event,
                    started=place.since,
                    streamed=place.streamed,
                )
            elif is_throttle(ending.error):
                lowered = self._algorithm.throttled(now, place.since)
        self._holds.add(now - place.since)
        self.line.wake()
        return lowered

    def forget(self) -> None:
        """Nobody is inside: a forked child has none of those who were."""
        self._inside = set()


class Place:
    """What one attempt holds; the callback of its ending.

    Attributes:
        ended: Whether it has been given back.
        since: The monotonic instant of its entry.
        streamed: Whether the attempt is streamed.
        first_event: Seconds from the attempt's start to its first event, once known.
        reference: Under which its gate knows it; None while it is outside.
    """

    __slots__ = (
        "__weakref__", "_context", "_gate", "ended", "first_event", "reference", "since",
        "streamed",
    )  # fmt: skip

    def __init__(self, gate: Gate, context: Context, *, streamed: bool) -> None:
        self._gate = gate
        self._context = context
        self.since = context.ports.monotonic()
        self.streamed = streamed
        self.ended = False
        self.reference: ref[Place] | None = None
        self.first_event: float | None = None

    def __call__(self, ending: Ending) -> None:
        """Give the place back."""
        context, gate = self._context, self._gate
        self.ended = True
        if gate.leave(self, ending, context.ports.monotonic()):
            context.note("concurrency", "concurrency.lowered", limit=gate.limit)

    @property
    def loop(self) -> Loop:
        """The event loop of the call."""
        return self._context.call.loop

    def now(self) -> float:
        """The monotonic instant, in seconds."""
        return self._context.ports.monotonic()

    def answered(self, response: Any) -> None:
        """The answer has begun: remember how long that took."""
        try:
            attempt = response.context.attempt
        except (MisuseError, AttributeError):
            return  # an answer that some layer inside made by hand
        if attempt is None:
            return
        # An answer without events of its own (a plain function's) came at the attempt's end.
        first = attempt.end if attempt.first_event is None else attempt.first_event
        if first is not None:
            self.first_event = first - attempt.start


def dated(error: LimitedError, estimate: float | None) -> LimitedError:
    """The refusal, which says when there may be room even if it did not depend on that.

    Args:
        error: The refusal.
        estimate: Seconds; None if nobody knows.
    """
    return error if error.retry_after is not None else error.copy(retry_after=estimate)


def is_throttle(error: BaseException | None) -> bool:
    """Whether the provider asked for less at a time. An empty account is another thing."""
    if not isinstance(error, ProviderError) or isinstance(error, QuotaError):
        return False
    return isinstance(error, RateLimitError | OverloadedError) or error.status in THROTTLES


def _forget_all() -> None:
    for gate in list(_gates):
        gate.forget()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_forget_all)
