"""`Pipeline.map`: order, poison rows, journals, budgets, and what a run leaves behind."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import (
    AuthenticationError,
    ChatRequest,
    ChatResponse,
    ConfigurationError,
    Context,
    DeadlineExceeded,
    EmbeddingRequest,
    JournalError,
    MapResult,
    MapStoppedError,
    MisuseError,
    Money,
    OverloadedError,
    Pipeline,
    RowOptions,
    ServerError,
    StoreUnavailableError,
    Usage,
    answer_rows,
)
from lamella.testing import run_virtual, virtual_ports

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(
    lamella_virtual_backend: tuple[str, dict[str, Any]],
) -> tuple[str, dict[str, Any]]:
    """Both event loops, in virtual time."""
    return lamella_virtual_backend


class Provider:
    """A transport that counts what it is asked, and answers after some time."""

    name = "provider"
    model = "m"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.inside = 0
        self.most = 0
        self.fails: dict[str, Exception] = {}

    async def __call__(self, request: Any) -> Any:
        text = request.messages[-1].text
        self.asked.append(text)
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await anyio.sleep(1 + len(text) % 3)
        finally:
            self.inside -= 1
        if text in self.fails:
            raise self.fails[text]
        return ChatResponse.of(f"re {text}", usage=Usage(text_output=10))


def pipeline_of(provider: Any) -> Pipeline:
    """A pipeline without layers, in virtual time."""
    return Pipeline([], provider, ports=virtual_ports())


async def texts_of(pipeline: Pipeline, rows: Any, **options: Any) -> list[str]:
    """What comes, in the order in which it comes."""
    found: list[str] = []
    async with pipeline.map(rows, **options) as work:
        async for result in work:
            if result.response is None:
                found.append(str(getattr(result.error, "code", None) or type(result.error)))
            else:
                found.append(result.response.text)
    return found


async def test_results_come_in_the_order_of_the_rows(tmp_path: Path) -> None:
    """Whatever rows are given by, and whether a journal keeps them, their order is theirs."""
    prompts = [f"{number:b}" for number in range(40)]
    wanted = [f"re {prompt}" for prompt in prompts]

    async def slowly() -> AsyncIterator[str]:
        for prompt in prompts:
            await anyio.sleep(0.1)
            yield prompt

    def one_by_one() -> Iterator[ChatRequest]:
        for prompt in prompts:
            yield ChatRequest.of(prompt)

    for journal in (None, tmp_path / "work.journal"):
        for rows in (prompts, slowly(), one_by_one(), [{"prompt": prompt} for prompt in prompts]):
            provider = Provider()
            found = await texts_of(
                pipeline_of(provider), rows, journal=journal, concurrency=7, restart=True
            )
            assert found == wanted
            assert provider.most <= 7


async def test_a_slow_head_holds_nobody_up_and_fills_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a journal all others are done meanwhile; without one only a bounded number is."""
    monkeypatch.setattr("lamella._bulk_run.WINDOW", 20)
    first = anyio.Event()

    class SlowHead(Provider):
        async def __call__(self, request: Any) -> Any:
            if request.messages[-1].text == "0":
                await first.wait()
            return await super().__call__(request)

    rows = [str(number) for number in range(200)]
    for journal, ahead in ((tmp_path / "a.journal", 200), (None, 30)):
        first = anyio.Event()
        provider = SlowHead()
        async with pipeline_of(provider).map(rows, journal=journal, concurrency=10) as work:
            await anyio.sleep(500)
            done = work.progress.done
            assert done == 199 if journal else 19 <= done < ahead
            first.set()
            found = [result.index async for result in work]
        assert found == list(range(200))


