"""Where heads go besides the log: a head that nobody else keeps proves nothing to anybody else."""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import anyio

from lamella._options import is_async

if TYPE_CHECKING:
    from lamella import Ports

Head: TypeAlias = Mapping[str, Any]
"""A head as it is exported: JSON values."""

SINK_SECONDS: Final = 10.0
"""How long one sink may take for one head."""

WANTED: Final = (
    "paths of files, plain or async functions of the head, or objects with `put(key, data)`, "
    "such as a BlobStore"
)


def usable(sink: Any) -> bool:
    """Whether heads can be handed to it."""
    if isinstance(sink, str | os.PathLike):
        return os.fspath(cast("str", sink)) != ""
    return callable(sink) or callable(getattr(sink, "put", None))


async def export(ports: Ports, head: Head, sinks: Sequence[Any]) -> dict[str, str]:
    """Hand a head to every sink; the class of the error of each that failed, by its name.

    One that fails, or takes longer than `SINK_SECONDS`, keeps it from no other.
    """
    failed: dict[str, str] = {}
    for place, sink in enumerate(sinks):
        name = f"{place}:{_name(sink)}"
        with anyio.move_on_after(SINK_SECONDS) as scope:
            try:
                await _give(ports, head, sink)
            except Exception as error:  # noqa: BLE001 - a stranger's sink; `health` says so
                failed[name] = type(error).__name__
        if scope.cancelled_caught:
            failed[name] = "TimeoutError"
    return failed


def line_of(head: Head) -> bytes:
    """A head as a line of JSON."""
    return json.dumps(head, sort_keys=True, separators=(",", ":")).encode("ascii") + b"\n"


def append_line(path: str, line: bytes) -> None:
    """Append a line to a file in one write, durably."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        _alone(file)
        size = os.fstat(file).st_size
        if size:
            os.lseek(file, size - 1, os.SEEK_SET)
            if os.read(file, 1) != b"\n":  # a full disk, or a crash, has left half a line there
                line = b"\n" + line
        if os.write(file, line) != len(line):
            raise OSError("the line was written in part only")
        os.fsync(file)
    finally:
        os.close(file)


def _alone(file: int) -> None:
    """Wait until no other process writes to it, where the system has such locks."""
    if sys.platform != "win32":
        import fcntl

        with suppress(OSError):  # the worst that comes of it is an empty line
            fcntl.flock(file, fcntl.LOCK_EX)


async def _give(ports: Ports, head: Head, sink: Any) -> None:
    if isinstance(sink, str | os.PathLike):
        await ports.thread(append_line, os.fspath(cast("str", sink)), line_of(head))
        return
    put: Callable[..., Any] | None = getattr(sink, "put", None)
    if put is None or callable(sink):
        await _call(ports, sink, dict(head))
    else:
        await _call(ports, put, _key(head), line_of(head))


async def _call(ports: Ports, function: Callable[..., Any], *given: Any) -> None:
    """An async function is awaited; a plain one may block, so it runs in a thread."""
    if is_async(function):
        await function(*given)
        return
    found: object = await ports.thread(function, *given)
    if inspect.isawaitable(found):
        await cast("Awaitable[object]", found)


def _key(head: Head) -> str:
    return f"lamella/audit/{head.get('log')}/{head.get('segment')}/{head.get('size')}"


def _name(sink: Any) -> str:
    if isinstance(sink, str | os.PathLike):
        return os.fspath(cast("str", sink))
    kind: Any = sink.__class__
    return str(getattr(sink, "__name__", kind.__name__))
