"""The Messages API: how a conversation becomes a system prompt and turns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from lamella._messages import Message
from lamella.transports._dialect import JSON
from lamella.transports._losses import Losses
from lamella.transports._wire_parts import unsupported
from lamella_anthropic._blocks import BlockWriter, plain

_SYSTEM: Final = frozenset({"system", "developer"})
_ROLES: Final = {"system": "system", "developer": "system", "tool": "user", "user": "user"}


class Conversation:
    """A conversation as the API takes it.

    Messages of one role in a row become one, so that all results of a turn's tools stand in one
    message. A system message that is not among the first ones stays where it is if the model takes
    it there, which is after a user's turn; otherwise it is moved to the front.

    Args:
        messages: The conversation.
        provider: Who is asked, for messages.
        losses: Where what is left out is noted.
        late_system: Whether the model takes system messages after a user's turn.

    Attributes:
        system: The system prompt; None without one.
        turns: The messages.
    """

    __slots__ = ("_late_system", "_losses", "_provider", "_system", "_write", "turns")

    def __init__(
        self, messages: Sequence[Message], *, provider: str, losses: Losses, late_system: bool
    ) -> None:
        self._provider = provider
        self._losses = losses
        self._late_system = late_system
        self._write = BlockWriter(provider, losses)
        self._system: list[JSON] = []
        self.turns: list[JSON] = []
        seen = False
        for message in messages:
            if message.role in _SYSTEM:
                self._add_system(message, late=seen)
            else:
                seen = True
                self._add(message)
        for turn in self.turns:
            turn["content"] = plain(turn["content"])

    @property
    def system(self) -> str | list[JSON] | None:
        """The system prompt; None without one."""
        return plain(self._system) if self._system else None

    def _add_system(self, message: Message, *, late: bool) -> None:
        self._no_name(message)
        blocks = self._write.system(message.parts)
        if late and self._late_system and self.turns and self.turns[-1]["role"] != "assistant":
            self._append("system", blocks, message)
            return
        if late:
            self._losses.add("position of a system message", "this model takes none there")
        if message.extra:
            self._losses.add("Message.extra", "the system prompt has no such fields")
        self._system += blocks

    def _add(self, message: Message) -> None:
        self._no_name(message)
        if message.role == "assistant":
            self._append("assistant", self._write.assistant(message.parts), message)
            return
        role = _ROLES.get(message.role)
        if role is None:
            hint = "Send it as a tool's result: Message.tool(call_id, content)."
            what = f"A message of role {message.role!r}"
            raise unsupported(what, "through the Messages API", hint, provider=self._provider)
        self._append(role, self._write.user(message.parts), message)

    def _append(self, role: str, blocks: Iterable[JSON], message: Message) -> None:
        extra = self._losses.own(message.extra, "Message")
        last = self.turns[-1] if self.turns else None
        if extra or last is None or last["role"] != role or len(last) > 2:
            content = list(blocks)
            if content or extra:
                self.turns.append({"role": role, "content": content, **extra})
            else:
                self._losses.add("Message", "this API takes none that is empty")
        else:
            last["content"].extend(blocks)

    def _no_name(self, message: Message) -> None:
        # A result's name is its tool's, which the call says already.
        if message.name is not None and message.role != "tool":
            hint = "Write it into the text."
            where = "through the Messages API"
            raise unsupported("A message's `name`", where, hint, provider=self._provider)
