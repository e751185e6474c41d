"""One row after another is asked: what its answer has cost, and whether to go on after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import attrs
import msgspec

from lamella._bulk_errors import RowError
from lamella._bulk_journal_rows import ANSWERED, BROKEN_OFF, FAILED, MAY_PASS
from lamella._bulk_report import UNKNOWN
from lamella._bulk_results import MapResult
from lamella._errors import (
    AuthenticationError,
    BudgetExceededError,
    ClosedError,
    ConfigurationError,
    LamellaError,
    LimitedError,
    OverloadedError,
    QuotaError,
    RateLimitError,
)
from lamella._evolve import changed
from lamella._money import Money
from lamella._outcomes import Outcome
from lamella._spent import cost_of, costs_of, usage_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella._attempts import Attempt
    from lamella._bulk_pace import Pace
    from lamella._bulk_report import Tally
    from lamella._bulk_rows import Row
    from lamella._pipeline import Pipeline
    from lamella._responses import Response

_FINAL: Final = (AuthenticationError, ClosedError, QuotaError)
"""What every further row would meet as well."""

_THROTTLES: Final = (LimitedError, OverloadedError, RateLimitError)
_THROTTLED: Final = frozenset({429, 503, 529})
"""By what a row shows that less is wanted, and by which statuses of its attempts."""

_ENOUGH: Final = 3
"""Refusals by a budget for all together that has a little left, without an answer between them,
after which no further row is begun: one row may be dear, and the others fit."""


@attrs.frozen
class Asked:
    """What came of a row.

    Attributes:
        result: Its result.
        state: In the words of the journal.
        kind: The class of its error; empty for an answer.
        model: That answered, and the fingerprint of the system behind it; None for an error.
    """

    result: MapResult[Any]
    state: int
    kind: str = ""
    model: tuple[str, str] | None = None

    @property
    def fingerprint(self) -> str:
        """The provider's fingerprint of the system that answered; empty where it gives none."""
        return UNKNOWN if self.model is None else self.model[1]


