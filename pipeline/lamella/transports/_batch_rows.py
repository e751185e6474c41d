"""What a journal of batches holds, one step at a time. Blocks; one thread at a time.

`batches` has each batch from before its file is uploaded until it is over, and `lines` which of
them a request is in; its answer stands there as soon as it was read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import attrs

from lamella._sqlite_file import Contents
from lamella._sqlite_schema import FileForm

FORM: Final = FileForm(
    store="The journal of batches",
    application=0x4C4D4241,  # "LMBA"
    statements=(
        """CREATE TABLE batches (
    token TEXT NOT NULL PRIMARY KEY, -- ours, in the batch's metadata
    began REAL NOT NULL, -- seconds since the epoch
    api TEXT NOT NULL, -- such as /v1/chat/completions
    file TEXT, -- the uploaded file's id
    batch TEXT, -- the provider's id
    over INTEGER NOT NULL DEFAULT 0 -- its answers have been read
)""",
        """CREATE TABLE lines (
    id TEXT NOT NULL PRIMARY KEY, -- the custom_id
    token TEXT NOT NULL, -- the batch that it is in
    request TEXT, -- the provider's id of the request
    answer BLOB -- the body of the answer
)""",
        "CREATE INDEX lines_of ON lines (token)",
    ),
    # What has returned survives a loss of power, as far as the disk does.
    pragmas=("synchronous = FULL",),
    additions=frozenset({"index", "view"}),
    more_room="give the journal a place on another disk",
    moved="batches under way are then not known any more, and their requests are paid again",
    patience=5.0,
)
"""The files of journals of batches."""

_PIECE: Final = 500  # ids in one query


class Kept(NamedTuple):
    """What is known of a request: the batch that it is in, and its answer if that was read."""

    token: str
    request: str | None
    answer: bytes | None


class Batch(NamedTuple):
    """A batch that was begun; `file` and `batch` are None until the provider has said them."""

    token: str
    began: float
    api: str
    file: str | None
    batch: str | None


class Answer(NamedTuple):
    """An answer to a request, by its custom_id."""

    id: str
    request: str | None
    body: bytes


@attrs.define(eq=False)
class BatchRows(Contents):
    """The steps. Those that write run inside a transaction."""

    def known(self, ids: Sequence[str]) -> Mapping[str, Kept]:
        """What is known of requests; nothing of those that are new."""
        found: dict[str, Kept] = {}
        for start in range(0, len(ids), _PIECE):
            some = ids[start : start + _PIECE]
            marks = ",".join("?" * len(some))
            query = f"SELECT id, token, request, answer FROM lines WHERE id IN ({marks})"  # noqa: S608
            for id_, *rest in self.connection.execute(query, some):
                found[id_] = Kept(*rest)
        return found

    def begin_batch(
        self, token: str, began: float, api: str, ids: Sequence[str]
    ) -> Mapping[str, str]:
        """Write down a batch that is going to be made; the requests that another has by now."""
        link = self.connection
        link.execute(
            "INSERT INTO batches (token, began, api) VALUES (?, ?, ?)", (token, began, api)
        )
        link.executemany(
            "INSERT OR IGNORE INTO lines (id, token) VALUES (?, ?)", [(id_, token) for id_ in ids]
        )
        known = self.known(ids)
        return {id_: kept.token for id_, kept in known.items() if kept.token != token}

    def uploaded(self, token: str, file: str) -> None:
        """The file of a batch is with the provider."""
        self.connection.execute("UPDATE batches SET file = ? WHERE token = ?", (file, token))

    def created(self, token: str, batch: str) -> None:
        """A batch is with the provider."""
        self.connection.execute("UPDATE batches SET batch = ? WHERE token = ?", (batch, token))

    def batch(self, token: str) -> Batch | None:
        """A batch; None if there is none of that name."""
        row = self.connection.execute(f"{_BATCH} WHERE token = ?", (token,)).fetchone()
        return None if row is None else Batch(*row)

    def under_way(self) -> list[Batch]:
        """The batches that are not over."""
        return [Batch(*row) for row in self.connection.execute(f"{_BATCH} WHERE over = 0")]

    def ids(self, token: str) -> list[str]:
        """The requests of a batch, in the order of its file: they were written in it."""
        query = "SELECT id FROM lines WHERE token = ? ORDER BY rowid"
        return [id_ for (id_,) in self.connection.execute(query, (token,))]

    def keep(self, token: str, answers: Iterable[Answer], failed: Iterable[str]) -> None:
        """Keep answers of a batch; what has failed is forgotten, so that it may be asked again."""
        link = self.connection
        link.executemany(
            "UPDATE lines SET request = ?, answer = ? "
            "WHERE id = ? AND token = ? AND answer IS NULL",
            [(request, body, id_, token) for id_, request, body in answers],
        )
        link.executemany(
            "DELETE FROM lines WHERE id = ? AND token = ? AND answer IS NULL",
            [(id_, token) for id_ in failed],
        )

    def finish(self, token: str) -> None:
        """A batch is over: its requests without an answer are forgotten."""
        link = self.connection
        link.execute("UPDATE batches SET over = 1 WHERE token = ?", (token,))
        link.execute("DELETE FROM lines WHERE token = ? AND answer IS NULL", (token,))

    def forget(self, before: float) -> None:
        """Forget batches that were begun before an instant, with their answers."""
        link = self.connection
        link.execute(
            "DELETE FROM lines WHERE token IN (SELECT token FROM batches WHERE began < ?)",
            (before,),
        )
        link.execute("DELETE FROM batches WHERE began < ?", (before,))


_BATCH: Final = "SELECT token, began, api, file, batch FROM batches"
