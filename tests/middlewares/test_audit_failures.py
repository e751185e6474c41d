"""When the log cannot be written: nothing is sent, or the gap is told; no outcome is lost."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
import attrs
import pytest
from audit_disks import FailingDisk, segments
from audit_logs import KEY, SEAL, ask, heads_in, pipeline, records

from lamella import (
    AuditError,
    ChatRequest,
    DeadlineExceeded,
    Pipeline,
    RateLimitError,
    Request,
    Secret,
)
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares.audit import Heads
from lamella_middlewares.audit._log import AuditLog
from lamella_middlewares.audit._verify import verify
from lamella_middlewares.deadline import Deadline

pytestmark = pytest.mark.anyio


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> FailingDisk:
    """A disk that fails when it is told to, under every layer of the test."""
    disk = FailingDisk()
    made = partial(AuditLog, disk=disk)
    monkeypatch.setattr("lamella_middlewares.audit._middleware.AuditLog", made)
    return disk


def fail(disk: FailingDisk, number: int = errno.ENOSPC) -> None:
    """Have it take nothing from now on."""
    disk.fails = {"write": number, "create": number}


def health(found: Any) -> tuple[bool | None, dict[str, Any]]:
    """What the layer says of itself."""
    part = found.layers["audit"]
    return part.well, dict(part.detail)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
async def test_without_an_intent_nothing_is_sent(
    tmp_path: Path, disk: FailingDisk, number: int
) -> None:
    """The request is refused before the provider is asked; once there is room it works again."""
    transport = Scripted(["Hello."], repeat=True)
    async with pipeline(tmp_path, transport=transport) as line:
        fail(disk, number)
        with pytest.raises(AuditError, match=errno.errorcode[number]) as caught:
            await line.run(ask())
        assert caught.value.outcome == "not_sent"
        assert caught.value.layer == "audit"
        assert caught.value.hint
        assert not caught.value.retryable
        assert not transport.requests
        well, detail = health(await line.health())
        assert (well, detail["problem"]) == (False, errno.errorcode[number])
        disk.fails = {}
        await line.run(ask())
        assert health(await line.health())[0]
    assert len(records(tmp_path, "intent")) == len(records(tmp_path, "outcome")) == 1
    assert verify(tmp_path).ok


async def test_it_can_be_let_pass_and_the_gap_is_told(tmp_path: Path, disk: FailingDisk) -> None:
    """With `on_failure="pass"` the call works; how many intents are missing stands in the log."""
    async with pipeline(tmp_path, on_failure="pass") as line:
        fail(disk)
        response = await line.run(ask())
        assert response.text == "Hello."
        names = [note.name for note in response.trace.notes]
        assert names == ["audit.intent_lost", "audit.outcome_late"]
        assert not health(await line.health())[0]
        disk.fails = {}
        await anyio.sleep(30)
        well, detail = health(await line.health())
        assert (well, detail["owed"], detail["lost"]) == (True, 0, 0)
    (note,) = records(tmp_path, "note")
    assert [note["about"], note["intents"], note["outcomes"]] == ["lost", 1, 0]
    (outcome,) = records(tmp_path, "outcome")
    assert [outcome["outcome"], outcome["intent"], outcome["late"]] == ["complete", None, True]
    report = verify(tmp_path)
    assert report.ok
    assert "belong to no intent" in " ".join(report.remarks)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_outcome_that_cannot_be_written_is_owed(
    tmp_path: Path, disk: FailingDisk, stream: bool
) -> None:
    """The caller gets the answer that was paid for; the outcome is written once that can be."""

    async def fill(request: Request[Any], call_next: Any) -> Any:
        response = await call_next(request)
        fail(disk)
        return response

    async with pipeline(tmp_path, inside=(fill,)) as line:
        if stream:
            async with line.stream(ask()) as opened:
                response: Any = await opened.collect()
        else:
            response = await line.run(ask())
        assert response.text == "Hello."
        assert [note.name for note in response.trace.notes] == ["audit.outcome_late"]
        well, detail = health(await line.health())
        assert (well, detail["owed"]) == (False, 1)
        with pytest.raises(AuditError):  # meanwhile nothing else is sent
            await line.run(ask())
        disk.fails = {}
        await anyio.sleep(30)
        assert health(await line.health())[0]
    (outcome,) = records(tmp_path, "outcome")
    assert outcome["late"] is True
    (intent,) = records(tmp_path, "intent")
    assert outcome["intent"]["seq"] == intent["seq"]
    assert verify(tmp_path).ok


async def test_what_is_owed_is_written_at_closing(tmp_path: Path, disk: FailingDisk) -> None:
    """Also where the background has had no chance; what still cannot be written is raised."""

    async def fill(request: Request[Any], call_next: Any) -> Any:
        response = await call_next(request)
        fail(disk)
        return response

    line = pipeline(tmp_path, inside=(fill,))
    await line.run(ask())
    disk.fails = {}
    await line.aclose()
    assert len(records(tmp_path, "outcome")) == 1
    line = pipeline(tmp_path, inside=(fill,))
    await line.run(ask())
    with pytest.raises(AuditError, match="could not be written to the audit log at its closing"):
        await line.aclose()
    disk.fails = {}
    report = verify(tmp_path)
    assert report.ok
    assert len(report.open_calls) == 1  # no silent gap


async def test_a_disk_that_hangs_does_not_hold_the_answer_for_long(tmp_path: Path) -> None:
    """The end of a call waits 0.8 s at most; the record is written when the disk comes back."""
    ports = virtual_ports()
    slow = [0.0]

    async def thread(function: Any, *args: Any) -> Any:
        await anyio.sleep(slow[0])
        return function(*args)

    async def slow_down(request: Request[Any], call_next: Any) -> Any:
        response = await call_next(request)
        slow[0] = 20.0
        return response

    ports = attrs.evolve(ports, thread=thread)
    async with pipeline(tmp_path, ports=ports, inside=(slow_down,)) as line:
        began = anyio.current_time()
        response = await line.run(ask())
        assert anyio.current_time() - began == pytest.approx(0.8, abs=0.01)
        assert [note.name for note in response.trace.notes] == ["audit.outcome_late"]
        slow[0] = 0.0
        await anyio.sleep(60)
    (outcome,) = records(tmp_path, "outcome")
    assert "late" not in outcome  # it was on its way all the time
    assert verify(tmp_path).ok


async def test_waiting_for_the_log_is_bounded_by_the_deadline(tmp_path: Path) -> None:
    """A request does not wait for a disk beyond it, and nothing is sent."""
    ports = virtual_ports()

    async def thread(function: Any, *args: Any) -> Any:
        await anyio.sleep(100)
        return function(*args)

    transport = Scripted(["Hello."])
    line = pipeline(tmp_path, transport=transport, ports=attrs.evolve(ports, thread=thread))
    stack = Pipeline([Deadline(2), *line.layers], transport, ports=line.ports)
    began = anyio.current_time()
    with pytest.raises(DeadlineExceeded):
        await stack.run(ask())
    assert anyio.current_time() - began < 4
    assert not transport.requests


async def test_content_without_a_form_is_refused(tmp_path: Path) -> None:
    """What cannot be digested cannot be written down; the message shows nothing of it."""
    transport = Scripted(["Hello."], repeat=True)
    odd = ask().evolve(extra={"secret": object()})
    async with pipeline(tmp_path, transport=transport) as line:
        with pytest.raises(AuditError, match="the field 'extra' has no canonical form") as caught:
            await line.run(odd)
        assert "secret" not in str(caught.value)
    assert not transport.requests
    async with pipeline(tmp_path, on_failure="pass") as line:
        response = await line.run(odd)
    assert [note.name for note in response.trace.notes] == ["audit.content_lost"]
    intent, outcome = records(tmp_path, "intent", "outcome")
    assert "request_digests" not in intent
    assert outcome["intent"]["seq"] == intent["seq"]


async def test_an_outcome_without_a_form_is_written_without_its_particulars(
    tmp_path: Path,
) -> None:
    """What a stranger's error carries cannot keep the outcome out of the log."""
    error = RateLimitError("slow", status=cast("int", 429.5))
    async with pipeline(tmp_path, [error]) as line:
        with pytest.raises(RateLimitError):
            await line.run(ask())
    intent, outcome = records(tmp_path, "intent", "outcome")
    assert [outcome["outcome"], outcome["unwritable"]] == ["failed", "TypeError"]
    assert outcome["intent"]["seq"] == intent["seq"]
    assert outcome["user"] == "ada"


