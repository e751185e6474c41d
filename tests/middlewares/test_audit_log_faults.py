"""The audit log on disks that fail: an error for whom it failed, and no gap that nothing tells."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from audit_disks import FailingDisk, followed, good, in_use, segments, told

from lamella import AuditError, Outcome
from lamella.testing import virtual_ports
from lamella_middlewares.audit._log import AuditLog
from lamella_middlewares.audit._reading import read_segment

pytestmark = pytest.mark.anyio


async def append_all(log: AuditLog, count: int) -> tuple[list[int], list[int]]:
    """Append so many records one after another: which were acknowledged, and which refused."""
    ports = virtual_ports()
    written: list[int] = []
    refused: list[int] = []
    for number in range(count):
        try:
            await log.append(ports, "intent", {"n": number})
        except AuditError:
            refused.append(number)
        else:
            written.append(number)
        await ports.sleep(1)
    return written, refused


def counted(directory: Path) -> list[int]:
    """The records that count: of a segment that failed, those that the next header vouches for."""
    found = {path.stem: followed(read_segment(path))[0] for path in segments(directory)}
    for records in list(found.values()):
        before = records[0].get("previous")
        if before is not None:
            assert len(found[before]) >= records[0]["previous_size"]
            if records[0]["why"] == "failed":
                found[before] = found[before][: records[0]["previous_size"]]
    return sorted(
        record["n"]
        for records in found.values()
        for record in records
        if record["kind"] == "intent"
    )


@pytest.mark.parametrize("fsync", ["each", "group", "none"])
async def test_whatever_call_fails_what_counts_is_what_was_acknowledged(
    tmp_path: Path, fsync: Any
) -> None:
    """Whichever of the disk's calls fails: the record is refused, counts nowhere, others do."""
    number, tried = 0, True
    while tried:
        disk, directory = FailingDisk(), tmp_path / str(number)
        disk.fail_at = number
        log = AuditLog(directory, fsync=fsync, max_bytes=1024, disk=disk)
        written, refused = await append_all(log, 6)
        assert len(refused) <= 1
        assert counted(directory) == written == sorted({*range(6)} - {*refused})
        assert not list(directory.glob("*.new")), "nothing half-made is left"
        tried = len(disk.calls) > number
        number += 1
    assert number > 15


@pytest.mark.parametrize("truncates", [True, False])
async def test_a_full_disk_refuses_what_it_has_no_room_for(tmp_path: Path, truncates: bool) -> None:
    """Wherever in a line it becomes full; once there is room again, the next header tells of it."""
    for room in range(0, 700, 11):
        disk, directory = FailingDisk(), tmp_path / str(room)
        disk.room = room
        if not truncates:
            disk.fails["truncate"] = errno.EIO
        log, ports = AuditLog(directory, disk=disk), virtual_ports()
        written, refused = await append_all(log, 4)
        assert refused
        assert log.problem == "ENOSPC"
        disk.room = None
        await log.append(ports, "intent", {"n": 4})
        assert counted(directory) == [*written, 4]
        new = good(segments(directory)[-1])[0] if truncates else None
        if written and new is not None:
            assert (new["why"], new["error"], new["lost"]) == ("failed", "ENOSPC", len(refused))
        await log.aclose(ports)


async def test_after_a_failed_fsync_a_segment_is_trusted_no_more(tmp_path: Path) -> None:
    """Nothing is written to it again; the next one's header says up to where it counts, and why."""
    disk, ports = FailingDisk(), virtual_ports()
    log = AuditLog(tmp_path, disk=disk)
    await log.append(ports, "intent", {"n": 0})
    disk.fails["sync"] = errno.EIO
    await ports.sleep(1)
    with pytest.raises(AuditError) as caught:
        await log.append(ports, "intent", {"n": 1})
    assert "EIO" in str(caught.value)
    assert (caught.value.outcome, caught.value.retryable) == (Outcome.NOT_SENT, False)
    assert isinstance(caught.value.__cause__, OSError)
    (old,) = segments(tmp_path)
    content = old.read_bytes()
    assert not in_use(old)
    del disk.fails["sync"]
    position = await log.append(ports, "intent", {"n": 2})
    assert old.read_bytes() == content
    assert position.segment != old.stem
    header = good(segments(tmp_path)[-1])[0]
    assert header["previous"] == old.stem
    assert (header["previous_size"], header["why"]) == (2, "failed")
    assert (header["error"], header["lost"]) == ("EIO", 1)
    assert told(tmp_path) == [0, 2]
    root = log.root()
    assert root is not None
    assert (root.segment, root.size) == (position.segment, 2)


async def test_everybody_of_a_failed_batch_is_told(tmp_path: Path) -> None:
    """Each with an error of their own, and the next header counts them."""
    disk, ports = FailingDisk(), virtual_ports()
    log = AuditLog(tmp_path, disk=disk)
    await log.append(ports, "intent", {"n": -1})
    disk.fails["write"] = errno.EIO
    errors: list[AuditError] = []

    async def append(number: int) -> None:
        with pytest.raises(AuditError) as caught:
            await log.append(ports, "intent", {"n": number})
        errors.append(caught.value)

    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(append, number)
    assert len({id(error) for error in errors}) == 5
    disk.fails.clear()
    await ports.sleep(1)
    await log.append(ports, "intent", {"n": 9})
    assert good(segments(tmp_path)[-1])[0]["lost"] == 5
    assert counted(tmp_path) == [-1, 9]


