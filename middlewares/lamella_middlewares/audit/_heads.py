"""Heads: what a log has come to, in one hash, signed.

A head of a segment says how many records it has and what the root of their tree is. Whoever keeps
one, of whatever age, can tell afterwards whether anything of what it covers was edited, deleted,
inserted, moved or cut off. A merge head does so for all segments of a directory.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, cast

import attrs

from lamella._options import refused, seconds, span, whole
from lamella_middlewares.audit._disk import LocalDisk
from lamella_middlewares.audit._keys import Signer, has_cryptography, signed_by
from lamella_middlewares.audit._record import canonical
from lamella_middlewares.audit._sinks import WANTED, usable
from lamella_middlewares.audit._tree import EMPTY_ROOT, leaf_hash, root_of

HEAD_TYPE: Final = "lamella-audit-head-1"
MERGE_TYPE: Final = "lamella-audit-merge-1"

LOG_FILE: Final = "log.id"
"""The file of a directory that holds its id."""

_HEAD: Final = ("type", "log", "segment", "size", "root", "at", "previous", "key")
_MERGE: Final = ("type", "log", "segments", "root", "at", "key")


def _sinks(given: Any) -> Any:
    one = isinstance(given, str | Path) or callable(given) or hasattr(given, "put")
    return (given,) if one else tuple(cast("Iterable[Any]", given))


def _usable_sinks(heads: Any, option: attrs.Attribute[Any], value: Any) -> None:
    for sink in value:
        if not usable(sink):
            raise refused(heads, option, sink, WANTED)


@attrs.frozen(eq=False)
class Heads:
    """How often heads are made, and who is given them.

    Args:
        every: Records after which there is a head; at least 1.
        seconds: Seconds after a record at which there is one at the latest, if the process lives
            that long. There is one at closing as well.
        sinks: Who is given each head: the path of a file, which a line of JSON is appended to; a
            function of the head (a dict of JSON values), plain (in a thread) or async; an object
            with `put(key, data)`, such as a `BlobStore`. Keep at least one where whoever can write
            the log cannot write.
    """

    every: int = attrs.field(default=1000, validator=whole(1))
    seconds: float | timedelta = attrs.field(default=60.0, converter=seconds, validator=span)
    sinks: Sequence[Any] = attrs.field(
        default=(), converter=_sinks, validator=_usable_sinks, repr=False
    )


# --- a segment's -------------------------------------------------------------------------------


def make_head(
    position: tuple[str, int, bytes],
    *,
    log: str,
    at: int,
    previous: str | None,
    signer: Signer | None,
) -> dict[str, Any]:
    """The head of a segment.

    Args:
        position: The segment's id, how many records it has, and the root of their tree.
        log: The log's id.
        at: When, in microseconds since the epoch.
        previous: The digest of the segment's head before; None for its first.
        signer: Who signs it; None leaves it without a signature.
    """
    segment, size, root = position
    head = {
        "type": HEAD_TYPE,
        "log": log,
        "segment": segment,
        "size": size,
        "root": root.hex(),
        "at": at,
        "previous": previous,
        "key": None if signer is None else signer.public,
    }
    return _signed(head, signer)


def merge_head(
    segments: Mapping[str, tuple[int, bytes]], *, log: str, at: int, signer: Signer | None
) -> dict[str, Any]:
    """The head of all segments: of each its size and root, and the root of a tree of those.

    Args:
        segments: Of each segment how many records it has, and the root of their tree.
        log: The log's id.
        at: When, in microseconds since the epoch.
        signer: Who signs it; None leaves it without a signature.
    """
    listed = [
        {"segment": name, "size": size, "root": root.hex()}
        for name, (size, root) in sorted(segments.items())
    ]
    head = {
        "type": MERGE_TYPE,
        "log": log,
        "segments": listed,
        "root": merged_root(listed),
        "at": at,
        "key": None if signer is None else signer.public,
    }
    return _signed(head, signer)


def merged_root(listed: Iterable[Any]) -> str:
    """The root of the tree whose leaves are the segments of a merge head, in their order."""
    leaves = [leaf_hash(canonical(entry)) for entry in listed]
    return (root_of(leaves) if leaves else EMPTY_ROOT).hex()


def _signed(head: dict[str, Any], signer: Signer | None) -> dict[str, Any]:
    signature = None if signer is None else signer.sign(canonical(head))
    return {**head, "signature": signature}


def head_bytes(head: Mapping[str, Any]) -> bytes:
    """What is signed of a head.

    Raises:
        TypeError: If it is none.
        ValueError: Likewise.
    """
    names = _MERGE if head.get("type") == MERGE_TYPE else _HEAD
    return canonical({name: head[name] for name in names})


def head_digest(head: Mapping[str, Any]) -> str:
    """What the next head says of this one."""
    return hashlib.sha256(head_bytes(head)).hexdigest()


def head_problem(head: Mapping[str, Any]) -> str | None:
    """What is wrong with a head as such, whatever log it is of; None if nothing is.

    Without cryptography its signature is not looked at.
    """
    kind = head.get("type")
    if kind not in (HEAD_TYPE, MERGE_TYPE):
        return "it is no head of an audit log"
    missing = [name for name in (_HEAD if kind == HEAD_TYPE else _MERGE) if name not in head]
    if missing:
        return f"it has no {missing[0]!r}"
    problem = _listed_problem(head) if kind == MERGE_TYPE else _size_problem(head)
    if problem is not None:
        return problem
    key, signature = head["key"], head.get("signature")
    if key is None:
        return "it has a signature, but names no key" if signature is not None else None
    try:
        data = head_bytes(head)
    except (TypeError, ValueError):
        return "it has no canonical form"
    if not has_cryptography():
        return None
    return None if signed_by(key, signature, data) else "its signature is not that of its key"


def _size_problem(entry: Mapping[str, Any]) -> str | None:
    size, root = entry.get("size"), entry.get("root")
    if type(size) is not int or size < 0:
        return "its size is no number of records"
    if not isinstance(entry.get("segment"), str):
        return "it names no segment"
    if not isinstance(root, str) or len(root) != 64:
        return "its root is no hash"
    return None


def _listed_problem(head: Mapping[str, Any]) -> str | None:
    listed: Any = head["segments"]
    if not isinstance(listed, list):
        return "it lists no segments"
    entries = cast("list[object]", listed)
    for entry in entries:
        if not isinstance(entry, Mapping):
            return "it lists no segments"
        problem = _size_problem(cast("Mapping[str, Any]", entry))
        if problem is not None:
            return problem
    return None if merged_root(entries) == head["root"] else "its root is not that of its segments"


def entries_of(head: Mapping[str, Any]) -> list[tuple[str, int, str]]:
    """What a head without problems claims: segment, size and root, of each segment."""
    listed = head["segments"] if head["type"] == MERGE_TYPE else [head]
    return [(entry["segment"], entry["size"], entry["root"]) for entry in listed]


# --- the log's id ------------------------------------------------------------------------------


def log_id(directory: Path, new_id: Callable[[], str], known: str | None = None) -> str:
    """The id of the log in a directory, made on first use. Blocks.

    Args:
        directory: The log's.
        new_id: Makes unguessable ids.
        known: What it is if there is none.

    Raises:
        OSError: If it can be neither read nor written.
    """
    place = directory / LOG_FILE
    found = known_log_id(directory)
    if found is not None:
        return found
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = directory / f".{LOG_FILE}.{new_id()}"
    with fresh.open("x", encoding="ascii") as stream:
        stream.write((known or new_id()) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    try:
        os.link(fresh, place)  # in one step, and only if there is none: another may be quicker
    except OSError:  # another was quicker, or the file system has no links
        if not place.exists():
            fresh.replace(place)
    finally:
        fresh.unlink(missing_ok=True)
    LocalDisk().sync_directory(directory)
    return known_log_id(directory) or ""


def known_log_id(directory: Path) -> str | None:
    """The id of the log in a directory; None if it has none. Blocks."""
    try:
        return (directory / LOG_FILE).read_text("ascii", "backslashreplace").strip() or None
    except FileNotFoundError:
        return None
