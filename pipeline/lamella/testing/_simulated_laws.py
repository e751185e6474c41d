"""What must hold of every call and of every run, whatever went wrong in it.

Each law is a function. Those of a call look at one caller after its call has ended and say what is
wrong, or None; they keep nothing, so that a million calls cost no memory. Those of a run look at
what is left when all is over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import attrs

from lamella._errors import LamellaError
from lamella._lines import Line
from lamella._money import Money
from lamella._outcomes import Outcome
from lamella.testing._simulated_caller import ROUNDING
from lamella.testing._simulated_source import mark_of, misread

if TYPE_CHECKING:
    from lamella._attempts import Attempt
    from lamella._trace import Trace
    from lamella.testing._simulated_caller import SimulatedCaller
    from lamella.testing._simulated_ledger import Record
    from lamella.testing._simulation import Run

LATE_SECONDS: Final = 0.05
"""How late the error of a deadline may be."""
EXAMPLES: Final = 3
_ALARMS: Final = frozenset({"leak", "callback.failed", "close.failed", "watch.failed"})
_GAUGES: Final = ("in_flight", "waiting")
_SHARED: Final = ("single_flight.", "cache.hit", "semantic_cache.hit")
"""How the notes begin of a call whose answer may have come through another call's attempt."""


class Case(NamedTuple):
    """A call that has ended.

    Attributes:
        caller: Who made it.
        attempts: Those of its trace.
        run: The run that it belongs to.
    """

    caller: SimulatedCaller
    attempts: tuple[Attempt, ...]
    run: Run


CallLaw: TypeAlias = Callable[[Case], "str | None"]


@attrs.frozen
class Violation:
    """A law that was broken.

    Attributes:
        law: Its name.
        what: What happened.
        trace: The call, drawn; empty where it concerns the whole run.
    """

    law: str
    what: str
    trace: str = ""


class Court:
    """Counts broken laws and keeps the first few cases of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: list[Violation] = []

    def broken(self, law: str, what: str, trace: Trace | None = None) -> None:
        """A law was broken.

        Args:
            law: Its name.
            what: What happened.
            trace: Of the call.
        """
        self.counts[law] += 1
        if self.counts[law] <= EXAMPLES:
            self.examples.append(Violation(law, what, "" if trace is None else trace.draw()))


# --- of each call ---------------------------------------------------------------------------------


def every_attempt_has_ended(case: Case) -> str | None:
    """When a call ends, it and each of its attempts have an end and an outcome."""
    trace = case.caller.trace
    if trace is not None and not trace.finished:
        return "the call is over, and its trace is not finished"
    for attempt in case.attempts:
        if attempt.end is None or attempt.outcome is None:
            return f"attempt {attempt.index} to {attempt.provider} is still under way"
        if attempt.end < attempt.start:
            return f"attempt {attempt.index} ended before it began"
    return None


def attempts_are_bounded(case: Case) -> str | None:
    """A call makes no more attempts than the pipeline allows a model turn."""
    most = case.run.pipeline.max_attempts
    return (
        f"{len(case.attempts)} attempts, and {most} are allowed"
        if len(case.attempts) > most
        else None
    )


def cost_is_the_sum(case: Case) -> str | None:
    """What a call has cost is the sum of its attempts, losers and failures included."""
    trace = case.caller.trace
    if trace is None or (total := trace.cost) is None:
        return None
    parts = sum(attempt.cost.nano for attempt in case.attempts if attempt.cost is not None)
    return f"it says {total}, and its attempts {parts} nano-units" if total.nano != parts else None


def connections_are_closed(case: Case) -> str | None:
    """When a call ends, every connection that it opened is closed."""
    trace = case.caller.trace
    for record in case.caller.records:
        if record.open and trace is not None and record.call_id == trace.call_id:
            return f"request {record.mark} to {record.provider} is still open"
    return None


def text_is_of_one_answer(case: Case) -> str | None:
    """What a caller reads is the beginning of exactly one answer, and all of it if it says so."""
    complete = case.caller.outcome == "complete"
    text = case.caller.text
    wrong = misread(text, complete=complete)
    if wrong is not None:
        return f"the caller read {wrong}"
    if text and not _shares(case.caller.trace):
        mark = mark_of(text)
        if mark not in {record.mark for record in case.caller.records}:
            return f"the caller read the answer {mark}, which no attempt of the call has asked for"
    return None


def a_partial_is_what_was_read(case: Case) -> str | None:
    """An error after the first word holds the text that its reader has read, no more, no less."""
    error = case.caller.error
    if not isinstance(error, LamellaError) or not error.committed:
        return None
    partial = "" if error.partial is None else error.partial.text
    if partial != case.caller.text:
        return f"partial has {len(partial)} characters, and the caller read {len(case.caller.text)}"
    return None if not error.retryable else "a committed error says that it is retryable"


def deadlines_are_kept(case: Case) -> str | None:
    """A call with a deadline is over by then, 50 ms at most after it."""
    if case.caller.clock is None:
        return None
    late = case.caller.clock.now() - case.caller.deadline
    return f"it ended {late:.3f} s after its deadline" if late > LATE_SECONDS + ROUNDING else None


def nothing_alarming_is_noted(case: Case) -> str | None:
    """No answer leaks, no callback fails, nothing fails to close."""
    if case.caller.trace is not None:
        for note in case.caller.trace.notes:
            if note.name in _ALARMS:
                return f"{note.layer} noted {note.name} {dict(note.fields)}"
    return None


def errors_are_ours(case: Case) -> str | None:
    """A caller gets the library's own errors, and no others."""
    error = case.caller.error
    if error is None or isinstance(error, LamellaError):
        return None
    return f"{type(error).__name__}: {error}"


