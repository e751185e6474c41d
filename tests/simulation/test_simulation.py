"""The simulator: the same seed gives the same run, and the report says what happened."""

from __future__ import annotations

import gc
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from lamella import ConfigurationError, EmbeddingResponse, Money, Pipeline
from lamella.testing import FaultWindow, Load, Report, SimulatedProvider, Simulation, simulate
from lamella_middlewares import Budget, Cache, Cost, Deadline, Retry, SemanticCache, Spend

LOAD = Load(rate=20, duration=30, tenants=3)
THROTTLED = FaultWindow("throttle", 5, 15, retry_after=4)


@pytest.fixture(scope="module")
def report() -> Report:
    """A run with a throttled provider."""
    return simulate("production", SimulatedProvider(faults=[THROTTLED]), load=LOAD, seed=7)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("mode", ["run", "stream", "mixed"])
def test_the_same_seed_gives_the_same_run(backend: str, mode: Any) -> None:
    """To the last event, on each event loop; another seed gives another run."""
    provider = SimulatedProvider(faults=[THROTTLED, FaultWindow("stall", share=0.05)])
    load = Load(rate=20, duration=10, cancels=0.1, leaves=0.1, holds=0.1)

    def digest(seed: int) -> str:
        options: dict[str, Any] = {"backend": backend, "mode": mode, "load": load, "seed": seed}
        return simulate("production", provider, **options).digest

    assert digest(1) == digest(1)
    assert digest(1) != digest(2)


def test_a_simulation_can_be_run_again() -> None:
    """Each run has providers and stores of its own."""
    simulation = Simulation("production", load=LOAD, seed=3)
    one, again = simulation.run(), simulation.run()
    assert (one.digest, one.to_json()["providers"]) == (again.digest, again.to_json()["providers"])


def test_the_report_adds_up(report: Report) -> None:
    """Calls, attempts, requests and costs are the same wherever they are counted."""
    assert report.holds, report.draw()
    ledger = report.providers["primary"]
    assert report.calls == sum(report.outcomes.values()) == sum(report.attempts.values())
    assert sum(number * count for number, count in report.attempts.items()) == ledger.received
    assert ledger.answers["throttled"] == report.throttled > 0
    assert ledger.answers["complete"] == report.outcomes["complete"]
    assert sum(moment.arrived for moment in report.timeline) == report.calls
    assert sum(moment.attempts for moment in report.timeline) == ledger.received
    assert sum((moment.cost for moment in report.timeline), Money(0)) == report.cost
    assert sum(calls for calls, _ in report.tenants.values()) == report.calls
    assert report.latency["p50"] <= report.latency["p95"] <= report.latency["max"]
    throttled = [moment.start for moment in report.timeline if moment.throttled]
    assert min(throttled) >= 5
    assert max(throttled) < 15


def test_the_cost_is_what_the_provider_bills(report: Report) -> None:
    """To the billionth: what was read and written, at the provider's price."""
    ledger = report.providers["primary"]
    assert report.cost is not None
    # Each call is rounded to the nano-unit once, so that the sum is off by less than one for each.
    billed = (ledger.input_tokens * 150 + ledger.output_tokens * 600) * 1_000_000 // 1_000_000
    assert report.cost.nano == pytest.approx(billed, abs=report.calls)


def test_open_loop_callers_do_not_wait_for_each_other() -> None:
    """They come at their rate, however slow the provider is."""
    slow = SimulatedProvider(first_event=1_000)
    found = simulate(lambda given: Pipeline([], given[0]), slow, load=LOAD, seed=1)
    assert found.calls == pytest.approx(600, rel=0.15)
    assert max(moment.in_flight for moment in found.timeline) == found.calls


@pytest.mark.parametrize("arrivals", ["constant", "burst"])
def test_arrivals(arrivals: Any) -> None:
    """Evenly spaced, or many at once; the rate is the same."""
    load = Load(rate=10, duration=20, arrivals=arrivals, burst=50)
    found = simulate(lambda given: Pipeline([], given[0]), load=load)
    assert found.calls == 200
    most = max(moment.arrived for moment in found.timeline)
    assert most == (50 if arrivals == "burst" else pytest.approx(10 * found.moment_seconds, abs=1))


