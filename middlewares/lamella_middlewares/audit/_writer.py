"""Puts batches of records into segments, one after another. Blocks; one thread at a time."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from lamella_middlewares.audit._chain import Position, Root
from lamella_middlewares.audit._record import Draft
from lamella_middlewares.audit._recovery import Dead, dead_segments, remove_forgotten
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
    _dead: Iterator[Dead | None] | None = None
    _stamp: tuple[int, int] = (0, 0)
    _root: Callable[[], Root] | None = None

    def write(self, new_id: Callable[[], str], drafts: Sequence[Draft]) -> list[Position]:
        """Write a batch.

        Args:
            new_id: Makes unguessable ids.
            drafts: At least one, all stamped.

        Raises:
            OSError: If it failed: none of them counts. The next batch begins a new segment.
        """
        try:
            segment = self._segment
            if segment is None or segment.size >= self.max_bytes:
                segment = self._next(new_id, (drafts[0].at, drafts[0].mono))
            positions = segment.append(drafts, sync=self.sync)
            self._stamp = drafts[-1].at, drafts[-1].mono
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
        while self.look_after():
            pass
        if self._segment is None:
            raise OSError("what was found of another segment could not be written down")
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
        self._dead = None

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
        return segment

    def look_after(self) -> bool:
        """Look after segments of processes that died, for a while; whether there is more to do.

        It is done once, after the first batch. What fails of it is done by the next process.
        """
        segment = self._segment
        if self._looked or segment is None:
            return False
        try:
            if self._dead is None:
                remove_forgotten(self.disk, self.directory, self._stamp[0] / 1_000_000)
                self._dead = dead_segments(self.disk, self.directory)
            for dead in self._dead:
                if dead is not None:
                    self._adopt(segment, dead)
                return True
        except Exception as error:  # noqa: BLE001 - whatever the dead have left, the living go on
            self._note(segment, {"problem": name_of_error(error)})
        self._looked, self._dead = True, None
        return False

    def _adopt(self, segment: Segment, dead: Dead) -> None:
        stamp = self._stamp  # no later than what is queued, or the clock would seem to go back
        try:
            segment.append([dead.found().stamp(*stamp)], sync=self.sync)
            if dead.problem is None:
                self._recover(segment, dead)
        except OSError as error:
            self._fail(error, 0)

    def _recover(self, segment: Segment, dead: Dead) -> None:
        try:
            dead.recover(segment.id, self._stamp)
        except OSError as error:  # what was found stands there; the next process tries again
            self._note(segment, {"segment": dead.segment, "problem": name_of_error(error)})

    def _note(self, segment: Segment, said: Mapping[str, str]) -> None:
        draft = Draft.of("note", {"about": "recovery", **said}).stamp(*self._stamp)
        try:
            segment.append([draft], sync=self.sync)
        except OSError as error:
            self._fail(error, 0)

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
