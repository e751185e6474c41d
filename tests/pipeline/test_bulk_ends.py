"""`Pipeline.map` where something else goes on: forks, files taken away, budgets, slow sources."""

from __future__ import annotations

import os
import threading  # a source that blocks, as sources of programs do
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import anyio
import attrs
import pytest

from lamella import (
    ChatRequest,
    ChatResponse,
    ConfigurationError,
    JournalError,
    MapResult,
    MisuseError,
    Pipeline,
    RowOptions,
    StructureError,
    Usage,
    answer_rows,
)
from lamella._bulk_journal import Numbers
from lamella._bulk_journal_rows import FORM, Claim, Entry, JournalRows
from lamella._bulk_lock import JournalLock
from lamella._sqlite_file import SQLiteFile, Step
from lamella.testing import run_virtual, virtual_ports


def pipeline_of(transport: Any) -> Pipeline:
    """A pipeline without layers, in virtual time."""
    transport.fingerprint = "same"
    return Pipeline([], transport, ports=virtual_ports())


async def counting(request: Any) -> Any:
    """A transport that takes as many seconds as it is asked to, and ten tokens."""
    await anyio.sleep(float(request.messages[-1].text))
    return ChatResponse.of("done", usage=Usage(text_output=10))


BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@BACKENDS
def test_a_block_tells_each_result_as_soon_as_it_is_there(backend: str) -> None:
    """Not in order; a row keeps its place until that is over, and what it raises ends the rest."""
    told: list[int] = []
    inside = most = 0

    async def slowly(result: Any) -> None:
        nonlocal inside, most
        told.append(result["index"])
        inside += 1
        most = max(most, inside)
        await anyio.sleep(1)
        inside -= 1

    async def raising(result: Any) -> None:
        raise LookupError(result["index"])

    async def work() -> None:
        pipeline = pipeline_of(counting)
        found = await answer_rows(
            pipeline, ["9", "1", "7.5", "7"], RowOptions(concurrency=2), first=5, on_result=slowly
        )
        assert told == [6, 5, 7, 8]
        assert most == 2  # it is told of several at once
        assert [row["index"] for row in found] == [5, 6, 7, 8]
        with pytest.raises(LookupError, match="1"):
            await answer_rows(pipeline, ["9", "1", "2"], on_result=raising)

    run_virtual(work, backend=backend)


@BACKENDS
def test_what_the_journal_has_is_given_though_the_budget_is_spent(
    backend: str, tmp_path: Path
) -> None:
    """The same budget again gives the same rows; one that all rows fit into stops nothing."""
    journal = tmp_path / "work.journal"

    async def work() -> None:
        pipeline = pipeline_of(counting)
        for restored in (0, 5):
            rows = ["1"] * 9
            report = await pipeline.map(rows, journal=journal, budget=50, concurrency=1).report()
            assert (report.rows, report.restored, report.complete) == (5, restored, False)
        async with pipeline.map(["1"] * 9, journal=journal, budget=90, concurrency=1) as run:
            assert len([result async for result in run]) == 9  # and nothing is raised
        assert run.so_far.complete

    run_virtual(work, backend=backend)


def test_a_journal_that_is_taken_away_ends_the_run(tmp_path: Path) -> None:
    """Results that are no longer there are not passed over in silence."""
    journal = tmp_path / "work.journal"

    def take_away() -> None:
        for end in ("", "-wal", "-shm"):
            Path(f"{journal}{end}").unlink()

    async def answer(request: Any) -> Any:
        if request.messages[-1].text == "5":
            take_away()
        return ChatResponse.of("done")

    async def work() -> None:
        with pytest.raises(JournalError, match="removed or replaced"):
            rows = [str(number) for number in range(20)]
            await pipeline_of(answer).map(rows, journal=journal, concurrency=1).report()

    run_virtual(work)


def test_a_step_that_is_tried_again_finds_what_it_found(tmp_path: Path) -> None:
    """Where a transaction fails for another's step, no row that is kept becomes one of two."""
    file = SQLiteFile(tmp_path / "work.journal", FORM, JournalRows)
    entry = Entry(None, b"key", b"hash", 0, "", None, b"data", 0)
    seen = Numbers()

    def step(work: Any) -> Step:
        return Step(work, writes=True)

    file.run([step(lambda rows: rows.begin_run({}, restart=False, identity="one"))])
    file.run([step(lambda rows: rows.keep([entry], b""))])
    claims = [Claim(0, b"key", b"hash")]
    admits = step(lambda rows: rows.admit(claims, seen, frozenset(), changed=False))
    breaks = step(lambda rows: rows.keep([attrs.evolve(entry, key=cast("Any", None))], b""))
    file.run([admits, breaks])
    file.close_held()
    assert breaks.error is not None
    assert [known.verdict for known in admits.result] == ["kept"]


