"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from itertools import count
from os import PathLike
from pathlib import Path

_numbers = count()


def write_whole(path: str | PathLike[str], text: str, *, lasting: bool = False) -> Path:
    """Write a text file, so that whoever reads it meanwhile sees the old one or the new one.

    Blocks.

    Args:
        path: Where; what is there is replaced. Its folder must be there.
        text: What to write, in UTF-8.
        lasting: Whether it is waited for until the disk has it, and a new file is for this user
            alone: for what cannot be made again and is about people. Otherwise nothing waits.

    Returns:
        Where it was written.

    Raises:
        OSError: If it cannot be written; nothing is left behind then.
    """
    given = Path(path)
    data = text.encode("utf-8", "replace")
    target = given.resolve()  # through a link, to where it leads
    if target.exists() and not target.is_file():
        target.write_bytes(data)  # a device or a pipe, which nothing can take the place of
        return given
    draft = target.with_name(f".{target.name[:40]}.{os.getpid()}.{next(_numbers)}.draft")
    try:
        with open(draft, "xb", opener=_for_this_user if lasting else None) as file:
            file.write(data)
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            draft.chmod(target.stat().st_mode & 0o777)
        draft.replace(target)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise
    return given


def drop_drafts(path: Path) -> None:
    """Remove what processes that died left of a file that they were writing. Blocks.

    Nobody may be writing it meanwhile: see `alone_in`.
    """
    target = path.resolve()
    name = re.compile(rf"\.{re.escape(target.name[:40])}\.\d+\.\d+\.draft")
    with suppress(OSError):
        for found in target.parent.iterdir():
            if name.fullmatch(found.name):
                found.unlink()


@contextmanager
def alone_in(folder: Path) -> Generator[None]:
    """One process, or thread, at a time writes to a folder, where the system has such locks.

    Blocks.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # it cannot be read, or is not there, which the next to use it will say
        yield
        return
    try:
        with suppress(OSError):  # a file system without locks: two may then be at it at a time
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        with suppress(OSError):  # a child that was forked meanwhile has the handle, too
            fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


def _for_this_user(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