async def test_an_owed_outcome_without_a_form_stands_in_nobodys_way(
    tmp_path: Path, disk: FailingDisk
) -> None:
    """It is written without its particulars, late, and the pipeline closes."""

    async def fill(request: Request[Any], call_next: Any) -> Any:
        fail(disk)
        return await call_next(request)

    error = RateLimitError("slow", status=cast("int", 429.5))
    async with pipeline(tmp_path, [error], inside=(fill,)) as line:
        with pytest.raises(RateLimitError):
            await line.run(ask())
        disk.fails = {}
        await anyio.sleep(30)
        assert health(await line.health())[0]
    (outcome,) = records(tmp_path, "outcome")
    assert [outcome["unwritable"], outcome["late"]] == ["TypeError", True]


async def test_an_outcome_that_is_being_written_at_closing_is_written_once(
    tmp_path: Path, disk: FailingDisk
) -> None:
    """Whoever had begun to settle what is owed is cancelled; closing goes on where that was."""
    slow = [0.0]

    async def thread(function: Any, *args: Any) -> Any:
        await anyio.sleep(slow[0])
        return function(*args)

    async def fill(request: Request[Any], call_next: Any) -> Any:
        response = await call_next(request)
        fail(disk)
        return response

    ports = attrs.evolve(virtual_ports(), thread=thread)
    line = pipeline(tmp_path, inside=(fill,), ports=ports)
    await line.run(ask())
    slow[0] = 5.0
    await anyio.sleep(0.2)  # the first try is under way
    disk.fails = {}
    await line.aclose()
    assert len(records(tmp_path, "outcome")) == 1
    assert not verify(tmp_path).open_calls