def test_equal_rows_keep_their_order(tmp_path: Path) -> None:
    """Whichever rows are looked up together, the second of them stays the second."""
    journal = tmp_path / "work.journal"
    numbers = iter(range(99))

    async def answer(_: Any) -> Any:
        return ChatResponse.of(str(next(numbers)))

    async def texts(rows: Any, concurrency: int) -> list[str]:
        pipeline = pipeline_of(answer)
        async with pipeline.map(rows, journal=journal, concurrency=concurrency) as work:
            return [result.response.text async for result in work if result.response is not None]

    async def slowly() -> Any:
        for _ in range(4):
            await anyio.sleep(1)
            yield "same"

    async def work() -> None:
        assert await texts(slowly(), 1) == list("0123")
        assert await texts(["same"] * 5, 1) == list("01234")
        assert await texts(slowly(), 1) == list("0123")

    run_virtual(work)


@BACKENDS
@pytest.mark.parametrize("kept", [False, True])
def test_a_row_does_not_wait_for_the_next(backend: str, tmp_path: Path, *, kept: bool) -> None:
    """Each row is asked once it has come, also where its source blocks until it is answered."""
    answered = threading.Semaphore(0)

    def rows() -> Iterator[str]:
        for number in range(4):
            yield f"mock: say {number}"
            assert answered.acquire(timeout=20)

    async def work() -> None:
        pipeline = Pipeline([], "mock")
        journal = tmp_path / "work.journal" if kept else None
        found: list[str] = []
        async with pipeline.map(rows(), journal=journal) as run:
            async for result in run:
                assert result.response is not None
                found.append(result.response.text)
                answered.release()
        assert found == list("0123")

    anyio.run(work, backend=backend)


@attrs.frozen
class Place:
    """What is asked for."""

    name: str


def test_values_come_back_from_a_journal_to_synchronous_code(tmp_path: Path) -> None:
    """`map_sync` with `returns=`: what was read, was kept, and what did not fit is an error."""
    journal = tmp_path / "work.journal"

    async def answer(request: Any) -> Any:
        text = request.messages[-1].text
        await anyio.sleep(0.01 if text == "x" else 0)
        return ChatResponse.of(text)

    answer.fingerprint = "same"  # type: ignore[attr-defined] # pyright: ignore[reportFunctionMemberAccess]
    with pytest.raises(ConfigurationError, match="Structured"):
        Pipeline([], answer).map([], returns=Place)
    pipeline = Pipeline(["structured"], answer)
    rows = ['{"name": "Rome"}', "no place"]
    for restored in (False, True):
        with pipeline.map_sync(rows, journal=journal, returns=Place) as work:
            good, bad = work
        assert (good.value, good.restored) == (Place("Rome"), restored)
        with pytest.raises(StructureError, match="does not fit"):
            _ = bad.value
        assert work.progress.done == 2
    with pytest.raises(JournalError, match="returns"):
        pipeline.map_sync(rows, journal=journal).report()
    with pytest.raises(MisuseError, match="not being run"):
        pipeline.map_sync(rows).stop()
    report = pipeline.map_sync([ChatRequest.of("x")]).report()
    assert report.answered == 1
    results: list[MapResult[Any]] = []
    with pipeline.map_sync(["x"] * 99, concurrency=1) as work:
        for result in work:
            results.append(result)
            work.stop()
    assert 1 <= len(results) < 50


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_lock_ends_with_the_process_that_took_it(tmp_path: Path) -> None:
    """A child that was forked meanwhile has no part in it, and harms nothing if it lets go."""
    lock = JournalLock(tmp_path / "work.journal")
    held, ending = os.pipe()
    middle = os.fork()
    if not middle:
        lock.take()
        if not os.fork():
            lock.release()
            os.close(ending)
            os.read(held, 1)
        os._exit(0)
    os.waitpid(middle, 0)
    assert (tmp_path / "work.journal.lock").exists()  # as a process leaves it that dies
    lock.take()
    lock.release()
    os.close(held)
    os.close(ending)