async def test_poison_rows_are_results_and_others_finish(tmp_path: Path) -> None:
    """What is no request, fails, or has another's id is an error in its place."""
    provider = Provider()
    provider.fails["bad"] = ServerError("It failed.", status=500)
    rows: list[Any] = [
        ("a", ChatRequest.of("one")), {"id": "b", "prompt": "bad"}, {"promt": "x"}, 7,
        ("a", ChatRequest.of("other")), {"id": 3, "prompt": "x", "temperature": -1}, b"no json",
        "same", "same", {"id": "last", "prompt": "end"},
    ]  # fmt: skip
    for journal in (None, tmp_path / "work.journal", tmp_path / "work.journal"):
        async with pipeline_of(provider).map(rows, journal=journal) as work:
            found = [result async for result in work]
        assert [result.index for result in found] == list(range(10))
        assert [result.id for result in found] == ["a", "b", None, None, "a", 3, None, None, None,
                                                   "last"]  # fmt: skip
        codes = [getattr(result.error, "code", None) for result in found]
        assert codes == [
            None, None, "invalid_row", "invalid_row", "duplicate_id", "invalid_row", "invalid_row",
            None, None, None,
        ]  # fmt: skip
        failed = found[1].error
        assert isinstance(failed, ServerError)
        assert failed.status == 500
        assert work.so_far.failed == 6
    assert provider.asked.count("same") == 4  # each is a row of its own, twice without a journal
    assert provider.asked.count("other") == 0


async def test_a_journal_is_gone_on_from(tmp_path: Path) -> None:
    """Rows that are done are not asked again, wherever they stand now; all are given in order."""
    journal = tmp_path / "work.journal"
    provider = Provider()
    pipeline = pipeline_of(provider)
    first = [{"id": f"r{number}", "prompt": f"p{number}"} for number in range(30)]
    async with pipeline.map(first, journal=journal, concurrency=4) as work:
        seen = 0
        async for _ in work:
            seen += 1
            if seen == 10:
                break
    done = set(provider.asked[:-4])
    again = Provider()
    rows = [*reversed(first), {"id": "new", "prompt": "new"}]
    async with pipeline_of(again).map(rows, journal=journal) as work:
        found = [result async for result in work]
    assert [result.id for result in found] == [*[f"r{n}" for n in range(29, -1, -1)], "new"]
    answers = [result.response.text for result in found if result.response is not None]
    assert answers == [*[f"re p{number}" for number in range(29, -1, -1)], "re new"]
    assert len(set(again.asked)) == len(again.asked)
    assert not done & set(again.asked)
    assert work.so_far.restored == 31 - len(again.asked)
    tokens = work.so_far.output_tokens
    assert tokens == 10 * 31


async def test_what_differs_is_said(tmp_path: Path) -> None:
    """Another configuration or changed rows are refused with what to do; then done as asked."""
    journal = tmp_path / "work.journal"
    row = {"id": "q", "prompt": "one"}
    pipeline = pipeline_of(Provider())
    await pipeline.map([row], journal=journal).report()
    cooler = ChatRequest(messages=[], temperature=0.5)
    with pytest.raises(JournalError, match="temperature of the defaults"):
        await pipeline.map([row], journal=journal, defaults=cooler).report()
    other = Provider()
    other.model = "n"
    with pytest.raises(JournalError, match="the transport's model"):
        await pipeline_of(other).map([row], journal=journal).report()
    changed = {**row, "prompt": "two"}
    with pytest.raises(JournalError, match=r"Row 0 \('q'\) asks something else"):
        await pipeline.map([changed], journal=journal).report()
    assert await texts_of(pipeline, [changed], journal=journal, changed="again") == ["re two"]
    assert await texts_of(pipeline, [changed], journal=journal) == ["re two"]
    report = await pipeline.map([row], journal=journal, defaults=cooler, restart=True).report()
    assert (report.rows, report.restored) == (1, 0)


async def test_rows_that_may_pass_are_asked_again_when_told(tmp_path: Path) -> None:
    """A failure that may pass is retried with `retry_failed`; a final one stays as it is."""
    journal = tmp_path / "work.journal"
    provider = Provider()
    provider.fails = {"busy": OverloadedError("Busy.", status=503), "bad": LookupError("bad")}
    rows = ["fine", "busy", "bad"]
    pipeline = pipeline_of(provider)
    assert (await pipeline.map(rows, journal=journal).report()).failed == 2
    provider.fails.clear()
    assert (await pipeline.map(rows, journal=journal).report()).failed == 2
    report = await pipeline.map(rows, journal=journal, retry_failed=True).report()
    assert (report.failed, report.answered, dict(report.kinds)) == (1, 2, {"LookupError": 1})
    assert provider.asked == ["fine", "busy", "bad", "busy"]


