"""Puts batches of records into segments, one after another. Blocks; one thread at a time."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from lamella_middlewares.audit._chain import Position, Root
from lamella_middlewares.audit._record import Draft
from lamella_middlewares.audit._recovery import dead_segments
from lamella_middlewares.audit._segment import Link, Segment, begin

if TYPE_CHECKING:
    from lamella_middlewares.audit._disk import Disk


@attrs.define(eq=False)
class Writer:
    """Where a log's records go.

    Attributes:
        directory: Where the segments are.
        disk: The file system.
        sync: Whether records must survive a loss of power.
        max_bytes: Once a segment has so many bytes, the next batch begins another.
        header: Fields that every header has.
    """

    directory: Path
    disk: Disk
    sync: bool
    max_bytes: int
    header: Mapping[str, Any]
    _segment: Segment | None = None
    _before: Link | None = None
    _lost: int = 0
    _looked: bool = False
    _root: Callable[[], Root] | None = None

    def write(
        self, new_id: Callable[[], str], drafts: Sequence[Draft], stamp: tuple[int, int]
    ) -> list[Position]:
        """Write a batch.

        Args:
            new_id: Makes unguessable ids.
            drafts: At least one.
            stamp: The first one's.

        Raises:
            OSError: If it failed: none of them counts. The next batch begins a new segment.
        """
        try:
            segment = self._segment
            if segment is None or segment.size >= self.max_bytes:
                segment = self._next(new_id, stamp)
            positions = segment.append(drafts, sync=self.sync)
        except BaseException as error:
            self._fail(error, len(drafts))
            raise
        self._root = segment.root
        return positions

    def close(self, draft: Draft) -> None:
        """End the segment, if there is one; the next batch begins another.

        Args:
            draft: Its last record.

        Raises:
            OSError: If the end could not be written down. The segment has ended all the same.
        """
        segment = self._segment
        if segment is None:
            return
        try:
            segment.append([draft], sync=self.sync)
        except BaseException as error:
            self._fail(error, 0)
            raise
        segment.close()
        self._segment, self._before = None, Link(segment.id, segment.chain, "closed")

    def root(self) -> Root | None:
        """What the segment written to last has come to; None before the first batch."""
        root = self._root
        return None if root is None else root()

    def forget(self) -> None:
        """Begin anew: this is a forked child, and the segment is its parent's."""
        segment, self._segment = self._segment, None
        if segment is not None:
            segment.close()
        self._before, self._root, self._lost = None, None, 0

    def _next(self, new_id: Callable[[], str], stamp: tuple[int, int]) -> Segment:
        """Begin the next segment, and end the one that is full."""
        full = self._segment
        before = self._before if full is None else Link(full.id, full.chain, "rotated")
        fields: dict[str, Any] = {**self.header, "process": os.getpid()}
        if before is not None:
            fields.update(before.fields())
        if self._lost:
            fields["lost"] = self._lost
        segment = begin(self.disk, self.directory, new_id, fields, stamp)
        self._segment, self._before, self._lost = segment, None, 0
        if full is not None:
            _end(full, Draft.of("closed", {"why": "rotated", "next": segment.id}).stamp(*stamp))
        if not self._looked:
            self._adopt(segment, stamp)
            self._looked = True
        return segment

    def _adopt(self, segment: Segment, stamp: tuple[int, int]) -> None:
        for dead in dead_segments(self.disk, self.directory):
            segment.append([dead.found().stamp(*stamp)], sync=self.sync)
            if dead.problem is not None:
                continue
            try:
                dead.recover(segment.id, stamp)
            except OSError as error:  # what was found stands above; the next process tries again
                said = {"about": "recovery", "segment": dead.segment}
                note = Draft.of("note", {**said, "problem": name_of_error(error)})
                segment.append([note.stamp(*stamp)], sync=self.sync)

    def _fail(self, error: BaseException, lost: int) -> None:
        """Whatever failed: what is in the file is unknown now, so no more is written to it."""
        segment, self._segment = self._segment, None
        self._lost += lost
        if segment is not None:
            segment.abandon()
            self._before = Link(segment.id, segment.chain, "failed", name_of_error(error))


def _end(full: Segment, draft: Draft) -> None:
    try:
        full.append([draft], sync=True)
    except OSError:
        # The next segment's header has said already up to where this one counts.
        full.abandon()
    else:
        full.close()


def name_of_error(error: BaseException) -> str:
    """The system's name for an error (`ENOSPC`), or its class's."""
    number = error.errno if isinstance(error, OSError) else None
    return errno.errorcode.get(number or 0, type(error).__name__)
