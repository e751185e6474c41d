"""The program in this process, in one of its own, and on a terminal of its own."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import attrs
import pytest

from lamella.cli import main

PATIENCE = 90.0
"""Seconds after which a test says what it waits for, rather than wait on."""

KEPT = ("COVERAGE", "LANG", "LC_", "PATH", "PYTHON", "SYSTEMROOT", "VIRTUAL_ENV")


def bare_environment(home: Path, **more: str) -> dict[str, str]:
    """An environment without keys, settings, proxies and the machine's own home."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(KEPT)}
    return {**kept, "HOME": str(home), "XDG_STATE_HOME": str(home / "state"), **more}


@attrs.frozen
class Done:
    """What a run of the program has come to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its standard output, read as JSON."""
        return json.loads(self.out)

    def told(self) -> str:
        """What it says went wrong, without the records of the log."""
        return "\n".join(line for line in self.err.splitlines() if "[" not in line[:30])


class Lamella:
    """The program in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._patch = patch

    def __call__(self, *arguments: str, stdin: bytes | None = None) -> Done:
        """Run a command; its standard input is a pipe, or a terminal that nobody types at."""
        if stdin is None:
            self._patch.setattr("sys.stdin", _Silent())
            code = main(arguments)
        else:
            with _piped(stdin) as stream:
                self._patch.setattr("sys.stdin", stream)
                code = main(arguments)
        out, err = self._capsys.readouterr()
        return Done(code, out, err)


class _Silent:
    """A terminal's standard input."""

    def isatty(self) -> bool:
        return True


def _piped(data: bytes) -> TextIOWrapper:
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    return TextIOWrapper(os.fdopen(reading, "rb"), encoding="utf-8")


@pytest.fixture
def lamella(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Lamella:
    """The program, started in an empty folder and a bare environment."""
    bare = bare_environment(tmp_path)
    for name in set(os.environ) - set(bare):
        monkeypatch.delenv(name)
    for name, value in bare.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return Lamella(capsys, monkeypatch)


@attrs.frozen
class Processes:
    """Starts the program in processes of its own; ends those that a test leaves running."""

    folder: Path
    started: list[subprocess.Popen[bytes]] = attrs.field(factory=list)

    def start(
        self,
        *arguments: str,
        code: str | None = None,
        environment: Mapping[str, str] | None = None,
        **more: Any,
    ) -> subprocess.Popen[bytes]:
        """Start it.

        Args:
            arguments: Its command line.
            code: Python to run in place of the program.
            environment: Variables besides those of a bare environment.
            more: For `Popen`, in place of pipes.
        """
        program = ["-m", "lamella.cli"] if code is None else ["-c", code]
        streams: dict[str, Any] = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
        streams["stdin"] = subprocess.DEVNULL
        options: Any = {**streams, **more}
        made: Any = subprocess.Popen(
            [sys.executable, *program, *arguments],
            cwd=self.folder,
            env=bare_environment(self.folder, **(environment or {})),
            **options,
        )
        process: subprocess.Popen[bytes] = made
        self.started.append(process)
        return process

    def end(self, process: subprocess.Popen[bytes]) -> Done:
        """Wait for its end."""
        out, err = process.communicate(timeout=PATIENCE)
        return Done(process.returncode, (out or b"").decode(), (err or b"").decode())


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """See `Processes`."""
    made = Processes(tmp_path)
    yield made
    for process in made.started:
        with process:
            if process.poll() is None:
                process.kill()


ON_TERMINAL = """
import fcntl, runpy, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
sys.argv = ["lamella", *sys.argv[1:]]
runpy.run_module("lamella.cli", run_name="__main__")
"""


class Terminal:
    """A terminal at which a test types, and on which it waits for what the program writes."""

    def __init__(self, processes: Processes, *arguments: str, **environment: str) -> None:
        import pty

        self._ours, theirs = pty.openpty()
        self.process = processes.start(
            *arguments,
            code=ON_TERMINAL,
            environment={"TERM": "xterm", "COLUMNS": "100", **environment},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self._unread = b""
        self.seen = b""

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._ours, keys)

    def expect(self, text: bytes) -> None:
        """Wait until the program has written this, after what was waited for before."""
        while text not in self._unread:
            assert self._read(), f"ended before {text!r}: {self.seen.decode(errors='replace')}"
        self._unread = self._unread.partition(text)[2]

    def end(self) -> int:
        """Wait for the program's end; its exit code."""
        while self._read():
            continue
        os.close(self._ours)
        return self.process.wait(timeout=PATIENCE)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._ours], [], [], PATIENCE)
        assert ready, f"nothing more came: {self.seen.decode(errors='replace')}"
        try:
            data = os.read(self._ours, 65_536)
        except OSError:  # how Linux tells that the program has gone
            return False
        if b"\x1b[6n" in data:  # asked where the cursor is, a terminal answers
            self.type(b"\x1b[1;1R")
        self._unread += data
        self.seen += data
        return bool(data)


@pytest.fixture
def terminal(processes: Processes) -> Callable[..., Terminal]:
    """Starts the program at a terminal."""
    pytest.importorskip("pty")
    return partial(Terminal, processes)
