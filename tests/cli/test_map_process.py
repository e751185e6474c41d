"""`lamella map` in a process of its own: what signals leave behind."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from lamella import SpendQuery, SpendRecord
from lamella._sqlite_spend import SQLiteSpend

pytestmark = pytest.mark.skipif(os.name == "nt", reason="it has no such signals")

PRESET = """
[presets.mine]
transport = { use = "mock", latency_per_token = 0.02 }
layers = [
    { use = "spend", path = "mine.db", flush_interval = 600, batch = 100000 },
    "cost",
]
"""
QUICK = {"prompt": "mock: say done"}
SLOW = {"prompt": "mock: words=10"}
ENDLESS = {"prompt": "mock: words=5000"}


def start(processes: Any, folder: Path, rows: list[Any], *more: str) -> subprocess.Popen[bytes]:
    """Start it with rows on a standard input that stays open."""
    (folder / "lamella.toml").write_text(PRESET)
    process: subprocess.Popen[bytes] = processes.start(
        "map", "-", "-", "--preset", "mine", *more, stdin=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(b"".join([json.dumps(row).encode() + b"\n" for row in rows]))
    process.stdin.flush()
    return process


def lines(process: subprocess.Popen[bytes], count: int) -> list[Any]:
    """Wait for so many answers."""
    assert process.stdout is not None
    return [json.loads(process.stdout.readline()) for _ in range(count)]


def records(folder: Path) -> list[SpendRecord]:
    """What was written down."""

    async def read() -> list[SpendRecord]:
        store = SQLiteSpend(folder / "mine.db")
        found = [record async for record in store.read(SpendQuery())]
        await store.aclose()
        return found

    return anyio.run(read)


def test_sigterm_loses_no_answer_and_no_record(processes: Any, tmp_path: Path) -> None:
    """A thousand records wait when it comes; each attempt is written down, and none twice."""
    rows = [*[ENDLESS] * 8, *[QUICK] * 1000]
    process = start(processes, tmp_path, rows, "--concurrency", "264", "--drain", "0.05")
    found = lines(process, 1000)
    assert not (tmp_path / "mine.db").exists() or records(tmp_path) == []
    process.send_signal(signal.SIGTERM)
    done = processes.end(process)
    assert (done.code, done.out) == (143, "")
    assert {line["text"] for line in found} == {"done"}
    assert sorted(line["index"] for line in found) == list(range(8, 1008))
    assert "1,000 rows done, 0 failed" in done.err
    assert "Broken off: 8 rows under way" in done.err
    written = records(tmp_path)
    assert len(written) == len({record.id for record in written}) == 1008
    outcomes = [record.outcome for record in written]
    assert outcomes.count("complete") == 1000
    assert outcomes.count("cancelled") == 8


def test_rows_under_way_may_end_and_a_second_signal_cuts_them(
    processes: Any, tmp_path: Path
) -> None:
    """After Ctrl-C the input is read no further; what still runs is the next Ctrl-C's."""
    process = start(processes, tmp_path, [ENDLESS, SLOW, QUICK], "--drain", "600")
    (quick,) = lines(process, 1)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert b"under way may take 600 s more" in process.stderr.readline()
    (slow,) = lines(process, 1)
    assert (quick["index"], slow["index"]) == (2, 1)
    process.send_signal(signal.SIGINT)
    done = processes.end(process)
    assert (done.code, done.out) == (130, "")
    assert "2 rows done" in done.err
    assert "Broken off: 1 row under way" in done.err
    assert "Traceback" not in done.err
    assert sorted(record.outcome for record in records(tmp_path)) == [
        "cancelled", "complete", "complete",
    ]  # fmt: skip


def test_a_reader_who_leaves_ends_the_run(processes: Any, tmp_path: Path) -> None:
    """`lamella map ... | head`: no traceback, and the exit code is that of SIGPIPE."""
    process = start(processes, tmp_path, [QUICK])
    lines(process, 1)
    assert process.stdout is not None
    assert process.stdin is not None
    process.stdout.close()
    process.stdout = None
    process.stdin.write(json.dumps(QUICK).encode() + b"\n")
    process.stdin.flush()
    done = processes.end(process)
    assert done.code == 141
    assert "Traceback" not in done.err
    assert len(records(tmp_path)) == 2


def test_sigterm_leaves_what_is_done_in_the_file(processes: Any, tmp_path: Path) -> None:
    """It is put in its place with the lines that there are, in order, and the journal stays."""
    (tmp_path / "lamella.toml").write_text(PRESET)
    rows = [QUICK, ENDLESS, *[QUICK] * 20]
    (tmp_path / "rows.jsonl").write_text("".join([json.dumps(row) + "\n" for row in rows]))
    command = ("map", "rows.jsonl", "answers.jsonl", "-p", "mine", "--concurrency", "2")
    process = processes.start(*command, "--drain", "0.05")
    journal = tmp_path / "answers.jsonl.journal"
    while not journal.exists() or kept_in(journal) < 21:
        assert process.poll() is None, processes.end(process).err
        anyio.run(anyio.sleep, 0.01)
    assert not (tmp_path / "answers.jsonl").exists()
    process.send_signal(signal.SIGTERM)
    done = processes.end(process)
    assert done.code == 143, done.err
    assert "Broken off: 1 row under way" in done.err
    assert "The same command goes on from answers.jsonl.journal." in done.err
    written = (tmp_path / "answers.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["index"] for line in written] == [0, *range(2, 22)]
    assert sorted(path.name for path in tmp_path.glob("*answers*")) == [
        "answers.jsonl", "answers.jsonl.journal",
    ]  # fmt: skip


def kept_in(journal: Path) -> int:
    """How many results a journal has."""
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as link:
        try:
            (found,) = link.execute("SELECT count(*) FROM results").fetchone()
        except sqlite3.OperationalError:  # it is being made
            return 0
    return int(found)
