"""Proofs: that one record is in the log, and that a later head still has all of an earlier one.

A proof of a record is some twenty hashes, whatever the log's size. It is checked with the record
and a head alone, by whoever has the head, without the rest of the log.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import attrs

from lamella import ConfigurationError
from lamella_middlewares.audit._heads import (
    entries_of,
    head_problem,
    known_log_id,
    merge_head,
)
from lamella_middlewares.audit._keys import Signer, has_cryptography
from lamella_middlewares.audit._record import MalformedRecord, Record, read_record
from lamella_middlewares.audit._scan import Problem, Scan, claims, scan, segment_paths
from lamella_middlewares.audit._tree import leaf_hash, verify_consistency, verify_inclusion

PROOF_TYPE: Final = "lamella-audit-proof-1"
CONSISTENCY_TYPE: Final = "lamella-audit-consistency-1"

Wanted = Callable[[str, Record], bool]
"""Whether a record of a segment is asked for."""


@attrs.frozen
class Found:
    """A record that was asked for.

    Attributes:
        segment: Its segment.
        seq: Its number there.
        line: Its bytes. They take a tenth of the memory that what they say does.
    """

    segment: str
    seq: int
    line: bytes

    @property
    def record(self) -> Record:
        """What it says."""
        return read_record(self.line)


def find(path: Path, log: str | None, wanted: Wanted) -> tuple[Scan, list[Found]]:
    """The records of a segment that are asked for, as far as the segment is good. Blocks."""
    segment = path.stem
    found: list[Found] = []

    def look(_: int, line: bytes, record: Record) -> None:
        if wanted(segment, record):
            found.append(Found(segment, record["seq"], line))

    return scan(path, log, look), found


def prove(
    directory: str | Path,
    wanted: Wanted,
    *,
    heads: Iterable[Mapping[str, Any]] = (),
    problems: list[Problem] | None = None,
) -> list[dict[str, Any]]:
    """Proofs that records are in the log, in the order in which they stand there. Blocks.

    Each is to the earliest head that covers its record: of those given, or else of those in the
    log. Where there is none, it is to the root of all that is there, and has no head.

    Args:
        directory: The log's.
        wanted: Which records.
        heads: Heads that were kept elsewhere.
        problems: Is told of the first bad record of each segment; there is no proof of what comes
            after it.

    Raises:
        ConfigurationError: If there is no log.
    """
    place = Path(directory)
    log = known_log_id(place)
    paths = paths_of(place)
    given = [head for head in heads if head_problem(head) is None]
    within = [claim.head for path in paths for claim in claims(path) if claim.head is not None]
    proofs: list[dict[str, Any]] = []
    for path in paths:
        seen, records = find(path, log, wanted)
        if problems is not None and seen.problem is not None:
            problems.append(seen.problem)
        own = [head.head for head in seen.heads]
        known = [covering(heads, seen) for heads in (given, own, within)]
        proofs += [proof_of(seen, one, known) for one in records]
    return proofs


def paths_of(place: Path) -> list[Path]:
    paths = segment_paths(place)
    if not paths:
        msg = f"There is no audit log in {str(place)!r}: it has no file that ends with .audit."
        raise ConfigurationError(msg, hint="Give the directory that Audit(directory=...) names.")
    return paths


def covering(heads: Iterable[Mapping[str, Any]], seen: Scan) -> list[tuple[int, Mapping[str, Any]]]:
    """The heads that a segment agrees with, by the size that they cover, the smallest first."""
    found = [
        (size, head)
        for head in heads
        for segment, size, root in entries_of(head)
        if segment == seen.segment
        and 0 < size <= seen.size
        and seen.forest.root(size).hex() == root
    ]
    return sorted(found, key=lambda pair: pair[0])


def proof_of(
    seen: Scan, one: Found, heads: Sequence[Sequence[tuple[int, Mapping[str, Any]]]]
) -> dict[str, Any]:
    """The proof of one record.

    Args:
        seen: Its segment.
        one: The record.
        heads: Heads that the segment agrees with, as `covering` gives them; those of the first
            list are taken first.
    """
    seq = one.seq
    size, head = next(_earliest(heads, seq), (seen.size, None))
    return {
        "type": PROOF_TYPE,
        "segment": one.segment,
        "seq": seq,
        "record": one.line.decode("utf-8"),
        "size": size,
        "root": seen.forest.root(size).hex(),
        "path": [node.hex() for node in seen.forest.inclusion(seq, size)],
        "head": head,
    }


def _earliest(
    heads: Sequence[Sequence[tuple[int, Mapping[str, Any]]]], seq: int
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The earliest head of each list that covers a record."""
    for known in heads:
        place = bisect_right(known, seq, key=itemgetter(0))
        yield from known[place : place + 1]


