"""What a file of conversations holds, one step at a time. Blocks; one thread at a time.

What was said is only ever added. What may change (whose it is, which line it is on, what is pinned)
stands in the row of the conversation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Final

import attrs

from lamella._conversation_entries import ConversationEntry
from lamella._conversation_records import ConversationRecord, message_of, message_text
from lamella._conversation_stores import ConversationInfo
from lamella._nothing import NOTHING
from lamella._sqlite_file import Contents
from lamella._sqlite_link import transaction
from lamella._sqlite_schema import FileForm

FORM: Final = FileForm(
    store="SQLiteConversations",
    application=0x4C4D4356,  # "LMCV"
    statements=(
        """CREATE TABLE conversations (
    id INTEGER PRIMARY KEY,
    session TEXT NOT NULL,
    tenant TEXT,
    user TEXT,
    tags TEXT NOT NULL, -- JSON: text by name
    system TEXT, -- JSON: a message
    head TEXT, -- the id of the last entry of the line that it is on
    pinned TEXT NOT NULL, -- JSON: ids of entries
    created REAL NOT NULL, -- seconds since 1970, UTC
    updated REAL NOT NULL
)""",
        """CREATE TABLE entries (
    place INTEGER PRIMARY KEY,
    conversation INTEGER NOT NULL,
    id TEXT NOT NULL,
    parent TEXT, -- the id of the entry that it follows
    at REAL NOT NULL,
    begins INTEGER NOT NULL, -- 1 if a turn begins with it
    answer INTEGER NOT NULL, -- 1 if the answer brought it
    partial INTEGER NOT NULL, -- 1 if that broke off
    role TEXT NOT NULL,
    message TEXT NOT NULL -- JSON
)""",
        "CREATE INDEX conversations_by_session ON conversations (session)",
        "CREATE INDEX conversations_by_user ON conversations (user, updated)",
        "CREATE INDEX conversations_by_tenant ON conversations (tenant, updated)",
        "CREATE INDEX conversations_by_time ON conversations (updated)",
        "CREATE UNIQUE INDEX entries_by_id ON entries (conversation, id)",
    ),
    # What was saved and has returned survives a loss of power, as far as the disk does.
    pragmas=("synchronous = FULL",),
    additions=frozenset({"index", "table", "view"}),  # people's own, who ask it
    more_room="delete old conversations",
    moved="its conversations are then no longer found",
    patience=5.0,
)
"""The files of this store."""

_WHOSE: Final = "session, tenant, user, tags, created, updated"


@attrs.define(eq=False)
class ConversationRows(Contents):
    """The steps. Those that write run inside a transaction."""

    def save(self, record: ConversationRecord) -> None:
        """Add what is not there yet, and say how the conversation stands."""
        link, row = self.connection, self._row(record.session, record.tenant)
        facts = (
            record.user,
            _json(dict(record.tags)),
            None if record.system is None else message_text(record.system),
            record.head,
            record.updated,
        )
        if row is None:
            row = link.execute(
                "INSERT INTO conversations "
                "(session, tenant, created, pinned, user, tags, system, head, updated) "
                "VALUES (?, ?, ?, '[]', ?, ?, ?, ?, ?)",
                (record.session, record.tenant, record.created, *facts),
            ).lastrowid
        else:
            link.execute(
                "UPDATE conversations SET user = ?, tags = ?, system = ?, head = ?, updated = ? "
                "WHERE id = ?",
                (*facts, row),
            )
        known = {found for (found,) in self._ids(row)}
        link.executemany(
            "INSERT INTO entries "
            "(conversation, id, parent, at, begins, answer, partial, role, message) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(row, *_entry_row(entry)) for entry in record.entries if entry.id not in known],
        )
        self._pin(row, record)

    def load(self, session: str, tenant: str | None) -> ConversationRecord | None:
        """What is kept under a name; None if there is nothing."""
        link = self.connection
        with nullcontext() if link.in_transaction else transaction(link, writes=False):
            row = self._row(session, tenant)
            if row is None:
                return None
            found = link.execute(
                f"SELECT {_WHOSE}, system, head, pinned "  # noqa: S608 - names of ours
                "FROM conversations WHERE id = ?",
                (row,),
            ).fetchone()
            entries = link.execute(
                "SELECT id, parent, at, begins, answer, partial, message FROM entries "
                "WHERE conversation = ? ORDER BY place",
                (row,),
            ).fetchall()
        *whose, system, head, pinned = found
        return ConversationRecord(
            **_whose(whose),
            system=None if system is None else message_of(system),
            head=head,
            pinned=frozenset(json.loads(pinned)),
            entries=tuple(map(_entry, entries)),
        )

    def delete(self, session: str, tenant: str | None) -> bool:
        """Forget a conversation; whether there was one."""
        row = self._row(session, tenant)
        if row is None:
            return False
        self.connection.execute("DELETE FROM entries WHERE conversation = ?", (row,))
        self.connection.execute("DELETE FROM conversations WHERE id = ?", (row,))
        return True

    def find(
        self, where: Mapping[str, str | None], limit: int, offset: int
    ) -> Sequence[ConversationInfo]:
        """Conversations, the ones changed last first."""
        asked = " AND ".join([f"{name} IS ?" for name in where])  # names of ours
        rows = self.connection.execute(
            f"SELECT {_WHOSE}, (SELECT count(*) FROM entries "  # noqa: S608 - as above
            "WHERE conversation = conversations.id) FROM conversations "
            f"{'WHERE ' + asked if asked else ''} ORDER BY updated DESC, id DESC LIMIT ? OFFSET ?",
            (*where.values(), limit, offset),
        ).fetchall()
        return [ConversationInfo(**_whose(whose), entries=count) for *whose, count in rows]

    def look(self) -> None:
        """See that the file can be read."""
        self.connection.execute("SELECT id FROM conversations LIMIT 1").fetchone()

    def _row(self, session: str, tenant: str | None) -> int | None:
        found = self.connection.execute(
            "SELECT id FROM conversations WHERE session = ? AND tenant IS ?",
            (session, tenant),
        ).fetchone()
        return None if found is None else int(found[0])

    def _ids(self, row: int | None) -> Sequence[tuple[str]]:
        return self.connection.execute(
            "SELECT id FROM entries WHERE conversation = ?", (row,)
        ).fetchall()

    def _pin(self, row: int | None, record: ConversationRecord) -> None:
        """Pin what the record pins; of entries that it does not know, what was pinned stays."""
        link = self.connection
        (before,) = link.execute("SELECT pinned FROM conversations WHERE id = ?", (row,)).fetchone()
        ours = {entry.id for entry in record.entries}
        pinned = sorted(record.pinned | (set(json.loads(before)) - ours))
        link.execute("UPDATE conversations SET pinned = ? WHERE id = ?", (_json(pinned), row))


def _entry_row(entry: ConversationEntry) -> tuple[Any, ...]:
    flags = (int(entry.begins), int(entry.answer), int(entry.partial))
    message = message_text(entry.message)
    return (entry.id, entry.parent, entry.at, *flags, entry.message.role, message)


def _entry(row: Sequence[Any]) -> ConversationEntry:
    id_, parent, at, begins, answer, partial, message = row
    return ConversationEntry(
        id=id_,
        parent=parent,
        at=at,
        begins=bool(begins),
        answer=bool(answer),
        partial=bool(partial),
        message=message_of(message),
    )


def _whose(row: Sequence[Any]) -> dict[str, Any]:
    session, tenant, user, tags, created, updated = row
    return {
        "session": session,
        "tenant": tenant,
        "user": user,
        "tags": json.loads(tags) or NOTHING,
        "created": created,
        "updated": updated,
    }


def _json(value: Any) -> str:
    return json.dumps(value)
