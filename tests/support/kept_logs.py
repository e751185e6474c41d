"""A log that verifiers and provers are tried on, and what was kept of it elsewhere."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import attrs
from audit_disks import segments
from audit_logs import public, signer, written

from lamella.testing import run_virtual
from lamella_middlewares.audit._prove import head_of
from lamella_middlewares.audit._verify import Report, verify

ADA = public("a")

_made: dict[str, tuple[list[bytes], str, list[dict[str, Any]], dict[str, Any]]] = {}


@attrs.frozen
class Log:
    """A log, the heads that were kept of it, and its lines."""

    directory: Path
    heads: list[dict[str, Any]]
    whole: dict[str, Any]

    @property
    def path(self) -> Path:
        return segments(self.directory)[0]

    @property
    def lines(self) -> list[bytes]:
        return self.path.read_bytes().splitlines(keepends=True)

    def check(self, *, heads: bool = True, keys: tuple[str, ...] = (ADA,)) -> Report:
        return verify(self.directory, heads=self.heads if heads else (), keys=keys)

    @classmethod
    def in_folder(cls, folder: Path) -> Self:
        """One segment of 6 calls, with signed heads in it and kept beside."""
        lines, name, heads, whole = the_log()
        directory = folder / "log"
        directory.mkdir()
        (directory / name).write_bytes(b"".join(lines))
        (directory / "log.id").write_text(whole["log"])
        return cls(directory, heads, whole)


async def a_log(directory: Path, sink: Path) -> Log:
    """The same, made anew."""
    heads = await written(directory, sink=sink, sign_with=signer("a"))
    whole, _ = head_of(directory, at=0)
    return Log(directory, heads, whole)


def the_log() -> tuple[list[bytes], str, list[dict[str, Any]], dict[str, Any]]:
    """A log's lines, its file's name, the heads that were kept, and one over all of it."""
    if not _made:
        with TemporaryDirectory() as folder:
            place = Path(folder)

            async def make() -> Log:
                return await a_log(place / "log", place / "heads")

            log = run_virtual(make)
            _made["log"] = (log.lines, log.path.name, log.heads, log.whole)
    return _made["log"]
