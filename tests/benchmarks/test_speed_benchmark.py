"""What can be wrong in a measurement of speed without any time passing."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

if TYPE_CHECKING:
    from benchmarks.turns import Caller, Turn

CHILD = """
import json, os, sys
for line in sys.stdin:
    order = json.loads(line)
    calls = order["plan"]["calls"]
    if order["url"] == "end":
        os._exit(3)
    if order["url"] == "hang":
        sys.stdin.read()
    if order["url"] == "fail":
        print(json.dumps({"error": "ValueError: no work"}), flush=True)
    else:
        turn = {"cpu": 100.0, "wall": 50_000.0, "yardstick": 30.0, "calls": calls}
        print(json.dumps({"ok": turn}), flush=True)
"""


def turns(*cpu_and_yardstick: tuple[float, float]) -> list[Turn]:
    """Turns of these CPU times, each with its yardstick."""
    from benchmarks.turns import Turn

    return [Turn(cpu, 2 * cpu, stick, 10) for cpu, stick in cpu_and_yardstick]


def scripted(log: Path | None = None) -> Any:
    """A child of the driver that does no work."""
    from benchmarks.driver import Child

    return Child([sys.executable, "-I", "-c", CHILD], log=log)


# --- statistics ---------------------------------------------------------------------------------


def test_a_slow_machine_slows_nobody_down() -> None:
    """A turn counts as what it would have taken at the pace of the whole run."""
    from benchmarks.figures import figure, pace_of

    rounds = turns((100, 10), (300, 30), (100, 10))
    assert pace_of(rounds) == 10
    found = figure("any", rounds, pace_of(rounds))
    assert (found.cpu, found.wall, found.spread) == (100, 200, 0)
    assert figure("any", rounds).spread == 2


@given(st.lists(st.floats(0, 1e6), min_size=1), st.integers(1, 100))
def test_a_percentile_is_the_least_value_that_so_many_do_not_exceed(
    values: list[float], part: int
) -> None:
    """Nearest rank: no value between two that were measured is made up."""
    from benchmarks.figures import percentile

    ordered = sorted(values)
    found = percentile(ordered, part)
    assert sum(value <= found for value in ordered) * 100 >= part * len(ordered)
    assert sum(value < found for value in ordered) * 100 < part * len(ordered)


def test_arrivals_are_drawn_alike_everywhere_and_come_at_the_rate() -> None:
    """The provider and a contender draw the same instants from one seed, in order."""
    from benchmarks.arrivals import arrivals

    due = arrivals(500, 4, seed=7)
    assert due == arrivals(500, 4, seed=7) != arrivals(500, 4, seed=8)
    assert due == sorted(due)
    assert 0 < due[0] < due[-1] < 4
    assert 1_800 < len(due) < 2_200
    gaps = [after - before for before, after in pairwise(due)]
    assert statistics.pstdev(gaps) == pytest.approx(1 / 500, rel=0.15)


def test_no_prompt_comes_twice() -> None:
    """Prompts have the size that is asked for, and do not begin alike, whoever asks."""
    from benchmarks.prompts import fresh_prompts

    one, other = fresh_prompts(), fresh_prompts(4_096)
    found = [next(one), next(other), next(one), next(other)]
    assert [len(text) for text in found] == [1_024, 4_096, 1_024, 4_096]
    assert len({text[:16] for text in found}) == 4


# --- turns and children -------------------------------------------------------------------------


@asynccontextmanager
async def working(_: str) -> AsyncIterator[Caller]:
    """A contender that answers at once."""
    from benchmarks.turns import Caller

    async def stream(prompt: str, append: Any) -> None:
        for word in prompt[:200]:
            append(word)

    async def answer(_: str) -> str:
        await asyncio.sleep(0)
        return "word " * 30

    yield Caller(answer, stream)


@asynccontextmanager
async def idle(_: str) -> AsyncIterator[Caller]:
    """A contender that does nothing."""
    from benchmarks.turns import Caller

    async def answer(_: str) -> str:
        return ""

    yield Caller(answer)


def test_a_turn_makes_the_calls_of_its_plan_and_refuses_what_is_no_work() -> None:
    """Calls, streams and first events are counted; an empty answer is an error, not a record."""
    from benchmarks.turns import Plan, turn

    for plan in (Plan(1, 9, 4), Plan(1, 3, kind="stream"), Plan(1, 3, kind="first")):
        found = asyncio.run(turn(working, plan, "http://x"))
        assert found.calls == plan.calls
        assert found.wall >= 0
    with pytest.raises(ValueError, match="no real work"):
        asyncio.run(turn(idle, Plan(1, 1), "http://x"))
    with pytest.raises(ValueError, match="reads no streams"):
        asyncio.run(turn(idle, Plan(1, 1, kind="stream"), "http://x"))


def test_a_child_answers_each_line_with_a_line() -> None:
    """Orders and answers are JSON; what fails is told, and the next order is done all the same."""
    from benchmarks.child import found, serve

    plan = {"calls": 2}
    orders = [{"do": "turn", "url": "x", "plan": plan}, {"do": "sing", "url": "x"}]
    source = StringIO("".join(json.dumps(order) + "\n" for order in [*orders, orders[0]]))
    answers = StringIO()
    with asyncio.Runner() as runner:
        serve(working, source, answers, runner)
    said = [json.loads(line) for line in answers.getvalue().splitlines()]
    assert [list(one) for one in said] == [["ok"], ["error"], ["ok"]]
    assert said[0]["ok"]["calls"] == 2
    assert "sing" in said[1]["error"]
    assert found("benchmarks.clients:sdk").__name__ == "sdk"


def test_the_driver_takes_turns_and_goes_on_without_who_fails() -> None:
    """Counts are fitted to the time of a turn; who fails is left out, with the reason."""
    from benchmarks.driver import ChildError, Field
    from benchmarks.turns import Plan

    said: list[str] = []
    field = Field({"one": scripted(), "other": scripted()}, {}, said.append)
    kept: list[dict[str, int]] = []
    try:
        plan = Plan(rounds=2, calls=1_000, seconds=1.0)
        field.race(
            plan, "http://x", lambda so_far: kept.append({n: len(t) for n, t in so_far.items()})
        )
        assert kept == [{"one": 1, "other": 1}, {"one": 2, "other": 2}]
        counts: list[int] = []
        field.race(plan, "http://x", lambda so_far: counts.append(so_far["one"][0].calls))
        assert counts == [20, 20]  # of 50 ms, in a second
        with pytest.raises(ChildError, match="no work"):
            field.children["one"].turn("fail", plan)
        hung = scripted()
        hung.patience = 0.05
        with pytest.raises(ChildError, match=r"nothing for 0\.05 s"):
            hung.turn("hang", plan)
        hung.close()
        field.children["other"].tell(do="turn", url="end", plan={"calls": 1})
        with pytest.raises(ChildError, match="status 3"):
            field.children["other"].answer()
        field.race(
            Plan(rounds=1),
            "http://x",
            lambda so_far: kept.append({n: len(t) for n, t in so_far.items()}),
        )
    finally:
        for child in field.children.values():
            child.close()
    assert kept[-1] == {"one": 1}
    assert list(field.skipped) == ["other"]
    assert any("other: skipped" in line for line in said)


# --- what is written ----------------------------------------------------------------------------


def results() -> dict[str, Any]:
    """What a run might find."""
    from benchmarks.roster import EIGHT, EIGHT_FAST, FLOOR, SDK

    def row(name: str, cpu: float) -> dict[str, Any]:
        return {"name": name, "cpu_us": cpu, "wall_us": cpu, "of_sdk": cpu / 1_000, "spread": 0.1}

    one = [row(FLOOR, 20), row(SDK, 1_000), row(EIGHT, 560), row(EIGHT_FAST, 110)]
    return {
        "machine": {
            "date": "2026-01-02",
            "processor": "Some Processor",
            "cores": 2,
            "system": "Linux 6",
            "python": "CPython 3.11",
        },
        "versions": {SDK: "openai 3.0"},
        "calls": {
            "tables": {"one call at a time": one, "64 calls at once": one},
            "skipped": {"LiteLLM acompletion": "uv said no"},
        },
        "flight": {
            "calls": 5_000,
            "late": 10.0,
            "rows": [
                {
                    "name": EIGHT_FAST,
                    "at_once": 4_999,
                    "answered": 5_000,
                    "seconds": 11.0,
                    "kb_each": 12.0,
                }
            ],
        },
        "layers": {"microseconds by depth": {"0": 10.0, "32": 16.4}},
    }


def test_promises_are_kept_broken_or_not_measured() -> None:
    """A promise is judged by the worst of its plans; what a run has not measured is no success."""
    from benchmarks.promises import table

    rows = {row["what"]: row for row in table(results())}
    judged = {what: row["kept"] for what, row in rows.items() if row["kept"] is not None}
    assert judged == {
        "an empty layer": True,
        "eight layers, of the openai SDK: a call": False,
        "eight layers, fast transport, of the openai SDK: a call": True,
        "of 5,000 calls, not at the provider at once or not answered (fast)": False,
        "memory of a call in flight (fast, eight layers)": True,
    }
    beside = rows["eight layers, of LiteLLM: a call"]
    assert beside["kept"] is None
    assert "LiteLLM acompletion did not take part" in beside["measured"]
    assert all(row["kept"] is None for row in table({}))
    assert {row["kept"] for row in table(results(), slack=1.1)} == {True, None, False}


def test_tables_have_as_many_cells_as_heads_and_leave_out_what_was_not_run() -> None:
    """Each line of a table is whole; a part that is missing has no title."""
    from benchmarks.tables import markdown

    text = markdown(results())
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert blocks
    for block in blocks:
        assert len({line.count("|") for line in block}) == 1
    assert "Some Processor, 2 cores, Linux 6, CPython 3.11. Versions: openai 3.0." in text
    assert "## Skipped\n\n- LiteLLM acompletion (calls): uv said no" in text
    assert "## Imports" not in text
    assert "4,999" in text


def test_a_page_keeps_what_stands_outside_of_its_marks(tmp_path: Path) -> None:
    """Sections are written anew, and again; one that was not measured stays as it is."""
    from benchmarks.report import filled

    page = (
        "# Title\n\n<!-- machine: begin -->\nold\n<!-- machine: end -->\n\nWords.\n\n"
        "<!-- imports: begin -->\nkept\n<!-- imports: end -->\n"
    )
    once = filled(page, results())
    assert once.startswith("# Title\n\n<!-- machine: begin -->\n\nMeasured on 2026-01-02")
    assert "old" not in once
    assert "\n\nWords.\n\n<!-- imports: begin -->\nkept\n" in once
    assert filled(once, results()) == once
    with pytest.raises(ValueError, match="'nothing' names no section"):
        filled("<!-- nothing: begin --><!-- nothing: end -->", {})


def test_results_of_other_parts_stay(tmp_path: Path) -> None:
    """A run of one part changes what is known of that part, on disk at once, without its folder."""
    from benchmarks.kept_results import Results, load

    Results(tmp_path).keep("calls", 1)
    second = Results(tmp_path)
    second.keep("layers", 2)
    assert load(second.path) == {"calls": 1, "layers": 2}
    assert [file.name for file in tmp_path.iterdir()] == ["speed.json"]
    second.keep("layers", {"why": f"no such file: {Path(__file__).parents[2] / 'x.toml'}"})
    assert load(second.path)["layers"] == {"why": "no such file: ./x.toml"}
    second.path.write_text("[]")
    with pytest.raises(TypeError, match="no results"):
        load(second.path)


def test_an_environment_that_cannot_be_made_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without uv a peer is skipped with a word; this project's own interpreter needs none."""
    from benchmarks import environments

    monkeypatch.setattr(environments, "ROOT", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environments.python_of(None) == sys.executable
    with pytest.raises(environments.UnavailableError, match="uv is not installed"):
        environments.python_of("litellm")


def test_the_smoke_says_which_bound_is_broken() -> None:
    """A figure over its share of the SDK's is named; one without a bound is not judged."""
    from benchmarks.bounds import BOUNDS, EIGHT, ONE, broken
    from benchmarks.figures import Figure

    def figures(share: float) -> list[Figure]:
        names = ("the SDK", EIGHT, "Lamella, bare")
        return [Figure(name, cpu, 0, 0) for name, cpu in zip(names, (100, share, 900), strict=True)]

    bound = 100 * BOUNDS[ONE, EIGHT]
    assert broken(ONE, figures(bound)) == []
    [line] = broken(ONE, figures(bound + 1))
    assert line.startswith(f"TOO SLOW: {EIGHT}, a call")
