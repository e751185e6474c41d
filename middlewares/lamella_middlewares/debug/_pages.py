"""A folder of pages, one for each call, of which so many are kept."""

from __future__ import annotations

import datetime as dt
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lamella._whole_files import write_whole

if TYPE_CHECKING:
    from lamella import TraceRecord

_OURS: Final = re.compile(r"\d{8}T\d{6}\.\d{6}Z-[0-9A-Za-z]{0,32}\.html")
"""Names that this layer gives, which sort by time. Nothing else in the folder is touched."""


class Pages:
    """Writes pages to a folder. Blocks: the writer's thread calls it.

    Args:
        folder: Where; made when the first page is written.
        keep: How many pages stay; the oldest go.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder = folder
        self._keep = keep

    def write(self, record: TraceRecord, text: str) -> Path:
        """Write a call's page, and remove the oldest beyond those that are kept.

        Raises:
            OSError: If it cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        written = write_whole(self._folder / _name(record), text)
        ours = sorted(path for path in self._folder.iterdir() if _OURS.fullmatch(path.name))
        for path in ours[: -self._keep]:
            with suppress(OSError):  # another process keeps house here too
                path.unlink()
        return written


def _name(record: TraceRecord) -> str:
    """By the time at which the call began, and the letters and digits of its id."""
    began = dt.datetime.fromtimestamp(max(0.0, record.started), dt.UTC)
    letters = re.sub(r"[^0-9A-Za-z]", "", record.call_id)[:32]
    return f"{began:%Y%m%dT%H%M%S.%f}Z-{letters}.html"
