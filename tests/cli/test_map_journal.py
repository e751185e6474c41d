"""`lamella map` and its journal: deaths, formats, and what a run leaves behind."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from lamella.cli._map_tables import LineTable
from lamella.testing import MockServer

ROWS = 120
PLACES = 8
KILLS = ((30, "asyncio"), (75, "trio"))
"""After so many requests, and on which loop."""

WORKER = f"""
import sys
import anyio
from lamella import Pipeline

async def main():
    rows = [{{"id": number, "prompt": str(number), "model": "m"}} for number in range({ROWS})]
    async with Pipeline([], "openai") as pipeline:
        async with pipeline.map(rows, journal="work.journal", concurrency={PLACES}) as work:
            found = [(result.index, result.response.text) async for result in work]
    assert found == [(number, f"re {{number}}") for number in range({ROWS})], found

anyio.run(main, backend=sys.argv[1])
print("whole")
"""


@pytest.mark.skipif(os.name == "nt", reason="it has no such signals")
def test_a_killed_run_is_gone_on_from(processes: Any, tmp_path: Path) -> None:
    """After `kill -9`, on either loop, all results are there once, and in order.

    The provider is asked again for at most as many rows as were under way, each time.
    """
    asked: list[str] = []

    def answer(request: Any) -> str:
        asked.append(request.messages[-1].text)
        return f"re {asked[-1]}"

    with MockServer(answer=answer, latency=0.004).start_in_thread() as server:
        variables = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "any"}

        def start(backend: str) -> Any:
            return processes.start(backend, code=WORKER, environment=variables)

        for kills, (until, backend) in enumerate(KILLS, 1):
            process = start(backend)
            while len(asked) < until:
                assert process.poll() is None, processes.end(process).err
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
            process.wait()
            time.sleep(0.05)  # what was sent by then arrives
            again = len(asked) - len(set(asked))
            assert again <= (kills - 1) * PLACES
        done = processes.end(start("asyncio"))
    assert done.out == "whole\n", done.err
    assert set(asked) == {str(number) for number in range(ROWS)}
    assert len(asked) <= ROWS + len(KILLS) * PLACES


def lines_of(path: Path) -> list[Any]:
    """The lines of a file."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_each_format_says_the_same(lamella: Any, tmp_path: Path) -> None:
    """Rows of lines, CSV and Parquet give the same answers, in the order of the rows."""
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows: list[dict[str, Any]] = [
        {"id": f"r{number}", "prompt": f"mock: say {number}", "temperature": number / 9 or None,
         "max_output_tokens": 50, "tags": '{"team": "web"}'}
        for number in range(10)
    ]  # fmt: skip
    rows[7]["temperature"] = -1.0
    lines = [
        {key: json.loads(value) if key == "tags" else value for key, value in row.items()}
        for row in rows
    ]
    (tmp_path / "rows.jsonl").write_text("".join([json.dumps(line) + "\n" for line in lines]))
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    told: list[list[Any]] = []
    for end in ("jsonl", "csv", "parquet"):
        assert lamella("map", f"rows.{end}", f"from-{end}.jsonl").code == 1
        told.append([(one["index"], one["id"], one["text"], (one["error"] or {}).get("message"))
                     for one in lines_of(tmp_path / f"from-{end}.jsonl")])  # fmt: skip
        assert lamella("map", "rows.jsonl", f"answers.{end}", "--concurrency", "3").code == 1
    assert told[0] == told[1] == told[2]
    assert [(one[0], one[1]) for one in told[0]] == [(n, f"r{n}") for n in range(10)]
    with (tmp_path / "answers.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    columns = parquet.read_table(tmp_path / "answers.parquet").to_pylist()
    plain = lines_of(tmp_path / "answers.jsonl")
    assert [row["text"] for row in columns] == [one["text"] for one in plain]
    assert [cell["id"] for cell in cells] == [row["id"] for row in columns]
    assert [cell["cost"] for cell in cells] == [row["cost"] or "" for row in columns]
    assert columns[7]["error_code"] == cells[7]["error_code"] == "invalid_row"


def test_a_table_must_have_known_columns(lamella: Any, tmp_path: Path) -> None:
    """Columns that no row has are refused before anything is asked; so is what is no table."""
    (tmp_path / "rows.csv").write_text("promt,id\nx,1\n")
    (tmp_path / "rows.parquet").write_text("nothing")
    for rows, why in (("rows.csv", "'promt'"), ("rows.parquet", "is no Parquet file")):
        done = lamella("map", rows, "answers.jsonl")
        assert (done.code, why in done.err) == (2, True), done.err
    assert lamella("map", "-", "answers.jsonl", "--input-format", "csv", stdin=b"x").code == 2
    assert lamella("map", "rows.csv", "-", "--format", "csv").code == 2
    assert not (tmp_path / "answers.jsonl").exists()


SCRIPTED = """
[presets.mine]
transport = {{ use = "mock", script = {script} }}
layers = ["cost"]
"""


def test_a_journal_stays_until_all_rows_are_answered(lamella: Any, tmp_path: Path) -> None:
    """The same command goes on from it, asks what may pass again, and removes it in the end."""
    config = tmp_path / "lamella.toml"
    config.write_text(SCRIPTED.format(script='["ok", "status=500", "ok"]'))
    (tmp_path / "rows.jsonl").write_text('"mock: say a"\n"mock: say b"\n"mock: say c"\n')
    command = ("map", "rows.jsonl", "answers.jsonl", "-p", "mine", "--concurrency", "1")
    assert lamella(*command).code == 1
    journal = tmp_path / "answers.jsonl.journal"
    assert journal.exists()
    again = lamella(*command)
    assert (again.code, "The journal had 3 of them" in again.err) == (1, True)
    refused = lamella(*command, "--temperature", "1")
    assert (refused.code, "temperature of the defaults" in refused.err) == (2, True)
    done = lamella(*command, "--retry-failed")
    assert done.code == 0, done.err
    assert [line["index"] for line in lines_of(tmp_path / "answers.jsonl")] == [0, 1, 2]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "answers.jsonl", "lamella.toml", "rows.jsonl",
    ]  # fmt: skip


