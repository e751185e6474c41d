"""What a segment has come to: how many records, the last one's digest, and their tree."""

from __future__ import annotations

from typing import NamedTuple

import attrs

from lamella_middlewares.audit._record import GENESIS, Draft, Record, digest
from lamella_middlewares.audit._tree import Frontier, leaf_hash


class Position(NamedTuple):
    """Where a record stands.

    Attributes:
        segment: The id of its segment.
        seq: Its number there.
        leaf_hash: Its hash as a leaf of the segment's tree.
    """

    segment: str
    seq: int
    leaf_hash: bytes


class Root(NamedTuple):
    """What stands for the first records of a segment.

    Attributes:
        segment: The segment's id.
        size: How many records, its header included.
        root: The root of their tree.
    """

    segment: str
    size: int
    root: bytes


@attrs.define
class Chain:
    """The records of one segment up to some place.

    Attributes:
        last: The digest of the last one, 64 zeros before the first.
        at: When that was written down by the wall clock; None before the first.
        tree: The tree over all of them.
    """

    last: str = GENESIS
    at: int | None = None
    tree: Frontier = attrs.field(factory=Frontier)

    @property
    def size(self) -> int:
        """How many records there are."""
        return self.tree.size

    def add(self, draft: Draft) -> tuple[bytes, bytes]:
        """Give a record its place: its bytes, and its hash as a leaf."""
        back = self.at is not None and draft.at < self.at
        line = draft.line(self.tree.size, self.last, back=back)
        return line, self._passed(line, draft.at)

    def follow(self, line: bytes, record: Record) -> str | None:
        """Go on to a record that was read; what is wrong with it there, None if nothing is."""
        if record["seq"] != self.tree.size:
            return f"its number is {record['seq']}, and {self.tree.size} comes here"
        if record["prev"] != self.last:
            return "it does not follow the record before it: one of the two was changed"
        if (record["kind"] == "segment") != (self.tree.size == 0):
            return "a header stands at the beginning and nowhere else"
        back = self.at is not None and record["at"] < self.at
        if back != ("clock" in record):
            return "what it says of the clock does not agree with the record before it"
        self._passed(line, record["at"])
        return None

    def copy(self) -> Chain:
        """The same, which goes on by itself."""
        return Chain(self.last, self.at, self.tree.copy())

    def _passed(self, line: bytes, at: int) -> bytes:
        leaf = leaf_hash(line)
        self.tree.add(leaf)
        self.last = digest(line)
        self.at = at
        return leaf
