"""What a journal's file holds, one step at a time. Blocks; one thread at a time.

`results` has what became of each row, under the row's key and with the hash of what it asks;
`places` says which of them stand where in the rows of the latest run.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import attrs

from lamella._bulk_errors import JournalError
from lamella._sqlite_file import Contents
from lamella._sqlite_schema import FileForm

ANSWERED: Final = 0
FAILED: Final = 1
MAY_PASS: Final = 2
"""It failed, and may be answered if it is asked again."""
BROKEN_OFF: Final = 3
"""It failed with what every row would have met: the next run asks it again."""

FORM: Final = FileForm(
    store="The journal",
    application=0x4C4D4A4C,  # "LMJL"
    statements=(
        """CREATE TABLE results (
    number INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE, -- the row's id, or else the hash of what it asks
    hash BLOB NOT NULL, -- of what it asks
    state INTEGER NOT NULL, -- 0 answered; 1 failed, 2 failed and may pass, 3 broken off
    kind TEXT NOT NULL, -- the error's class; empty for an answer
    model TEXT, -- that answered
    fingerprint TEXT, -- of the system behind it
    data BLOB NOT NULL
)""",
        """CREATE TABLE places (
    place INTEGER PRIMARY KEY, -- the row's index in the latest run
    number INTEGER NOT NULL -- its result
)""",
        "CREATE TABLE run (name TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL)",
    ),
    # What has returned survives a loss of power, as far as the disk does.
    pragmas=("synchronous = FULL", "wal_autocheckpoint = 4000"),
    additions=frozenset({"index", "view"}),  # people's own, who ask it
    more_room="give the journal a place on another disk",
    moved="rows that it has are then asked again",
    patience=5.0,
)
"""The files of journals."""

_PAGE_BYTES: Final = 4 * 1024 * 1024
_PAGE_ROWS: Final = 200

Verdict: TypeAlias = Literal["new", "again", "kept", "twice", "changed"]
"""What is to be done with a row: ask it, ask it in place of what was kept, or take what was kept;
or it has the id of another row of this run, or of one that asked something else."""


class Claim(NamedTuple):
    """A row that wants to be asked: its place, its key, and the hash of what it asks."""

    place: int
    key: bytes
    hash: bytes


@attrs.frozen
class Known:
    """What the journal says of a row.

    Attributes:
        verdict: What is to be done.
        number: Of its result; None for a new one.
        kind: The class of the error that was kept; empty for an answer.
        model: That answered, and its fingerprint; None for an error.
    """

    verdict: Verdict
    number: int | None = None
    kind: str = ""
    model: tuple[str, str] | None = None


NEW: Final = Known("new")


@attrs.frozen
class Entry:
    """A result to be kept. The fields are those of the table, and the row's place."""

    number: int | None
    key: bytes
    hash: bytes
    state: int
    kind: str
    model: tuple[str, str] | None
    data: bytes
    place: int


@attrs.define(eq=False)
class JournalRows(Contents):
    """The steps. Those that write run inside a transaction."""

    def begin_run(
        self, configuration: Mapping[str, str], *, restart: bool, identity: str
    ) -> tuple[Mapping[str, str], bytes | None, str]:
        """Begin a run: the configuration that the journal was begun with, its sums, its identity.

        Args:
            configuration: Of this run.
            restart: Whether to forget all.
            identity: The journal's, if it has none yet.
        """
        link = self.connection
        if restart:
            for table in ("results", "places", "run"):
                link.execute(f"DELETE FROM {table}")  # noqa: S608 - words of ours
        found = dict(link.execute("SELECT name, value FROM run"))
        known = found.get("configuration")
        if known is None:
            text = json.dumps(dict(configuration))
            link.execute("INSERT INTO run VALUES ('configuration', ?)", (text,))
            known = text
        before: Mapping[str, str] = json.loads(known)
        if before == configuration:
            link.execute("DELETE FROM places")
        link.execute("INSERT OR IGNORE INTO run VALUES ('identity', ?)", (identity,))
        (known,) = link.execute("SELECT value FROM run WHERE name = 'identity'").fetchone()
        return before, found.get("sums"), known

    def admit(
        self, claims: Sequence[Claim], seen: Container[int], again: frozenset[int], *, changed: bool
    ) -> list[Known]:
        """What is known of rows; the places of those whose results are there are written down.

        Args:
            claims: The rows.
            seen: The numbers of the results that have a place in this run.
            again: The states in which a row is asked again.
            changed: Whether a row that was answered, and asks something else now, is asked again.
        """
        self._must_be_begun()
        execute = self.connection.execute
        found: list[Known] = []
        places: list[tuple[int, int]] = []
        for place, key, hash_ in claims:
            row = execute(_LOOK, (key,)).fetchone()
            if row is None:
                found.append(NEW)
                continue
            number, before, state, kind, model, fingerprint = row
            if number in seen:
                found.append(Known("twice"))
            elif before != hash_ and state == ANSWERED and not changed:
                found.append(Known("changed"))
            elif before != hash_ or state in again:
                found.append(Known("again", number, kind))
            else:
                of = None if model is None else (model, fingerprint)
                found.append(Known("kept", number, kind, of))
                places.append((place, number))
        if places:
            self.connection.executemany("INSERT OR REPLACE INTO places VALUES (?, ?)", places)
        return found

    def keep(self, entries: Iterable[Entry], sums: bytes) -> list[int]:
        """Write results, their places, and the sums over all of them: the results' numbers."""
        self._must_be_begun()
        link = self.connection
        (last,) = link.execute("SELECT ifnull(max(number), 0) FROM results").fetchone()
        rows: list[tuple[Any, ...]] = []
        places: list[tuple[int, int]] = []
        for entry in entries:
            number = entry.number
            if number is None:
                last += 1
                number = last
            model, fingerprint = entry.model or (None, None)
            rows.append(
                (
                    number, entry.key, entry.hash, entry.state, entry.kind, model, fingerprint,
                    entry.data,
                )
            )  # fmt: skip
            places.append((entry.place, number))
        link.executemany("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        link.executemany("INSERT OR REPLACE INTO places VALUES (?, ?)", places)
        link.execute("INSERT OR REPLACE INTO run VALUES ('sums', ?)", (sums,))
        return [number for _, number in places]

    def _must_be_begun(self) -> None:
        """A file that was put in place of the journal, or made anew, has no run."""
        if self.connection.execute(_BEGUN).fetchone() is None:
            msg = "The journal was removed or replaced while its rows were run."
            hint = "What it had is not in the one that is there: put it back, and begin again."
            raise JournalError(msg, hint=hint)

    def page(self, place: int) -> list[tuple[int, bytes]]:
        """The results from a place on, in order: some of them."""
        self._must_be_begun()
        found: list[tuple[int, bytes]] = []
        size = 0
        for row in self.connection.execute(_PAGE, (place, _PAGE_ROWS)):
            found.append(row)
            size += len(row[1])
            if size >= _PAGE_BYTES:
                break
        return found


_BEGUN: Final = "SELECT 1 FROM run WHERE name = 'configuration'"
_LOOK: Final = "SELECT number, hash, state, kind, model, fingerprint FROM results WHERE key = ?"
_PAGE: Final = (
    "SELECT place, data FROM places JOIN results USING (number) "
    "WHERE place >= ? ORDER BY place LIMIT ?"
)
