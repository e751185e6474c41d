"""Whether a log is what was written: every record, every head, and what others have kept of heads.

Nothing of the log is trusted. A chain shows that records follow each other; only heads that were
kept elsewhere, and signatures whose key is known, show that they are those that were written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from lamella import ConfigurationError
from lamella_middlewares.audit._heads import LOG_FILE, entries_of, head_problem, known_log_id
from lamella_middlewares.audit._keys import has_cryptography, need_cryptography, trusted
from lamella_middlewares.audit._reading import SUFFIX
from lamella_middlewares.audit._record import Record
from lamella_middlewares.audit._scan import (
    Claim,
    Problem,
    Reason,
    Scan,
    claims,
    rewritten,
    scan,
    segment_paths,
    table,
)

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
        told: How many there are up to the last that tells of a request.
        heads: How many heads are in it.
        ok: Whether nothing is wrong with it.
    """

    segment: str
    records: int
    root: str
    covered: int
    told: int
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
    without: Iterable[str] = (),
) -> Report:
    """Verify a log. Blocks; never raises because of what is in the log.

    Args:
        directory: The log's.
        heads: Heads of it that were kept elsewhere, of whatever age, those of segments and merge
            heads: with one, whatever it covers cannot have been changed or cut off unnoticed.
        keys: Public keys that heads may be signed with, as `public_key` gives them, and those that
            they were followed by. None takes any, as long as they vouch for each other.
        without: Ids of segments that were taken away on purpose, because they were old enough.

    Raises:
        ConfigurationError: If the directory is not there, or has no segments and no head is given;
            or if there are keys, and no cryptography.
    """
    trusted_keys = frozenset(keys)
    if trusted_keys:
        need_cryptography("verify(keys=...)")
    place = Path(directory)
    given = list(heads)
    paths = segment_paths(place)
    if not place.is_dir() or not (paths or given):
        msg = f"There is no audit log in {str(place)!r}: it has no file that ends with .audit."
        raise ConfigurationError(msg, hint="Give the directory that Audit(directory=...) names.")
    return _Verification(place, given, trusted_keys).run(paths, frozenset(without))


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
        segment, seq = table(intent).get("segment"), table(intent).get("seq")
        if not isinstance(segment, str) or type(seq) is not int:
            self.stray += 1
            return
        place = (segment, seq)
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
        self._claims: dict[str, list[Claim]] = {}
        self._add(self._given(heads))

    def run(self, paths: Sequence[Path], without: frozenset[str]) -> Report:
        """Look at everything."""
        for path in paths:
            self._add(claims(path))
        found = [self._scanned(path) for path in paths]
        bad = {one.segment for one, _ in found if one.problem is not None}
        checked = [self._checked(one, roots, bad) for one, roots in found]
        here = {one.segment for one in checked}
        for segment in sorted(set(self._claims) - here - without):
            claim = max(self._claims[segment], key=lambda claim: claim.size)
            message = f"the segment is gone; {claim.what} knows {claim.size} records of it"
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

    def _add(self, claims: Iterable[Claim]) -> None:
        for claim in claims:
            if claim.size:
                self._claims.setdefault(claim.segment, []).append(claim)

    # --- heads from elsewhere ----------------------------------------------------------------

    def _log_id(self, heads: Sequence[Mapping[str, Any]]) -> str | None:
        try:
            known = known_log_id(self._directory)
        except OSError:
            known = None
        named = [head.get("log") for head in heads]
        if known is None and any(isinstance(log, str) for log in named):
            self._problems.append(
                Problem("log", f"the file {LOG_FILE} is gone: the log has lost its id")
            )
            return next(log for log in named if isinstance(log, str))
        return known

    def _given(self, heads: Sequence[Mapping[str, Any]]) -> list[Claim]:
        """What the given heads claim."""
        found: list[Claim] = []
        for number, head in enumerate(heads, 1):
            what = f"the head given as number {number}"
            problem = head_problem(head)
            if problem is None and head["log"] != self._log:
                problem = f"it is of the log {head['log']!r}, and this one is {self._log!r}"
            if problem is not None:
                reason: Reason = "signature" if "signature" in problem else "head"
                self._problems.append(Problem(reason, f"{what} is not right: {problem}"))
                continue
            if head["key"] is not None:  # that it was kept elsewhere is as good as a signature
                self._sign(head, what)
            found += [Claim(*entry, what, None, head) for entry in entries_of(head)]
        return found

    def _sign(
        self,
        head: Mapping[str, Any],
        what: str,
        place: tuple[str | None, int | None, int | None] = (None, None, None),
    ) -> None:
        """Remember where a key was first used."""
        key = head["key"]
        if key is not None:
            self._signed.setdefault(key, place)
        elif self._keys:
            message = f"{what} has no signature, and a key was given"
            self._problems.append(Problem("signature", message, *place))

    # --- segments ----------------------------------------------------------------------------

    def _scanned(self, path: Path) -> tuple[Scan, dict[int, str]]:
        """A segment, and its roots at the sizes of which something is claimed."""
        segment = path.name.removesuffix(SUFFIX)
        found = scan(path, self._log, lambda _, __, record: self._calls.see(segment, record))
        known = self._claims.get(segment, ())
        sizes = {claim.size for claim in known if claim.source != segment} | {found.size}
        roots = {size: found.forest.root(size).hex() for size in sizes if size <= found.size}
        found.remarks, remarks = [], found.remarks
        self._remarks += remarks
        self._successions += found.successions
        for seen in found.heads:
            place = (segment, seen.seq, seen.offset)
            self._sign(seen.head, f"the head in record {seen.seq}", place)
        for claim in known:
            if claim.head is not None and claim.source not in {None, segment}:
                self._sign(claim.head, claim.what)
        found.close()
        return found, roots

    def _checked(self, found: Scan, roots: Mapping[int, str], bad: set[str]) -> Checked:
        every = self._claims.get(found.segment, ())
        known = [c for c in every if c.source not in bad and c.source != found.segment]
        known.sort(key=lambda claim: claim.size)
        own = max([c.size for c in every if c.source == found.segment], default=0)
        problem = self._excused(found, known, own) or self._against(found, known, roots)
        if problem is not None:
            self._problems.append(problem)
        covered = [c.size for c in known if c.head is not None and c.size <= found.size]
        return Checked(
            segment=found.segment,
            records=found.size,
            root=roots[found.size],
            covered=max([found.covered(), *covered]),
            told=found.told,
            heads=len(found.heads),
            ok=problem is None,
        )

    def _excused(self, found: Scan, known: Sequence[Claim], own: int) -> Problem | None:
        """The problem of a segment, unless the log itself says that it was given up before it.

        What a head of its own covers had not been given up.
        """
        problem = found.problem
        if problem is None:
            return None
        end = [claim.size for claim in known if claim.failed and claim.source is not None]
        if end and problem.seq is not None and problem.seq >= max([*end, own]):
            self._remarks.append(
                f"segment {found.segment}: an error of the disk ended it after {max(end)} records; "
                "what comes after them counts for nothing."
            )
            return None
        return problem

    @staticmethod
    def _against(found: Scan, known: Sequence[Claim], roots: Mapping[int, str]) -> Problem | None:
        """What heads, and other segments, show of one, the smallest first."""
        for claim in known:
            if claim.size > found.size:
                message = (
                    f"{claim.what} covers {claim.size} records of the segment, and {found.size} "
                    "are there: the others were cut off"
                )
                return found.bad("truncated", message)
            if roots[claim.size] != claim.root:
                return rewritten(found, claim.size, claim.what)
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
        if not has_cryptography():
            self._remarks.append(
                "signatures were not checked, as the package cryptography is not installed: "
                'pip install "lamella[audit]"'
            )
        for key, (segment, seq, offset) in self._signed.items():
            if key not in known:
                message = f"the key {key} that signs this {wrong}"
                self._problems.append(Problem("key", message, segment, seq, offset))

    # --- remarks -----------------------------------------------------------------------------

    def _remark(self, checked: Sequence[Checked]) -> None:
        for one in checked:
            if one.ok and one.told > one.covered:
                self._remarks.append(
                    f"segment {one.segment}: no head covers its records from {one.covered} on yet: "
                    "that they were cut off or rewritten would not be noticed"
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