async def test_what_every_row_would_meet_stops_the_run(tmp_path: Path) -> None:
    """No further row is begun, results come first, and the next run asks the rest."""
    journal = tmp_path / "work.journal"
    provider = Provider()
    provider.fails["p4"] = AuthenticationError("No.", status=401)
    rows = [f"p{number}" for number in range(20)]
    pipeline = pipeline_of(provider)
    found: list[MapResult[Any]] = []
    with pytest.raises(MapStoppedError, match="Not all rows were begun") as raised:
        async with pipeline.map(rows, journal=journal, concurrency=3) as work:
            async for result in work:
                found.append(result)
    assert isinstance(raised.value.__cause__, AuthenticationError)
    assert raised.value.report is not None
    assert raised.value.report.rows == len(found) < 10
    provider.fails.clear()
    report = await pipeline.map(rows, journal=journal, concurrency=3).report()
    assert (report.answered, report.failed, report.complete) == (20, 0, True)
    assert len(provider.asked) == 21  # the one that was refused was asked again


async def test_a_budget_stops_cleanly(tmp_path: Path) -> None:
    """Rows under way finish; a larger one goes on; what nobody prices is not let run on."""
    journal = tmp_path / "work.journal"
    pipeline = pipeline_of(Provider())
    rows = [f"p{number}" for number in range(50)]
    report = await pipeline.map(rows, journal=journal, budget=200, concurrency=4).report()
    assert "the budget of 200 tokens" in report.stopped
    assert (report.rows, report.output_tokens) == (20, 200)
    report = await pipeline.map(rows, journal=journal, budget=305, concurrency=4).report()
    assert (report.rows, report.restored) == (30, 20)
    report = await pipeline.map(rows, journal=journal).report()
    assert (report.rows, report.stopped) == (50, "")
    report = await pipeline.map(rows, budget=Money.of("1"), concurrency=2).report()
    assert "is not known in USD" in report.stopped
    assert report.rows <= 4


async def test_each_row_has_its_own_deadline() -> None:
    """A row that takes too long ends as timed out, and the others are answered."""
    found = await texts_of(pipeline_of(Provider()), ["a", "bb", "ccc"], row_timeout=2.5)
    assert found == ["re a", str(DeadlineExceeded), "re ccc"]


async def test_the_number_under_way_follows_the_provider() -> None:
    """It starts low, grows while all is well, and falls when the provider throttles."""

    class Narrow(Provider):
        async def __call__(self, request: Any) -> Any:
            if self.inside >= 30:
                self.refused = getattr(self, "refused", 0) + 1
                raise OverloadedError("Busy.", status=503)
            return await super().__call__(request)

    wide, narrow = Provider(), Narrow()
    rows = [str(number) for number in range(700)]
    await pipeline_of(wide).map(rows, max_concurrency=100).report()
    assert 60 < wide.most <= 100
    report = await pipeline_of(narrow).map(rows).report()
    assert narrow.most == 30
    assert report.failed < 150
    assert report.seconds < 65  # thirty at once would take 47 s


async def test_two_runs_do_not_share_a_journal(tmp_path: Path) -> None:
    """The second is refused with a clear error, and the first goes on."""
    journal = tmp_path / "work.journal"
    pipeline = pipeline_of(Provider())
    async with pipeline.map(["a"], journal=journal) as work:
        with pytest.raises(JournalError, match="in use by another run"):
            await pipeline.map(["a"], journal=journal).report()
        assert [result.index async for result in work] == [0]
    assert not journal.with_name("work.journal.lock").exists()
    assert (await pipeline.map(["a"], journal=journal).report()).restored == 1


async def test_cancelling_and_stopping_leave_a_journal_to_go_on_from(tmp_path: Path) -> None:
    """Rows under way are cancelled with the run, or finish when it is only stopped."""
    journal = tmp_path / "work.journal"
    provider = Provider()
    pipeline = pipeline_of(provider)
    rows = [f"p{number}" for number in range(30)]
    with anyio.move_on_after(4.5):
        await pipeline.map(rows, journal=journal, concurrency=5).report()
    assert provider.inside == 0
    async with pipeline.map(rows, journal=journal, concurrency=5) as work:
        assert work.progress.concurrency == 5
        async for result in work:
            if result.index == 15:
                work.stop()
    stopped = work.so_far
    assert 16 <= stopped.rows <= 21
    assert not stopped.complete
    assert (await pipeline.map(rows, journal=journal).report()).rows == 30
    assert len(provider.asked) <= 35


