"""The sums of a run: nothing is kept of a call but what it adds to them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from lamella._outcomes import Outcome
from lamella.testing._simulated_histogram import Histogram

if TYPE_CHECKING:
    from lamella._attempts import Attempt
    from lamella._trace import Trace
    from lamella.testing._simulated_caller import SimulatedCaller

_MOST_TENANTS: Final = 1_000
_MOST_SLOTS: Final = 240
_NICE: Final = (0.1, 0.25, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
_WANTED_SLOTS: Final = 60

GAVE_UP: Final = frozenset({"cancelled", "left"})
"""Outcomes that the caller has chosen: neither success nor failure."""

NEVER_ENDED: Final = "never ended"
"""The outcome of a call that was still under way an hour after the last arrival."""


class Slot:
    """What happened within one piece of time."""

    __slots__ = ("arrived", "attempts", "complete", "cost", "failed", "gave_up", "in_flight",
                 "latency", "throttled", "upstream")  # fmt: skip

    def __init__(self) -> None:
        self.arrived = 0
        self.complete = 0
        self.failed = 0
        self.gave_up = 0
        self.attempts = 0
        self.throttled = 0
        self.cost = 0
        self.in_flight = 0
        self.upstream = 0
        self.latency = Histogram()


def slot_seconds(span: float) -> float:
    """How long one piece of time is, so that a run has about sixty."""
    for width in _NICE:
        if span / width <= _WANTED_SLOTS:
            return float(width)
    return 3600.0 * -(-span // (3600.0 * _WANTED_SLOTS))


class Tally:
    """Adds up.

    Args:
        width: Seconds of one piece of time.
    """

    def __init__(self, width: float) -> None:
        self.width = width
        self.calls = 0
        self.ended = 0
        self.outcomes: Counter[str] = Counter()
        self.attempts: Counter[int] = Counter()
        self.statuses: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()
        self.latency = Histogram()
        self.failure_latency = Histogram()
        self.first_event = Histogram()
        self.costs: Counter[str] = Counter()
        self.unpriced = 0
        self.estimated = 0
        self.tenants: dict[str, list[int]] = {}
        self.slots: list[Slot] = []
        self._digest = hashlib.blake2b(digest_size=8)

    def slot(self, at: float) -> Slot:
        """The piece of time that an instant lies in; what comes very late counts to the last."""
        index = min(int(at // self.width), _MOST_SLOTS - 1)
        while index >= len(self.slots):
            self.slots.append(Slot())
        return self.slots[index]

    @property
    def in_flight(self) -> int:
        """Calls under way."""
        return self.calls - self.ended

    def began(self, at: float, upstream: int) -> None:
        """A call begins.

        Args:
            at: When.
            upstream: Connections to providers that are open.
        """
        self.calls += 1
        slot = self.slot(at)
        slot.arrived += 1
        slot.in_flight = max(slot.in_flight, self.in_flight)
        slot.upstream = max(slot.upstream, upstream)

    def over(self, caller: SimulatedCaller, attempts: Sequence[Attempt], at: float) -> None:
        """A call has ended.

        Args:
            caller: Who made it.
            attempts: Those of its trace.
            at: When.
        """
        self.ended += 1
        outcome = caller.outcome
        self.outcomes[outcome] += 1
        slot = self.slot(at)
        tenant = self._tenant(caller.tenant)
        tenant[0] += 1
        if outcome == "complete":
            slot.complete += 1
            tenant[1] += 1
            self.latency.add(caller.seconds)
            slot.latency.add(caller.seconds)
        elif outcome in GAVE_UP:
            slot.gave_up += 1
        else:
            slot.failed += 1
            self.failure_latency.add(caller.seconds)
        self.attempts[len(attempts)] += 1
        began = at - caller.seconds
        for attempt in attempts:
            self._attempt(attempt, began)
        if caller.trace is not None:
            self._money(caller.trace, slot)
            for note in caller.trace.notes:
                self.notes[note.name] += 1
        self._write_down(caller, attempts, at)

    def _tenant(self, name: str) -> list[int]:
        known = self.tenants.get(name)
        if known is None:
            key = name if len(self.tenants) < _MOST_TENANTS else "others"
            known = self.tenants.setdefault(key, [0, 0])
        return known

    def _attempt(self, attempt: Attempt, began: float) -> None:
        slot = self.slot(began + attempt.start)
        slot.attempts += 1
        if attempt.status == 429:
            slot.throttled += 1
        if attempt.outcome is Outcome.COMPLETE:
            self.statuses["complete"] += 1
        else:
            self.statuses[str(attempt.status or attempt.cause or attempt.outcome)] += 1
        if attempt.usage is not None and attempt.usage.estimated:
            self.estimated += 1
        if attempt.time_to_first_event is not None:
            self.first_event.add(attempt.time_to_first_event)

    def _money(self, trace: Trace, slot: Slot) -> None:
        costs = trace.costs
        for currency, cost in costs.items():
            self.costs[currency] += cost.nano
            slot.cost += cost.nano
        if not costs and trace.cost is None:
            self.unpriced += 1

    def _write_down(self, caller: SimulatedCaller, attempts: Sequence[Attempt], at: float) -> None:
        """Add the call to the digest of the run: equal digests mean equal traces."""
        words = [f"{caller.number} {caller.outcome} {caller.seconds!r} {at!r}"]
        words += [
            f"{one.provider} {one.branch} {one.start!r} {one.end!r} {one.outcome} {one.status}"
            f" {one.cost.nano if one.cost is not None else None}"
            for one in attempts
        ]
        if caller.trace is not None:
            words += [f"{note.name} {note.at!r}" for note in caller.trace.notes]
        self._digest.update("\n".join(words).encode())

    @property
    def digest(self) -> str:
        """Sixteen characters that stand for everything that happened."""
        return self._digest.hexdigest()
