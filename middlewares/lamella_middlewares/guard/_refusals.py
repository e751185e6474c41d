"""What a guard says where it does not let pass: in words of ours, which quote no text."""

from __future__ import annotations

from typing import Literal, TypeVar

import attrs

from lamella import ApprovalRequired, BlockedError, InspectionError, LamellaError, Outcome
from lamella_middlewares.guard._rules import Rule
from lamella_middlewares.guard._verdicts import Verdict

E = TypeVar("E", bound=LamellaError)


@attrs.frozen
class Failure:
    """Why there is no verdict: words of ours, as anything else may quote the text."""

    why: str


def failure_of(error: Exception) -> Failure:
    """Its class, and the code of errors of ours."""
    kind = type(error).__name__
    if isinstance(error, LamellaError) and error.code:
        return Failure(f"{kind} ({error.code})")
    return Failure(kind)


def blocked(rule: Rule, verdict: Verdict, direction: Literal["in", "out"]) -> BlockedError:
    """The error of a block."""
    kinds = [kind for kind in verdict.kinds if kind != verdict.reason]
    more = ", ".join([*kinds, *[f"{k}={v}" for k, v in verdict.numbers.items()]])
    message = (
        f"The guard rule {rule.name!r} does not let the {_what(direction)} pass: {verdict.reason}"
        f"{f' ({more})' if more else ''}."
    )
    error = _refusal(BlockedError, direction, message, None)
    error.rule, error.kinds = rule.name, verdict.kinds
    return error


def not_inspected(rule: Rule, why: str, direction: Literal["in", "out"]) -> InspectionError:
    """The error of a rule that gave no verdict."""
    message = f"The guard rule {rule.name!r} could not inspect the {_what(direction)}: {why}."
    hint = "What is not inspected does not pass; Guard(on_failure='pass') would let it."
    error = _refusal(InspectionError, direction, message, hint)
    error.inspector = rule.name
    return error


def not_approved(
    rule: Rule, verdict: Verdict, direction: Literal["in", "out"], approval_id: str
) -> ApprovalRequired:
    """The error of a question that nobody is there to answer."""
    message = (
        f"The guard rule {rule.name!r} lets the {_what(direction)} pass only if somebody agrees: "
        f"{verdict.reason}."
    )
    hint = (
        "Ask, and run the request again with Context(attributes={'approvals': "
        f"[{approval_id!r}]}}), or give Guard(approve=...)."
    )
    error = _refusal(ApprovalRequired, direction, message, hint)
    error.rule, error.approval_id = rule.name, approval_id
    return error


def _what(direction: Literal["in", "out"]) -> str:
    return "request" if direction == "in" else "answer"


def _refusal(kind: type[E], direction: Literal["in", "out"], message: str, hint: str | None) -> E:
    """An error of this layer. An answer is refused after the provider was asked."""
    if direction == "in":
        return kind(message, hint=hint, layer="guard", outcome=Outcome.NOT_SENT)
    return kind(message, hint=hint, layer="guard", phase="stream", outcome=Outcome.FAILED)
