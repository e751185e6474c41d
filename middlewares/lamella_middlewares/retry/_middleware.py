"""The layer: first a plain try, and the machinery of tries only once that has failed."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any, Final, TypeVar

import attrs

from lamella import Handler, MisuseError, Request, Response, middleware
from lamella._evolve import informed
from lamella._options import flag, number, one_of, refused, seconds, span, whole
from lamella._retry_budget import RetryBudget, balance_of, count_call
from lamella._warm import Warm
from lamella_middlewares.retry._predicate import Foreign, foreign_predicate
from lamella_middlewares.retry._waits import Jitter, Strategy

R = TypeVar("R", bound=Response)
Q = TypeVar("Q", bound=Request[Any])

_trying: Final = Warm(partial(import_module, "lamella_middlewares.retry._again"))
"""Importing the tries after the first one, and tenacity with them, off the event loop."""

_MULTIPLIERS = {"exponential": 2.0, "linear": 1.0}


def _predicate_of(retry: Any) -> Foreign | None:
    return foreign_predicate(retry.on)


def _growth_of(retry: Any) -> float:
    given: float | None = retry.multiplier
    return _MULTIPLIERS.get(retry.strategy, 1.0) if given is None else given


def _budget(retry: Any, option: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, RetryBudget):
        raise refused(retry, option, value, "a RetryBudget, or None for no bound")


def _sane_multiplier(retry: Any, option: attrs.Attribute[Any], value: Any) -> None:
    if value is None:
        return
    if retry.strategy not in _MULTIPLIERS:
        want = f"no multiplier: the strategy {retry.strategy!r} has none"
        raise refused(retry, option, value, want)
    number(1 if retry.strategy == "exponential" else 0)(retry, option, value)


def _keyed(request: Q) -> Q:
    """The request with an idempotency key of its own."""
    return informed(request, "idempotency_key", request.context.ports.new_id())


@middleware(phase="attempt", rank=0, effects=("calls again",))
@attrs.frozen
class Retry:
    """Tries again what may pass if tried again: `error.retryable`, the provider's word first.

    Only what `await call_next(request)` raises is retried, which is never an answer that the
    caller has seen part of. The server's `retry_after` is never undercut and never slept past the
    deadline. Each try is a branch (`/try2`) of its own. Calls that succeed pay for none of it.

    Args:
        attempts: How many tries in all, the first included; 1 or more. 1 never retries. One failure
            before anything was sent is repeated at once without being counted.
        strategy: How waits grow: `exponential` (base, base x multiplier ...), `linear` (each wait
            is longer by multiplier x base), `fibonacci` (base x 1, 2, 3, 5 ...) or `constant`.
        base: The first wait, in seconds, above 0. At least 1 s after a throttle (429, 503, 529).
        multiplier: How fast waits grow; None is 2 for `exponential` (1 or more) and 1 for `linear`
            (0 or more). The other strategies have none.
        max_wait: The longest wait, in seconds, above 0. A server that asks for more ends the
            tries at once, with `retry_after` on the error.
        jitter: Chance in our own waits: `full` (0 to the wait), `equal` (half of it at least) or
            `none`. After a throttle `full` is `equal`, for it would often not wait at all.
        min_useful: Seconds that must be left of the deadline for a try to make sense, above 0.
        budget: Bounds retries to a share of the traffic, for all pipelines of the process. None
            sets no bound.
        on: Which exceptions of other libraries may be retried: types, or a plain function of the
            exception; where that raises itself, there is no further try. None is none. The
            library's own errors know it themselves.
        mint_idempotency_key: Whether calls without an idempotency key get one, the same for every
            try. Providers that honour it then do not process a call twice, so that stored,
            background and hosted-tool calls are retried even if they may have been processed.
    """

    attempts: int = attrs.field(default=3, validator=whole(1))
    strategy: Strategy = attrs.field(
        default="exponential", validator=one_of("exponential", "linear", "fibonacci", "constant")
    )
    base: float = attrs.field(default=0.5, converter=seconds, validator=span)
    multiplier: float | None = attrs.field(default=None, validator=_sane_multiplier)
    max_wait: float = attrs.field(default=30.0, converter=seconds, validator=span)
    jitter: Jitter = attrs.field(default="full", validator=one_of("full", "equal", "none"))
    min_useful: float = attrs.field(default=0.1, converter=seconds, validator=span)
    budget: RetryBudget | None = attrs.field(factory=RetryBudget, validator=_budget)
    on: Any = None
    mint_idempotency_key: bool = attrs.field(default=False, validator=flag)
    foreign: Foreign | None = attrs.field(
        init=False, eq=False, repr=False, default=attrs.Factory(_predicate_of, takes_self=True)
    )
    growth: float = attrs.field(
        init=False, eq=False, repr=False, default=attrs.Factory(_growth_of, takes_self=True)
    )

    async def __call__(self, request: Request[R], call_next: Handler) -> R:
        """Send the request on, again where that makes sense.

        Raises:
            LamellaError: What the last try raised. Its code is `retry_budget_exhausted` where the
                budget, and not the error, is why there was no further try.
        """
        if self.mint_idempotency_key and request.context.idempotency_key is None:
            request = _keyed(request)
        try:
            response = await call_next(request)
        except Exception as error:  # noqa: BLE001 - judged there, and raised unless tried again
            failure = error
        else:
            if self.budget is not None:
                self._deposit(request, response)
            return response
        # Outside the `except`, so that later errors do not carry this one as their context.
        if not _trying.done:
            await _trying.ready(request.context)
        from lamella_middlewares.retry._again import Again

        return await Again(self, request, call_next, failure).run()

    def _deposit(self, request: Request[R], response: R) -> None:
        try:
            attempt = response.context.attempt
        except (MisuseError, AttributeError):
            return  # an answer that some layer inside made by hand
        if attempt is not None:  # or there was no traffic, and there are no retries for it
            count_call(balance_of(self.budget, request, request.context.provider), request)
