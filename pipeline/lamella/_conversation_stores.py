"""Where conversations are kept: the port, and a JSON file for a single one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, runtime_checkable

import attrs

from lamella._conversation_records import (
    ConversationRecord,
    joined,
    record_of,
    record_text,
)
from lamella._errors import ConfigurationError, StoreUnavailableError
from lamella._nothing import NOTHING
from lamella._outcomes import Outcome
from lamella._ports import run_in_thread
from lamella._sqlite_paths import absolute, usable
from lamella._whole_files import alone_in, drop_drafts, write_whole

if TYPE_CHECKING:
    from lamella._ports import ThreadPort


@attrs.frozen(kw_only=True)
class ConversationInfo:
    """What a store says of a conversation without reading it.

    Attributes:
        session: Its name.
        tenant: Whose data it is; None for nobody's in particular.
        user: Who talks in it.
        tags: Free labels.
        entries: How many messages it has, on all its lines.
        created: When it began, in seconds since the epoch.
        updated: When it was changed last.
    """

    session: str
    tenant: str | None = None
    user: str | None = None
    tags: Mapping[str, str] = attrs.field(default=NOTHING, hash=False)
    entries: int = 0
    created: float = 0.0
    updated: float = 0.0


@runtime_checkable
class ConversationStore(Protocol):
    """Keeps conversations. A session is known by its name and its tenant's together.

    Entries are only ever added: a conversation that was saved by two programs has the lines of
    both, and is on that of the one that saved last. A method that cannot reach what keeps them
    raises `StoreUnavailableError`.
    """

    async def save(self, record: ConversationRecord, /) -> None:
        """Keep what of a conversation is not kept yet, all of it or nothing.

        Once it has returned, what was said survives the death of the process.
        """
        ...

    async def load(
        self, session: str, /, *, tenant: str | None = None
    ) -> ConversationRecord | None:
        """What is kept under a name; None if there is nothing. None as tenant is no tenant."""
        ...

    async def delete(self, session: str, /, *, tenant: str | None = None) -> bool:
        """Forget a conversation with all its lines; whether there was one."""
        ...

    async def find(
        self, *, where: Mapping[str, str | None] = NOTHING, limit: int = 100, offset: int = 0
    ) -> Sequence[ConversationInfo]:
        """Conversations, the ones changed last first.

        Args:
            where: Whose: `{"tenant": "acme", "user": "ada"}`. None stands for those without one,
                and what is not named for any.
            limit: How many at most; 1 or more.
            offset: How many to pass over; 0 or more.
        """
        ...


Kept: TypeAlias = ConversationStore | str | PathLike[str]
"""Where a conversation is kept: a store, or the path of a JSON file for it alone."""

FINDABLE: Final = ("tenant", "user", "session")


def checked_where(where: Mapping[str, Any]) -> dict[str, str | None]:
    """What conversations are looked for by.

    Raises:
        ConfigurationError: If they cannot be looked for by that.
    """
    for name, value in where.items():
        if name not in FINDABLE:
            msg = f"Conversations are not found by {name!r}."
            raise ConfigurationError(msg, hint=f"Use one of {', '.join(FINDABLE)}.")
        if value is not None and not isinstance(value, str):
            msg = f"where={{{name!r}: ...}} is of the type {type(value).__name__}, and no text."
            raise ConfigurationError(msg, hint="Give text, or None for those without one.")
    return dict(where)


def store_of(given: Kept, thread: ThreadPort | None = None) -> ConversationStore:
    """The store itself, or that of the one conversation in a JSON file.

    Raises:
        ConfigurationError: If it is neither a store nor the path of a file.
    """
    if isinstance(given, str | PathLike):
        return ConversationFile(Path(given), thread=thread)
    if not isinstance(given, ConversationStore):  # pyright: ignore[reportUnnecessaryIsInstance]
        msg = f"{type(given).__name__} keeps no conversations."
        hint = "Give SQLiteConversations(path), another ConversationStore, or a path ('a.json')."
        raise ConfigurationError(msg, hint=hint)
    return given


@attrs.define(eq=False)
class ConversationFile:
    """One conversation in one JSON file, which is written anew as a whole each time."""

    path: Path = attrs.field(converter=absolute, validator=usable("to_json"))
    thread: ThreadPort | None = attrs.field(default=None, kw_only=True, repr=False)
    _holds: tuple[str, str | None] | None = attrs.field(default=None, init=False, repr=False)

    async def must_be_free_for(self, session: str, tenant: str | None) -> None:
        """See that the file holds no other conversation. It is looked at once.

        Raises:
            ConfigurationError: If it does, or something else.
        """
        if self._holds is None:
            await self._do(self._load)
        self._must_be(session, tenant)

    async def save(self, record: ConversationRecord, /) -> None:
        """Write the file; whoever reads it meanwhile sees the old one or the new one.

        Raises:
            ConfigurationError: If the file that is there is not this conversation's.
        """
        await self._do(self._save, record)

    async def load(
        self, session: str, /, *, tenant: str | None = None
    ) -> ConversationRecord | None:
        """What is in the file, if there is one; with an empty name whichever it is.

        Raises:
            ConfigurationError: If the file holds none, or another one.
        """
        record: ConversationRecord | None = await self._do(self._load)
        if record is not None and session:
            self._must_be(session, tenant)
        return record

    async def delete(self, session: str, /, *, tenant: str | None = None) -> bool:
        """Remove the file.

        Raises:
            ConfigurationError: If it holds another conversation, or none.
        """
        if await self.load(session, tenant=tenant) is None:
            return False
        await self._do(self._delete)
        return True

    async def find(
        self, *, where: Mapping[str, str | None] = NOTHING, limit: int = 100, offset: int = 0
    ) -> Sequence[ConversationInfo]:
        """The one that is in the file, if it is looked for."""
        wanted = checked_where(where)
        record: ConversationRecord | None = await self._do(self._load)
        if record is None or any(getattr(record, name) != of for name, of in wanted.items()):
            return []
        found = ConversationInfo(
            session=record.session,
            tenant=record.tenant,
            user=record.user,
            tags=record.tags,
            entries=len(record.entries),
            created=record.created,
            updated=record.updated,
        )
        return [found][offset : offset + limit]

    async def _do(self, work: Any, *args: Any) -> Any:
        try:
            return await (self.thread or run_in_thread)(work, *args)
        except OSError as error:
            raise StoreUnavailableError(
                f"The conversation in {str(self.path)!r} cannot be read or written "
                f"({error.strerror or type(error).__name__}).",
                hint="Look at the directory, its permissions, and the room on the disk.",
                phase="local",
                outcome=Outcome.NOT_SENT,
            ) from error

    def _save(self, record: ConversationRecord) -> None:
        with alone_in(self.path.parent):  # what another one adds meanwhile would be lost
            if self._holds is None:
                drop_drafts(self.path)
            before = self._load()
            if before is not None:
                self._must_be(record.session, record.tenant)
                record = joined(record, before)
            write_whole(self.path, record_text(record), lasting=True)
            self._holds = (record.session, record.tenant)

    def _delete(self) -> None:
        with alone_in(self.path.parent):
            drop_drafts(self.path)
            self.path.unlink(missing_ok=True)
            self._holds = None

    def _must_be(self, session: str, tenant: str | None) -> None:
        if self._holds not in (None, (session, tenant)):
            raise ConfigurationError(
                f"The file {str(self.path)!r} holds another conversation than {session!r}.",
                hint="Give another path, or remove the file if nobody needs it.",
            )

    def _load(self) -> ConversationRecord | None:
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            self._holds = None
            return None
        record = record_of(data, place=str(self.path))
        self._holds = (record.session, record.tenant)
        return record
