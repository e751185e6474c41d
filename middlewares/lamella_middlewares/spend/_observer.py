"""What sees the attempts of a call end, and what it writes down of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lamella import Money, OpenAttempt, Outcome, SpendRecord
from lamella._nothing import NOTHING

if TYPE_CHECKING:
    from lamella import Request
    from lamella_middlewares.spend._spool import Spool


class Observer:
    """Puts a record of each attempt on a spool.

    Args:
        spool: Where to.
        category: What all of it was for; None takes the tag `category` of each call.
    """

    __slots__ = ("_category", "spool")

    def __init__(self, spool: Spool, category: str | None) -> None:
        self.spool = spool
        self._category = category

    def attempt_opened(self, attempt: OpenAttempt, request: Request[Any], /) -> None:
        """Nothing has been spent yet."""

    def attempt_closed(self, attempt: OpenAttempt, request: Request[Any], /) -> None:
        """What it has cost is known, or will never be."""
        self.spool.put(record_of(attempt, request, self._category), request.context.ports)


def record_of(attempt: OpenAttempt, request: Request[Any], category: str | None) -> SpendRecord:
    """The record of an attempt that has ended.

    Args:
        attempt: The attempt.
        request: What was sent.
        category: What it was for; None takes the call's tag.
    """
    context = request.context
    outcome, cost, tags = attempt.outcome, attempt.cost, context.tags
    if cost is None and outcome is Outcome.NOT_SENT:
        cost = Money(0, next(iter(context.trace.costs), "USD"))  # nobody bills what was never sent
    if tags:
        # The program's own table may change later, and what is no text has no place in a store.
        tags = {str(name): str(value) for name, value in tags.items()}
    start, end, first = attempt.start, attempt.end, attempt.first_event
    return SpendRecord(
        id=f"{context.call_id}/{attempt.index}",
        at=context.ports.wall(),
        call_id=context.call_id,
        parent_id=context.parent_id,
        branch=attempt.branch,
        layer=attempt.asked_by,
        operation=request.operation,
        category=tags.get("category", "") if category is None else category,
        provider=attempt.provider,
        model=attempt.model,
        served_model=attempt.served_model,
        service=attempt.service,
        tenant=_text(context.tenant),
        user=_text(context.user),
        session=_text(context.session),
        tags=tags or NOTHING,
        outcome=Outcome.UNKNOWN.value if outcome is None else outcome.value,
        duration=0.0 if end is None else end - start,
        time_to_first_event=None if first is None else first - start,
        usage=attempt.usage,
        cost=cost,
    )


def _text(given: object) -> str | None:
    """Whose it was, in words: a number of a database would fit no column."""
    return given if given is None or isinstance(given, str) else str(given)
