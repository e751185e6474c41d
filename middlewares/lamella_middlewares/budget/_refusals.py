"""Why a request is not let through, in words and in data."""

from __future__ import annotations

import datetime as dt
import math

from lamella import BudgetExceededError, Context
from lamella_middlewares.budget._accounts import NAME, Account


def exceeded(
    context: Context, account: Account, wanted: int, level: tuple[int, int]
) -> BudgetExceededError:
    """The error for a request that does not fit, which the trace is told of as well.

    Args:
        context: Of the request.
        account: The count that it does not fit into.
        wanted: What it may use.
        level: What is spent, and what is reserved by others.
    """
    spent, reserved = level
    limit, capacity, span = account.limit, account.capacity, account.span
    never = wanted > capacity
    ends = span.end if not math.isinf(span.end) else None
    after = None
    if ends is not None and not never and spent + wanted > capacity:
        after = max(0.0, ends - account.seen)
    error = BudgetExceededError(
        _words(account, wanted, spent, reserved),
        hint=_hint(account, after, reserved, never=never),
        code="budget_too_small" if never else "budget_exceeded",
        layer=NAME,
        retry_after=after,
        provider=context.provider or None,
    )
    error.limit, error.spent = limit.value(capacity), limit.value(spent)
    error.reserved, error.wanted = limit.value(reserved), limit.value(wanted)
    error.scope, error.resets_at = limit.scope(account.values), ends
    context.note(
        NAME,
        f"{NAME}.refused",
        limit="/".join(limit.identity),
        capacity=capacity,
        spent=spent,
        reserved=reserved,
        wanted=wanted,
        retry_after=after,
    )
    return error


def _words(account: Account, wanted: int, spent: int, reserved: int) -> str:
    limit, capacity = account.limit, account.capacity
    needs = f"{'may cost' if limit.in_money else 'may need'} {limit.shown(wanted)}"
    whole = f"the budget of {limit.shown(capacity)}{limit.whose}"
    if wanted > capacity:
        return f"The request {needs}, which is more than {whole} ever has."
    others = f" and {limit.shown(reserved)} reserved by calls under way" if reserved else ""
    return f"The request {needs}, and of {whole} {limit.shown(spent)} is spent{others}."


def _hint(account: Account, after: float | None, reserved: int, *, never: bool) -> str:
    less = "Give it fewer max_output_tokens, take a cheaper model, or raise the budget."
    if never:
        return less
    if after is None and reserved:
        return f"Ask again when calls under way have ended. {less}"
    if after is None:
        return less
    begins = dt.datetime.fromtimestamp(account.span.end, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"It starts anew at {begins}, in {after:.0f} s. {less}"
