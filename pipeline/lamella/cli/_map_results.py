"""What has become of a row: the line that says so, and the sums over all of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

from lamella._money import Money
from lamella._outcomes import Outcome
from lamella._spent import cost_of, costs_of, usage_of
from lamella._trace_forms import money_form, usage_form

if TYPE_CHECKING:
    from lamella import Attempt, ChatResponse
    from lamella.cli._map_rows import Row

_MOST_KINDS: Final = 5
_FROM_FAILURE: Final = ("text", "refusal", "finish_reason", "model", "served_by", "usage", "error")


def answered(row: Row, response: ChatResponse) -> dict[str, Any]:
    """The line of a row that was answered. `cost` is that of all attempts."""
    from lamella._message_dicts import tool_call_to_dict

    trace = response.trace
    return {
        "index": row.index,
        "id": row.id,
        "text": response.text,
        "refusal": response.refusal,
        "tool_calls": [tool_call_to_dict(call) for call in response.tool_calls],
        "finish_reason": response.finish_reason,
        "model": response.model,
        "served_by": response.served_by,
        "usage": usage_form(response.usage),
        "cost": money_form(trace.cost),
        "attempts": len(trace.attempts),
        "seconds": trace.duration,
        "error": None,
    }


def failed(row: Row, error: Exception, seconds: float | None = None) -> dict[str, Any]:
    """The line of a row that was not: the same names, with what had arrived."""
    from lamella.cli._json_forms import failure_form

    attempts = attempts_of(error)
    form = failure_form(error)
    return {
        "index": row.index,
        "id": row.id,
        **{name: form[name] for name in _FROM_FAILURE[:2]},
        "tool_calls": [],
        **{name: form[name] for name in _FROM_FAILURE[2:-1]},
        "cost": money_form(cost_of(attempts)),
        "attempts": len(attempts),
        "seconds": seconds,
        "error": form["error"],
    }


def attempts_of(error: Exception) -> Sequence[Attempt]:
    """The attempts that a call made which has failed."""
    return getattr(error, "attempts", ())


def line_of(form: dict[str, Any]) -> bytes:
    """A result as one line."""
    try:
        return json.dumps(form, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    except UnicodeEncodeError:  # half a letter, as an answer that was cut may end in
        return json.dumps(form, separators=(",", ":")).encode() + b"\n"


def rows(count: int) -> str:
    """So many rows."""
    return f"{count:,} row{'' if count == 1 else 's'}"


@attrs.define
class Tally:
    """How far the rows have come.

    Attributes:
        begun: How many were taken from the input.
        done: How many have a line in the output, failed ones included.
        failed: How many of them failed.
        input_tokens: What all attempts have read.
        output_tokens: What they have written.
        costs: What they have cost, by currency, as far as known.
        unpriced: How many rows have an attempt of unknown cost.
        kinds: How many rows failed with which error.
    """

    begun: int = 0
    done: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    costs: dict[str, Money] = attrs.field(factory=dict[str, Money])
    unpriced: int = 0
    kinds: Counter[str] = attrs.field(factory=Counter[str])

    @property
    def running(self) -> int:
        """How many are under way; after the end, how many were broken off."""
        return self.begun - self.done

    def count(self, attempts: Sequence[Attempt], error: Exception | None) -> None:
        """A row has its line."""
        self.done += 1
        if error is not None:
            self.failed += 1
            self.kinds[type(error).__name__] += 1
        usage = usage_of(attempts)
        self.input_tokens += usage.input_tokens
        self.output_tokens += usage.output_tokens
        for currency, cost in costs_of(attempts).items():
            self.costs[currency] = self.costs.get(currency, Money(0, currency)) + cost
        self.unpriced += any(
            attempt.cost is None and attempt.outcome is not Outcome.NOT_SENT for attempt in attempts
        )

    def spent(self) -> str:
        """What all that has cost, in words."""
        if self.unpriced and self.unpriced == self.done:
            return "cost unknown"
        costs = [str(self.costs[currency]) for currency in sorted(self.costs)] or ["$0"]
        unknown = f", {rows(self.unpriced)} of unknown cost" if self.unpriced else ""
        return f"{' and '.join(costs)}{unknown}"

    def told(self, seconds: float) -> str:
        """All of it, in words."""
        words = (
            f"{rows(self.done)} done, {self.failed:,} failed, in {seconds:,.1f} s; "
            f"{self.input_tokens:,} tokens in, {self.output_tokens:,} out; {self.spent()}."
        )
        if self.kinds:
            most = [f"{count:,} {kind}" for kind, count in self.kinds.most_common(_MOST_KINDS)]
            more = " and others" if len(self.kinds) > _MOST_KINDS else ""
            words += f" Failures: {', '.join(most)}{more}; see 'error' in their lines."
        return words