def test_a_call_that_never_ends_is_counted() -> None:
    """Without any limit in time a silent provider holds callers for ever; the report says so."""
    provider = SimulatedProvider(faults=[FaultWindow("stall")])
    found = simulate(lambda given: Pipeline([], given[0]), provider, load=Load(requests=5))
    assert found.outcomes == {"never ended": 5}
    assert found.success_rate == 0
    assert found.holds, found.draw()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("faults", [(), (FaultWindow("throttle", retry_after=0.1),)])
def test_calls_leave_nothing_to_the_garbage_collector(faults: Any, backend: str) -> None:
    """Neither those that are well, nor those that fail after several tries: no cycle is left."""
    provider = SimulatedProvider(faults=faults)

    def garbage(calls: int) -> int:
        """What a run leaves; that of its loop and pipeline does not depend on the calls."""
        gc.freeze()
        gc.disable()
        try:
            found = simulate(
                "production", provider, load=Load(requests=calls), mode="mixed", backend=backend
            )
            assert found.calls == calls
            return gc.collect()
        finally:
            gc.enable()
            gc.unfreeze()

    garbage(1)  # what is imported and remembered on first use
    few, many = garbage(10), garbage(110)
    assert many - few < 100


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_stopped_simulation_reports_what_there_is(backend: str) -> None:
    """Nobody calls any more, who waits is cancelled, and the laws hold nevertheless."""
    simulation = Simulation("production", load=Load(rate=50, duration=3600), backend=backend)

    def tell(calls: int, _: float) -> None:
        simulation.stop()

    simulation.on_progress = tell
    found = simulation.run()
    assert found.interrupted
    assert 1000 < found.calls < 2000
    assert found.outcomes["cancelled"] > 10
    assert found.holds, found.draw()


def test_several_providers() -> None:
    """A function of the providers makes the stack; each has a ledger of its own."""
    down = SimulatedProvider("first", faults=[FaultWindow("outage")])
    well = SimulatedProvider("second")

    async def turn(request: Any, call_next: Any) -> Any:
        from lamella import LamellaError, Target

        try:
            return await call_next(request)
        except LamellaError:
            return await call_next(request.branch("second").aim(Target("second", second[0])))

    second: list[Any] = []

    def stack(providers: Sequence[SimulatedProvider]) -> Pipeline:
        second[:] = providers[1:]
        return Pipeline([turn], providers[0])

    found = simulate(stack, [down, well], load=Load(requests=50))
    assert found.success_rate == 1
    assert found.attempts == {2: 50}
    assert found.providers["first"].answers == {"overloaded": 50}
    assert found.providers["second"].answers == {"complete": 50}


def test_a_pipeline_is_simulated_with_its_layers() -> None:
    """Its transport is replaced, its options stay, and it is not closed."""
    pipeline = Pipeline([Deadline(9), Retry(attempts=2)], "mock", max_attempts=4)
    found = simulate(pipeline, load=Load(requests=10))
    assert found.stack == ("deadline", "retry")
    assert found.providers["primary"].received == 10
    assert "closed" not in repr(pipeline.background.names)
    assert simulate(pipeline, load=Load(requests=10)).digest == found.digest


def test_presets_take_overrides() -> None:
    """As `Pipeline.preset` does; what the preset logs is left out."""
    found = simulate("production", load=Load(requests=5), overrides={"retry": None})
    assert "retry" not in found.stack
    assert "log" not in found.stack
    assert found.cost is not None
    assert found.cost.nano > 0


class Untouchable:
    """A store of every kind, which nobody may use."""

    def __getattr__(self, name: str) -> Any:
        if name in {"purge", "reserve", "nearest", "totals"}:  # by which stores are known
            return self.used
        raise AttributeError(name)

    def used(self, *_: Any, **__: Any) -> Any:
        """Fail."""
        raise AssertionError("A real store was used.")