async def test_what_comes_back_is_what_was_answered(tmp_path: Path) -> None:
    """An answer of any operation comes back from the journal with its text, usage and vectors."""
    journal = tmp_path / "work.journal"
    pipeline = Pipeline([], "mock", ports=virtual_ports())
    rows: list[Any] = [
        ChatRequest.of("mock: say hello", model="m"),
        EmbeddingRequest.of(["one", "two"], model="e"),
    ]
    async with pipeline.map(rows, journal=journal) as work:
        fresh: list[Any] = [result async for result in work]
    async with pipeline.map(rows, journal=journal) as work:
        kept: list[Any] = [result async for result in work]
    assert [result.restored for result in [*fresh, *kept]] == [False, False, True, True]
    assert kept[0].response.text == fresh[0].response.text == "hello"
    assert kept[0].response.usage == fresh[0].response.usage
    assert kept[1].response.vectors == fresh[1].response.vectors
    assert [result.cost for result in kept] == [result.cost for result in fresh]


async def test_progress_is_told_after_each_row() -> None:
    """Rates and what is left follow from what is done."""
    told: list[Any] = []
    await pipeline_of(Provider()).map(["a"] * 10, concurrency=1, on_progress=told.append).report()
    assert [progress.done for progress in told] == list(range(1, 11))
    half = told[4]
    assert (half.total, half.rows_per_second, half.left) == (10, 0.5, 10.0)
    assert half.tokens_per_second == 5.0


async def test_what_cannot_be_meant_is_refused() -> None:
    """Options are checked at once; a run is used once, and inside its block."""
    pipeline = pipeline_of(Provider())
    wrong: list[dict[str, Any]] = [
        {"concurrency": 0}, {"concurrency": "many"}, {"budget": 0}, {"budget": 1.5},
        {"row_timeout": 0}, {"changed": "maybe"}, {"journal": "/nowhere/at/all"},
        {"max_concurrency": 0}, {"defaults": "x"}, {"total": -1},
    ]  # fmt: skip
    for options in wrong:
        with pytest.raises(ConfigurationError, match=rf"map\({next(iter(options))}="):
            pipeline.map([], **options)
    for rows in ("text", 7, {"a": 1}):
        with pytest.raises(ConfigurationError, match="no rows"):
            pipeline.map(rows)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    work = pipeline.map(["a"])
    with pytest.raises(MisuseError, match="not being run yet"):
        work.stop()
    assert (await work.report()).rows == 1
    with pytest.raises(MisuseError, match="run already"):
        await work.__aenter__()


async def test_a_source_that_fails_ends_the_run() -> None:
    """Its error is raised after the results that there are."""

    def rows() -> Iterator[str]:
        yield from "abc"
        raise OSError("The file has gone.")

    with pytest.raises(OSError, match="has gone"):
        await texts_of(pipeline_of(Provider()), rows())


async def test_a_journal_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    """No row counts as done whose result could not be written, and its error is told."""
    journal = tmp_path / "work.journal"

    class Breaking(Provider):
        async def __call__(self, request: Any) -> Any:
            if request.messages[-1].text == "c":
                link = sqlite3.connect(journal)
                link.execute("DROP TABLE places")
                link.close()
            return await super().__call__(request)

    work = pipeline_of(Breaking()).map(["a", "b", "c", "d"], journal=journal, concurrency=1)
    with pytest.raises(StoreUnavailableError, match="journal"):
        await work.report()
    assert work.so_far.rows == 2
    assert not work.so_far.complete


async def test_blocks_of_rows_are_answered_without_files() -> None:
    """One plain result a row, in order, with the options where a row is silent."""
    rows: list[Any] = [{"id": "x", "prompt": "one"}, {"promt": 1}, "three"]
    found = await answer_rows(
        pipeline_of(Provider()), rows, RowOptions(system="Be brief.", concurrency=2), first=100
    )
    assert [(row["index"], row["id"], row["text"]) for row in found] == [
        (100, "x", "re one"), (101, None, ""), (102, None, "re three"),
    ]  # fmt: skip
    assert found[1]["error"]["code"] == "invalid_row"


