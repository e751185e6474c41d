"""Segments of processes that died: nothing acknowledged is lost, nothing is cut off unsaid."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest
from audit_disks import FailingDisk, good, segments, told

from lamella import AuditError
from lamella.testing import run_virtual, virtual_ports
from lamella_middlewares.audit._chain import Chain
from lamella_middlewares.audit._log import AuditLog
from lamella_middlewares.audit._reading import read_segment
from lamella_middlewares.audit._record import Draft
from lamella_middlewares.audit._writer import Writer

pytestmark = pytest.mark.anyio


@pytest.fixture
def dead() -> tuple[str, bytes]:
    """A dead process's segment, a header and four records: its name and its bytes."""
    return anyio.run(_dead)


async def _dead() -> tuple[str, bytes]:
    async with anyio.TemporaryDirectory() as name:
        log, directory = AuditLog(name), Path(name)
        for number in range(4):
            await log.append(virtual_ports(), "intent", {"n": number, "text": "é\U0001f600"})
        log._writer.forget()
        (path,) = segments(directory)
        return path.name, path.read_bytes()


def died(directory: Path, name: str, content: bytes) -> Path:
    """Such a segment in a directory."""
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_bytes(content)
    return path


def contents(directory: Path) -> dict[str, bytes]:
    """What is in the files of a directory, by their names."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def torn_in(directory: Path) -> list[bytes]:
    """What was cut off there."""
    return [content for name, content in contents(directory).items() if name.endswith(".torn")]


async def next_life(directory: Path, disk: FailingDisk | None = None) -> list[dict[str, Any]]:
    """Another process appends a record and closes; the records of its segment."""
    log, ports = AuditLog(directory, disk=disk or FailingDisk()), virtual_ports(1)
    await ports.sleep(60)
    position = await log.append(ports, "intent", {"n": 9})
    await log.aclose(ports)
    return good(directory / f"{position.segment}.audit")


def test_an_end_torn_at_any_byte_is_set_aside_and_told(
    tmp_path: Path, dead: tuple[str, bytes]
) -> None:
    """Whole lines stay; the rest is cut off, kept in a file of its own, and written down twice."""
    name, content = dead
    header = content.index(b"\n") + 1
    for cut in range(header, len(content) + 1):
        directory = tmp_path / str(cut)
        path = died(directory, name, content[:cut])
        own = run_virtual(next_life, directory)
        end = content.rindex(b"\n", 0, cut) + 1
        torn = content[end:cut]
        digest = sha256(torn).hexdigest() if torn else None
        whole = content[:end].splitlines()
        records = good(path)
        assert path.read_bytes().splitlines()[:-1] == whole
        last, adopted = records[-1], own[2]
        assert (last["kind"], last["by"]) == ("recovered", own[0]["segment"])
        assert (last["bytes"], last["digest"]) == (len(torn), digest)
        assert (adopted["kind"], adopted["segment"]) == ("adopted", path.stem)
        assert (adopted["size"], adopted["digest"]) == (len(whole), sha256(whole[-1]).hexdigest())
        assert (adopted["torn"], adopted["torn_digest"]) == (len(torn), digest)
        assert torn_in(directory) == ([torn] if torn else [])
        assert (last["kept"] in contents(directory)) == bool(torn)


@pytest.mark.parametrize(
    "tail", [b'{"a":"\xff"}\n', b'"\xff"\n', b"[" * 900 + b"\n", b"\n", b"0\n"]
)
async def test_an_end_of_whatever_bytes_refuses_nobody(
    tmp_path: Path, dead: tuple[str, bytes], tail: bytes
) -> None:
    """Garbage in a dead segment is no reason not to write down a request."""
    name, content = dead
    died(tmp_path, name, content + tail)
    for _ in range(2):
        own = await next_life(tmp_path)
        assert [record["kind"] for record in own] == ["segment", "intent", "note", "closed"]


def test_nobody_waits_for_the_dead(tmp_path: Path, dead: tuple[str, bytes]) -> None:
    """A large segment is read piece by piece; in between, and before, records are written."""
    chain, lines = Chain(), list[bytes]()
    for number in range(4000):
        kind, fields = ("intent", {"text": "x" * 200}) if number else ("segment", {"format": 1})
        lines.append(chain.add(Draft.of(kind, fields).stamp(number, number))[0])
    path = died(tmp_path, dead[0], b"\n".join(lines) + b"\n")
    read = [0]

    class Disk(FailingDisk):
        def read(self, file: int, offset: int, count: int) -> bytes:
            found = super().read(file, offset, count)
            read[0] += len(found)
            return found

    writer = Writer(tmp_path, Disk(), sync=True, max_bytes=10**6, header={})
    pieces, more = 0, True
    while more:
        writer.write(virtual_ports().new_id, [Draft.of("intent", {"n": pieces}).stamp(9, 9)])
        before = read[0]
        more = writer.look_after()
        assert read[0] - before < 700_000
        pieces += 1
    assert read[0] > path.stat().st_size > 1_300_000
    assert pieces > 4
    assert good(path)[-1]["kind"] == "recovered"
    own = good(segments(tmp_path)[0])
    assert [record["n"] for record in own if record["kind"] == "intent"] == list(range(pieces))
    assert "adopted" in [record["kind"] for record in own]


@pytest.mark.parametrize("error", [PermissionError(13, "no"), RuntimeError("a mistake")])
async def test_a_recovery_that_falls_over_leaves_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Records are written as ever, and one of them says what happened."""

    def names(*_: object) -> list[str]:
        raise error

    monkeypatch.setattr(FailingDisk, "names", names)
    own = await next_life(tmp_path)
    assert [record["kind"] for record in own] == ["segment", "intent", "note", "closed"]
    assert own[2]["problem"] in {"EACCES", "RuntimeError"}


