"""Spend and the life of a process: its end, a fork, SIGKILL, SIGTERM."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from lamella import SpendQuery, SpendRecord
from lamella._sqlite_spend import SQLiteSpend

pytestmark = pytest.mark.skipif(os.name == "nt", reason="it has neither forks nor these signals")

BEGIN = """
import os, signal
import anyio
from lamella import ChatRequest, Pipeline
from lamella_middlewares import Spend

async def model(request):
    return request.answer([])

spend = Spend("spend.db", flush_interval=600)
pipe = Pipeline([spend], model)

def ask(name):
    return ChatRequest.of("hello", model=name)
"""

AT_EXIT = """
async def killed():
    await pipe.run(ask("flushed"))
    await spend.flush()
    await pipe.run(ask("waiting when it was killed"))
    os.kill(os.getpid(), signal.SIGKILL)

pipe.run_sync(ask("parent"))
child = os.fork()
if child == 0:
    pipe.run_sync(ask("child"))
    raise SystemExit
victim = os.fork()
if victim == 0:
    anyio.run(killed)
for each in (child, victim):
    os.waitpid(each, 0)
pipe.run_sync(ask("parent again"))
"""

TERMINATED = """
from lamella.cli import _interrupts
from lamella.cli._interrupts import Terminated, run

_interrupts.GRACE_SECONDS = 60  # however slow the disk is

async def work(_):
    async with pipe:
        await pipe.run_many([ask("many")] * 1000)
        print("ready", flush=True)
        await anyio.sleep_forever()

try:
    run(work)
except Terminated:
    raise SystemExit(143)
"""


def start(code: str, folder: Path) -> subprocess.Popen[bytes]:
    """Run a program in a folder."""
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", BEGIN + code], cwd=folder, stdout=subprocess.PIPE
    )


def written(folder: Path) -> list[SpendRecord]:
    """The records that a program has left."""

    async def read() -> list[SpendRecord]:
        store = SQLiteSpend(folder / "spend.db")
        found = [record async for record in store.read(SpendQuery())]
        await store.aclose()
        return found

    return anyio.run(read)


def test_the_end_of_a_process_writes_what_waits(tmp_path: Path) -> None:
    """Nobody has closed anything. A forked child writes its own records and no others.

    One that is killed loses what was not written yet, and nothing else.
    """
    with start(AT_EXIT, tmp_path) as process:
        assert process.wait(90) == 0
    models = sorted(str(record.model) for record in written(tmp_path))
    assert models == ["child", "flushed", "parent", "parent again"]


def test_sigterm_loses_nothing_under_the_programs_handler(tmp_path: Path) -> None:
    """A thousand records wait when it comes, and all of them are written."""
    with start(TERMINATED, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(90) == 143
    records = written(tmp_path)
    assert len(records) == len({record.id for record in records}) == 1000
