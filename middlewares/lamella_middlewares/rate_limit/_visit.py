"""One request between its reservation and its settlement."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, Final

import attrs

from lamella import (
    Context,
    Dimension,
    Ending,
    Head,
    Outcome,
    ProviderError,
    RateLimitError,
    Response,
)
from lamella._attempts import OpenAttempt
from lamella._grants import Grant, at_once, in_background
from lamella._lines import Terms
from lamella._tokens import output_tokens
from lamella_middlewares.rate_limit._learning import NONE, Learned, Stated, stated
from lamella_middlewares.rate_limit._limits import Demand, Kind, Limit, used_of

NO_HEAD: Final = Head()

_ANSWERED: Final = frozenset({Outcome.COMPLETE, Outcome.TRUNCATED, Outcome.LEFT, Outcome.UNKNOWN})
_NOBODY_KNOWS: Final = frozenset({Outcome.CANCELLED, Outcome.TIMED_OUT, Outcome.UNKNOWN})

_PROCESSED: Final = frozenset({408, 504})
"""Statuses with which a provider, or a proxy before it, gives up on work that it has begun."""


def _one_each(rules: Any) -> tuple[int, ...]:
    return (1,) * len(rules.limits)


def _stated_of(rules: Any) -> tuple[tuple[int, Kind], ...]:
    kinds = [limit.kind for limit in rules.limits]
    # The shorter span comes first, and headers are of that.
    return tuple([(kinds.index(kind), kind) for kind in dict.fromkeys(kinds)])


@attrs.frozen
class Rules:
    """What a layer's visits share.

    Attributes:
        limits: What is counted.
        terms: How it is waited for.
        prefix: How the keys of its limits begin.
        account: How the keys of what it keeps for itself begin.
        tokens: Whether any limit is in tokens.
        learn: Whether the provider's answers are listened to.
        one_each: What is used of limits none of which is in tokens.
        stated: The limits that a provider's answer may speak of: their places and kinds.
        wide: Whether attempts of branches inside belong to the request too: they do outside the
            layers that choose and repeat.
    """

    limits: tuple[Limit, ...]
    terms: Terms
    prefix: tuple[str, ...]
    account: tuple[str, ...]
    tokens: bool
    learn: bool
    wide: bool
    one_each: tuple[int, ...] = attrs.field(
        init=False, default=attrs.Factory(_one_each, takes_self=True)
    )
    stated: tuple[tuple[int, Kind], ...] = attrs.field(
        init=False, default=attrs.Factory(_stated_of, takes_self=True)
    )


class Visit:
    """What a request has reserved, and what becomes of it.

    Args:
        rules: The layer's.
        context: Of the request, as the layer got it.
        demand: What it was expected to use.
        learned: What is known for its key.
        grant: Its reservation.
    """

    __slots__ = (
        "_context", "_demand", "_grant", "_head", "_learned", "_marks", "_rules", "_since",
    )  # fmt: skip

    def __init__(
        self, rules: Rules, context: Context, demand: Demand, learned: Learned, grant: Grant
    ) -> None:
        self._rules = rules
        self._context = context
        self._demand = demand
        self._learned = learned
        self._grant = grant
        self._head = NO_HEAD
        self._marks = learned.marks() if rules.learn and learned.has_held else NONE
        self._since = context.trace.now()

    def answered(self, response: Response) -> None:
        """Its answer has begun."""
        self._head = head = getattr(response, "head", NO_HEAD)
        if head.headers and self._rules.learn and not head.cached:
            self._listen(head)

    def settle(self, end: Ending) -> Coroutine[Any, Any, None] | None:
        """Give back what was not used, or charge what was used besides."""
        if end.error is not None and self._rules.learn and isinstance(end.error, RateLimitError):
            self._pause(end.error)
        return self._grant.finish(self._used(end))

    # --- what was used -------------------------------------------------------------------------

    def _used(self, end: Ending) -> Sequence[int] | None:
        """Of each limit; None if nothing was sent."""
        if self._head.cached:
            return None
        sent = self._sent()
        if not sent:
            return None
        rules = self._rules
        limits = rules.limits
        if not rules.tokens:
            return rules.one_each
        if len(sent) == 1 and sent[0].usage is not None:  # as mostly
            usage = sent[0].usage
            read, written = usage.input_tokens, usage.output_tokens
            if end.outcome is Outcome.COMPLETE and not usage.estimated:
                self._learned.saw_output(written)
            return [used_of(limit, read, written) for limit in limits]
        read = written = 0
        for attempt in sent:
            more = self._spent(attempt, end)
            read, written = read + more[0], written + more[1]
        return [used_of(limit, read, written) for limit in limits]

    def _sent(self) -> list[OpenAttempt]:
        """The attempts that were made on its behalf, as far as anything of them was sent."""
        context, since = self._context, self._since
        mine = context.branch
        attempts = context.trace.of_turn(context.bound)
        if len(attempts) == 1:  # as mostly
            only = attempts[0]
            if only.branch == mine and only.start >= since:
                answered = only.sent and only.outcome is Outcome.COMPLETE
                return attempts if answered or _was_sent(only) else []
        found: list[OpenAttempt] = []
        inside: list[OpenAttempt] = []
        own = False
        for each in attempts:
            if each.start < since:
                continue
            if each.branch == mine:
                own = True
                if _was_sent(each):
                    found.append(each)
            elif each.branch.startswith(f"{mine}/") and _was_sent(each):
                inside.append(each)
        return found + inside if inside and (self._rules.wide or not own) else found

    def _spent(self, attempt: OpenAttempt, end: Ending) -> tuple[int, int]:
        """What one attempt has read and written; where nobody says, what it was expected to."""
        usage = attempt.usage
        if usage is not None:
            return usage.input_tokens, usage.output_tokens
        if _refused_unread(attempt, end):
            return 0, 0
        delivered = output_tokens(end.events)
        if not delivered and attempt.outcome in _NOBODY_KNOWS:
            delivered = self._demand.output
        return self._demand.input, delivered

    # --- what the provider says ----------------------------------------------------------------

    def _pause(self, error: RateLimitError) -> None:
        context = self._context
        seconds = self._learned.pause(error, context.ports.monotonic())
        context.note("rate_limit", "rate_limit.paused", seconds=seconds, hint=error.retry_after)

    def _listen(self, head: Head) -> None:
        """Hold back what the server has less of."""
        grant = self._grant
        for place, kind in self._rules.stated:
            said = stated(head.headers, kind, self._context.ports.wall)
            if said is None or said.remaining >= (remaining := grant.remaining[place]):
                continue
            dimension = grant.dimensions[place]
            missing = self._learned.missing(dimension, remaining, said, self._marks)
            if missing:
                self._hold(grant, dimension, missing, said)

    def _hold(self, grant: Grant, dimension: Dimension, missing: int, said: Stated) -> None:
        context = self._context
        self._learned.hold(dimension, missing)
        context.note(
            "rate_limit",
            "rate_limit.learned",
            limit=dimension.key[-1],
            remaining=said.remaining,
            missing=missing,
            seconds=said.reset,
        )
        if grant.immediate:
            at_once(self._hold_back(dimension, missing, said))
        else:
            in_background(context, self._rules.terms, self._hold_back, dimension, missing, said)

    async def _hold_back(self, dimension: Dimension, missing: int, said: Stated) -> None:
        """Reserve what the server does not have, until its reset."""
        ports = self._context.ports
        leases = ports.stores.leases
        level = await leases.level(dimension)
        # Another process that shares the store may have heard the same.
        amount = min(missing, level - said.remaining, level)
        if amount > 0:
            held = attrs.evolve(dimension, amount=amount)
            await leases.reserve(ports.new_id(), (held,), ttl=said.reset)


def _was_sent(attempt: OpenAttempt) -> bool:
    if attempt.outcome is Outcome.NOT_SENT:
        return False
    if attempt.sent:
        return True
    # Not every transport says what it has sent, but whoever was answered has sent something.
    answered = attempt.outcome in _ANSWERED or attempt.first_event is not None
    return answered or isinstance(attempt.error, ProviderError)


def _refused_unread(attempt: OpenAttempt, end: Ending) -> bool:
    """Whether the provider refused it before it began to work on it."""
    error = attempt.error
    if not isinstance(error, ProviderError) or error.partial is not None:
        return False
    return error.status not in _PROCESSED and not end.events