async def test_writes_may_be_short(tmp_path: Path) -> None:
    """A disk that takes a few bytes at a time gets the same file; one that takes none fails."""
    disk, ports = FailingDisk(), virtual_ports()
    disk.takes = 7
    log = AuditLog(tmp_path, disk=disk)
    for number in range(3):
        await log.append(ports, "intent", {"n": number})
    assert told(tmp_path) == [0, 1, 2]
    disk.takes = 0
    with pytest.raises(AuditError, match="takes no more bytes"):
        await log.append(ports, "intent", {"n": 3})
    disk.takes = None
    await log.append(ports, "intent", {"n": 4})
    assert counted(tmp_path) == [0, 1, 2, 4]


@pytest.mark.parametrize(
    ("call", "number"),
    [
        ("create", errno.EROFS),
        ("create", errno.EMFILE),
        ("lock", errno.ENOLCK),
        ("open", errno.EIO),
    ],
)
async def test_where_no_segment_can_begin_nothing_is_acknowledged(
    tmp_path: Path, call: str, number: int
) -> None:
    """A read-only directory, too many open files, a file system without locks."""
    disk = FailingDisk()
    disk.fails[call] = number
    log = AuditLog(tmp_path, disk=disk)
    written, refused = await append_all(log, 3)
    assert (written, refused) == ([], [0, 1, 2])
    assert log.problem == errno.errorcode[number]
    assert log.root() is None
    disk.fails.clear()
    written, refused = await append_all(log, 1)
    assert written == [0]
    assert max(good(path)[0].get("lost", 0) for path in segments(tmp_path)) == 3


async def test_where_there_are_no_locks_nothing_is_left_behind(tmp_path: Path) -> None:
    """Neither files nor open ones, however many records are refused; the error says what it is."""
    disk = FailingDisk()
    disk.fails["lock"] = errno.ENOLCK
    log, ports = AuditLog(tmp_path, disk=disk), virtual_ports()
    opened: set[int] = set()
    for number in range(5):
        with pytest.raises(AuditError, match="ENOLCK"):
            await log.append(ports, "intent", {"n": number})
        file = os.open(tmp_path, os.O_RDONLY) if os.name != "nt" else 0
        opened.add(file)
        os.close(file)
    assert len(opened) == 1
    assert told(tmp_path) == []
    assert [*os.scandir(tmp_path)] == []


@pytest.mark.skipif(os.name == "nt", reason="open files cannot be removed there")
@pytest.mark.parametrize("fsync", ["group", "none"])
async def test_what_is_written_to_a_removed_file_is_not_acknowledged(
    tmp_path: Path, fsync: Any
) -> None:
    """A directory that is deleted under a running process refuses one record, and is made again."""
    directory = tmp_path / "log"
    log, ports = AuditLog(directory, fsync=fsync), virtual_ports()
    await log.append(ports, "intent", {"n": 0})
    shutil.rmtree(directory)
    with pytest.raises(AuditError, match="the segment's file was removed"):
        await log.append(ports, "intent", {"n": 1})
    await log.append(ports, "intent", {"n": 2})
    assert told(directory) == [2]
    header = good(segments(directory)[0])[0]
    assert (header["why"], header["error"], header["lost"]) == ("failed", "ENOENT", 1)


async def test_a_directory_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    """The error names it."""
    (tmp_path / "log").write_text("x")
    with pytest.raises(AuditError, match=r"log.*ENOTDIR"):
        await AuditLog(tmp_path / "log").append(virtual_ports(), "intent", {})


async def test_an_end_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """The segment has ended all the same, and what was acknowledged is in it."""
    disk, ports = FailingDisk(), virtual_ports()
    log = AuditLog(tmp_path, disk=disk)
    await log.append(ports, "intent", {"n": 0})
    disk.fails["sync"] = errno.EIO
    with pytest.raises(AuditError, match="EIO"):
        await log.aclose(ports)
    await log.aclose(ports)
    assert not in_use(segments(tmp_path)[0])
    assert told(tmp_path) == [0]


LIMITED = """
import resource, signal, sys
import anyio
from lamella import AuditError, Ports
from lamella_middlewares.audit._log import AuditLog

async def main():
    log, ports = AuditLog(sys.argv[1]), Ports()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    for number in range(20):
        try:
            await log.append(ports, "intent", {"n": number})
        except AuditError:
            print("refused", number)
        else:
            print("written", number)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await log.append(ports, "intent", {"n": 20})
    print("written", 20)

anyio.run(main)
"""


@pytest.mark.skipif(os.name == "nt", reason="this system has no such limit")
def test_the_systems_own_limit_is_kept(tmp_path: Path) -> None:
    """A real write that comes to its limit in the middle of a line loses and hides nothing."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said = [line.split() for line in done.stdout.splitlines()]
    assert len(said) == 21
    assert {word for word, _ in said} == {"refused", "written"}
    assert counted(tmp_path) == [int(number) for word, number in said if word == "written"]
    assert any(good(path)[0].get("error") == "EFBIG" for path in segments(tmp_path))
