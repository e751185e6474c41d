"""One request between its reservation and its settlement."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any, Final, TypeVar

import attrs

from lamella import (
    Dimension,
    Ending,
    Handler,
    Head,
    Outcome,
    ProviderError,
    RateLimitError,
    Request,
    Response,
    Usage,
    output_usage,
)
from lamella._attempts import OpenAttempt
from lamella._grants import Grant, at_once, in_background
from lamella._lines import Terms
from lamella_middlewares.rate_limit._learning import Learned, Stated, stated
from lamella_middlewares.rate_limit._limits import Demand, Limit, used_of

R = TypeVar("R", bound=Response)

NO_HEAD: Final = Head()

_ANSWERED: Final = frozenset({Outcome.COMPLETE, Outcome.TRUNCATED, Outcome.LEFT, Outcome.UNKNOWN})
_NOBODY_KNOWS: Final = frozenset({Outcome.CANCELLED, Outcome.TIMED_OUT, Outcome.UNKNOWN})

_PROCESSED: Final = frozenset({408, 504})
"""Statuses with which a provider, or a proxy before it, gives up on work that it has begun."""


@attrs.frozen
class Rules:
    """What a layer's visits share.

    Attributes:
        limits: What is counted.
        terms: How it is waited for.
        tokens: Whether any limit is in tokens.
        learn: Whether the provider's answers are listened to.
        wide: Whether attempts of branches inside belong to the request too: they do outside the
            layers that choose and repeat.
    """

    limits: tuple[Limit, ...]
    terms: Terms
    tokens: bool
    learn: bool
    wide: bool


class Visit:
    """What a request has reserved, and what becomes of it. As a handler it passes on.

    Args:
        rules: The layer's.
        request: As the layer got it.
        call_next: The handler inside.
        demand: What it was expected to use.
        learned: What is known for its key.
    """

    __slots__ = (
        "__name__", "_call_next", "_demand", "_head", "_learned", "_marks", "_request", "_rules",
        "_since", "grant",
    )  # fmt: skip

    def __init__(
        self,
        rules: Rules,
        request: Request[Any],
        call_next: Handler,
        demand: Demand,
        learned: Learned,
    ) -> None:
        self.__name__ = getattr(call_next, "__name__", "transport")
        self._rules = rules
        self._request = request
        self._call_next = call_next
        self._demand = demand
        self._learned = learned
        self._head = NO_HEAD
        self._marks: Mapping[Any, int] = {}
        self._since = 0.0
        self.grant: Grant | None = None

    def begin(self, grant: Grant) -> None:
        """It has been admitted."""
        self.grant = grant
        self._marks = self._learned.marks()
        self._since = self._request.context.trace.now()

    async def __call__(self, request: Request[R], /) -> R:
        response = await self._call_next(request)
        self._head = head = getattr(response, "head", NO_HEAD)
        if self._rules.learn and head.headers and not head.cached:
            self._listen(head)
        return response

    def settle(self, end: Ending) -> Coroutine[Any, Any, None] | None:
        """Give back what was not used, or charge what was used besides."""
        grant = self.grant
        if grant is None:
            return None
        if self._rules.learn and isinstance(end.error, RateLimitError):
            self._pause(end.error)
        return grant.finish(self._used(end, grant))

    # --- what was used -------------------------------------------------------------------------

    def _used(self, end: Ending, grant: Grant) -> list[int] | None:
        """Of each limit; None if nothing was sent."""
        sent = self._sent()
        if self._head.cached or not sent:
            return None
        limits = self._rules.limits
        if not self._rules.tokens:
            return [each.amount for each in grant.dimensions]
        usage = self._usage(sent[0], end)
        for attempt in sent[1:]:
            usage += self._usage(attempt, end)
        if end.outcome is Outcome.COMPLETE and not usage.estimated and len(sent) == 1:
            self._learned.saw_output(usage.output_tokens)
        return [used_of(limit, usage) for limit in limits]

    def _sent(self) -> list[OpenAttempt]:
        """The attempts that were made on its behalf, as far as anything of them was sent."""
        context = self._request.context
        mine, inside = context.branch, f"{context.branch}/"
        all_of_turn = context.trace.of_turn(context.bound)
        since = [each for each in all_of_turn if each.start >= self._since]
        found = [each for each in since if each.branch == mine]
        if self._rules.wide or not found:
            found += [each for each in since if each.branch.startswith(inside)]
        return [each for each in found if _was_sent(each)]

    def _usage(self, attempt: OpenAttempt, end: Ending) -> Usage:
        """What one attempt consumed; where nobody says, what it was expected to."""
        if attempt.usage is not None:
            return attempt.usage
        if _refused_unread(attempt, end):
            return Usage()
        asked = Usage(uncached_input=self._demand.input, estimated=True)
        delivered = output_usage(end.events)
        if not delivered.output_tokens and attempt.outcome in _NOBODY_KNOWS:
            delivered = Usage(text_output=self._demand.output, estimated=True)
        return asked + delivered

    # --- what the provider says ----------------------------------------------------------------

    def _pause(self, error: RateLimitError) -> None:
        context = self._request.context
        seconds = self._learned.pause(error, context.ports.monotonic())
        context.note("rate_limit", "rate_limit.paused", seconds=seconds, hint=error.retry_after)

    def _listen(self, head: Head) -> None:
        """Hold back what the server has less of."""
        grant, seen = self.grant, set[str]()
        if grant is None:
            return
        for limit, dimension, remaining in zip(
            self._rules.limits, grant.dimensions, grant.remaining, strict=True
        ):
            if limit.kind in seen:  # the shorter span comes first, and headers are of that
                continue
            seen.add(limit.kind)
            said = stated(head.headers, limit.kind, self._request.context.ports.wall)
            if said is None or said.remaining >= remaining:
                continue
            missing = self._learned.missing(dimension, remaining, said, self._marks)
            if missing:
                self._hold(grant, dimension, missing, said)

    def _hold(self, grant: Grant, dimension: Dimension, missing: int, said: Stated) -> None:
        context = self._request.context
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
        ports = self._request.context.ports
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
    # Not every transport says what it has sent, but whoever was answered has sent something.
    answered = attempt.outcome in _ANSWERED or attempt.first_event is not None
    return attempt.sent or answered or isinstance(attempt.error, ProviderError)


def _refused_unread(attempt: OpenAttempt, end: Ending) -> bool:
    """Whether the provider refused it before it began to work on it."""
    error = attempt.error
    if not isinstance(error, ProviderError) or error.partial is not None:
        return False
    return error.status not in _PROCESSED and not end.events