async def test_what_had_no_name_yet_is_removed(tmp_path: Path, dead: tuple[str, bytes]) -> None:
    """A process that dies while it begins a segment leaves a small file; an hour later it goes."""
    name, content = dead
    names = (f"{name}.new", f"{name[:-6]}.0123.torn.new")
    for each in (*names, "mine.new"):
        died(tmp_path, each, content)
        os.utime(tmp_path / each, (1, 1))
    fresh = died(tmp_path, f"1{name}.new", content)
    os.utime(fresh, (1_735_689_600, 1_735_689_600))  # the virtual clock's present
    await next_life(tmp_path)
    left = {each for each in contents(tmp_path) if each.endswith(".new")}
    assert left == {"mine.new", fresh.name}


async def test_it_is_done_once(tmp_path: Path, dead: tuple[str, bytes]) -> None:
    """A segment that has ended, cleanly or so, is left as it is by later processes."""
    name, content = dead
    died(tmp_path, name, content[:-3])
    await next_life(tmp_path)
    before = contents(tmp_path)
    own = await next_life(tmp_path)
    assert [record["kind"] for record in own] == ["segment", "intent", "closed"]
    assert before.items() <= contents(tmp_path).items()


async def test_a_living_process_is_left_alone(tmp_path: Path) -> None:
    """Whatever its segment looks like: it is being written to."""
    log, ports = AuditLog(tmp_path), virtual_ports()
    await log.append(ports, "intent", {"n": 0})
    own = await next_life(tmp_path)
    assert [record["kind"] for record in own] == ["segment", "intent", "closed"]
    await log.append(ports, "intent", {"n": 1})
    assert told(tmp_path) == [0, 1, 9]


@pytest.mark.parametrize("hole", [(-500, -200), (-300, -1), (-300, None), (-1, None)])
async def test_what_a_loss_of_power_has_left_empty_is_a_torn_end(
    tmp_path: Path, dead: tuple[str, bytes], hole: tuple[int, int | None]
) -> None:
    """Zero bytes in place of what was never written, even with a whole line behind them."""
    name, content = dead
    damaged = bytearray(content)
    damaged[slice(*hole)] = bytes(len(damaged[slice(*hole)]))
    path = died(tmp_path, name, bytes(damaged))
    own = await next_life(tmp_path)
    records = good(path)
    assert records[-1]["kind"] == "recovered"
    assert own[2]["size"] == len(records) - 1
    (torn,) = torn_in(tmp_path)
    assert b"".join(path.read_bytes().splitlines(keepends=True)[:-1]) + torn == damaged


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (b'"n":1', b'"n":7', "does not follow"),
        (b'"seq":2', b'"seq":3', "its number is 3"),
        (b'"seq":2', b'"seq": 2', "canonical"),
        (b'"format":1', b'"format":', "not JSON"),
    ],
)
async def test_what_was_tampered_with_is_evidence_and_left_alone(
    tmp_path: Path, dead: tuple[str, bytes], old: bytes, new: bytes, says: str
) -> None:
    """Nothing is cut off or added; the next process notes what it saw."""
    name, content = dead
    changed = content.replace(old, new)
    assert changed != content
    path = died(tmp_path, name, changed)
    for _ in range(2):
        note = (await next_life(tmp_path))[2]
        assert (note["kind"], note["about"], note["segment"]) == ("note", "recovery", path.stem)
        assert says in note["problem"]
        assert path.read_bytes() == changed


async def test_a_segment_without_a_whole_header_was_damaged(
    tmp_path: Path, dead: tuple[str, bytes]
) -> None:
    """It had one before it had its name. It is left as it is and noted."""
    name, content = dead
    for cut in (0, 1, content.index(b"\n")):
        directory = tmp_path / str(cut)
        path = died(directory, name, content[:cut])
        note = (await next_life(directory))[2]
        assert (note["kind"], note["problem"]) == ("note", "it has no header")
        assert path.read_bytes() == content[:cut]