async def test_the_link_to_the_intent_survives_content_that_hangs(tmp_path: Path) -> None:
    """What takes too long is left out of the outcome, and nothing else is."""
    slow = [0.0]

    class Keys:
        async def put(self, *_: Any, **__: Any) -> None: ...

        async def tagged(self, _: str) -> dict[str, Any]:
            await anyio.sleep(slow[0])
            return {}

        async def purge(self, **_: Any) -> int:
            return 0

    async def slow_down(request: Request[Any], call_next: Any) -> Any:
        slow[0] = 100.0
        await anyio.sleep(61)  # the subject's key is not remembered any more
        return await call_next(request)

    options: dict[str, Any] = {"content": "sealed", "seal_with": SEAL, "subject_keys": Keys()}
    async with pipeline(tmp_path, inside=(slow_down,), **options) as line:
        response = await line.run(ask())
    assert [note.name for note in response.trace.notes] == ["audit.outcome_late"]
    (intent,), (outcome,) = records(tmp_path, "intent"), records(tmp_path, "outcome")
    assert outcome["intent"]["seq"] == intent["seq"]


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
async def test_a_forked_child_that_closes_writes_nothing_of_its_parents(
    tmp_path: Path, disk: FailingDisk
) -> None:
    """What is owed is its parent's."""

    async def fill(request: Request[Any], call_next: Any) -> Any:
        response = await call_next(request)
        fail(disk)
        return response

    line = pipeline(tmp_path, inside=(fill,))
    await line.run(ask())
    disk.fails = {}
    child = os.fork()
    if child == 0:
        try:
            thread = threading.Thread(target=anyio.run, args=(line.layers[0].aclose,))
            thread.start()
            thread.join(30)
        finally:
            os._exit(0)
    os.waitpid(child, 0)  # noqa: ASYNC222 - it ends by itself
    assert records(tmp_path, "outcome") == []
    await line.aclose()
    assert len(records(tmp_path, "outcome")) == 1


