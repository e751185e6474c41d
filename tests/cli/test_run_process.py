"""`lamella run` in a process of its own: signals, pipes, and a real socket."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from lamella.testing import MockServer

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The tests only watch another process, so one event loop is enough."""
    return "asyncio"


@pytest.fixture
async def stalling() -> AsyncIterator[MockServer]:
    """A provider that begins its answers and never ends them."""
    async with MockServer(faults="stall_at=6") as server:
        yield server


async def first_words(process: subprocess.Popen[bytes]) -> bytes:
    """Wait for the beginning of the answer."""
    assert process.stdout is not None
    return await anyio.to_thread.run_sync(process.stdout.read, 4)


async def ended(processes: Any, process: subprocess.Popen[bytes]) -> Any:
    """Wait for the end of the program, while the provider goes on."""
    return await anyio.to_thread.run_sync(processes.end, process)


def ask(processes: Any, server: MockServer, *more: str) -> subprocess.Popen[bytes]:
    """Start the program against a provider."""
    variables = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "any"}
    process: subprocess.Popen[bytes] = processes.start(
        "run", "hello", "--transport", "openai", "--model", "mock", *more, environment=variables
    )
    return process


async def test_it_asks_over_http(processes: Any, tmp_path: Path) -> None:
    """The answer comes over a real connection; a preset of the file retries what failed."""
    (tmp_path / "lamella.toml").write_text(
        '[presets.mine]\nlayers = [{ use = "retry", base = 0.001 }]\n'
    )
    async with MockServer(faults=["status=500", "ok"]) as server:
        done = await ended(processes, ask(processes, server, "--json", "--preset", "mine"))
    assert done.code == 0
    assert [attempt["status"] for attempt in done.json["attempts"]] == [500, None]
    assert done.json["served_by"] == "openai"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"]
)
async def test_a_signal_closes_the_socket_and_keeps_what_came(
    processes: Any, stalling: MockServer, number: int, code: int
) -> None:
    """Ctrl-C or SIGTERM: the partial answer stays, the provider's socket closes, no traceback."""
    process = ask(processes, stalling)
    begun = await first_words(process)
    process.send_signal(number)
    done = await ended(processes, process)
    assert done.code == code
    assert (begun + done.out.encode()).endswith(b"\n")
    assert "Traceback" not in done.err
    with anyio.fail_after(30):
        await stalling.until(lambda server: server.disconnects and not server.open_connections)


async def test_a_signal_before_the_first_word(processes: Any) -> None:
    """While the provider is silent, Ctrl-C ends the wait."""
    async with MockServer(faults="hold_headers") as server:
        process = ask(processes, server)
        await server.until(lambda server: server.requests)
        process.send_signal(signal.SIGINT)
        done = await ended(processes, process)
    assert (done.code, done.out) == (130, "")
    assert "Traceback" not in done.err


async def test_cleaning_up_is_bounded(processes: Any) -> None:
    """What does not end by itself after a signal is ended."""
    code = """
import anyio, sys
from lamella.cli import _interrupts
_interrupts.GRACE_SECONDS = 0.05
async def work(_):
    print("ready", flush=True)
    with anyio.CancelScope(shield=True):
        await anyio.sleep_forever()
_interrupts.run(work)
"""
    process = processes.start(code=code)
    assert process.stdout is not None
    assert await first_words(process) == b"read"
    process.send_signal(signal.SIGTERM)
    assert (await ended(processes, process)).code == 143


async def test_a_signal_that_interrupts_nothing_is_heard_of(processes: Any) -> None:
    """As one does that comes just before the event loop begins to wait."""
    code = """
import _thread, signal, sys, threading
import anyio
from lamella.cli import _interrupts
async def work(_):
    threading.Timer(0.05, _thread.interrupt_main, [signal.SIGTERM]).start()
    await anyio.sleep_forever()
before = signal.getsignal(signal.SIGTERM)
try:
    _interrupts.run(work)
except _interrupts.Terminated:
    sys.exit(143 if signal.getsignal(signal.SIGTERM) == before else 1)
"""
    assert (await ended(processes, processes.start(code=code))).code == 143


async def test_a_second_ctrl_c_does_not_wait_for_cleaning_up(processes: Any) -> None:
    """Who presses it twice means it."""
    code = """
import anyio, sys
from lamella.cli import _interrupts
_interrupts.GRACE_SECONDS = 600
async def work(_):
    print("ready", flush=True)
    try:
        await anyio.sleep_forever()
    finally:
        print("slow", flush=True)
        with anyio.CancelScope(shield=True):
            await anyio.sleep_forever()
try:
    _interrupts.run(work)
except KeyboardInterrupt:
    sys.exit(130)
"""
    process = processes.start(code=code)
    assert process.stdout is not None
    for word in (b"ready\n", b"slow\n"):
        assert await anyio.to_thread.run_sync(process.stdout.readline) == word
        process.send_signal(signal.SIGINT)
    assert (await ended(processes, process)).code == 130


@pytest.fixture
def left() -> Iterator[int]:
    """A pipe whose reader has gone before anybody could write."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


async def test_a_reader_who_leaves_is_no_failure(processes: Any, left: int) -> None:
    """`lamella run ... | head`: nothing is said, and the exit code is that of SIGPIPE."""
    done = await ended(processes, processes.start("run", "hello", stdout=left))
    assert done.code == 141
    assert "Traceback" not in done.err
    assert "BrokenPipe" not in done.err
    assert "lamella: " not in done.err


async def test_nobody_to_tell_is_no_traceback(processes: Any, left: int) -> None:
    """Where standard error has no reader either, the program ends all the same."""
    process = processes.start("run", "hello", "--transport", "nope", stdout=left, stderr=left)
    assert (await ended(processes, process)).code == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk here")
async def test_a_full_disk_is_told(processes: Any) -> None:
    """An answer that cannot be written is a failure, in a sentence."""
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        done = await ended(processes, processes.start("run", "hello", stdout=full))
    finally:
        os.close(full)
    assert done.code == 1
    assert "No space left on device" in done.err
    assert "Traceback" not in done.err


async def test_closed_streams_are_no_failure(processes: Any) -> None:
    """A program that was started without streams runs all the same."""
    code = (
        "import os, sys\nfor number in (0, 1): os.close(number)\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'lamella.cli', *sys.argv[1:]])"
    )
    done = await ended(processes, processes.start("run", "hello", code=code))
    assert done.code == 0
    assert "Traceback" not in done.err