async def test_a_recovery_that_fails_anywhere_is_done_by_the_next(
    tmp_path: Path, dead: tuple[str, bytes]
) -> None:
    """Whichever of the disk's calls fails, nothing of the dead segment's bytes is ever gone."""
    name, content = dead
    number, tried = 0, True
    while tried:
        directory, disk = tmp_path / str(number), FailingDisk()
        path = died(directory, name, content[:-5])
        disk.fail_at = number
        log = AuditLog(directory, disk=disk)
        with suppress(AuditError):
            await log.append(virtual_ports(2), "intent", {"n": 8})
        log._writer.forget()
        await next_life(directory)
        records = good(path)
        assert [record.get("n") for record in records] == [None, 0, 1, 2, None]
        assert records[-1]["kind"] == "recovered"
        (torn,) = torn_in(directory)
        whole = b"".join(path.read_bytes().splitlines(keepends=True)[:-1])
        assert whole + torn == content[:-5]
        tried = len(disk.calls) > number
        number += 1
    assert number > 20


def test_reading_says_where_and_why_it_stops(tmp_path: Path, dead: tuple[str, bytes]) -> None:
    """It never raises; the records before are given with their offsets and bytes."""
    name, content = dead
    ends = [at + 1 for at, byte in enumerate(content) if byte == 10]
    for damaged, offset, reason in (
        (content, None, None),
        (content[:-1], ends[3], "torn"),
        (content + b"\xff\n", ends[4], "malformed"),
        (content + b"\n", ends[4], "malformed"),
        (content[: ends[1]] + b"{}\n" + content[ends[1] :], ends[1], "malformed"),
        (content + b"x" * 17_000_000, ends[4], "malformed"),
        (b"", None, None),
    ):
        reading = read_segment(died(tmp_path, name, damaged))
        for _ in range(2):
            found = list(reading)
            assert [offset for offset, _, _ in found] == [0, *ends][: len(found)]
            assert all(damaged[at : at + len(line)] == line for at, line, _ in found)
            stop = reading.stopped
            assert (stop and stop.offset, stop and stop.reason) == (offset, reason)
            assert reading.end == ([0, *ends][len(found)])
    gone = read_segment(tmp_path / "gone.audit")
    assert list(gone) == []
    assert gone.stopped is not None
    assert gone.stopped.reason == "unreadable"


WORKER = """
import os, sys
import anyio
from lamella import Ports
from lamella_middlewares.audit._chain import Chain
from lamella_middlewares.audit._log import AuditLog

async def main(directory, fsync, who):
    log, ports = AuditLog(directory, fsync=fsync, max_bytes=20_000), Ports()

    async def work(task):
        number = 0
        while True:
            name = f"{who}-{task}-{number}"
            position = await log.append(ports, "intent", {"n": name})
            os.write(1, f"{position.segment} {position.seq} {name}\\n".encode())
            number += 1

    async with anyio.create_task_group() as group:
        for task in range(4):
            group.start_soon(work, task)

anyio.run(main, *sys.argv[1:])
"""


@pytest.mark.skipif(os.name == "nt", reason="this system has no such signal")
def test_killed_at_any_moment_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """Process after process, two at a time, in one directory: each adopts those before it."""
    random = Random(7)
    acknowledged: dict[str, tuple[str, int]] = {}
    kills = 0
    for turn in range(4):
        fsync = ["group", "each", "group", "none"][turn]
        workers = [
            subprocess.Popen(
                [sys.executable, "-c", WORKER, str(tmp_path), fsync, f"{turn}.{number}"],
                stdout=subprocess.PIPE,
            )
            for number in range(2)
        ]
        for worker in workers:
            assert worker.stdout is not None
            lines = [worker.stdout.readline() for _ in range(random.randint(1, 120))]
            worker.send_signal(signal.SIGKILL)
            lines += worker.stdout.readlines()
            worker.stdout.close()
            assert worker.wait() == -signal.SIGKILL
            kills += 1
            for line in lines:
                segment, seq, name = line.decode().split()
                acknowledged[name] = segment, int(seq)
    assert kills == 8
    run_virtual(next_life, tmp_path)
    found: dict[str, tuple[str, int]] = {}
    for path in segments(tmp_path):
        records = good(path)
        assert records[-1]["kind"] in {"closed", "recovered"}
        for record in records:
            if record["kind"] == "intent":
                assert record["n"] not in found
                found[record["n"]] = path.stem, record["seq"]
    assert acknowledged.items() <= found.items()
    assert len(acknowledged) > 100