CALL_LAWS: Final[Mapping[str, CallLaw]] = {
    "every attempt has ended": every_attempt_has_ended,
    "attempts are bounded": attempts_are_bounded,
    "a call's cost is the sum of its attempts'": cost_is_the_sum,
    "connections are closed with the call": connections_are_closed,
    "text is the beginning of one answer": text_is_of_one_answer,
    "a partial answer is what was read": a_partial_is_what_was_read,
    "deadlines are kept": deadlines_are_kept,
    "nothing alarming is noted": nothing_alarming_is_noted,
    "errors are the library's own": errors_are_ours,
}
TOLD_LAWS: Final = ("no attempt after the deadline", "Retry-After is never undercut")
"""What providers see, see `SimulatedCaller`."""


def _shares(trace: Trace | None) -> bool:
    return trace is not None and any(note.name.startswith(_SHARED) for note in trace.notes)


# --- of each record -------------------------------------------------------------------------------

COST_LAW: Final = "what is recorded is what is billed"
_UNTOLD: Final = frozenset({Outcome.CANCELLED, Outcome.TIMED_OUT})


def wrong_cost(record: Record, *, metered: bool) -> str | None:
    """What an attempt is recorded to have cost is what its provider bills for it.

    Exact also for answers that broke off: of those the stack can only estimate, and the simulated
    texts are such that its estimator counts them right.

    Args:
        record: The provider's.
        metered: Whether a layer is there to price attempts.
    """
    attempt = record.attempt
    if attempt is None:
        return None
    if attempt.outcome is None:
        return f"request {record.mark} to {record.provider} never got an outcome"
    billed = record.price()
    if attempt.cost is None:
        if not metered or billed is None:
            return None
        return f"request {record.mark} is billed {billed}, and recorded without a cost"
    if attempt.cost == (billed or Money(0, attempt.cost.currency)):
        return None
    if not record.begun and attempt.outcome in _UNTOLD:
        return None  # it was about to be refused, and nobody was there to hear it
    if attempt.outcome is Outcome.COMPLETE and attempt.usage is not None:
        usage = f", recorded usage {attempt.usage}"
    else:
        usage = ""
    return f"request {record.mark} is billed {billed}, and recorded as {attempt.cost}{usage}"