class Asker:
    """Asks rows, and counts what that costs.

    Args:
        pipeline: What answers.
        returns: As for `Pipeline.run`.
        row_timeout: Seconds that a row may take; None for no limit.
        pace: Is told how rows go.
        tally: Where costs are counted.
        stop: Called with an error that every further row would meet.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        returns: Any,
        row_timeout: float | None,
        pace: Pace,
        tally: Tally,
        stop: Callable[[LamellaError], None],
    ) -> None:
        self._run = pipeline._run  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        self._monotonic = pipeline.ports.monotonic
        self._returns = returns
        self._row_timeout = row_timeout
        self._pace = pace
        self._tally = tally
        self._stop = stop
        self._too_dear = 0

    async def ask(self, row: Row, key: str | None = None) -> Asked:
        """Ask a row; whatever becomes of that is its result.

        Args:
            row: The row.
            key: Its idempotency key, unless its request has one; None for none.
        """
        asked = row.asked
        if isinstance(asked, RowError):
            result: MapResult[Any] = MapResult(row.index, row.id, None, asked, None, Money(0))
            return Asked(result, FAILED, type(asked).__name__)
        if key is not None and asked.context.idempotency_key is None:
            context = changed(asked.context, "idempotency_key", key)
            asked = changed(asked, "context", context)
        began = self._monotonic()
        try:
            response = await self._run(asked, self._returns, self._row_timeout)
        except Exception as error:  # noqa: BLE001 - it stands in its row's place
            return self._failed(row, error, began)
        return self._answered(row, response, began)

    def _answered(self, row: Row, response: Response, began: float) -> Asked:
        self._too_dear = 0
        now = self._monotonic()
        trace = response.trace
        attempts: Sequence[Any] = trace.attempts
        cost = trace.cost
        usage = trace.usage
        costs = {} if not cost else {cost.currency: cost}
        if cost is None:
            costs = trace.costs
        tokens = (usage.input_tokens, usage.output_tokens)
        self._tally.spend(tokens, costs, unpriced=_unpriced(cost, attempts))
        throttled = len(attempts) > 1 and _were_throttled(attempts)
        self._pace.ended(began, now, well=True, throttled=throttled)
        model = (response.model or "", fingerprint_of(response))
        result = MapResult(row.index, row.id, response, None, trace.duration, cost, len(attempts))
        return Asked(result, ANSWERED, "", model)

    def _failed(self, row: Row, error: Exception, began: float) -> Asked:
        now = self._monotonic()
        attempts: Sequence[Attempt] = getattr(error, "attempts", ())
        cost, usage = cost_of(attempts), usage_of(attempts)
        tokens = (usage.input_tokens, usage.output_tokens)
        self._tally.spend(tokens, costs_of(attempts), unpriced=_unpriced(cost, attempts))
        throttled = isinstance(error, _THROTTLES) or _were_throttled(attempts)
        self._pace.ended(began, now, well=False, throttled=throttled)
        result: MapResult[Any] = MapResult(
            row.index, row.id, None, error, now - began, cost, len(attempts)
        )
        return Asked(result, self._state(error), type(error).__name__)

    def _state(self, error: Exception) -> int:
        if not isinstance(error, LamellaError):
            return FAILED
        if self._would_meet_all(error):
            self._stop(error)
            return BROKEN_OFF
        if isinstance(error, BudgetExceededError | ConfigurationError):
            return BROKEN_OFF
        return MAY_PASS if error.retryable else FAILED

    def _would_meet_all(self, error: LamellaError) -> bool:
        """Whether every further row would meet the same.

        So it is with a budget that all rows share, once it is used up. One that is counted for each
        user or session may have something for the next row, and what rows under way have reserved
        may come back.
        """
        if not isinstance(error, BudgetExceededError):
            return isinstance(error, _FINAL)
        limit, spent, wanted = map(_units, (error.limit, error.spent, error.wanted))
        if error.scope:
            return False
        if spent >= limit:
            return True
        if wanted <= limit - spent or wanted > limit:
            return False
        self._too_dear += 1
        return self._too_dear >= _ENOUGH


def _units(amount: Money | int) -> int:
    return amount if isinstance(amount, int) else amount.nano


def _were_throttled(attempts: Sequence[Attempt]) -> bool:
    return any(attempt.status in _THROTTLED for attempt in attempts)


def _unpriced(cost: Money | None, attempts: Sequence[Attempt]) -> bool:
    """Whether something may have been billed whose price nobody knows."""
    return cost is None and any(
        attempt.cost is None and attempt.outcome is not Outcome.NOT_SENT for attempt in attempts
    )


# --- ceilings -----------------------------------------------------------------------------------


class Ceiling:
    """The most that all rows may cost, in money or in tokens.

    A row is begun only if what is spent, and what the rows under way and this one may cost, as the
    mean of those so far, stays below it. So the sum ends near it, and passes it by what rows under
    way cost more than the mean.

    Args:
        most: Money, or a number of tokens.
        tally: What is spent.
    """

    def __init__(self, most: Money | int, tally: Tally) -> None:
        self._most = most
        self._tally = tally

    def why_not(self, running: int) -> str:
        """Why no further row may be begun beside so many; empty if one may."""
        tally, most = self._tally, self._most
        if isinstance(most, int):
            spent = tally.input_tokens + tally.output_tokens
            shown: Money | int = spent
            limit = most
        else:
            spent, limit = tally.costs.get(most.currency, 0), most.nano
            shown = Money(spent, most.currency)
            if tally.unpriced or any(name != most.currency for name in tally.costs):
                return (
                    f"the cost of {tally.unpriced} rows is not known in {most.currency}, so that "
                    f"the budget of {most} could not be kept: put Cost() among the layers, and "
                    "give prices for all models"
                )
        mean = spent / tally.priced if tally.priced else 0
        if spent < limit and spent + (running + 1) * mean <= limit:
            return ""
        unit = " tokens" if isinstance(most, int) else ""
        return f"the budget of {most}{unit} is spent, as far as the next row fits ({shown}{unit})"


# --- who has answered ----------------------------------------------------------------------------


class _Stated(msgspec.Struct):
    system_fingerprint: str | None = None


_STATED: Final = msgspec.json.Decoder(_Stated)


def fingerprint_of(response: Response) -> str:
    """The provider's fingerprint of the system that answered; empty where it gives none."""
    raw = response.head.raw
    if raw is None or b'"system_fingerprint"' not in raw:
        return UNKNOWN
    try:
        return _STATED.decode(raw).system_fingerprint or UNKNOWN
    except (ValueError, msgspec.MsgspecError):
        return UNKNOWN
