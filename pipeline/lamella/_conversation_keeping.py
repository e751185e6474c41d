"""The ways to keep a conversation: as JSON, in a file, in a store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self, cast

from lamella._context import NO_CONTEXT, Context
from lamella._conversation_entries import Lines, must_be_written
from lamella._conversation_records import entries_of, record_of, record_text
from lamella._conversation_stores import ConversationFile, Kept, store_of
from lamella._errors import ConfigurationError, UnknownNameError

if TYPE_CHECKING:
    from lamella._chat import ChatRequest
    from lamella._conversation_records import ConversationRecord
    from lamella._conversation_stores import ConversationStore
    from lamella._messages import Message
    from lamella._pipeline import Pipeline
    from lamella._ports import Ports


class Keeping:
    """What a conversation and what keeps it have to do with each other."""

    _store: ConversationStore | None
    _ports: Ports
    _lines: Lines
    _request: ChatRequest

    @property
    def store(self) -> ConversationStore | None:
        """Where each turn is saved; None if nowhere. May be set: a store, a path, or None."""
        return self._store

    @store.setter
    def store(self, where: Kept | None) -> None:
        self._store = None if where is None else store_of(where, self._ports.thread)

    async def must_be_savable(self, messages: Iterable[Message]) -> None:
        """See, before a turn is paid for, that it can be saved where it is to be.

        Args:
            messages: What is sent for it.

        Raises:
            MisuseError: If one of them, or of what was said on any line, cannot be saved.
            ConfigurationError: If the file is another conversation's.
            StoreUnavailableError: If the file cannot be read.
        """
        store = self.store
        if store is None:
            return
        must_be_written(messages)
        must_be_written([entry.message for entry in entries_of(self._lines)])
        if isinstance(store, ConversationFile):
            whose = self._request.context
            await store.must_be_free_for(whose.session or "", whose.tenant)

    def record(self) -> ConversationRecord:
        """All that is kept of it, as a store is given it."""
        raise NotImplementedError

    @classmethod
    def of(cls, pipeline: Pipeline, record: ConversationRecord, **options: Any) -> Self:
        """The conversation that a store has kept."""
        raise NotImplementedError

    def to_json(self) -> str:
        """All that is kept of it as JSON, pictures included; `from_json` turns it back.

        Raises:
            MisuseError: If a message holds what JSON cannot say, such as an object in `extra`.
        """
        return record_text(self.record())

    @classmethod
    def from_json(cls, pipeline: Pipeline, text: str | bytes, **options: Any) -> Self:
        """The conversation that `to_json` has written.

        Args:
            pipeline: What answers.
            text: The JSON.
            **options: As for `Conversation`, for how it goes on: `model="..."`, `max_tokens=8000`.
                `system`, `user` and `tags` take the place of what was kept.

        Raises:
            ConfigurationError: If the text is no such JSON, or of a later version.
        """
        return cls.of(pipeline, record_of(text), **options)

    async def save(self, where: Kept | None = None) -> None:
        """Keep all that is not kept yet.

        Args:
            where: A store, or the path of a JSON file; None is `store`.

        Raises:
            ConfigurationError: If there is nowhere to keep it.
            MisuseError: If a message holds what JSON cannot say.
            StoreUnavailableError: If it cannot be kept now.
        """
        store = self.store if where is None else store_of(where, self._ports.thread)
        if store is None:
            msg = "The conversation has no store."
            raise ConfigurationError(msg, hint="Write save(store) or save('chat.json').")
        await store.save(self.record())

    @classmethod
    async def load(
        cls,
        pipeline: Pipeline,
        store: Kept,
        session: str | None = None,
        *,
        tenant: str | None = None,
        **options: Any,
    ) -> Self:
        """A conversation that was saved; its turns go on being saved there.

        Args:
            pipeline: What answers.
            store: A store, or the path of a JSON file. It may also hold a list of messages, as
                other programs write them; the first turn that is saved makes a conversation of it.
            session: Its name; needed for a store, and not for a file, which holds only one.
            tenant: Whose it is. In a server always give it: other tenants' are then never found.
            **options: As for `from_json`.

        Raises:
            UnknownNameError: If there is none.
            ConfigurationError: If what is kept is no conversation, or of a later version.
            StoreUnavailableError: If it cannot be read now.
        """
        found = await cls._kept(pipeline, store, session, tenant, options)
        if found is None:
            what = f"no conversation {session!r}" if session else "no conversation"
            msg = f"There is {what} of the tenant {tenant!r} in {store!r}."
            raise UnknownNameError(msg, hint="Conversation.open(...) begins one in that case.")
        return found

    @classmethod
    async def open(
        cls,
        pipeline: Pipeline,
        store: Kept,
        session: str | None = None,
        *,
        tenant: str | None = None,
        **options: Any,
    ) -> Self:
        """The conversation that was saved, or a new one; its turns are saved there.

        Args:
            pipeline: As for `load`.
            store: As for `load`.
            session: As for `load`.
            tenant: As for `load`.
            **options: As for `load`; and `messages`, with which a new one begins.

        Raises:
            ConfigurationError: As `load` does.
            StoreUnavailableError: As `load` does.
        """
        old = {name: value for name, value in options.items() if name != "messages"}
        found = await cls._kept(pipeline, store, session, tenant, old)
        if found is not None:
            return found
        new = cast("Any", cls)
        return cast("Self", new(pipeline, session=session, tenant=tenant, store=store, **options))

    @classmethod
    async def _kept(
        cls,
        pipeline: Pipeline,
        store: Kept,
        session: str | None,
        tenant: str | None,
        options: Mapping[str, Any],
    ) -> Self | None:
        place = store_of(store, pipeline.ports.thread)
        context: Context = options.get("context", NO_CONTEXT)
        session = context.session if session is None else session
        tenant = context.tenant if tenant is None else tenant
        if session is None and place is store:
            msg = "A store holds many conversations, and no session says which."
            raise ConfigurationError(msg, hint="Give session=, the name of the conversation.")
        record = await place.load(session or "", tenant=tenant)
        if record is None:
            return None
        return cls.of(pipeline, record, **{**options, "tenant": tenant, "store": place})

    def save_sync(self, where: Kept | None = None) -> None:
        """`save` for synchronous code."""
        from lamella._bridge import bridge

        bridge().call(self.save, where)

    @classmethod
    def load_sync(
        cls, pipeline: Pipeline, store: Kept, session: str | None = None, **options: Any
    ) -> Self:
        """`load` for synchronous code."""
        from lamella._bridge import bridge

        return bridge().call(cls.load, pipeline, store, session, **options)

    @classmethod
    def open_sync(
        cls, pipeline: Pipeline, store: Kept, session: str | None = None, **options: Any
    ) -> Self:
        """`open` for synchronous code."""
        from lamella._bridge import bridge

        return bridge().call(cls.open, pipeline, store, session, **options)
