"""What a dataset of answers comes to."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any, Final

from lamella import ConfigurationError, MapReport, Money
from lamella_ray._worker import NOT_ASKED

_LOOKED_AT: Final = (
    "error_type", "error_code", "input_tokens", "output_tokens", "cost", "currency", "attempts",
    "model", "system_fingerprint", "seconds",
)  # fmt: skip


def report(answers: Any, *, prefix: str = "answer_") -> MapReport:
    """Counts, tokens, costs, errors and models of answers.

    `seconds` is the time that the rows took, added up. Costs are those of all attempts, as far as
    they are known.

    Args:
        answers: A dataset that was read from where the answers were written, or materialised: to
            look at one that is not would ask for all of it again.
        prefix: As given to `map_rows`.

    Raises:
        ConfigurationError: If looking at the dataset would ask for the answers.
    """
    if _asks(answers):
        msg = "To report of these answers would ask for all of them again."
        hint = "Call materialize() once, or read what was written, and report of that."
        raise ConfigurationError(msg, hint=hint)
    sums = _Sums()
    columns = [prefix + name for name in _LOOKED_AT]
    for batch in answers.select_columns(columns).iter_batches(batch_format="pyarrow"):
        for row in batch.to_pylist():
            sums.count({name: row[prefix + name] for name in _LOOKED_AT})
    return sums.report()


def _asks(answers: Any) -> bool:
    from lamella_ray._worker import Worker

    if type(answers).__name__ == "MaterializedDataset":
        return False
    return Worker.__name__ in repr(getattr(answers, "_logical_plan", "")) or (
        f"MapBatches({Worker.__name__})" in str(getattr(answers, "_plan", answers))
    )


class _Sums:
    def __init__(self) -> None:
        self.rows = self.failed = self.tokens_in = self.tokens_out = self.unpriced = 0
        self.not_asked = 0
        self.seconds = 0.0
        self.costs: dict[str, Decimal] = {}
        self.kinds: Counter[str] = Counter()
        self.models: dict[str, Counter[str]] = {}

    def count(self, row: dict[str, Any]) -> None:
        self.rows += 1
        self.seconds += row["seconds"] or 0.0
        self.tokens_in += row["input_tokens"] or 0
        self.tokens_out += row["output_tokens"] or 0
        if row["cost"] is not None:
            currency = row["currency"]
            self.costs[currency] = self.costs.get(currency, Decimal(0)) + Decimal(row["cost"])
        elif row["attempts"]:
            self.unpriced += 1
        if row["error_code"] == NOT_ASKED:
            self.not_asked += 1
        if row["error_type"] is not None:
            self.failed += 1
            self.kinds[row["error_type"]] += 1
        elif row["model"] is not None:
            found = self.models.setdefault(row["model"], Counter())
            found[row["system_fingerprint"] or ""] += 1

    def report(self) -> MapReport:
        """All of it."""
        left = self.not_asked
        return MapReport(
            rows=self.rows - left,
            answered=self.rows - self.failed,
            failed=self.failed - left,
            restored=0,
            seconds=self.seconds,
            input_tokens=self.tokens_in,
            output_tokens=self.tokens_out,
            costs={name: Money.of(str(self.costs[name]), name) for name in sorted(self.costs)},
            unpriced=self.unpriced,
            kinds=dict(self.kinds.most_common()),
            models={name: dict(self.models[name]) for name in sorted(self.models)},
            stopped=f"{left} rows were not asked." if left else "",
        )
