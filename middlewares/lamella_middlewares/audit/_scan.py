"""One segment read from its beginning: its chain, its tree, and the heads that are in it."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, cast

import attrs

from lamella_middlewares.audit._chain import Chain
from lamella_middlewares.audit._forest import Forest
from lamella_middlewares.audit._heads import HEAD_TYPE, entries_of, head_digest, head_problem
from lamella_middlewares.audit._keys import succeeds
from lamella_middlewares.audit._reading import SUFFIX, Reading
from lamella_middlewares.audit._record import (
    MAX_RECORD,
    MalformedRecord,
    Record,
    digest,
    read_record,
)
from lamella_middlewares.audit._tree import leaf_hash

Reason: TypeAlias = Literal[
    "chain", "clock", "head", "header", "key", "link", "log", "malformed", "missing", "number",
    "rewritten", "signature", "truncated", "unreadable",
]  # fmt: skip
"""What is wrong, in a word; `Problem.message` says it in a sentence."""

Visit: TypeAlias = Callable[[int, bytes, Record], object]
"""Is shown each record that stands where it should: offset, line, record."""


@attrs.frozen
class Problem:
    """What shows that a log is not as it was written.

    Attributes:
        reason: In a word.
        message: In a sentence.
        segment: In which segment; None if it is not in one.
        seq: The first record that is bad; None if it cannot be told.
        offset: Of that record's line in the segment's file, in bytes; None likewise.
    """

    reason: Reason
    message: str
    segment: str | None = None
    seq: int | None = None
    offset: int | None = None

    def __str__(self) -> str:
        if self.segment is None:
            return self.message
        where = [f"segment {self.segment}"]
        if self.seq is not None:
            where.append(f"record {self.seq}")
        if self.offset is not None:
            where.append(f"byte {self.offset}")
        return f"{', '.join(where)}: {self.message}"


@attrs.frozen
class SeenHead:
    """A head without problems of its own, and where it was found.

    Attributes:
        head: The head.
        seq: The number of its record; None for one from elsewhere.
        offset: Likewise.
    """

    head: Mapping[str, Any]
    seq: int | None = None
    offset: int | None = None


@attrs.define
class Scan:
    """A segment as far as it could be followed.

    Attributes:
        segment: Its id.
        path: Its file.
        forest: The tree over its good records.
        offsets: Where each good record begins, in bytes.
        end: Where the last good record ends.
        header: Its first record; empty if it has none.
        heads: The heads in it.
        successions: The keys in it that are followed by others: old and new.
        problem: The first bad record; None if all are good.
        remarks: What is worth knowing, and no sign of tampering.
        last_kind: The kind of the last good record.
        told: How many records there are up to the last one that is not about the log itself.
    """

    segment: str
    path: Path
    forest: Forest = attrs.field(factory=Forest)
    offsets: array[int] = attrs.field(factory=lambda: array("Q"), repr=False)
    end: int = 0
    header: Record = attrs.field(factory=dict[str, Any])
    heads: list[SeenHead] = attrs.field(factory=list[SeenHead], repr=False)
    successions: list[tuple[str, str]] = attrs.field(factory=list[tuple[str, str]], repr=False)
    problem: Problem | None = None
    remarks: list[str] = attrs.field(factory=list[str])
    last_kind: str = ""
    told: int = 0

    @property
    def size(self) -> int:
        """How many good records there are."""
        return len(self.offsets)

    def bad(self, reason: Reason, message: str, seq: int | None = None) -> Problem:
        """A problem of a record of this segment; None for the one that comes next."""
        place = self.size if seq is None else seq
        offset = self.offsets[place] if place < len(self.offsets) else self.end
        return Problem(reason, message, self.segment, place, offset)

    def close(self) -> None:
        """Let go of what only the scanning needed: a log may have many segments."""
        self.forest = Forest()

    def covered(self) -> int:
        """How many records the latest head in it covers."""
        return max([seen.head["size"] for seen in self.heads], default=0)


def table(value: Any) -> Mapping[str, Any]:
    """A value that should be a JSON object, or an empty one."""
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


_ABOUT_THE_LOG: Final = frozenset({"adopted", "closed", "head", "key", "recovered", "segment"})
"""Kinds of records that need no head over them: they say nothing of requests."""


def segment_paths(directory: Path) -> list[Path]:
    """The files of a directory's segments, in the order of their names."""
    return sorted(directory.glob(f"*{SUFFIX}"))