# --- of the run -----------------------------------------------------------------------------------


def reservations_have_ended(run: Run) -> Iterator[str]:
    """Every reservation was settled or refunded, and by its holder."""
    leases = run.leases
    forgotten = leases.forgotten
    if forgotten:
        keys = ", ".join("/".join(dimension.key) for dimension in forgotten[0])
        yield f"{len(forgotten)} of {leases.granted} leases were never ended, such as {keys}"
    if leases.expired:
        yield f"{leases.expired} leases had expired when their holders ended them"
    if leases.granted != leases.settled + leases.refunded + leases.expired + len(leases.out):
        yield f"{leases.granted} leases were granted, and {leases.settled + leases.refunded} ended"


def providers_are_at_rest(run: Run) -> Iterator[str]:
    """Nobody counts anything as under way or waiting: neither providers nor layers."""
    for provider in run.providers:
        if provider.ledger.open:
            yield f"{provider.name} has {provider.ledger.open} open connections"
    for key, shared in run.shared.seen.items():
        for name in _GAUGES:
            gauge = getattr(shared, name, None)
            if isinstance(gauge, int) and gauge:
                yield f"{'/'.join(key)} counts {gauge} {name.replace('_', ' ')}"
        if isinstance(shared, Line) and len(shared):
            yield f"{len(shared)} still stand in line for {'/'.join(key)}"


def retries_stay_in_budget(run: Run) -> Iterator[str]:
    """Requests to a provider stay below 1.2 for each call plus ten a second, as budgets promise."""
    budgets = [layer.budget for layer in run.pipeline.layers if getattr(layer, "budget", None)]
    budget: Any = budgets[0] if budgets else None
    if budget is None or not hasattr(budget, "per_second"):
        return
    # What is counted expires slot by slot, so that a time to live is a tenth shorter at times.
    reserve = budget.per_second * (run.elapsed + budget.ttl) * 10 / 9
    extra = sum(_extra_share(info.name) for info in run.pipeline.infos)
    most = run.calls * (1 + budget.ratio + extra) + reserve
    for provider in run.providers:
        if provider.ledger.received > most:
            yield f"{provider.name} got {provider.ledger.received} requests of {run.calls} calls"


def _extra_share(layer: str) -> float:
    return {"hedge": 0.06, "route": 0.25}.get(layer, 0.0)


def no_work_is_left(run: Run) -> Iterator[str]:
    """Nothing runs in the background once all calls are over and have had time to settle."""
    names: Sequence[str] = run.pipeline.background.names
    if names:
        yield f"{len(names)} tasks are still running: {', '.join(sorted(set(names)))}"


RUN_LAWS: Final[Mapping[str, Callable[[Run], Iterator[str]]]] = {
    "reservations are settled or refunded": reservations_have_ended,
    "in-flight gauges are 0": providers_are_at_rest,
    "retries stay in their budget": retries_stay_in_budget,
    "no background work is left": no_work_is_left,
}
LEVEL_LAW: Final = "held limits are whole again"
LOG_LAW: Final = "nothing is logged as an error"
ALL_LAWS: Final = (*CALL_LAWS, *TOLD_LAWS, COST_LAW, *RUN_LAWS, LEVEL_LAW, LOG_LAW)
"""The names of all laws."""


async def levels_are_whole(run: Run) -> list[str]:
    """Of every limit of which nothing flows back by itself, all is there again."""
    found: list[str] = []
    for dimension in run.leases.held.values():
        level = await run.leases.level(dimension)
        if level != dimension.capacity:
            found.append(f"{'/'.join(dimension.key)} has {level} of {dimension.capacity}")
    return found