# --- crashes -------------------------------------------------------------------------------------


class Mortal:
    """A transport that says when it is asked for the so-manieth time, and then counts no more."""

    name = "mortal"
    model = "m"

    def __init__(self, asked: list[str], death: int | None, leave: Callable[[], None]) -> None:
        self._asked = asked
        self._death = death
        self._leave = leave
        self.calls = 0

    async def __call__(self, request: Any) -> Any:
        self.calls += 1
        text = request.messages[-1].text
        if self._death is None or self.calls <= self._death:
            self._asked.append(text)
        if self.calls == self._death:
            self._leave()
        await anyio.sleep(0.001 * (self.calls % 3))
        return ChatResponse.of(text)


@settings(max_examples=8)
@given(
    deaths=st.lists(st.integers(1, 16), max_size=3),
    places=st.integers(1, 6),
    poison=st.sets(st.integers(0, 11)),
)
def test_whenever_it_dies_nothing_is_lost_or_doubled(
    deaths: list[int], places: int, poison: set[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each death asks at most as many rows again as were under way; the results are exact.

    A death leaves the files as they are at that moment: the next life begins with a copy of them.
    """
    folder = tmp_path_factory.mktemp("lives")
    rows = [{"id": index, "prompt": "" if index in poison else str(index)} for index in range(12)]
    asked: list[str] = []

    async def live(life: int, death: int | None) -> list[MapResult[Any]]:
        journal = folder / f"{life}.journal"
        mortal = Mortal(asked, death, lambda: leave(life))
        pipeline = Pipeline([], mortal, ports=virtual_ports())
        async with pipeline.map(rows, journal=journal, concurrency=places) as work:
            found = [result async for result in work]
        if death is not None and mortal.calls < death:
            leave(life)
        return found

    def leave(life: int) -> None:
        for end in ("", "-wal"):
            left = folder / f"{life}.journal{end}"
            if left.exists():
                shutil.copy(left, folder / f"{life + 1}.journal{end}")

    for life, death in enumerate(deaths):
        run_virtual(live, life, death)
    found: list[MapResult[Any]] = run_virtual(live, len(deaths), None)
    assert [result.index for result in found] == list(range(12))
    for result in found:
        if result.index in poison:
            assert result.error is not None
        else:
            assert result.response is not None
            assert result.response.text == str(result.index)
    assert len(asked) <= 12 - len(poison) + places * len(deaths)


async def test_a_journal_gives_rows_idempotency_keys(tmp_path: Path) -> None:
    """A key is the row's own, the same in each run on a journal, and another in other journals."""
    keys: list[str | None] = []

    class Keyed(Provider):
        answers_by_key = True

        async def __call__(self, request: Any) -> Any:
            keys.append(request.context.idempotency_key)
            raise ServerError("not now", retryable=True)

    mine = ChatRequest.of("b", context=Context(idempotency_key="mine"))
    rows: list[Any] = ["a", "a", {"id": 7, "prompt": "a"}, mine]
    first, other = tmp_path / "first", tmp_path / "other"
    plan: list[tuple[Path, dict[str, Any]]] = [
        (first, {}),
        (first, {"retry_failed": True}),
        (other, {}),
        (first, {"restart": True}),
    ]
    for seed, (journal, options) in enumerate(plan):
        pipeline = Pipeline([], Keyed(), ports=virtual_ports(seed))
        await pipeline.map(rows, journal=journal, concurrency=1, **options).report()
    runs = [keys[start : start + 4] for start in range(0, 16, 4)]
    assert runs[0] == runs[1]
    assert all(run[3] == "mine" for run in runs)
    assert len({key for run in (runs[0], runs[2], runs[3]) for key in run[:3]}) == 9
    keys.clear()
    await pipeline_of(Keyed()).map(["a"]).report()
    Keyed.answers_by_key = False
    await pipeline_of(Keyed()).map(["a"], journal=tmp_path / "third").report()
    assert keys == [None, None]
