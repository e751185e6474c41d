"""Whether a log is what was written: every record, every head, and what others have kept of heads.

Nothing of the log is trusted. A chain shows that records follow each other; only heads that were
kept elsewhere, and signatures whose key is known, show that they are those that were written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

import attrs

from lamella import ConfigurationError
from lamella_middlewares.audit._heads import (
    HEAD_TYPE,
    LOG_FILE,
    MERGE_TYPE,
    entries_of,
    head_problem,
    known_log_id,
)
from lamella_middlewares.audit._keys import trusted
from lamella_middlewares.audit._record import Record
from lamella_middlewares.audit._scan import Problem, Scan, rewritten, scan, segment_paths

_NAMED: Final = 5
"""How many calls without an outcome are named; of the others it is said how many they are."""


@attrs.frozen
class Checked:
    """What became of one segment.

    Attributes:
        segment: Its id.
        records: How many good records it has, its header included.
        root: The root of their tree, in hexadecimal.
        covered: How many of them the latest head in it, or given for it, covers.
        heads: How many heads are in it.
        ok: Whether nothing is wrong with it.
    """

    segment: str
    records: int
    root: str
    covered: int
    heads: int
    ok: bool


@attrs.frozen
class Report:
    """What the verification of a log has found.

    Attributes:
        log: The log's id; None if it has none.
        segments: Each segment, in the order of their ids.
        problems: What is wrong: of each segment the first bad record.
        remarks: What is worth knowing, and no sign of tampering.
        keys: The public keys that heads are signed with.
        calls: How many calls were begun.
        open_calls: Calls without an outcome: under way, or their process was killed.
    """

    log: str | None
    segments: tuple[Checked, ...]
    problems: tuple[Problem, ...]
    remarks: tuple[str, ...]
    keys: tuple[str, ...]
    calls: int
    open_calls: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    @property
    def records(self) -> int:
        """How many good records there are."""
        return sum(segment.records for segment in self.segments)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        found = attrs.asdict(self)
        return {"ok": self.ok, "records": self.records, **found}


def verify(
    directory: str | Path,
    *,
    heads: Iterable[Mapping[str, Any]] = (),
    keys: Iterable[str] = (),
) -> Report:
    """Verify a log. Blocks; never raises because of what is in the log.

    Args:
        directory: The log's.
        heads: Heads of it that were kept elsewhere, of whatever age, those of segments and merge
            heads: with one, whatever it covers cannot have been changed or cut off unnoticed.
        keys: Public keys that heads may be signed with, as `public_key` gives them, and those that
            they were followed by. None takes any, as long as they vouch for each other.

    Raises:
        ConfigurationError: If the directory is not there, or has no segments and no head is given.
    """
    place = Path(directory)
    given = list(heads)
    paths = segment_paths(place)
    if not place.is_dir() or not (paths or given):
        msg = f"There is no audit log in {str(place)!r}: it has no file that ends with .audit."
        raise ConfigurationError(msg, hint="Give the directory that Audit(directory=...) names.")
    return _Verification(place, given, frozenset(keys)).run(paths)


def read_heads(path: str | Path) -> list[dict[str, Any]]:
    """The heads in a file: JSON, one to a line, or a single one over several lines.

    Raises:
        ConfigurationError: If it holds something else.
        OSError: If it cannot be read.
    """
    text = Path(path).read_text(encoding="utf-8")
    try:
        found: list[Any] = [json.loads(text)]
    except ValueError:
        try:
            found = [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError:
            found = [None]
    if not found or not all(isinstance(head, dict) for head in found):
        msg = f"{str(path)!r} does not hold heads of an audit log."
        hint = "Give what a sink of heads was given, or what `lamella audit head` printed."
        raise ConfigurationError(msg, hint=hint)
    return found


class _Calls:
    """Which calls have an outcome."""

    def __init__(self) -> None:
        self.begun = 0
        self.open: dict[tuple[str, int], str] = {}
        self.stray = 0
        self._closed: set[tuple[str, int]] = set()

    def see(self, segment: str, record: Record) -> None:
        """Look at a record."""
        if record["kind"] == "intent":
            self.begun += 1
            place = (segment, record["seq"])
            if place in self._closed:  # in a segment that was read before
                self._closed.remove(place)
            else:
                self.open[place] = str(record.get("call"))
        elif record["kind"] == "outcome":
            self._ended(record.get("intent"))

    def _ended(self, intent: Any) -> None:
        if not isinstance(intent, Mapping):
            self.stray += 1
            return
        place = (str(intent.get("segment")), cast("int", intent.get("seq")))
        if self.open.pop(place, None) is None:
            self._closed.add(place)

    @property
    def strays(self) -> int:
        """Outcomes that belong to no intent in the log."""
        return self.stray + len(self._closed)


class _Verification:
    """One verification under way."""

    def __init__(
        self, directory: Path, heads: Sequence[Mapping[str, Any]], keys: frozenset[str]
    ) -> None:
        self._directory = directory
        self._keys = keys
        self._problems: list[Problem] = []
        self._remarks: list[str] = []
        self._calls = _Calls()
        self._signed: dict[str, tuple[str | None, int | None, int | None]] = {}
        self._successions: list[tuple[str, str]] = []
        self._log = self._log_id(heads)
        self._given = self._entries(heads)

    def run(self, paths: Sequence[Path]) -> Report:
        """Look at everything."""
        checked = [self._segment(path) for path in paths]
        missing = set(self._given) - {one.segment for one in checked}
        for segment in sorted(missing):
            size = max(entry[1] for entry in self._given[segment])
            if size:
                message = f"the segment is gone; a head covers {size} records of it"
                self._problems.append(Problem("missing", message, segment))
        self._trust()
        self._remark(checked)
        return Report(
            log=self._log,
            segments=tuple(checked),
            problems=tuple(self._problems),
            remarks=tuple(self._remarks),
            keys=tuple(sorted(self._signed)),
            calls=self._calls.begun,
            open_calls=tuple(sorted(self._calls.open.values())),
        )

    # --- heads from elsewhere ----------------------------------------------------------------

    def _log_id(self, heads: Sequence[Mapping[str, Any]]) -> str | None:
        try:
            known = known_log_id(self._directory)
        except (OSError, UnicodeDecodeError):
            known = None
        named = [head.get("log") for head in heads]
        if known is None and any(isinstance(log, str) for log in named):
            self._problems.append(
                Problem("log", f"the file {LOG_FILE} is gone: the log has lost its id")
            )
            return next(log for log in named if isinstance(log, str))
        return known

    def _entries(
        self, heads: Sequence[Mapping[str, Any]]
    ) -> dict[str, list[tuple[str, int, str]]]:
        """What the given heads claim of each segment: the head's name, size and root."""
        found: dict[str, list[tuple[str, int, str]]] = {}
        for number, head in enumerate(heads, 1):
            what = f"the head given as number {number}"
            problem = head_problem(head)
            if problem is None and head["log"] != self._log:
                problem = f"it is of the log {head['log']!r}, and this one is {self._log!r}"
            if problem is not None:
                reason = "signature" if "signature" in problem else "head"
                self._problems.append(Problem(reason, f"{what} is not right: {problem}"))
                continue
            self._sign(head, what, None, None, None)
            for segment, size, root in entries_of(head):
                found.setdefault(segment, []).append((what, size, root))
        for entries in found.values():
            entries.sort(key=lambda entry: entry[1])
        return found

    def _sign(
        self,
        head: Mapping[str, Any],
        what: str,
        segment: str | None,
        seq: int | None,
        offset: int | None,
    ) -> None:
        """Remember where a key was first used."""
        key = head["key"]
        if key is not None:
            self._signed.setdefault(key, (segment, seq, offset))
        elif self._keys:
            message = f"{what} has no signature, and a key was given"
            self._problems.append(Problem("signature", message, segment, seq, offset))

    # --- segments ----------------------------------------------------------------------------

    def _segment(self, path: Path) -> Checked:
        segment = path.name.removesuffix(".audit")
        found = scan(path, self._log, lambda _, __, record: self._calls.see(segment, record))
        self._remarks += found.remarks
        self._successions += found.successions
        problem = found.problem or self._against_given(found)
        if problem is not None:
            self._problems.append(problem)
        for seen in found.heads:
            what = f"the head in record {seen.seq}"
            self._sign(seen.head, what, segment, seen.seq, seen.offset)
        covered = [size for _, size, _ in self._given.get(segment, ()) if size <= found.size]
        return Checked(
            segment=segment,
            records=found.size,
            root=found.forest.root(found.size).hex(),
            covered=max([found.covered(), *covered]),
            heads=len(found.heads),
            ok=problem is None,
        )

    def _against_given(self, found: Scan) -> Problem | None:
        """What the heads from elsewhere show, the smallest first."""
        for what, size, root in self._given.get(found.segment, ()):
            if size > found.size:
                message = (
                    f"{what} covers {size} records of the segment, and {found.size} are there: "
                    "the others were cut off"
                )
                return found.bad("truncated", message)
            if found.forest.root(size).hex() != root:
                return rewritten(found, size, what)
        return None

    # --- keys --------------------------------------------------------------------------------

    def _trust(self) -> None:
        used = list(self._signed)
        if not used:
            if self._keys and not self._problems:
                self._problems.append(
                    Problem("signature", "a key was given, and the log has no signed head")
                )
            return
        if self._keys:
            known = trusted(self._keys, self._successions)
            wrong = "is not the one that was given, and neither follows it nor is followed by it"
        else:
            pairs = [*self._successions, *[(new, old) for old, new in self._successions]]
            known = trusted(used[:1], pairs)
            wrong = "is another one than that of heads before, and neither vouches for the other"
            self._remarks.append(
                "no key was given: the signatures show that the heads are from one hand, and not "
                "whose it is. Give --key with the public key, from elsewhere than the log."
            )
        for key, (segment, seq, offset) in self._signed.items():
            if key not in known:
                message = f"the key {key} that signs this {wrong}"
                self._problems.append(Problem("key", message, segment, seq, offset))

    # --- remarks -----------------------------------------------------------------------------

    def _remark(self, checked: Sequence[Checked]) -> None:
        for one in checked:
            loose = one.records - one.covered
            if one.ok and loose > 1:  # the latest head's own record is never covered by it
                self._remarks.append(
                    f"segment {one.segment}: no head covers the last {loose} of its {one.records} "
                    "records yet: that they were cut off or rewritten would not be noticed"
                )
        calls = self._calls
        if calls.open:
            named = list(calls.open.values())
            more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
            self._remarks.append(
                f"{len(named)} calls have no outcome: they are under way, or their process was "
                f"killed ({', '.join(named[:_NAMED])}{more})"
            )
        if calls.strays:
            self._remarks.append(
                f"{calls.strays} outcomes belong to no intent in the log, as happens with "
                "on_failure='pass', or where segments were taken away"
            )


__all__ = ["HEAD_TYPE", "MERGE_TYPE", "Checked", "Problem", "Report", "read_heads", "verify"]
