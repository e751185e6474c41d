"""What came of a simulation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from lamella._money import Money
from lamella.testing._simulated_laws import ALL_LAWS, Violation
from lamella.testing._simulated_tally import GAVE_UP

if TYPE_CHECKING:
    from os import PathLike

    from lamella.testing._simulated_ledger import Ledger
    from lamella.testing._simulation import Run


@attrs.frozen
class Moment:
    """One piece of time of a simulation.

    Attributes:
        start: When it begins, in seconds from the beginning.
        arrived: Calls that began.
        complete: Calls that ended well.
        failed: Calls that failed.
        gave_up: Calls that their callers cancelled or left.
        attempts: Attempts that began.
        throttled: Those of them that got a 429.
        in_flight: The most calls that were under way at once.
        upstream: The most requests that providers had at once; the other calls waited.
        latency: The 95th percentile of the seconds of calls that ended well.
        cost: What was spent, of the report's currency.
    """

    start: float
    arrived: int
    complete: int
    failed: int
    gave_up: int
    attempts: int
    throttled: int
    in_flight: int
    upstream: int
    latency: float
    cost: Money


@attrs.frozen(eq=False)
class Report:
    """What came of a simulation.

    Attributes:
        title: What was simulated, in one line.
        stack: The layers, outermost first.
        faults: What went wrong by plan, by provider.
        seed: The seed.
        backend: The event loop.
        mode: How callers asked.
        calls: How many calls were made.
        outcomes: How they ended: `complete`, `left`, `cancelled`, `never ended`, or the class of
            the error.
        attempts: How many calls made 0, 1, 2 ... attempts.
        statuses: How attempts ended: `complete`, a status, or the class of the error.
        notes: What layers noted, by name.
        latency: Seconds of calls that ended well: percentiles by name.
        failure_latency: The same of calls that failed.
        first_event: Seconds to the first event of attempts that had one.
        cost: What the calls have cost; None if that is unknown, or in several currencies.
        unpriced: Calls whose cost is unknown.
        estimated: Attempts whose usage is an estimate, because the provider did not say.
        tenants: Calls, and those of them that ended well, by tenant.
        providers: What really happened there.
        timeline: The pieces of time in order.
        moment_seconds: How long one of them is.
        elapsed: Virtual seconds from the beginning to the end of the last call.
        seconds: Real seconds that the simulation took.
        interrupted: Whether it was stopped before its end.
        broken: How often each law was broken; empty if all held.
        violations: The first cases of each.
        digest: Stands for all that happened: the same options, seed and version give the same.
    """

    title: str
    stack: tuple[str, ...]
    faults: tuple[str, ...]
    seed: int
    backend: str
    mode: str
    calls: int
    outcomes: Mapping[str, int]
    attempts: Mapping[int, int]
    statuses: Mapping[str, int]
    notes: Mapping[str, int]
    latency: Mapping[str, float]
    failure_latency: Mapping[str, float]
    first_event: Mapping[str, float]
    cost: Money | None
    unpriced: int
    estimated: int
    tenants: Mapping[str, tuple[int, int]]
    providers: Mapping[str, Ledger]
    timeline: tuple[Moment, ...]
    moment_seconds: float
    elapsed: float
    seconds: float
    interrupted: bool
    broken: Mapping[str, int]
    violations: tuple[Violation, ...]
    digest: str

    @property
    def judged(self) -> int:
        """Calls that ended by themselves: not those that their callers gave up."""
        return sum(count for name, count in self.outcomes.items() if name not in GAVE_UP)

    @property
    def success_rate(self) -> float:
        """The share of those that ended well, 0 to 1; 1 if there were none."""
        return self.outcomes.get("complete", 0) / self.judged if self.judged else 1.0

    @property
    def attempts_per_call(self) -> float:
        """How many attempts a call made on the average."""
        made = sum(number * count for number, count in self.attempts.items())
        return made / self.calls if self.calls else 0.0

    @property
    def throttled(self) -> int:
        """How many attempts got a 429."""
        return self.statuses.get("429", 0)

    @property
    def holds(self) -> bool:
        """Whether every law held."""
        return not self.broken

    def draw(self, *, width: int = 78, ascii_only: bool = False) -> str:
        """The report as text, with plots.

        Args:
            width: Columns; at least 60.
            ascii_only: Whether to draw with plain ASCII characters.
        """
        from lamella.testing._simulation_drawing import draw

        return draw(self, width=width, ascii_only=ascii_only)

    def html(self, path: str | PathLike[str]) -> Path:
        """Write the report as one HTML file that needs nothing else.

        Args:
            path: Where; what is there is replaced.

        Returns:
            Where it was written.
        """
        from lamella.testing._simulation_page import page

        target = Path(path)
        target.write_text(page(self), encoding="utf-8")
        return target

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values. Times are seconds, costs decimals in texts."""
        plain = (
            "title", "stack", "faults", "seed", "backend", "mode", "calls", "outcomes", "attempts",
            "statuses", "notes", "latency", "failure_latency", "first_event", "unpriced",
            "estimated", "elapsed", "seconds", "interrupted", "broken", "digest", "success_rate",
            "attempts_per_call", "throttled", "moment_seconds",
        )  # fmt: skip
        found: dict[str, Any] = {name: getattr(self, name) for name in plain}
        found["cost"] = None if self.cost is None else _amount(self.cost)
        found["tenants"] = {
            name: {"calls": calls, "complete": complete}
            for name, (calls, complete) in self.tenants.items()
        }
        found["providers"] = {name: ledger.to_json() for name, ledger in self.providers.items()}
        found["violations"] = [attrs.asdict(violation) for violation in self.violations]
        found["laws"] = {law: self.broken.get(law, 0) for law in ALL_LAWS}
        found["timeline"] = [
            {**attrs.asdict(moment, recurse=False), "cost": str(moment.cost.amount)}
            for moment in self.timeline
        ]
        # Tuples and numbered keys as JSON has them.
        plainly: dict[str, Any] = json.loads(json.dumps(found))
        return plainly

    def __str__(self) -> str:
        return self.draw()


