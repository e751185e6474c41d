"""The sixteen failover scenarios.

They are the kinds of failure that published comparisons of failover play: throttles, server errors,
connections that die at every stage, streams that stop or stall, requests that one provider refuses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, pairwise, repeat
from typing import Final

from lamella._outcomes import Outcome
from lamella.testing._failover import Day, FailoverScenario, Grade, Seen
from lamella.testing._faults import Faults
from lamella.testing._plan import Plan

CUT = 6
"""Events after which a broken stream breaks: the caller has seen a few words."""

FEW = 3
"""Requests that a target which always fails may get for one call: more is hammering."""

SOON = 45.0
"""Seconds within which somebody who waits for an answer should have it."""


def _spared(day: Day) -> tuple[Grade, str] | None:
    """The failing target was asked a few times at most, and nobody waited too long."""
    if day.primary > FEW * len(day.calls):
        return "partial", f"{day.primary} requests to a target that only fails"
    return _soon(day)


def _soon(day: Day) -> tuple[Grade, str] | None:
    longest = max(call.seconds for call in day.calls)
    if longest > SOON:
        return "partial", f"answered, but after {longest:.0f} s"
    return None


def _hint_kept(day: Day) -> tuple[Grade, str] | None:
    """Whoever asks the throttling target again does so after its `Retry-After` of 2 s."""
    trace = day.calls[0].trace
    tries = [] if trace is None else [one for one in trace.attempts if one.provider == "primary"]
    for before, after in pairwise(tries):
        if before.end is not None and after.start - before.end < 2:
            waited = after.start - before.end
            return "partial", f"Retry-After of 2 s was undercut: {waited:.2f} s"
    return _soon(day)


def _once(day: Day) -> tuple[Grade, str] | None:
    """What was complete is not asked for again."""
    if day.primary + day.secondary > 1:
        return "partial", "a complete answer was thrown away and paid for again"
    return None


def _refused_once(day: Day) -> tuple[Grade, str] | None:
    """What will be refused again is not asked for again."""
    if day.primary > 1:
        return "partial", f"{day.primary} requests for what one refusal had settled"
    return None


def _not_locked_out(day: Day) -> tuple[Grade, str] | None:
    """A target that has recovered serves again."""
    if day.calls[-1].served_by != "primary":
        return "partial", "the first target is well again, and is not used"
    return _soon(day)


def _accounted(day: Day) -> tuple[Grade, str] | None:
    """The call's account has every request, who served it, and what both have consumed."""
    call = day.calls[0]
    if call.trace is None or call.served_by != "secondary":
        return "fail", f"served by the second target, accounted to {call.served_by}"
    attempts = call.trace.attempts
    if len(attempts) != day.primary + day.secondary:
        return "fail", f"{day.primary + day.secondary} requests, {len(attempts)} in the account"
    return _usage_right(call)


def _usage_right(call: Seen) -> tuple[Grade, str] | None:
    assert call.trace is not None  # noqa: S101 - the caller has looked
    broken = [one for one in call.trace.attempts if one.provider == "primary"]
    served = [one for one in call.trace.attempts if one.provider == "secondary"]
    if any(one.outcome is Outcome.COMPLETE for one in broken):
        return "fail", "a broken answer is accounted as a complete one"
    if not served or served[-1].usage != call.usage:
        return "fail", "what the second target has reported is not what is accounted"
    if any(one.usage is None or not one.usage.output_tokens for one in broken):
        return "partial", "what the broken answers consumed is not accounted"
    return None


def _flapping() -> Plan:
    """Every other request fails, twenty times; then all is well."""
    return Plan(chain(_alternating(20), repeat(None)))


def _alternating(count: int) -> Iterator[Faults | None]:
    for number in range(count):
        yield Faults(status=503) if number % 2 == 0 else None


def _throttled_once() -> Plan:
    return Plan([Faults(status=429, headers={"retry-after": "2"})])


def _failing_once() -> Plan:
    return Plan([Faults(status=500)])


def _prefilled(roles: Sequence[str]) -> bool:
    """Whether a request ends with words put into the model's mouth."""
    return roles[-1] == "assistant"


FAILOVER_SCENARIOS: Final = (
    FailoverScenario(
        name="throttled", title="429 with Retry-After, once",
        primary=_throttled_once, judge=_hint_kept,
    ),
    FailoverScenario(
        name="always-throttled", title="429 on every request",
        primary="status=429; retry-after=1", judge=_spared,
    ),
    FailoverScenario(name="error", title="500, once", primary=_failing_once, judge=_soon),
    FailoverScenario(
        name="unavailable", title="503 on every request", primary="status=503", judge=_spared
    ),
    FailoverScenario(
        name="reset", title="the connection is reset", primary="reset", judge=_spared
    ),
    FailoverScenario(
        name="no-response", title="no byte ever comes", primary="hold_headers=forever",
        judge=_spared,
    ),
    FailoverScenario(
        name="slow-first-token", title="the first token takes 50 s",
        primary="delay_after_headers=50", judge=_spared,
    ),
    FailoverScenario(
        name="cut", title="the stream is cut after some words", primary=f"truncate={CUT}",
        judge=_spared,
    ),
    FailoverScenario(
        name="stall", title="the stream falls silent after some words", primary=f"stall_at={CUT}",
        judge=_spared,
    ),
    FailoverScenario(
        name="malformed", title="a chunk is no JSON", primary=f"malformed_at={CUT}", judge=_spared
    ),
    FailoverScenario(
        name="no-done", title="all is there but the last [DONE]", primary="no_done", judge=_once
    ),
    FailoverScenario(
        name="context-length", title="too long for the first model",
        primary="status=400; error=context_length_exceeded", judge=_refused_once,
    ),
    FailoverScenario(
        name="content-filter", title="the first provider's content filter refuses",
        primary="status=400; error=content_filter", judge=_refused_once,
        refusal="ContentFilteredError",
    ),
    FailoverScenario(
        name="no-prefill", title="cut, and the second refuses to continue an answer",
        primary=f"truncate={CUT}", judge=_spared, refuses=_prefilled,
    ),
    FailoverScenario(
        name="flapping", title="every other request fails, then none", primary=_flapping,
        calls=40, pause=3.0, judge=_not_locked_out,
    ),
    FailoverScenario(
        name="accounting", title="cut: the bill has both targets", primary=f"truncate={CUT}",
        judge=_accounted,
    ),
)  # fmt: skip
"""All of them, in the order of the score card."""