def consistency(
    directory: str | Path, old: Mapping[str, Any], new: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Proofs that each segment still begins with what an earlier head covers of it. Blocks.

    Args:
        directory: The log's.
        old: The earlier head.
        new: The later one; None takes all that is there.

    Raises:
        ConfigurationError: If a segment is gone, or is not what the heads were made of: then there
            is no proof, and `verify` says why.
    """
    place = Path(directory)
    log = known_log_id(place)
    paths = {path.stem: path for path in paths_of(place)}
    later = {} if new is None else {entry[0]: entry for entry in entries_of(new)}
    proofs: list[dict[str, Any]] = []
    for segment, size, root in entries_of(old):
        if size == 0:
            continue
        seen = scan(paths[segment], log) if segment in paths else None
        _, to, _ = later.get(segment, (segment, 0 if seen is None else seen.size, ""))
        if seen is None or not size <= to <= seen.size or seen.forest.root(size).hex() != root:
            msg = f"There is no proof: segment {segment} does not begin with what the head covers."
            raise ConfigurationError(msg, hint="See why: lamella audit verify DIR --head FILE.")
        proofs.append(
            {
                "type": CONSISTENCY_TYPE,
                "segment": segment,
                "old_size": size,
                "old_root": root,
                "new_size": to,
                "new_root": seen.forest.root(to).hex(),
                "path": [node.hex() for node in seen.forest.consistency(size, to)],
            }
        )
    return proofs


# --- checking ----------------------------------------------------------------------------------


def check_proof(
    proof: Mapping[str, Any],
    *,
    heads: Iterable[Mapping[str, Any]] = (),
    keys: Iterable[str] = (),
) -> str | None:
    """What is wrong with a proof; None if it shows what it says. It needs nothing of the log.

    Args:
        proof: As `prove` or `consistency` gives it.
        heads: Heads that are trusted because they were kept; the proof's root must be of one of
            them. Without any, the head in the proof counts, which one of `keys` must have signed.
        keys: Public keys that are trusted.
    """
    try:
        if proof.get("type") == CONSISTENCY_TYPE:
            return _check_consistency(proof, list(heads))
        if proof.get("type") == PROOF_TYPE:
            return _check_inclusion(proof, list(heads), frozenset(keys))
    except (AttributeError, KeyError, TypeError, ValueError):
        pass  # whoever made it can have written anything
    return "it is no proof of an audit log"


def _check_inclusion(
    proof: Mapping[str, Any], heads: Sequence[Mapping[str, Any]], keys: frozenset[str]
) -> str | None:
    line = str(proof["record"]).encode("utf-8")
    seq, size, root = proof["seq"], proof["size"], proof["root"]
    path = [bytes.fromhex(node) for node in proof["path"]]
    try:
        record = read_record(line)
    except MalformedRecord as error:
        return f"its record is none: {error}"
    if record["seq"] != seq:
        return "its record has another number"
    if not verify_inclusion(leaf_hash(line), seq, size, path, bytes.fromhex(root)):
        return "its hashes do not lead from its record to its root"
    entry = (proof["segment"], size, root)
    if heads:
        covered = any(head_problem(head) is None and entry in entries_of(head) for head in heads)
        return None if covered else "its root is not that of a head that was given"
    return _head_problem(proof["head"], entry, keys)


def _head_problem(
    head: Mapping[str, Any] | None, entry: tuple[str, int, str], keys: frozenset[str]
) -> str | None:
    """Why the head that a proof brings along does not show that its root is right."""
    if head is None:
        return "no head covers it: nothing but the log itself says that its root is right"
    if not has_cryptography():
        return "its head's signature cannot be checked: pip install lamella[audit]"
    problem = head_problem(head)
    if problem is not None:
        return f"its head is not right: {problem}"
    if entry not in entries_of(head):
        return "its root is not that of its head"
    if head["key"] is None or head["key"] not in keys:
        return "its head is not signed with a key that was given"
    return None


def _check_consistency(proof: Mapping[str, Any], heads: Sequence[Mapping[str, Any]]) -> str | None:
    old, new = proof["old_size"], proof["new_size"]
    old_root, new_root = proof["old_root"], proof["new_root"]
    path = [bytes.fromhex(node) for node in proof["path"]]
    roots = bytes.fromhex(old_root), bytes.fromhex(new_root)
    if not verify_consistency(old, new, *roots, path):
        return "its hashes do not lead from the earlier root to the later one"
    known = [entry for head in heads if head_problem(head) is None for entry in entries_of(head)]
    if (proof["segment"], old, old_root) not in known:
        return "its earlier root is not that of a head that was given"
    return None


# --- a head of all -----------------------------------------------------------------------------


def head_of(
    directory: str | Path, *, at: int, signer: Signer | None = None
) -> tuple[dict[str, Any], list[Scan]]:
    """The merge head over all that is in a log now, and the segments it was made of. Blocks.

    Args:
        directory: The log's.
        at: When, in microseconds since the epoch.
        signer: Who signs it.

    Raises:
        ConfigurationError: If there is no log, or it has no id.
    """
    place = Path(directory)
    log = known_log_id(place)
    if log is None:
        msg = f"The audit log in {str(place)!r} has no id: its file log.id is not there."
        raise ConfigurationError(msg, hint="Give the directory that Audit(directory=...) names.")
    segments: dict[str, tuple[int, bytes]] = {}
    scans: list[Scan] = []
    for path in paths_of(place):
        seen = scan(path, log)
        segments[seen.segment] = (seen.size, seen.forest.root(seen.size))
        seen.close()
        scans.append(seen)
    return merge_head(segments, log=log, at=at, signer=signer), scans
