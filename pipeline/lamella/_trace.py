"""What happened during one call.

Layers never know each other; they know the trace. They write facts here, and observers (logging,
metrics, tracing, audit, debugging) read them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import attrs

from lamella._attempts import Attempt, AttemptBound, OpenAttempt
from lamella._making import unfrozen
from lamella._nothing import NOTHING
from lamella._outcomes import Outcome
from lamella._spent import cost_of, costs_by_layer, costs_of, usage_of

if TYPE_CHECKING:
    from os import PathLike
    from pathlib import Path

    from lamella._money import Money
    from lamella._shown import Shown
    from lamella._trace_records import TraceRecord
    from lamella._usage import Usage


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


_Note = unfrozen(Note)


@attrs.frozen
class Span:
    """The time one layer had the request in hand, the layers inside it included.

    Attributes:
        layer: Its name.
        depth: How deep it stands, 0 outermost.
        start: Seconds since the call began.
        end: When it returned its response or raised; for an open response that is the first event.
        error: The code of the error that it raised, or else its class.
        attempt: The index of the attempt that it stands inside of, as a layer of the wire phase
            does; None for one that stands outside of its attempts.
    """

    layer: str
    depth: int
    start: float
    end: float
    error: str | None = None
    attempt: int | None = None


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

    __slots__ = (
        "__weakref__", "_adopted", "_attempts", "_clock", "_monotonic", "_origin", "call_id",
        "content", "duration", "notes", "outcome", "parent_id", "spans", "started",
    )  # fmt: skip

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
        self._origin = origin = monotonic()
        self._clock = monotonic, origin
        self._attempts: list[OpenAttempt] = []
        self._adopted: dict[Trace, _Adoption] = {}

    def __repr__(self) -> str:
        return f"<Trace {self.call_id} attempts={len(self._attempts)} notes={len(self.notes)}>"

    def now(self) -> float:
        """Seconds since the call began."""
        return self._monotonic() - self._origin

    def note(self, layer: str, name: str, **fields: Any) -> None:
        """Write a fact down."""
        new = object.__new__(_Note)
        new.layer = layer
        new.name = name
        new.fields = fields
        new.at = self._monotonic() - self._origin
        new.__class__ = Note
        self.notes.append(new)

    def open_attempt(self, branch: str, provider: str, model: str | None) -> OpenAttempt:
        """Begin the record of an attempt; the core does this where the wire phase begins."""
        attempts = self._attempts
        attempt = OpenAttempt(len(attempts), branch, provider, model, self._clock)
        attempts.append(attempt)
        return attempt

    def of_turn(self, bound: AttemptBound) -> list[OpenAttempt]:
        """The attempts of one model turn, in the order opened, as they are now.

        Those that the turn has adopted are among them: as copies in this call's time, which began
        when they were adopted, if not later. Who counts what happened since an instant is to count
        them too.

        Args:
            bound: A bound of that turn (`context.bound`).
        """
        turn = bound if bound.outer is None else bound.turn
        attempts = self._attempts
        if len(attempts) == 1 and attempts[0].bound is turn and not self._adopted:
            return [attempts[0]]  # as mostly
        found = [
            attempt
            for attempt in attempts
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
            self.duration = self._monotonic() - self._origin

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

    @property
    def own_attempts(self) -> Sequence[OpenAttempt]:
        """Its own attempts as they are kept, without those adopted. Not to be written to."""
        return self._attempts

    def _all(self) -> list[OpenAttempt]:
        """Its own attempts, and copies of the adopted ones in its own time and order."""
        found = list(self._attempts)
        for trace, adoption in self._adopted.items():
            found += self._moved(trace, adoption)
        return found

    def _moved(
        self, trace: Trace, adoption: _Adoption, not_before: float = -math.inf
    ) -> list[OpenAttempt]:
        later = self._later(trace)
        return [attempt.moved(adoption.branch, later, not_before) for attempt in trace._all()]

    def _later(self, other: Trace) -> float:
        """By how many seconds another call began after this one."""
        return other._origin - self._origin

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
        return usage_of(self._counted())

    @property
    def cost(self) -> Money | None:
        """What the call has cost: all attempts, losers and child calls included.

        None if an attempt was billed and its price is not known (a note says which), or if the
        attempts were billed in several currencies (`costs` has each).
        """
        return cost_of(self._counted())

    @property
    def costs(self) -> dict[str, Money]:
        """The known costs by currency."""
        return costs_of(self._counted())

    def costs_by_layer(self) -> dict[str, dict[str, Money]]:
        """The known costs by the layer that asked for the attempts, and by currency.

        `""` is the caller's own: the first attempt. What retries, hedges, guards and summaries
        have cost stands under `"retry"`, `"hedge"` and so on; all of it adds up to `costs`.
        Attempts of adopted traces count as those of whoever asked for them there. A layer whose
        attempts were free, or have no known price, has no currency.
        """
        return costs_by_layer(self._counted())

    def record(self, *, content: bool = False) -> TraceRecord:
        """What is known now, as a value that does not change when the call goes on.

        Args:
            content: Whether to copy `content` too.
        """
        from lamella._trace_records import AdoptedTrace, TraceRecord

        adopted = [
            AdoptedTrace(adoption.branch, adoption.at, self._later(trace), trace.record())
            for trace, adoption in list(self._adopted.items())
        ]
        shown: Mapping[str, Any] = NOTHING
        if content:
            shown = {branch: each.to_dict() for branch, each in self.content.items()}
        return TraceRecord(
            call_id=self.call_id,
            parent_id=self.parent_id,
            started=self.started,
            seconds=self.now() if self.duration is None else self.duration,
            outcome=self.outcome,
            attempts=self.attempts,
            notes=tuple(self.notes),
            spans=tuple(self.spans),
            adopted=tuple(adopted),
            content=shown,
        )

    def draw(self) -> str:
        """The call as text: its layers, attempts and notes, each with its time."""
        return self.record().draw()

    def to_dict(self, *, content: bool = False) -> dict[str, Any]:
        """The call as JSON values: attempts, notes, layers, usage and cost; see docs/traces.md.

        `TraceRecord.from_dict` reads it again.

        Args:
            content: Whether `content` goes along: what a redacting layer lets observers see of
                prompts and answers.
        """
        return self.record(content=content).to_dict()

    def to_json(self, *, content: bool = False, indent: int | None = None) -> str:
        """The same as JSON text, in ASCII.

        Args:
            content: As for `to_dict`.
            indent: Spaces for each level; None writes one line.
        """
        return self.record(content=content).to_json(indent=indent)

    def page(self, *, content: bool = False) -> str:
        """The call as one HTML page that needs nothing else, neither a network nor scripts.

        Args:
            content: As for `to_dict`.
        """
        return self.record(content=content).page()

    def write_page(self, path: str | PathLike[str], *, content: bool = False) -> Path:
        """Write the page to a file, whole or not at all. Blocks.

        Args:
            path: Where; what is there is replaced.
            content: As for `to_dict`.

        Returns:
            Where it was written.

        Raises:
            OSError: If it cannot be written.
        """
        return self.record(content=content).write_page(path)
