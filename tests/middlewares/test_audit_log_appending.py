"""The audit log: what is acknowledged is written, once, by whomever and however many at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from itertools import count, pairwise
from pathlib import Path
from random import Random
from typing import Any

import anyio
import attrs
import pytest
from anyio.lowlevel import checkpoint
from audit_disks import FailingDisk, good, in_use, segments, told

from lamella import AuditError, ConfigurationError, Ports, Waiter
from lamella.testing import each_step, virtual_ports
from lamella_middlewares.audit._log import AuditLog
from lamella_middlewares.audit._record import canonical
from lamella_middlewares.audit._tree import leaf_hash, root_of

pytestmark = pytest.mark.anyio

POLICIES = ["each", "group", "none"]


def leaves(path: Path) -> list[bytes]:
    """The hashes of a segment's records."""
    return [leaf_hash(canonical(record)) for record in good(path)]


@pytest.mark.parametrize("fsync", POLICIES)
async def test_an_appended_record_is_there(tmp_path: Path, fsync: Any) -> None:
    """With its header before it, in a chain; its position and the root are those of the file."""
    ports, log = virtual_ports(), AuditLog(tmp_path / "a" / "log", fsync=fsync)
    assert log.root() is None
    first = await log.append(ports, "intent", {"n": 0})
    second = await log.append(ports, "outcome", {"n": 1, "names": ["b", "a"]})
    (path,) = segments(log.directory)
    assert [(record["seq"], record["kind"]) for record in good(path)] == [
        (0, "segment"),
        (1, "intent"),
        (2, "outcome"),
    ]
    assert (first.seq, second.seq) == (1, 2)
    assert [first.leaf_hash, second.leaf_hash] == leaves(path)[1:]
    assert log.root() == (path.stem, 3, root_of(leaves(path))) == (first.segment, 3, log.root()[2])  # type: ignore[index]
    assert path.stat().st_mode & 0o077 == 0 or os.name == "nt"
    await log.aclose(ports)


async def test_a_closed_log_says_so_and_goes_on_in_another_segment(tmp_path: Path) -> None:
    """Whose header says where the one before had ended; closing what was never begun is nothing."""
    ports, log = virtual_ports(), AuditLog(tmp_path, header={"log": "x"})
    await log.aclose(ports)
    assert segments(tmp_path) == []
    await log.append(ports, "intent", {"n": 0})
    assert in_use(segments(tmp_path)[0])
    await log.aclose(ports)
    (path,) = segments(tmp_path)
    assert not in_use(path)
    ended = log.root()
    await ports.sleep(5)  # names of segments sort by the second
    await log.append(ports, "intent", {"n": 1})
    old, new = (good(each) for each in segments(tmp_path))
    assert old[-1]["kind"] == "closed"
    assert ended is not None
    assert {name: new[0].get(name) for name in ("previous", "previous_size", "previous_root")} == {
        "previous": ended.segment,
        "previous_size": ended.size,
        "previous_root": ended.root.hex(),
    }
    assert (new[0]["why"], new[0]["log"], old[0]["log"]) == ("closed", "x", "x")
    await log.aclose(ports)


async def test_a_full_segment_is_followed_by_another(tmp_path: Path) -> None:
    """No record is lost or twice there, each header knows the segment before, which names it."""
    ports, log = virtual_ports(), AuditLog(tmp_path, max_bytes=1024)
    for number in range(30):
        await log.append(ports, "intent", {"n": number})
        await ports.sleep(1)
    await log.aclose(ports)
    assert told(tmp_path) == list(range(30))
    found = [good(path) for path in segments(tmp_path)]
    assert len(found) > 3
    for old, new in pairwise(found):
        assert (new[0]["previous"], new[0]["why"]) == (old[0]["segment"], "rotated")
        assert (old[-1]["kind"], old[-1]["next"]) == ("closed", new[0]["segment"])
        size = new[0]["previous_size"]
        assert size == len(old) - 1
        path = tmp_path / f"{old[0]['segment']}.audit"
        assert new[0]["previous_root"] == root_of(leaves(path)[:size]).hex()
        assert new[0]["previous_digest"] == old[-1]["prev"]


async def test_records_that_wait_together_share_an_fsync(tmp_path: Path) -> None:
    """With "group"; with "each" there is one a record, with "none" only for the header."""
    syncs = {}
    for fsync in POLICIES:
        disk = FailingDisk()
        ports, log = virtual_ports(), AuditLog(tmp_path / fsync, fsync=fsync, disk=disk)  # type: ignore[arg-type]
        await log.append(ports, "intent", {"n": -1})
        before = disk.calls.count("sync")
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(log.append, ports, "intent", {"n": number})
        syncs[fsync] = disk.calls.count("sync") - before
        assert sorted(told(tmp_path / fsync)) == list(range(-1, 20))
    assert syncs == {"each": 20, "group": 1, "none": 0}


