"""Which answers may be kept, and what is given in place of a call when one was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lamella._answer_codec import KeptAnswer
from lamella._answer_pieces import cut
from lamella._context import Context
from lamella._ending import Ending
from lamella._events import (
    Event,
    Finish,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    UsageReport,
)
from lamella._held_answers import replay_head
from lamella._money import Money
from lamella._outcomes import Outcome
from lamella._repeatable import stateless
from lamella._requests import Request
from lamella._responses import Head, Response

if TYPE_CHECKING:
    from lamella._attempts import OpenAttempt

R = TypeVar("R", bound=Response)

_GOOD: Final = frozenset({"stop", "tool_calls"})
_NAMED: Final = frozenset({"length", "content_filter"})


def why_not_kept(
    request: Request[Any],
    ending: Ending,
    *,
    truncated: bool = False,
    substitutes: bool = False,
    attempts: Sequence[OpenAttempt] | None = None,
) -> str:
    """Why an answer may not be kept; empty if it may.

    Kept are answers that ended well, with `stop` or `tool_calls` in every choice (`length` too,
    with `truncated`), without a refusal and not without a word, and that this very call's model
    turn has attempted: not what it shares with another call, and not what was replayed. One from a
    target that only stood in for another one is kept with `substitutes`.

    Args:
        request: As it was handed inward: its branch tells its own attempts from earlier tries.
        ending: How it ended, at the same place.
        truncated: Whether answers that were cut off by the limit on their length are kept.
        substitutes: Whether answers from a target that stood in for another one are.
        attempts: What the turn has attempted, where that is known; None asks the trace.

    Returns:
        One of few words: the outcome, if it did not end well; `"length"`, `"content_filter"` or
        `"finish"` (another reason to stop); `"refusal"`; `"empty"`; `"stateful"` (the provider
        keeps something of it, or ran tools of its own); `"not_own"`; `"substitute"`.
    """
    if ending.outcome is not Outcome.COMPLETE:
        return str(ending.outcome)
    why = _in_events(ending.events, truncated=truncated)
    if why:
        return why
    if not stateless(request):
        return "stateful"
    return _in_attempts(request.context, attempts, substitutes=substitutes)


def _in_events(events: Sequence[Event], *, truncated: bool) -> str:
    says_something = False
    for event in reversed(events):
        if type(event) is TextDelta:
            if not says_something and event.text != "":
                says_something = True
        elif type(event) is UsageReport:
            if event.usage.tool_units:
                return "stateful"
        elif type(event) is Finish:
            for reason in (event.reason, *event.reasons):
                if reason not in _GOOD and not (truncated and reason == "length"):
                    return reason if reason in _NAMED else "finish"
        elif type(event) is RefusalDelta:
            return "refusal"
        elif event.semantic and type(event) is not ReasoningDelta:  # thoughts alone are no answer
            says_something = True
    return "" if says_something else "empty"


def _in_attempts(
    context: Context, attempts: Sequence[OpenAttempt] | None, *, substitutes: bool
) -> str:
    branch, inside = context.branch, ""
    found = "not_own"
    for attempt in context.trace.of_turn(context.bound) if attempts is None else attempts:
        if attempt.outcome is not Outcome.COMPLETE:
            continue
        if attempt.branch != branch:
            inside = inside or f"{branch}/"
            if not attempt.branch.startswith(inside):
                continue
        if attempt.substitute and not substitutes:
            return "substitute"
        found = ""
    return found


def cost_of_turn(context: Context, attempts: Sequence[OpenAttempt] | None = None) -> Money | None:
    """What the attempts of a model turn cost; None if nobody knows, or they were none.

    Args:
        context: Of the turn.
        attempts: What it has attempted, where that is known; None asks the trace.
    """
    total: Money | None = None
    for attempt in context.trace.of_turn(context.bound) if attempts is None else attempts:
        if attempt.outcome is Outcome.NOT_SENT:
            continue
        cost = attempt.cost
        if cost is None or (total is not None and total.currency != cost.currency):
            return None
        total = cost if total is None else total + cost
    return total


def replayed(request: Request[R], answer: KeptAnswer, *, piece: int, head: Head | None = None) -> R:
    """A kept answer as the response to a request: complete, with `head.cached`.

    Its events are those that were kept: the same kinds, ids, usage and finish. For a request that
    wants a stream, texts come in pieces of at most `piece` characters, cut the same each time;
    those of a very long answer are longer, so that there are some thousand and no more.

    Args:
        request: What is asked now.
        answer: What was kept.
        piece: Characters, 1 or more.
        head: What is said of it besides, if that is known.
    """
    if head is None:
        head = replay_head(answer.head)
    events = cut(answer.events, piece) if request.stream else answer.events
    return request.answer(events, head)