def test_layers_with_stores_of_their_own_leave_them_alone(tmp_path: Path) -> None:
    """They get fresh ones, in each run; files that a preset names are not even made."""
    real = Untouchable()
    spends: list[Spend] = []

    async def embedder(request: Any) -> Any:
        return EmbeddingResponse.of(
            [[1.0, crc32(text.encode()) / 2**31] for text in request.inputs]
        )

    def stack(providers: Sequence[SimulatedProvider]) -> Pipeline:
        spends.append(Spend(store=real))
        caches = Cache(store=real), SemanticCache(embedder, store=real, index=real, when="all")
        budget = Budget(requests=1000, store=real)
        prices = Cost({"simulated": providers[0].price})
        return Pipeline([spends[-1], *caches, budget, prices], providers[0])

    load = Load(rate=0.1, requests=12, repeats=0.9)
    found = simulate(stack, load=load)
    assert found.holds, found.draw()
    assert 0 < found.providers["primary"].received < 12
    written = spends[0].health().detail["written"]  # what had to be embedded as well
    assert found.providers["primary"].received < written <= 2 * 12
    assert simulate(stack, load=load).digest == found.digest

    config = tmp_path / "lamella.toml"
    config.write_text(FILES.format(folder=tmp_path.as_posix()))
    assert simulate("files", load=load, config=str(config)).stack == ("cache", "spend", "budget")
    assert [*tmp_path.iterdir()] == [config]


FILES = """
[presets.files]
transport = "mock"
layers = [
    {{ use = "audit", directory = "{folder}/audit", content = "none" }},
    {{ use = "cache", store = {{ use = "sqlite_blobs", path = "{folder}/cache.db" }} }},
    {{ use = "spend", path = "{folder}/spend.db" }},
    {{ use = "budget", requests = 1000, store = {{ use = "sqlite", path = "{folder}/b.db" }} }},
]
"""


# --- what is drawn ------------------------------------------------------------------------------


def test_the_drawing_shows_the_course(report: Report) -> None:
    """Figures, a plot for each thing that changes, and whether the laws held."""
    drawn = report.draw()
    assert "throttled (429)" in drawn
    assert "█" in drawn
    assert re.search(r"All \d+ laws held\.", drawn)
    assert max(map(len, report.draw(width=70).splitlines())) <= 110
    assert report.draw(ascii_only=True).isascii()
    assert str(report) == drawn


def test_the_page_needs_nothing_else(report: Report, tmp_path: Path) -> None:
    """One file of well-formed markup that loads nothing, with a plot for each drawn thing."""
    target = report.html(tmp_path / "report.html")
    text = target.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "://" not in text
    plots = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(plots) >= 6
    for plot in plots:
        ET.fromstring(plot)
    ET.fromstring(text.split("</style></head>")[1].removesuffix("</html>\n"))


def test_the_json_form_is_json(report: Report) -> None:
    """It survives a round trip and has the figures."""
    found = report.to_json()
    assert json.loads(json.dumps(found)) == found
    assert found["success_rate"] == report.success_rate
    assert found["cost"]["currency"] == "USD"
    assert len(found["timeline"]) == len(report.timeline)
    assert set(found["laws"].values()) == {0}


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"providers": []},
        {"providers": [SimulatedProvider("a"), SimulatedProvider("a")]},
        {"load": 5},
        {"seed": -1},
        {"backend": "gevent"},
        {"mode": "some"},
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    """They are refused when the simulation is made, with what to do."""
    with pytest.raises(ConfigurationError):
        Simulation("production", **options)


@pytest.mark.parametrize(
    "options", [{"rate": 0}, {"duration": 0}, {"requests": 0}, {"arrivals": "sometimes"},
                {"tenants": 0}, {"cancels": 2}, {"priorities": []}, {"prompt_tokens": -1}],
)  # fmt: skip
def test_wrong_loads_are_refused(options: dict[str, Any]) -> None:
    """So is a load that nobody can make."""
    with pytest.raises(ConfigurationError):
        Load(**options)


def test_wrong_stacks_are_refused() -> None:
    """A preset that is unknown, and a function that makes no pipeline."""
    with pytest.raises(ConfigurationError, match="no-such"):
        simulate("no-such")
    wrong: Any = lambda _: Cost()  # noqa: E731
    with pytest.raises(ConfigurationError, match="no Pipeline"):
        simulate(wrong)
    with pytest.raises(ConfigurationError, match="belong to a preset"):
        simulate(Pipeline([]), overrides={"retry": None})