async def test_the_first_of_a_group_waits_for_company(tmp_path: Path) -> None:
    """As long as the option says; those who come meanwhile are as soon through."""
    disk, ports = FailingDisk(), virtual_ports()
    log = AuditLog(tmp_path, group_seconds=timedelta(seconds=2), disk=disk)
    began = ports.monotonic()
    ended: dict[int, float] = {}

    async def come(number: int) -> None:
        await ports.sleep(number)
        await log.append(ports, "intent", {"n": number})
        ended[number] = ports.monotonic() - began

    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(come, number)
    assert ended == pytest.approx({0: 2, 1: 2, 2: ended[2], 3: 5, 4: ended[4]}, abs=0.01)
    assert told(tmp_path) == list(range(5))


async def test_too_many_waiting_records_are_refused(tmp_path: Path) -> None:
    """At once, with an error that says so; what waits is written."""
    ports, log = virtual_ports(), AuditLog(tmp_path, max_waiting=3, group_seconds=1)
    entries = [log.enter(ports, "intent", {"n": number}) for number in range(3)]
    assert log.waiting == 3
    with pytest.raises(AuditError, match="3 records waiting") as caught:
        await log.append(ports, "intent", {"n": 3})
    assert caught.value.hint is not None
    for entry in entries:
        await entry.durable()
    await log.append(ports, "intent", {"n": 4})
    assert told(tmp_path) == [0, 1, 2, 4]


async def test_an_entry_can_be_waited_for_again(tmp_path: Path) -> None:
    """Giving up on it changes nothing: it is written once, and says where."""
    ports, log = virtual_ports(), AuditLog(tmp_path, group_seconds=1)
    entry = log.enter(ports, "outcome", {"n": 1})
    with anyio.move_on_after(0.1) as scope:
        await entry.durable()
    assert scope.cancelled_caught
    assert not entry.settled
    positions = [await entry.durable() for _ in range(2)]
    assert positions[0] == positions[1] == (segments(tmp_path)[0].stem, 1, positions[0].leaf_hash)  # type: ignore[union-attr]
    assert told(tmp_path, "outcome") == [1]
    assert not log._queue.awaits(entry, Waiter())  # it would not be woken any more


async def test_what_cannot_be_recorded_touches_nothing(tmp_path: Path) -> None:
    """The mistake is its caller's, and other records go on."""
    ports, log = virtual_ports(), AuditLog(tmp_path)
    with pytest.raises(TypeError, match="'cost'"):
        await log.append(ports, "outcome", {"cost": 0.1})
    assert log.waiting == 0
    await log.append(ports, "outcome", {"n": 1})
    assert told(tmp_path, "outcome") == [1]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("group_seconds", [0.0, 0.5])
