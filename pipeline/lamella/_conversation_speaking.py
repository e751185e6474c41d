"""How a conversation goes on: one turn at a time, from what is said to what is sent.

It is the part of `Conversation` that turns and changes are made with.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from lamella._chat import ChatRequest
from lamella._conversation_entries import (
    ConversationEntry,
    Line,
    Lines,
    answers,
    must_be_whole,
    must_follow,
)
from lamella._conversation_limits import SendLimits
from lamella._conversation_options import fields_of
from lamella._conversation_turns import Turn
from lamella._conversation_words import AGAIN, GoOn, Said, said
from lamella._errors import BusyError, MisuseError, UnknownNameError
from lamella._fork_locks import fork_safe_lock
from lamella._messages import Message, messages

if TYPE_CHECKING:
    from lamella._conversation import Conversation
    from lamella._ports import Ports


class Speaking:
    """What is said, and who says something at the moment.

    Args:
        request: What every request has, without messages.
        limits: How much is sent; None for all.
        ports: The doors to time and ids.
        before: What was said before.
    """

    def __init__(
        self, request: ChatRequest, limits: SendLimits | None, ports: Ports, before: Any
    ) -> None:
        self._request = request
        self._limits = limits
        self._ports = ports
        self._system: Message | None = None
        self._created = self._updated = ports.wall()
        self._lock = fork_safe_lock()
        self._busy = 0  # the process in which a turn is under way: a fork ends it in the child
        self._lines = Lines()
        self._begin_with(before)

    @property
    def session(self) -> str:
        """Its name, on the context of each call."""
        return self._request.context.session or ""

    @property
    def busy(self) -> bool:
        """Whether a turn is under way."""
        return self._busy == os.getpid()

    def enter(self) -> None:
        """Begin a turn, or another change; `leave` ends it.

        Raises:
            BusyError: If one is under way.
        """
        with self._lock:
            if self.busy:
                msg = f"A turn of the conversation {self.session!r} is under way."
                hint = "Let it end first, or go on beside it: conversation.branch().say(...)."
                raise BusyError(msg, hint=hint)
            self._busy = os.getpid()

    def leave(self) -> None:
        """End a turn."""
        self._busy = 0

    @contextmanager
    def alone(self) -> Generator[None]:
        """A block in which nobody else changes anything.

        Raises:
            BusyError: If a turn is under way.
        """
        self.enter()
        try:
            yield
        finally:
            self.leave()

    async def begin_turn(self, content: object, fields: Mapping[str, Any]) -> Turn:
        """What is to be sent for a turn: for what is said, or instead of it `AGAIN` or `GoOn`.

        Raises:
            MisuseError: If it cannot be said here.
        """
        lines = self._lines
        conversation = cast("Conversation", self)
        context = self._request.context
        if isinstance(content, GoOn):
            line = _unfinished(lines.line)
            history = Lines(line, (), lines.pins).messages
            context = content.told(context)
        elif content is AGAIN:
            line = _question(lines.line)
            history = Lines(line, (), lines.pins).messages
        else:
            asked = said(cast("Said", content))
            must_follow(lines.messages, asked)
            line = self._extended(lines.line, asked)
            history = (*lines.messages, *asked)
        system = () if self._system is None else (self._system,)
        request = self._request.evolve(
            messages=(*system, *history), context=context, **fields_of(fields)
        )
        await conversation.must_be_savable(request.messages)
        if self._limits is not None:
            request = await self._limits.within(request, self._ports.thread)
        return Turn(conversation, line, request)

    def add_turn(self, line: Line, answer: Sequence[Message], *, partial: bool) -> None:
        """Go on with a line that ends with a question, and its answer."""
        longer = self._extended(line, answer, answer=True, partial=partial)
        self._move(longer, pins=[entry.id for entry in longer if entry.message.pinned])

    # --- inside ----------------------------------------------------------------------------------

    def _begin_with(self, given: Any) -> None:
        before = messages(given)
        must_be_whole(before)
        line: list[ConversationEntry] = []
        for message in before:
            answer = answers(message)
            begins = not answer and (not line or line[-1].answer)
            line.append(self._entry(message, line, begins=begins, answer=answer))
        pins = frozenset([entry.id for entry in line if entry.message.pinned])
        self._lines = Lines(tuple(line), (), pins)

    def _extended(
        self, line: Line, more: Sequence[Message], *, answer: bool = False, partial: bool = False
    ) -> Line:
        longer = list(line)
        for place, message in enumerate(more):
            begins = not answer and place == 0
            flags = {"begins": begins, "answer": answer, "partial": partial}
            longer.append(self._entry(message, longer, **flags))
        return tuple(longer)

    def _entry(
        self, message: Message, after: Sequence[ConversationEntry], **flags: bool
    ) -> ConversationEntry:
        return ConversationEntry(
            id=self._ports.new_id(),
            parent=after[-1].id if after else None,
            at=self._ports.wall(),
            message=message,
            **flags,
        )

    def _move(self, line: Line, pins: Sequence[str] = ()) -> None:
        lines = self._lines.moved(line)
        self._lines = lines.pinning(pins) if pins else lines
        self._touch()

    def _touch(self) -> None:
        self._updated = self._ports.wall()

    def _place(self, index: int) -> int:
        count = len(self._lines.line)
        if not -count <= index < count:
            raise IndexError(f"There is no message {index!r}: the conversation has {count}.")
        return index % count

    def _line_to(self, at: int | str | None) -> Line:
        lines = self._lines
        if at is None:
            return lines.line
        if isinstance(at, str):
            for line in (lines.line, *reversed(lines.others)):
                for place, entry in enumerate(line, 1):
                    if entry.id == at:
                        return line[:place]
            msg = f"The conversation {self.session!r} has no entry {at!r}."
            raise UnknownNameError(msg, hint="Give the id of one of its entries or branches.")
        count = len(lines.line)
        if not -count <= at <= count:
            raise IndexError(f"There are no {at!r} messages: the conversation has {count}.")
        return lines.line[:at]


def _question(line: Line) -> Line:
    """All of a line up to what was last said to the model."""
    for place in range(len(line), 0, -1):
        if not line[place - 1].answer:
            return line[:place]
    msg = "There is nothing to answer: nothing has been said."
    raise MisuseError(msg, hint="Begin with say(...).")


def _unfinished(line: Line) -> Line:
    """All of a line that can be gone on with: without the half words of an answer that broke off.

    Behind those a model would begin anew, and some providers refuse them as the last message.
    """
    last = line[-1] if line else None
    if last is not None:
        if last.message.role != "assistant" or last.message.tool_calls:
            return line
        if last.partial:
            return line[:-1]
    msg = "There is nothing to go on with: the conversation ends with a whole answer, or is empty."
    raise MisuseError(msg, hint="Say something new with say(...).")
