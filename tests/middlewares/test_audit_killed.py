"""Processes that are killed while their pipelines work: what a caller was given is in the log."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from audit_disks import good, segments
from audit_logs import ask, heads_in, pipeline, records

from lamella.testing import run_virtual
from lamella_middlewares.audit import verify

WORKER = """
import os, sys
import anyio
from lamella import ChatRequest, Context, Pipeline, Ports, Secret
from lamella.testing import Scripted
from lamella_middlewares.audit import Audit, Heads

async def main(directory, sink, fsync):
    heads = Heads(every=7, sinks=[sink])
    key = Secret.of_value("k" * 32)
    audit = Audit(directory, key, fsync=fsync, max_bytes=30_000, heads=heads)

    async def work(line, task):
        number = 0
        while True:
            request = ChatRequest.of("hi", model="m", context=Context(user=f"{task}-{number}"))
            if task % 2:
                async with line.stream(request) as response:
                    await response.collect()
            else:
                response = await line.run(request)
            os.write(1, f"{response.context.call_id}\\n".encode())
            number += 1

    async with Pipeline([audit], Scripted(["Hello."], repeat=True)) as line:
        async with anyio.create_task_group() as group:
            for task in range(4):
                group.start_soon(work, line, task)

anyio.run(main, *sys.argv[1:])
"""


@pytest.mark.skipif(os.name == "nt", reason="this system has no such signal")
def test_killed_at_any_moment_no_call_that_returned_is_missing(tmp_path: Path) -> None:
    """Its intent and its one outcome are there, the log is good, and every kept head agrees."""
    directory, sink, random = tmp_path / "log", tmp_path / "heads", Random(3)
    returned: set[str] = set()
    for turn in range(4):
        fsync = ["group", "each", "none", "group"][turn]
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(directory), str(sink), fsync],
            stdout=subprocess.PIPE,
        )
        assert worker.stdout is not None
        lines = [worker.stdout.readline() for _ in range(random.randint(1, 150))]
        worker.send_signal(signal.SIGKILL)
        lines += [line for line in worker.stdout.readlines() if line.endswith(b"\n")]
        worker.stdout.close()
        assert worker.wait() == -signal.SIGKILL
        returned |= {line.decode().strip() for line in lines}
        report = verify(directory, heads=heads_in(sink) if sink.exists() else ())
        assert report.ok, report.problems  # before anybody has recovered anything, too

    async def next_life() -> None:
        async with pipeline(directory) as line:
            await line.run(ask())

    run_virtual(next_life)
    report = verify(directory, heads=heads_in(sink))
    assert report.ok, report.problems
    ended = [record["call"] for record in records(directory, "outcome")]
    assert len(ended) == len(set(ended))
    assert returned <= {*ended}
    assert returned.isdisjoint(report.open_calls)
    ends = {good(path)[-1]["kind"] for path in segments(directory)}
    assert ends == {"closed", "recovered"}
    assert len(returned) > 100