def test_cancelled_at_any_step_every_record_is_written_once(
    tmp_path: Path, backend: str, group_seconds: float
) -> None:
    """Whoever is cancelled, nobody is left waiting, and nothing is lost or written twice."""
    runs = count()

    def make() -> tuple[Any, Any]:
        ports = virtual_ports()
        log = AuditLog(tmp_path / str(next(runs)), group_seconds=group_seconds)
        entered: list[int] = []

        async def append(number: int) -> None:
            entered.append(number)
            await log.append(ports, "intent", {"n": number})

        async def scenario() -> None:
            async with anyio.create_task_group() as group:
                for number in range(4):
                    group.start_soon(append, number)

        async def check() -> None:
            with anyio.fail_after(10):
                await log.append(ports, "intent", {"n": 9})
                await log.aclose(ports)
            assert sorted(told(log.directory)) == [*sorted(entered), 9]

        return scenario, check

    assert each_step(make, backend=backend, again=(1, 2)) > 2


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("group_seconds", [0.0, 0.5])
def test_closed_at_any_step_nothing_is_lost(
    tmp_path: Path, backend: str, group_seconds: float
) -> None:
    """A close that is cancelled is done all the same, and the log can be used again."""
    runs = count()

    def make() -> tuple[Any, Any]:
        ports = virtual_ports()
        log = AuditLog(tmp_path / str(next(runs)), group_seconds=group_seconds)

        async def scenario() -> None:
            log.enter(ports, "intent", {"n": 0})
            await log.aclose(ports)
            await log.append(ports, "intent", {"n": 1})

        async def check() -> None:
            with anyio.fail_after(10):
                await log.append(ports, "intent", {"n": 9})
            told_here = sorted(told(log.directory))
            assert told_here in ([9], [0, 9], [0, 1, 9])

        return scenario, check

    assert each_step(make, backend=backend) > 2


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_loop_that_ends_leaves_its_records_to_others(tmp_path: Path, backend: str) -> None:
    """However far the work had come, each record is written once by whoever comes next."""
    log, ports = AuditLog(tmp_path), Ports()

    async def leave(number: int, steps: int) -> None:
        log.enter(ports, "intent", {"n": number})
        for _ in range(steps):
            await checkpoint()

    for number in range(12):
        anyio.run(leave, number, number, backend=backend)
    anyio.run(log.aclose, ports, backend=backend)
    assert told(tmp_path) == list(range(12))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_who_waits_on_another_loop_takes_over(tmp_path: Path, backend: str) -> None:
    """When the loop of whoever was to write ends; a thread that begins after that does nothing."""
    log, given = AuditLog(tmp_path), list[Any]()
    handed, waiting = threading.Event(), threading.Event()

    async def never(function: Callable[..., Any], /, *args: Any) -> Any:
        given.extend([function, *args])
        handed.set()
        await anyio.sleep_forever()

    async def leave() -> None:
        log.enter(attrs.evolve(Ports(), thread=never), "intent", {"n": 0})
        while not waiting.is_set():
            await checkpoint()

    async def wait() -> None:
        handed.wait(30)
        async with anyio.create_task_group() as group:
            group.start_soon(log.append, Ports(), "intent", {"n": 1})
            while log.waiting < 2 or not log._queue.entries[1].waiters:
                await checkpoint()
            waiting.set()

    threads = [
        threading.Thread(target=anyio.run, args=(run,), kwargs={"backend": backend}, daemon=True)
        for run in (leave, wait)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert told(tmp_path) == [0, 1]

    async def late() -> None:
        log.enter(attrs.evolve(Ports(), thread=never), "intent", {"n": 2})
        function, *args = given[:3]
        assert function(*args) is False
        assert log.waiting == 1

    anyio.run(late)
    anyio.run(log.aclose, Ports())
    assert told(tmp_path) == [0, 1, 2]


@pytest.mark.parametrize("fsync", POLICIES)
def test_many_threads_loops_and_backends_at_once(tmp_path: Path, fsync: Any) -> None:
    """Nothing is lost, doubled or out of its own order, and every position is the true one."""
    log = AuditLog(tmp_path, fsync=fsync, max_bytes=16_000)
    positions: list[tuple[str, Any]] = []
    failures: list[BaseException] = []

    async def run(thread: int) -> None:
        ports = Ports()

        async def work(task: int) -> None:
            for number in range(8):
                name = f"{thread}-{task}-{number}"
                positions.append((name, await log.append(ports, "intent", {"n": name})))

        async with anyio.create_task_group() as group:
            for task in range(5):
                group.start_soon(work, task)

    def start(thread: int) -> None:
        try:
            anyio.run(run, thread, backend="trio" if thread % 2 else "asyncio")
        except BaseException as error:  # noqa: BLE001 - shown below, in the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=start, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    anyio.run(log.aclose, Ports())
    names = told(tmp_path)
    assert sorted(names) == sorted(
        f"{thread}-{task}-{number}"
        for thread in range(4)
        for task in range(5)
        for number in range(8)
    )
    records = {path.stem: good(path) for path in segments(tmp_path)}
    for name, position in positions:
        record = records[position.segment][position.seq]
        assert record["n"] == name
        assert leaf_hash(canonical(record)) == position.leaf_hash
    for found in records.values():
        assert not any("clock" in record for record in found)


@pytest.mark.parametrize("group_seconds", [0.0, 0.001])
def test_cancelled_on_many_loops_nobody_is_left_waiting(
    tmp_path: Path, group_seconds: float
) -> None:
    """Callers give up at any moment, in real threads: each of their records is written once."""
    log = AuditLog(tmp_path, group_seconds=group_seconds)
    entered: list[str] = []
    through: list[int] = []

    async def run(thread: int) -> None:
        ports, random = Ports(), Random(thread)

        async def come(name: str, steps: int) -> None:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    entered.append(name)
                    group.start_soon(log.append, ports, "intent", {"n": name})
                    for _ in range(steps):
                        await checkpoint()
                    if steps:
                        scope.cancel()

        with anyio.fail_after(60):
            for turn in range(15):
                async with anyio.create_task_group() as group:
                    for number in range(4):
                        group.start_soon(
                            come,
                            f"{thread}-{turn}-{number}",
                            random.randrange(0, 40, 2) + number % 2,
                        )
        through.append(thread)

    threads = [
        threading.Thread(target=anyio.run, args=(run, number), kwargs={"backend": backend})
        for number, backend in enumerate(["asyncio", "trio", "asyncio"])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert sorted(through) == [0, 1, 2]
    anyio.run(log.aclose, Ports())
    written = told(tmp_path)
    assert len(written) == len(set(written))
    assert set(written) <= set(entered)
    assert len(written) > 30


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_has_a_segment_of_its_own(tmp_path: Path) -> None:
    """It writes none of its parent's records and into none of its files; both go on."""
    log, ports = AuditLog(tmp_path), Ports()

    async def run() -> int:
        await log.append(ports, "intent", {"n": "before"})
        log.enter(ports, "intent", {"n": "queued"})
        child = os.fork()
        if child == 0:
            code = 1
            try:
                if log.waiting == 0 and log.root() is None:
                    thread = threading.Thread(target=anyio.run, args=(work, "child"))
                    thread.start()
                    thread.join(30)
                    code = 0
            finally:
                os._exit(code)
        return child

    async def work(name: str) -> None:
        await log.append(ports, "intent", {"n": name})
        await log.aclose(ports)

    child = anyio.run(run)
    assert os.waitpid(child, 0)[1] == 0
    anyio.run(work, "after")
    found = sorted([record.get("n") for record in good(path)] for path in segments(tmp_path))
    assert sorted([n for n in names if n] for names in found) == [
        ["before", "queued", "after"],
        ["child"],
    ]
    assert [
        record for path in segments(tmp_path) for record in good(path) if "previous" in record
    ] == []


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_parents_end_frees_its_segment_though_a_child_lives(tmp_path: Path) -> None:
    """A child that never audits holds no lock of its parent's."""
    log, ports = AuditLog(tmp_path), Ports()
    anyio.run(log.append, ports, "intent", {"n": 0})
    (path,) = segments(tmp_path)
    here, there = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(there[1])
        os.write(here[1], b"x")
        os.read(there[0], 1)  # until the parent is through, or gone
        os._exit(0)
    try:
        os.read(here[0], 1)
        assert in_use(path)
        log._writer.forget()  # what the end of the process does
        assert not in_use(path)
    finally:
        for file in (*here, *there):
            os.close(file)
        os.waitpid(child, 0)


async def test_two_logs_in_one_directory_disturb_nobody(tmp_path: Path) -> None:
    """Each has segments of its own, and neither takes the other's for a dead one."""
    ports = virtual_ports()
    logs = [AuditLog(tmp_path), AuditLog(tmp_path)]
    for number in range(4):
        await logs[number % 2].append(ports, "intent", {"n": number})
    kinds = [[record["kind"] for record in good(path)] for path in segments(tmp_path)]
    assert kinds == [["segment", "intent", "intent"]] * 2


async def test_ids_that_repeat_overwrite_nothing(tmp_path: Path) -> None:
    """A name that is taken is not taken again, whatever the ids are."""
    ports = attrs.evolve(virtual_ports(), new_id=partial(next, iter([*["same"] * 3, "other"])))
    logs = [AuditLog(tmp_path), AuditLog(tmp_path)]
    for number, log in enumerate(logs):
        await log.append(ports, "intent", {"n": number})
    assert sorted(told(tmp_path)) == [0, 1]
    stuck = attrs.evolve(virtual_ports(), new_id=lambda: "same")
    with pytest.raises(AuditError, match="no free name"):
        await AuditLog(tmp_path).append(stuck, "intent", {"n": 2})
    assert sorted(told(tmp_path)) == [0, 1]


async def test_a_dead_thread_port_is_an_error_for_everybody(tmp_path: Path) -> None:
    """Nobody waits for ever for a thread that cannot be had."""

    async def no_thread(function: Callable[..., Any], /, *args: Any) -> Any:
        raise RuntimeError("can't start new thread")

    log = AuditLog(tmp_path)
    ports = attrs.evolve(virtual_ports(), thread=no_thread)
    for _ in range(2):
        with pytest.raises(AuditError, match="RuntimeError"):
            await log.append(ports, "intent", {"n": 1})
    assert log.problem == "RuntimeError"
    await log.append(virtual_ports(), "intent", {"n": 2})
    assert told(tmp_path) == [2]
    problem: str | None = log.problem
    assert problem is None


def test_outside_an_event_loop_nothing_is_queued(tmp_path: Path) -> None:
    """There is nobody to write it."""
    log = AuditLog(tmp_path)
    with pytest.raises(RuntimeError):
        log.enter(Ports(), "intent", {"n": 1})
    assert log.waiting == 0


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("fsync", "always"),
        ("max_bytes", 10),
        ("group_seconds", -1),
        ("max_waiting", 0),
        ("header", {"seq": 1}),
        ("header", {"ratio": 0.5}),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, option: str, value: Any) -> None:
    """When the log is made, with the option's name."""
    options: dict[str, Any] = {option: value}
    with pytest.raises(ConfigurationError, match=option):
        AuditLog(tmp_path, **options)
