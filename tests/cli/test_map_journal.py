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

ROWS = 120
PLACES = 8

WORKER = f"""
import os, sys
import anyio
from lamella import ChatResponse, Pipeline

counted = os.open("asked", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

async def answer(request):
    text = request.messages[-1].text
    os.write(counted, text.encode() + b"\\n")
    await anyio.sleep(0.01)
    return ChatResponse.of(text)

async def main():
    rows = [{{"id": number, "prompt": str(number)}} for number in range({ROWS})]
    pipeline = Pipeline([], answer)
    answer.fingerprint = "answer"
    async with pipeline.map(rows, journal="work.journal", concurrency={PLACES}) as work:
        found = [(result.index, result.response.text) async for result in work]
    assert found == [(number, str(number)) for number in range({ROWS})], found

anyio.run(main)
print("whole")
"""


@pytest.mark.skipif(os.name == "nt", reason="it has no such signals")
def test_a_killed_run_is_gone_on_from(processes: Any, tmp_path: Path) -> None:
    """After `kill -9`, twice, all results are there once, and few rows were asked again.

    As many at most as were under way, each time.
    """
    asked = tmp_path / "asked"

    def count() -> int:
        return len(asked.read_bytes().splitlines()) if asked.exists() else 0

    for until in (30, 75):
        process = processes.start(code=WORKER)
        while count() < until:
            assert process.poll() is None, processes.end(process).err
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = processes.end(processes.start(code=WORKER))
    assert done.out == "whole\n", done.err
    texts = asked.read_text().splitlines()
    assert {int(text) for text in texts} == set(range(ROWS))
    assert len(texts) <= ROWS + 2 * PLACES


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
