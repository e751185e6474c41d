"""A conversation over any pipeline: what was said, and what is said next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self, cast

import attrs

from lamella._chat import ChatRequest
from lamella._context import NO_CONTEXT, Context, is_given
from lamella._conversation_asking import Asking
from lamella._conversation_entries import (
    Branch,
    ConversationEntry,
    Line,
    Lines,
    must_be_whole,
    must_follow,
)
from lamella._conversation_limits import Limits
from lamella._conversation_records import (
    ConversationRecord,
    entries_of,
    is_text,
    lines_of,
    record_of,
    record_text,
)
from lamella._conversation_stores import Kept, store_of
from lamella._conversation_turns import Turn
from lamella._conversation_words import Said, said
from lamella._errors import BusyError, ConfigurationError, MisuseError, UnknownNameError
from lamella._fork_locks import fork_safe_lock
from lamella._messages import Content, Message, messages
from lamella._nothing import NOTHING
from lamella._pipeline import Pipeline

if TYPE_CHECKING:
    from lamella._conversation_stores import ConversationStore
    from lamella._ports import Ports

_OWN = {
    "messages": "Give it as messages= when the conversation is made, and say(...) after that.",
    "context": "Give it as context= when the conversation is made.",
    "returns": "Give it to say(...).",
    "target": "A layer such as Route chooses the target.",
    "stream": "Use say_stream(...).",
}


class Conversation(Asking):
    """What is said with a model in turns, over any pipeline.

    A turn is added as a whole, when its answer has ended well: the question, the answer, and what
    tools were asked and answered in between. A turn that fails, is cancelled or left changes
    nothing. So the conversation can always be sent again.

    One turn at a time; for several at once, `branch`. Any thread and any event loop may use it.

    Args:
        pipeline: What answers. It is not closed with the conversation.
        system: The instructions that every request begins with; not among `messages`.
        session: The name of the conversation, on the context of each of its calls: text. None makes
            one that nobody can guess.
        tenant: Whose data it is; on the context of each call.
        user: Who talks; on the context of each call.
        tags: Free labels; on the context of each call.
        context: What else the context of each call has, such as a priority.
        messages: What was said before: text, a message, or several, as for `ChatRequest`.
        max_messages: How many messages are sent at most, instructions included; 1 or more. None
            sets no limit. What is sent is cut to four fifths of it, oldest turns first, whole
            turns only; instructions, pinned messages and the last question always go along. The
            conversation itself stays whole.
        max_tokens: The same in tokens, as the built-in estimator counts them, tools included.
        keep_partial: Whether a turn whose answer broke off is added, with what of it had come; its
            entries say so (`entry.partial`).
        store: Where each turn is saved once it is over: a `ConversationStore`, or the path of a
            JSON file. None saves on `save` only.
        **fields: Fields of `ChatRequest` for all turns: `model="gpt-4o-mini"`, `temperature=0`,
            `tools=[...]`.

    Attributes:
        pipeline: What answers.
        session: Its name.
        tenant: Whose data it is.
        user: Who talks.
        tags: Free labels.
        keep_partial: Whether turns whose answer broke off are added.
        store: Where each turn is saved; None if nowhere.

    Raises:
        ConfigurationError: If an option is wrong.
        MisuseError: If `messages` have a call of a tool without its result, or the other way round.
        TypeError: If a field is none of `ChatRequest`.
    """

    def __init__(  # noqa: PLR0913 - who talks, about what, and how much of it; by name
        self,
        pipeline: Pipeline,
        *,
        system: Content | Message | None = None,
        session: str | None = None,
        tenant: str | None = None,
        user: str | None = None,
        tags: Mapping[str, str] = NOTHING,
        context: Context = NO_CONTEXT,
        messages: str | Message | Mapping[str, Any] | Iterable[Message | Mapping[str, Any]] = (),
        max_messages: int | None = None,
        max_tokens: int | None = None,
        keep_partial: bool = False,
        store: Kept | None = None,
        **fields: Any,
    ) -> None:
        self.pipeline = _pipeline(pipeline)
        self._ports: Ports = context.ports if is_given(context.ports) else pipeline.ports
        self.session = self._ports.new_id() if session is None else _word("session", session)
        self.tenant = None if tenant is None else _word("tenant", tenant)
        self.user = None if user is None else _word("user", user)
        self.tags = _tags(tags)
        self.keep_partial = keep_partial is True
        self.store = None if store is None else store_of(store, self._ports.thread)
        self._system = _system(system)
        self._limits = Limits.of(max_messages, max_tokens)
        self._request = ChatRequest(
            messages=(),
            context=context.evolve(
                session=self.session, tenant=self.tenant, user=self.user, tags=self.tags
            ),
            **_fields(fields),
        )
        self._created = self._updated = self._ports.wall()
        self._lock = fork_safe_lock()
        self._busy = False
        self._lines = Lines()
        self._begin_with(messages)

    # --- looking ---------------------------------------------------------------------------------

    @property
    def messages(self) -> tuple[Message, ...]:
        """What was said, without the instructions in `system`."""
        return self._lines.messages

    @property
    def entries(self) -> tuple[ConversationEntry, ...]:
        """The same with what is known of each message."""
        return self._lines.line

    @property
    def branches(self) -> tuple[Branch, ...]:
        """The lines that were left, the oldest first: `conversation.branch(branches[0].id)`."""
        return tuple([Branch(line[-1].id, line) for line in self._lines.others])

    @property
    def busy(self) -> bool:
        """Whether a turn is under way."""
        return self._busy

    @property
    def system(self) -> Message | None:
        """The instructions that every request begins with; may be set, for the turns to come."""
        return self._system

    @system.setter
    def system(self, content: Content | Message | None) -> None:
        system = _system(content)
        with self.alone():
            self._system = system
            self._touch()

    # --- changing --------------------------------------------------------------------------------

    def edit(self, index: int, content: Content | Message) -> None:
        """Put something else in the place of a message; what came after it is gone.

        The line as it was becomes a branch. `regenerate` answers an edited question.

        Args:
            index: Which of `messages`; negative ones count from the end.
            content: What is said instead, in the same role; or a whole message.

        Raises:
            IndexError: If there is no such message.
            MisuseError: If it stands between a call of a tool and its result.
            BusyError: If a turn is under way.
        """
        with self.alone():
            line = self._lines.line
            place = self._place(index)
            old = line[place]
            given = content if isinstance(content, Message) else None
            new = given or attrs.evolve(old.message, parts=content, listed=False)
            past = [entry.message for entry in line[:place]]
            must_be_whole([*past, new])
            entry = self._entry(new, line[:place], begins=old.begins, answer=old.answer)
            pinned = new.pinned or old.id in self._lines.pins
            self._move((*line[:place], entry), pins=[entry.id] if pinned else [])

    def undo(self) -> tuple[Message, ...]:
        """Take the last turn back: what was said last, and its answer. It becomes a branch.

        Returns:
            What was taken back; nothing if nothing was said.

        Raises:
            BusyError: If a turn is under way.
        """
        with self.alone():
            line = self._lines.line
            for place in range(len(line) - 1, -1, -1):
                if line[place].begins:
                    gone = self._lines.messages[place:]
                    self._move(line[:place])
                    return gone
            return ()

    def clear(self) -> None:
        """Begin anew, in the same session and with the same instructions.

        What was said becomes a branch. To forget it, delete the session from the store.

        Raises:
            BusyError: If a turn is under way.
        """
        with self.alone():
            self._move(())

    def pin(self, index: int, *, pinned: bool = True) -> None:
        """Keep a message whatever is shortened, here or by a layer; or no longer.

        Args:
            index: Which of `messages`; negative ones count from the end.
            pinned: False takes it back.

        Raises:
            IndexError: If there is no such message.
            BusyError: If a turn is under way.
        """
        with self.alone():
            entry = self._lines.line[self._place(index)]
            self._lines = self._lines.pinning([entry.id], pinned=pinned)
            self._touch()

    def branch(self, at: int | str | None = None, *, session: str | None = None) -> Conversation:
        """Another conversation that shares the past of this one, and goes its own way.

        It has the same settings, and is saved where this one is. Messages are shared, not copied.

        Args:
            at: How many of `messages` it has, as in `messages[:at]`; or the `id` of an entry or of
                one of `branches`, up to which it goes. None takes all.
            session: The name of its own under which it is saved and known. None stays in the same
                session: saved, it is a further line of the same conversation.

        Raises:
            IndexError: If there are not so many messages.
            MisuseError: If `at` stands between a call of a tool and its result.
            UnknownNameError: If there is no such entry.
        """
        lines = self._lines
        line = self._line_to(lines, at)
        must_be_whole([entry.message for entry in line])
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._lock = fork_safe_lock()
        other._busy = False
        other._lines = lines.moved(line)
        if session is not None:
            other.session = _word("session", session)
            other._created = self._ports.wall()
            other._lines = Lines(line, (), lines.pins)
            context = self._request.context.evolve(session=other.session)
            other._request = self._request.evolve(context=context)
        if self._limits is not None:
            other._limits = self._limits.fresh()
        other._touch()
        return other

    # --- keeping ---------------------------------------------------------------------------------

    def record(self) -> ConversationRecord:
        """All that is kept of it, as a store is given it."""
        lines = self._lines
        return ConversationRecord(
            session=self.session,
            tenant=self.tenant,
            user=self.user,
            tags=self.tags,
            system=self._system,
            entries=entries_of(lines),
            head=lines.line[-1].id if lines.line else None,
            pinned=lines.pins,
            created=self._created,
            updated=self._updated,
        )

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

    @classmethod
    def of(cls, pipeline: Pipeline, record: ConversationRecord, **options: Any) -> Self:
        """The conversation that a store has kept.

        Args:
            pipeline: What answers.
            record: What was kept of it.
            **options: As for `from_json`.

        Raises:
            ConfigurationError: If the record is none, or is of another session or tenant than the
                options say.
        """
        for name in ("session", "tenant"):
            own = getattr(record, name)
            if options.get(name) not in (None, own):
                raise ConfigurationError(
                    f"The conversation is of the {name} {own!r}, not {options[name]!r}.",
                    hint=f"Leave {name}= out, or give what it was kept with.",
                )
        kept = {name: getattr(record, name) for name in ("system", "user", "tags")}
        given = {name: value for name, value in options.items() if value is not None}
        given = {**kept, **given, "session": record.session, "tenant": record.tenant}
        lines = lines_of(record)
        must_be_whole([entry.message for entry in lines.line])
        made = cls(pipeline, **given)
        made._lines = lines
        made._created, made._updated = record.created, record.updated
        return made

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
            store: A store, or the path of a JSON file.
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
            **options: As for `load`.

        Raises:
            ConfigurationError: As `load` does.
            StoreUnavailableError: As `load` does.
        """
        found = await cls._kept(pipeline, store, session, tenant, options)
        if found is not None:
            return found
        return cls(pipeline, session=session, tenant=tenant, store=store, **options)

    @classmethod
    async def _kept(
        cls,
        pipeline: Pipeline,
        store: Kept,
        session: str | None,
        tenant: str | None,
        options: Mapping[str, Any],
    ) -> Self | None:
        place = store_of(store, _pipeline(pipeline).ports.thread)
        if session is None and place is store:
            msg = "A store holds many conversations, and no session says which."
            raise ConfigurationError(msg, hint="Give session=, the name of the conversation.")
        record = await place.load(session or "", tenant=tenant)
        if record is None:
            return None
        return cls.of(pipeline, record, **{**options, "store": place})

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

    def __repr__(self) -> str:
        left = f", {len(self._lines.others)} branches" if self._lines.others else ""
        return f"<Conversation {self.session!r}, {len(self._lines.line)} messages{left}>"
