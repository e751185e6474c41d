"""A conversation over any pipeline: what was said, and what is said next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

from lamella._chat import ChatRequest
from lamella._context import NO_CONTEXT, Context, is_given
from lamella._conversation_asking import Asking
from lamella._conversation_entries import (
    ConversationBranch,
    ConversationEntry,
    Lines,
    answers,
    must_be_whole,
    must_be_written,
)
from lamella._conversation_keeping import Keeping
from lamella._conversation_limits import SendLimits
from lamella._conversation_options import (
    a_flag,
    a_pipeline,
    a_word,
    context_of,
    fields_of,
    system_of,
)
from lamella._conversation_records import ConversationRecord, entries_of, lines_of
from lamella._conversation_speaking import Speaking
from lamella._conversation_stores import Kept, store_of
from lamella._conversation_words import edited
from lamella._errors import ConfigurationError, MisuseError
from lamella._fork_locks import fork_safe_lock
from lamella._messages import Content, Message
from lamella._nothing import NOTHING

if TYPE_CHECKING:
    from lamella._pipeline import Pipeline
    from lamella._ports import Ports


class Conversation(Asking, Keeping, Speaking):
    """What is said with a model in turns, over any pipeline.

    A turn is added as a whole, when its answer has ended well: the question, the answer, and what
    tools were asked and answered in between. A turn that fails, is cancelled or left changes
    nothing, unless it waits for somebody to agree to a call of a tool (`resume`). So the
    conversation can always be sent again.

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
            JSON file. None saves on `save` only. What else is changed is saved with the next turn.
        **fields: Fields of `ChatRequest` for all turns: `model="gpt-4o-mini"`, `temperature=0`,
            `tools=[...]`.

    Attributes:
        pipeline: What answers; another one may be set, for the turns to come.
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
        self.pipeline = a_pipeline(pipeline)
        ports: Ports = context.ports if is_given(context.ports) else pipeline.ports
        whose = context_of(context, ports.new_id, session, tenant, user, tags)
        request = ChatRequest(messages=(), context=whose, **fields_of(fields))
        super().__init__(request, SendLimits.of(max_messages, max_tokens), ports, messages)
        self.keep_partial = a_flag("keep_partial", keep_partial)
        self._store = None if store is None else store_of(store, ports.thread)
        self._system = system_of(system)

    # --- looking ---------------------------------------------------------------------------------

    @property
    def tenant(self) -> str | None:
        """Whose data it is."""
        return self._request.context.tenant

    @property
    def user(self) -> str | None:
        """Who talks."""
        return self._request.context.user

    @property
    def tags(self) -> Mapping[str, str]:
        """Free labels."""
        return self._request.context.tags

    @property
    def messages(self) -> tuple[Message, ...]:
        """What was said, without the instructions in `system`."""
        return self._lines.messages

    @property
    def entries(self) -> tuple[ConversationEntry, ...]:
        """The same with what is known of each message."""
        return self._lines.line

    @property
    def branches(self) -> tuple[ConversationBranch, ...]:
        """The lines that were left, the oldest first: `conversation.branch(branches[0].id)`."""
        return tuple([ConversationBranch(line[-1].id, line) for line in self._lines.others])

    @property
    def system(self) -> Message | None:
        """The instructions that every request begins with; may be set, for the turns to come."""
        return self._system

    @system.setter
    def system(self, content: Content | Message | None) -> None:
        system = system_of(content)
        with self.alone():
            self._system = system
            self._touch()

    # --- changing --------------------------------------------------------------------------------

    def edit(self, index: int, content: Content | Message) -> None:
        """Put something else in the place of a message; what came after it is gone.

        The line as it was becomes a branch. `regenerate` answers an edited question.

        Args:
            index: Which of `messages`; negative ones count from the end.
            content: What is said instead, in the same role; or a whole message, which may be an
                OpenAI-style dict.

        Raises:
            IndexError: If there is no such message.
            ValueError: If the user would say nothing.
            MisuseError: If it stands between a call of a tool and its result.
            BusyError: If a turn is under way.
        """
        with self.alone():
            line = self._lines.line
            place = self._place(index)
            old = line[place]
            new = edited(old.message, content)
            past = [entry.message for entry in line[:place]]
            must_be_whole([*past, new])
            begins, answer = old.begins, old.answer
            if new.role != old.message.role:
                answer = answers(new)
                begins = not answer and (place == 0 or line[place - 1].answer)
            entry = self._entry(new, line[:place], begins=begins, answer=answer)
            pinned = new.pinned or (old.id in self._lines.pins and not new.unwritten)
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

        What was said becomes a branch, and is saved as such. To forget it, delete the session from
        the store, and go on with a conversation made anew.

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
            MisuseError: If it is a `Prompt`, whose template says what of it is pinned.
            BusyError: If a turn is under way.
        """
        with self.alone():
            entry = self._lines.line[self._place(index)]
            if entry.message.unwritten and pinned:
                msg = f"{entry.message!r} cannot be pinned: its messages are made anew each time."
                raise MisuseError(msg, hint="Write `pinned = true` to messages of the template.")
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
        line = self._line_to(at)
        must_be_whole([entry.message for entry in line])
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._lock = fork_safe_lock()
        other._busy = 0
        other._lines = lines.moved(line)
        if session is not None:
            other._created = self._ports.wall()
            other._lines = Lines(line, (), lines.pins)
            context = self._request.context.evolve(session=a_word("session", session))
            other._request = self._request.evolve(context=context)
        other._touch()
        return other

    # --- keeping ---------------------------------------------------------------------------------

    def record(self) -> ConversationRecord:
        """All that is kept of it, as a store is given it.

        Raises:
            MisuseError: If there is a `Prompt` in it.
        """
        lines = self._lines
        entries = entries_of(lines)
        system = () if self._system is None else (self._system,)
        must_be_written([*system, *[entry.message for entry in entries]])
        return ConversationRecord(
            session=self.session,
            tenant=self.tenant,
            user=self.user,
            tags=self.tags,
            system=self._system,
            entries=entries,
            head=lines.line[-1].id if lines.line else None,
            pinned=lines.pins & {entry.id for entry in entries},
            created=self._created,
            updated=self._updated,
        )

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
        context: Context = options.get("context", NO_CONTEXT)
        for name in ("session", "tenant"):
            own = getattr(record, name)
            for asked in (options.get(name), getattr(context, name)):
                if asked not in (None, own):
                    raise ConfigurationError(
                        f"The conversation is of the {name} {own!r}, not {asked!r}.",
                        hint=f"Leave {name}= out, or give what it was kept with.",
                    )
        if "messages" in options:
            msg = "messages= was given, and the conversation that was kept has its own."
            raise ConfigurationError(msg, hint="Leave it out, and say(...) what is new.")
        given: dict[str, Any] = {n: getattr(record, n) for n in ("system", "user", "tags")}
        given.update({name: value for name, value in options.items() if value is not None})
        given.update(session=record.session, tenant=record.tenant)
        lines = lines_of(record)
        must_be_whole([entry.message for entry in lines.line])
        made = cls(pipeline, **given)
        made._lines = lines
        made._created, made._updated = record.created, record.updated
        return made

    def __repr__(self) -> str:
        left = f", {len(self._lines.others)} branches" if self._lines.others else ""
        return f"<Conversation {self.session!r}, {len(self._lines.line)} messages{left}>"