def scan(path: Path, log: str | None, visit: Visit | None = None) -> Scan:
    """Read a segment as far as it is good. Blocks; raises nothing of what it finds.

    Args:
        path: Its file.
        log: The id of the log that its heads must name; None takes any.
        visit: Is shown each good record.
    """
    found = Scan(path.name.removesuffix(SUFFIX), path)
    reading = Reading(path)
    chain = Chain()
    if not _is_file(path):
        found.problem = found.bad("unreadable", "it is no file")
        return found
    records = iter(reading)
    for offset, line, record in records:
        wrong = chain.follow(line, record)
        if wrong is not None:
            found.problem = _broken(found, chain, record, wrong, line, next(records, None))
            return found
        found.forest.add(leaf_hash(line))
        found.offsets.append(offset)
        found.end = offset + len(line) + 1
        found.problem = _seen(found, record, log)
        if found.problem is not None:
            return found
        if visit is not None:
            visit(offset, line, record)
    _stopped(found, reading)
    return found


def _is_file(path: Path) -> bool:
    """Whether it can be read to an end: a pipe of that name would hold its reader up for ever."""
    return path.is_file() or not path.exists()


def _stopped(found: Scan, reading: Reading) -> None:
    """Whether the file ends where its records do."""
    stop = reading.stopped
    if stop is None:
        if not found.size:
            found.problem = found.bad("header", "the file is empty: not even its header is there")
        return
    if stop.reason == "torn" and found.size:
        found.remarks.append(
            f"segment {found.segment}: the last line, from byte {stop.offset} on, has no end: it "
            "is being written, or its writer was killed. Only a head shows that no more was there."
        )
        return
    reason: Reason = "unreadable" if stop.reason == "unreadable" else "malformed"
    found.problem = found.bad(reason, f"this cannot be read as a record: {stop.detail}")


def _broken(
    found: Scan,
    chain: Chain,
    record: Record,
    wrong: str,
    line: bytes,
    after: tuple[int, bytes, Record] | None,
) -> Problem:
    """Which record is bad where one does not follow the other."""
    if record["seq"] != chain.size:
        return found.bad("number", f"{wrong}: records were deleted, inserted or moved here")
    if record["prev"] == chain.last:
        return found.bad("clock" if record["kind"] != "segment" else "header", wrong)
    known = None if after is None else after[2]["prev"]
    if not chain.size or known == chain.last:  # what comes next follows the one before
        return found.bad("chain", wrong)
    # What comes next knows this record as it is, so it is the one before that is another now.
    which = "it" if known in {None, digest(line)} else "it, or the one after it,"
    message = f"it is not the record that the next one was written after: {which} was changed"
    return found.bad("chain", message, chain.size - 1)


def _seen(found: Scan, record: Record, log: str | None) -> Problem | None:
    """Look at a record that stands where it should; what is wrong with it, if anything is."""
    seq, kind = record["seq"], record["kind"]
    found.last_kind = kind
    if kind not in _ABOUT_THE_LOG:
        found.told = seq + 1
    if seq == 0:
        found.header = record
        return _header(found, record)
    if kind == "head":
        return _head(found, record, log)
    if kind == "key":
        return _key(found, record, log)
    if kind == "recovered" and record.get("bytes"):
        found.remarks.append(
            f"segment {found.segment}: its process was killed while it wrote; "
            f"{record['bytes']} bytes after record {seq - 1} were set aside in "
            f"{record.get('kept')!r}. They were never a whole record."
        )
    return None


def _header(found: Scan, record: Record) -> Problem | None:
    if record.get("segment") != found.segment:
        message = f"the header is that of segment {record.get('segment')!r}: files were exchanged"
        return found.bad("header", message, 0)
    return None