def _amount(money: Money) -> dict[str, str]:
    return {"amount": str(money.amount), "currency": money.currency}


def report_of(run: Run, *, seconds: float) -> Report:
    """The report of a run that is over.

    Args:
        run: The run.
        seconds: How long it took.
    """
    simulation, tally = run.simulation, run.tally
    load = simulation.load
    currency = next(iter(tally.costs), "USD")
    what = simulation.stack if isinstance(simulation.stack, str) else run.pipeline.name
    return Report(
        title=f"{what}: {load.rate:g} calls a second, {load.arrivals}, for {load.span:g} s",
        stack=tuple([info.name for info in run.pipeline.infos[1:]]),
        faults=tuple([f"{each.name}: {fault}" for each in run.providers for fault in each.faults]),
        seed=simulation.seed,
        backend=simulation.backend,
        mode=simulation.mode,
        calls=tally.calls,
        outcomes=dict(tally.outcomes.most_common()),
        attempts=dict(sorted(tally.attempts.items())),
        statuses=dict(tally.statuses.most_common()),
        notes=dict(tally.notes.most_common()),
        latency=tally.latency.summary(),
        failure_latency=tally.failure_latency.summary(),
        first_event=tally.first_event.summary(),
        cost=Money(tally.costs[currency], currency) if len(tally.costs) <= 1 else None,
        unpriced=tally.unpriced,
        estimated=tally.estimated,
        tenants={name: (calls, well) for name, (calls, well) in sorted(tally.tenants.items())},
        providers={provider.name: provider.ledger for provider in run.providers},
        timeline=tuple(_moments(run, currency)),
        moment_seconds=tally.width,
        elapsed=run.elapsed,
        seconds=seconds,
        interrupted=simulation.stopped,
        broken=dict(run.court.counts),
        violations=tuple(run.court.examples),
        digest=tally.digest,
    )


def _moments(run: Run, currency: str) -> list[Moment]:
    tally = run.tally
    return [
        Moment(
            start=index * tally.width,
            arrived=slot.arrived,
            complete=slot.complete,
            failed=slot.failed,
            gave_up=slot.gave_up,
            attempts=slot.attempts,
            throttled=slot.throttled,
            in_flight=slot.in_flight,
            upstream=slot.upstream,
            latency=round(slot.latency.percentile(0.95), 6),
            cost=Money(slot.cost, currency),
        )
        for index, slot in enumerate(tally.slots)
    ]
