"""How far many rows have come, what they have cost, and who has answered them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import attrs
import msgspec

from lamella._money import Money
from lamella._nothing import NOTHING

UNKNOWN: Final = ""
"""The fingerprint of a provider that gives none."""


@attrs.frozen
class MapProgress:
    """How far the rows have come.

    Attributes:
        done: How many have a result, those included that a journal had already.
        failed: How many of them are errors.
        restored: How many of them the journal had.
        running: How many are under way.
        total: How many there are; None if nobody knows.
        seconds: Since the run began.
        rows_per_second: Of those that this run has asked for.
        tokens_per_second: Read and written by them together.
        costs: What the attempts of all runs on the journal have cost, by currency, as far as known.
        left: Seconds until all are done, if it goes on so; None if nobody knows.
        concurrency: How many may be under way at once, at this moment.
    """

    done: int
    failed: int
    restored: int
    running: int
    total: int | None
    seconds: float
    rows_per_second: float
    tokens_per_second: float
    costs: Mapping[str, Money]
    left: float | None
    concurrency: int


@attrs.frozen
class MapReport:
    """What a run has come to.

    Attributes:
        rows: How many have a result.
        answered: How many of them are answers.
        failed: How many are errors.
        restored: How many the journal had already.
        seconds: How long this run took.
        input_tokens: What all attempts of all runs on the journal have read.
        output_tokens: What they have written.
        costs: What they have cost, by currency, as far as known.
        unpriced: How many rows had an attempt of unknown cost.
        kinds: How many rows failed with which error, by its class.
        models: How many answers came from which model, by its name and then by the provider's
            fingerprint of the system behind it (empty where it gives none). More than one of
            either: the answers were not all made by the same thing.
        stopped: Why not all rows were begun: a sentence; empty if all were.
        broken_off: How many rows were begun and have no result; what they have cost is not in the
            sums.
    """

    rows: int
    answered: int
    failed: int
    restored: int
    seconds: float
    input_tokens: int
    output_tokens: int
    costs: Mapping[str, Money]
    unpriced: int
    kinds: Mapping[str, int]
    models: Mapping[str, Mapping[str, int]]
    stopped: str = ""
    broken_off: int = 0

    @property
    def complete(self) -> bool:
        """Whether every row was begun and has a result."""
        return not self.stopped and not self.broken_off

    @property
    def uniform(self) -> bool:
        """Whether one model, with one fingerprint, has answered all rows."""
        return sum(len(found) for found in self.models.values()) <= 1


@attrs.define
class Tally:
    """The sums over all rows. `spent`, `models` and their like outlive a run, in its journal.

    Attributes:
        done: How many rows have a result.
        failed: How many of them are errors.
        restored: How many the journal had.
        tokens: What this run has read and written.
        asked: How many rows this run has asked for.
        input_tokens: What all attempts have read.
        output_tokens: What they have written.
        costs: What they have cost in nano-units, by currency.
        unpriced: How many rows have an attempt of unknown cost.
        priced: How many rows have a known cost, or were asked for at all.
        kinds: How many rows failed with which error.
        models: How many answers came from which model and fingerprint.
    """

    done: int = 0
    failed: int = 0
    restored: int = 0
    tokens: int = 0
    asked: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    costs: dict[str, int] = attrs.field(factory=dict[str, int])
    unpriced: int = 0
    priced: int = 0
    kinds: Counter[str] = attrs.field(factory=Counter[str])
    models: Counter[tuple[str, str]] = attrs.field(factory=Counter[tuple[str, str]])

    def spend(self, usage: tuple[int, int], costs: Mapping[str, Money], *, unpriced: bool) -> None:
        """Count what a row has consumed."""
        read, written = usage
        self.asked += 1
        self.input_tokens += read
        self.output_tokens += written
        self.tokens += read + written
        self.priced += 1
        if unpriced:
            self.unpriced += 1
        sums = self.costs
        for currency, cost in costs.items():
            sums[currency] = sums.get(currency, 0) + cost.nano

    def restore(self, kind: str, model: tuple[str, str] | None) -> None:
        """Count a row that the journal had."""
        self.restored += 1
        self.ended(kind, model)

    def ended(self, kind: str, model: tuple[str, str] | None) -> None:
        """A row has its result: an error of this class, or with an empty one an answer."""
        self.done += 1
        if kind:
            self.failed += 1
            self.kinds[kind] += 1
        elif model is not None:
            self.models[model] += 1

    @property
    def money(self) -> Mapping[str, Money]:
        """The known costs by currency."""
        return {name: Money(self.costs[name], name) for name in sorted(self.costs)} or NOTHING

    def kept(self) -> bytes:
        """What is to outlive the run."""
        return msgspec.json.encode(
            [self.input_tokens, self.output_tokens, self.costs, self.unpriced, self.priced]
        )

    def go_on(self, kept: bytes) -> None:
        """Begin with what an earlier run has kept."""
        found: list[Any] = msgspec.json.decode(kept)
        self.input_tokens, self.output_tokens, self.costs, self.unpriced, self.priced = found

    def report(self, seconds: float, stopped: str, broken_off: int) -> MapReport:
        """What it has come to."""
        models: dict[str, dict[str, int]] = {}
        for (model, fingerprint), count in sorted(self.models.items()):
            models.setdefault(model, {})[fingerprint] = count
        return MapReport(
            rows=self.done,
            answered=self.done - self.failed,
            failed=self.failed,
            restored=self.restored,
            seconds=seconds,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            costs=self.money,
            unpriced=self.unpriced,
            kinds=dict(self.kinds.most_common()),
            models=models,
            stopped=stopped,
            broken_off=broken_off,
        )

    def progress(
        self, seconds: float, running: int, total: int | None, concurrency: int
    ) -> MapProgress:
        """How far it is."""
        rate = self.asked / seconds if seconds > 0 else 0.0
        left = None if total is None or not rate else max(0, total - self.done) / rate
        return MapProgress(
            done=self.done,
            failed=self.failed,
            restored=self.restored,
            running=running,
            total=total,
            seconds=seconds,
            rows_per_second=rate,
            tokens_per_second=self.tokens / seconds if seconds > 0 else 0.0,
            costs=self.money,
            left=left,
            concurrency=concurrency,
        )
