"""What happened during one call.

Layers never know each other; they know the trace. They write facts here, and observers (logging,
metrics, tracing, audit, debugging) read them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import attrs

from lamella._attempts import Attempt, AttemptBound, OpenAttempt
from lamella._money import Money
from lamella._outcomes import Outcome
from lamella._usage import Usage

if TYPE_CHECKING:
    from lamella._shown import Shown


@attrs.frozen
class Note:
    """One fact, noted by a layer.

    Attributes:
        layer: Who noted it.
        name: What it is, for example `"retry.wait"`.
        fields: Its particulars. Never prompt text, personal data or keys.
        at: Seconds since the call began.
    """

    layer: str
    name: str
    fields: Mapping[str, Any]
    at: float


@attrs.frozen
class Span:
    """The time one layer had the request in hand, the layers inside it included.

    Attributes:
        layer: Its name.
        depth: How deep it stands, 0 outermost.
        start: Seconds since the call began.
        end: When it returned its response or raised; for an open response that is the first event.
        error: The class of the error that it raised.
    """

    layer: str
    depth: int
    start: float
    end: float
    error: str | None = None


@attrs.define
class _Adoption:
    """On whose behalf a trace was adopted, for which model turn, and when."""

    branch: str
    turn: AttemptBound | None
    at: float


class Trace:
    """The ordered facts of one call.

    Attributes:
        call_id: The call's id.
        parent_id: The call that this one was detached from; None for most.
        started: Wall time of its beginning, in seconds since the epoch.
        notes: What layers noted, in order.
        spans: Each layer's time; only where the call asked for it (`Context(timed=True)`).
        content: What observers may see of prompts and answers, by branch; only a redacting layer
            fills it. It is empty where there is none.
        outcome: How the call ended; None while it is under way.
        duration: Seconds it took; None while it is under way.
    """

    def __init__(
        self,
        call_id: str,
        *,
        monotonic: Callable[[], float],
        wall: float,
        parent_id: str | None = None,
    ) -> None:
        self.call_id = call_id
        self.parent_id = parent_id
        self.started = wall
        self.notes: list[Note] = []
        self.spans: list[Span] = []
        self.content: dict[str, Shown] = {}
        self.outcome: Outcome | None = None
        self.duration: float | None = None
        self._monotonic = monotonic
        self._origin = monotonic()
        self._attempts: list[OpenAttempt] = []
        self._adopted: dict[Trace, _Adoption] = {}

    def __repr__(self) -> str:
        return f"<Trace {self.call_id} attempts={len(self._attempts)} notes={len(self.notes)}>"

    def now(self) -> float:
        """Seconds since the call began."""
        return self._monotonic() - self._origin

    def note(self, layer: str, name: str, **fields: Any) -> None:
        """Write a fact down."""
        self.notes.append(Note(layer, name, fields, self.now()))

    def open_attempt(self, branch: str, provider: str, model: str | None) -> OpenAttempt:
        """Begin the record of an attempt; the core does this where the wire phase begins."""
        attempt = OpenAttempt(len(self._attempts), branch, provider, model, self.now)
        self._attempts.append(attempt)
        return attempt

    def of_turn(self, bound: AttemptBound) -> list[OpenAttempt]:
        """The attempts of one model turn, in the order opened, as they are now.

        Those that the turn has adopted are among them: as copies in this call's time, which began
        when they were adopted, if not later. Who counts what happened since an instant is to count
        them too.

        Args:
            bound: A bound of that turn (`context.bound`).
        """
        turn = bound.turn
        found = [
            attempt
            for attempt in self._attempts
            if attempt.bound is turn or (attempt.bound is not None and attempt.bound.turn is turn)
        ]
        for trace, adoption in self._adopted.items():
            if adoption.turn is turn:
                found += self._moved(trace, adoption, not_before=adoption.at)
                found.sort(key=attrgetter("start"))
        return found

    def adopt(self, other: Trace, branch: str = "", bound: AttemptBound | None = None) -> None:
        """Count what another call attempts, and what that costs, as this call's.

        It is for work that a call has others do in a call of its own, where it pays for it. What
        the other trace learns later is counted as well; nothing is copied. One trace at a time
        should have adopted another, or what it cost is counted twice: `disown` before handing on.

        Args:
            other: The trace of the work.
            branch: The branch on whose behalf it was done; the attempts' branches begin with it.
            bound: The bound of the model turn that it was done for; None for none.

        Raises:
            ValueError: If it is this trace, or has adopted this one.
        """
        if other._has(self):
            raise ValueError("A trace cannot adopt itself, nor one that has adopted it.")
        turn = None if bound is None else bound.turn
        self._adopted[other] = _Adoption(branch, turn, self.now())

    def _has(self, other: Trace) -> bool:
        """Whether it is that trace, or has adopted it, by whatever way."""
        return other is self or any(trace._has(other) for trace in self._adopted)  # noqa: SLF001

    def disown(self, other: Trace) -> None:
        """No longer count what an adopted trace has; nothing if it was not adopted."""
        self._adopted.pop(other, None)

    @property
    def adopted(self) -> tuple[Trace, ...]:
        """The traces that are counted as this one's, in the order in which they were adopted."""
        return tuple(self._adopted)

    def finish(self, outcome: Outcome) -> None:
        """The call has ended."""
        if self.outcome is None:
            self.outcome = outcome
            self.duration = self.now()

    @property
    def finished(self) -> bool:
        """Whether the call has ended; nothing is written to it any more."""
        return self.outcome is not None

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Every attempt in the order opened: tries, hedges, losers, child calls.

        Those of adopted traces come after its own.
        """
        found = self._all()
        for index in range(len(self._attempts), len(found)):
            found[index].index = index
        return tuple([attempt.record() for attempt in found])

    def _all(self) -> list[OpenAttempt]:
        """Its own attempts, and copies of the adopted ones in its own time and order."""
        found = list(self._attempts)
        for trace, adoption in self._adopted.items():
            found += self._moved(trace, adoption)
        return found

    def _moved(
        self, trace: Trace, adoption: _Adoption, not_before: float = -math.inf
    ) -> list[OpenAttempt]:
        later = trace._origin - self._origin
        return [attempt.moved(adoption.branch, later, not_before) for attempt in trace._all()]

    def _counted(self) -> list[OpenAttempt]:
        """Its own attempts and the adopted ones."""
        if not self._adopted:
            return self._attempts
        found = list(self._attempts)
        for trace in self._adopted:
            found += trace._counted()  # noqa: SLF001 - its own class
        return found

    @property
    def usage(self) -> Usage:
        """What all attempts consumed together, as far as known."""
        total = Usage()
        for attempt in self._counted():
            if attempt.usage is not None:
                total += attempt.usage
        return total

    @property
    def cost(self) -> Money | None:
        """What the call has cost: all attempts, losers and child calls included.

        None if an attempt was billed and its price is not known (a note says which), or if the
        attempts were billed in several currencies (`costs` has each).
        """
        billed = [a for a in self._counted() if a.outcome is not Outcome.NOT_SENT]
        if any(attempt.cost is None for attempt in billed):
            return None
        costs = self.costs
        if len(costs) > 1:
            return None
        return next(iter(costs.values()), Money(0))

    @property
    def costs(self) -> dict[str, Money]:
        """The known costs by currency."""
        sums: dict[str, Money] = {}
        for attempt in self._counted():
            cost = attempt.cost
            if cost:  # nothing, in whatever currency, makes no second currency
                known = sums.get(cost.currency)
                sums[cost.currency] = cost if known is None else known + cost
        return sums

    def draw(self) -> str:
        """The call as text: its layers, attempts and notes, each with its time."""
        from lamella._drawing import draw

        return draw(self)