def _head(found: Scan, record: Record, log: str | None) -> Problem | None:
    """Check a head that is in the segment against all that is before it."""
    seq: int = record["seq"]
    head = table(record.get("head"))
    problem = head_problem(head) if head else "it holds no head"
    if problem is None and head["type"] != HEAD_TYPE:
        problem = "it is no head of a segment"
    if problem is not None:
        reason: Reason = "signature" if "signature" in problem else "head"
        return found.bad(reason, f"this head is not right: {problem}", seq)
    if log is not None and head["log"] != log:
        return found.bad("log", "this head is that of another log", seq)
    if head["segment"] != found.segment:
        return None  # it was made before this segment began; `claims` has it
    before = found.heads[-1].head if found.heads else None
    if head["size"] > seq:
        return found.bad("head", "this head covers records that come after it", seq)
    if head["previous"] != (None if before is None else head_digest(before)):
        return found.bad("head", "this head does not follow the one before it", seq)
    if found.forest.root(head["size"]).hex() != head["root"]:
        return rewritten(found, head["size"], "the head in record " + str(seq))
    found.heads.append(SeenHead(head, seq, found.offsets[seq]))
    return None


def _key(found: Scan, record: Record, log: str | None) -> Problem | None:
    statement = table(record.get("succession"))
    if not succeeds(statement, log):
        message = "it says that a key is followed by another, and is not signed by both"
        return found.bad("signature", message, record["seq"])
    found.successions.append((statement["old"], statement["new"]))
    return None


def rewritten(found: Scan, size: int, what: str) -> Problem:
    """The problem of records that are not those of a head, although they follow each other."""
    good = max([seen.head["size"] for seen in found.heads if seen.head["size"] < size], default=0)
    message = (
        f"records {good} to {size - 1} follow each other, and are not those that {what} was made "
        "of: one or more of them were changed, and the rest was made to fit"
    )
    return found.bad("rewritten", message, good)


# --- what segments say of each other -----------------------------------------------------------


@attrs.frozen
class Claim:
    """That a segment has begun with certain records.

    Attributes:
        segment: Which segment.
        size: How many records.
        root: The root of their tree, in hexadecimal.
        what: Who says so, in words.
        source: The segment that says so; None for who is outside of the log.
        head: The head that says so; None if it is none.
        failed: Whether the segment was given up after those records, because of an error.
    """

    segment: str
    size: int
    root: str
    what: str
    source: str | None = None
    head: Mapping[str, Any] | None = None
    failed: bool = False


def claims(path: Path) -> list[Claim]:
    """What a segment says of others: its predecessor, those it adopted, those it has heads of.

    Blocks. It reads what it can, and proves nothing: the segment may itself be bad. Of itself it
    says only what its heads do.
    """
    found: list[Claim] = []
    source = path.name.removesuffix(SUFFIX)
    if not _is_file(path):
        return found
    try:
        with path.open("rb") as stream:
            while line := stream.readline(MAX_RECORD + 1):
                if any(mark in line for mark in _MARKS):
                    found += _claimed(source, line)
    except OSError:  # `scan` says so
        return found
    return [claim for claim in found if claim.segment != source or claim.head is not None]


_MARKS: Final = (b'"kind":"adopted"', b'"kind":"head"', b'"kind":"segment"')


def _claimed(source: str, line: bytes) -> list[Claim]:
    try:
        record = read_record(line.removesuffix(b"\n"))
    except MalformedRecord:
        return []
    kind, what = record["kind"], f"record {record['seq']} of segment {source}"
    if kind == "head":
        head = table(record.get("head"))
        if head_problem(head) is not None:
            return []
        return [
            Claim(segment, size, root, f"the head in {what}", source, head)
            for segment, size, root in entries_of(head)
        ]
    names = {"segment": ("previous", "previous_size", "previous_root"), "adopted": _ADOPTED}
    if kind not in names:
        return []
    segment, size, root = (record.get(name) for name in names[kind])
    if not isinstance(segment, str) or not isinstance(root, str):
        return []
    if type(size) is not int or size < 0:
        return []
    return [Claim(segment, size, root, what, source, None, record.get("why") == "failed")]


_ADOPTED: Final = ("segment", "size", "root")