def test_a_budget_stops_the_run_and_a_larger_one_goes_on(lamella: Any, tmp_path: Path) -> None:
    """What is done by then is written, in order."""
    (tmp_path / "rows.jsonl").write_text('"mock: words=20"\n' * 20)
    command = ("map", "rows.jsonl", "answers.jsonl", "--concurrency", "2")
    done = lamella(*command, "--budget", "0.0005")
    assert done.code == 1
    assert "No further row was begun: the budget of $0.0005" in done.err
    part = lines_of(tmp_path / "answers.jsonl")
    assert [line["index"] for line in part] == list(range(len(part)))
    assert 0 < len(part) < 20
    assert lamella(*command, "--budget", "1").code == 0
    assert len(lines_of(tmp_path / "answers.jsonl")) == 20
    assert lamella(*command, "--budget", "much").code == 2


@pytest.mark.parametrize("journal", [True, False])
def test_a_full_disk_is_told_and_nothing_is_lost(
    lamella: Any, tmp_path: Path, *, journal: bool
) -> None:
    """Of the journal or of the file of answers: no half file, and the same command goes on."""
    resource = pytest.importorskip("resource")
    (tmp_path / "rows.jsonl").write_text(f'"mock: say {"x" * 4000}"\n' * 60)
    more = [] if journal else ["--no-journal"]
    command = ("map", "rows.jsonl", "answers.jsonl", "--concurrency", "4", *more)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, before[1]))
    try:
        done = lamella(*command)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert done.code == 1, done.err
    assert ("journal" in done.err, "File too large" in done.err) == (journal, not journal)
    kept = ["answers.jsonl.journal", "rows.jsonl"] if journal else ["rows.jsonl"]
    assert sorted(path.name for path in tmp_path.iterdir()) == kept
    done = lamella(*command)
    assert (done.code, "The journal had" in done.err) == (0, journal), done.err
    assert [line["index"] for line in lines_of(tmp_path / "answers.jsonl")] == list(range(60))


def test_a_file_that_has_failed_once_is_not_put_in_its_place(
    lamella: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where some lines could not be written, the others do not stand for all of them."""
    monkeypatch.setattr("lamella.cli._map_file._TOGETHER", 2)
    write = LineTable.add
    failures = iter([OSError(28, "No space left on device")])

    def add(table: LineTable, lines: Any) -> None:
        for failure in failures:
            raise failure
        write(table, lines)

    monkeypatch.setattr(LineTable, "add", add)
    (tmp_path / "rows.jsonl").write_text('"mock: say a"\n' * 5)
    done = lamella("map", "rows.jsonl", "answers.jsonl")
    assert (done.code, "No space left" in done.err) == (1, True)
    assert not (tmp_path / "answers.jsonl").exists()
    assert lamella("map", "rows.jsonl", "answers.jsonl").code == 0
    assert len(lines_of(tmp_path / "answers.jsonl")) == 5