@pytest.mark.skipif(os.name == "nt", reason="open files cannot be removed there")
async def test_a_log_that_is_deleted_under_its_writer_keeps_its_name(tmp_path: Path) -> None:
    """One request is refused; the log that is made again is the same one, and says what is gone."""
    directory, sink = tmp_path / "log", tmp_path / "heads"
    async with pipeline(directory, heads=Heads(every=2, sinks=[sink])) as line:
        await line.run(ask())
        await anyio.sleep(1)
        shutil.rmtree(directory)
        with pytest.raises(AuditError, match="removed"):
            await line.run(ask())
        await line.run(ask())
    async with pipeline(directory) as line:
        await line.run(ask())
    for heads in ([], heads_in(sink)):
        report = verify(directory, heads=heads)
        assert [problem.reason for problem in report.problems] == ["missing"]


async def test_what_a_failing_disk_leaves_behind_is_no_tampering(
    tmp_path: Path, disk: FailingDisk
) -> None:
    """A file that was given up in a record's middle; the next says up to where it counts."""
    async with pipeline(tmp_path) as line:
        await line.run(ask())
        disk.room = 100
        disk.fails = {"truncate": errno.EIO}
        with pytest.raises(AuditError):
            await line.run(ask())
        disk.room, disk.fails = None, {}
        await line.run(ask())
    report = verify(tmp_path)
    assert report.ok
    assert len(report.segments) == 2
    first = segments(tmp_path)[0]
    first.write_bytes(first.read_bytes() + b"garbage\n")  # after what counts: nobody is misled
    report = verify(tmp_path)
    assert report.ok
    assert "an error of the disk ended it" in " ".join(report.remarks)
    first.write_bytes(first.read_bytes().replace(b"ada", b"eve", 1))
    assert not verify(tmp_path).ok


async def test_a_secret_that_is_gone_refuses_the_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says which variable; nothing is sent."""
    monkeypatch.delenv("NO_SUCH_AUDIT_KEY", raising=False)
    transport = Scripted(["Hello."], repeat=True)
    key = Secret("env:NO_SUCH_AUDIT_KEY")
    async with pipeline(tmp_path, transport=transport, key=key) as line:
        with pytest.raises(AuditError, match="NO_SUCH_AUDIT_KEY"):
            await line.run(ask())
    assert not transport.requests
    async with pipeline(tmp_path, key=key, on_failure="pass", identities="digest") as line:
        await line.run(ask())
    (outcome,) = records(tmp_path, "outcome")
    assert [outcome["user"], outcome["tenant"]] == [None, None]  # never in plain words


async def test_a_key_that_is_exchanged_is_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a minute; each record says which key its digests need."""
    monkeypatch.setenv("AUDIT_TEST_KEY", "first" * 8)
    async with pipeline(tmp_path, key=Secret("env:AUDIT_TEST_KEY")) as line:
        await line.run(ask())
        monkeypatch.setenv("AUDIT_TEST_KEY", "second" * 8)
        await line.run(ask())
        await anyio.sleep(61)
        await line.run(ask())
    ids = [record["digest_key"] for record in records(tmp_path, "intent")]
    assert ids[0] == ids[1] != ids[2]


async def test_no_canary_is_in_the_log_whatever_fails(tmp_path: Path) -> None:
    """Neither what was asked, nor an error's words, nor a key."""
    canary = "canary-4711"
    failing = [
        ValueError(canary),
        AuditError(canary),
        KeyError(canary),
        "Hello " + canary,
    ]
    async with pipeline(tmp_path, failing, heads=Heads(every=2)) as line:
        for _ in failing:
            with suppress(ValueError, AuditError, KeyError):
                await line.run(ChatRequest.of(f"{canary} {KEY.reveal()}", model="m"))
    text = b"".join(path.read_bytes() for path in [*segments(tmp_path), tmp_path / "log.id"])
    assert canary.encode() not in text
    assert KEY.reveal().encode() not in text
    assert len(records(tmp_path, "outcome")) == 4
