"""The Messages API: how a conversation becomes a system prompt and turns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from lamella._messages import Message
from lamella._parts import JSONObject
from lamella._prompt_caching import CACHE_MARK
from lamella.transports._dialect import JSON
from lamella.transports._losses import Losses
from lamella.transports._wire_parts import unsupported
from lamella_anthropic._blocks import BlockWriter, plain
from lamella_anthropic._effort import THOUGHTS

_SYSTEM: Final = frozenset({"system", "developer"})
_ROLES: Final = {
    "system": "system",
    "developer": "system",
    "tool": "user",
    "user": "user",
    "assistant": "assistant",
}


class Conversation:
    """A conversation as the API takes it.

    Messages of one role in a row become one, so that all results of a turn's tools stand in one
    message. A system message that is not among the first ones stays where it is if the model takes
    it there, which is between a user's turn and an assistant's or the end; otherwise it is moved to
    the front.

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
            if message.role in _SYSTEM and not seen:
                blocks = self._write.system(message.parts)
                extra = self._marked(blocks, message.extra)
                self._add_system(blocks, extra=bool(extra))
                self._no_name(message)
            else:
                seen = True
                self._add(message)
        self._settle()
        for turn in self.turns:
            turn["content"] = plain(turn["content"])

    @property
    def system(self) -> str | list[JSON] | None:
        """The system prompt; None without one."""
        return plain(self._system) if self._system else None

    def _add_system(self, blocks: list[JSON], *, extra: bool) -> None:
        if extra:
            self._losses.add("Message.extra", "the system prompt has no such fields")
        self._system += blocks

    def _add(self, message: Message) -> None:
        self._no_name(message)
        role = _ROLES.get(message.role)
        if role is None:
            hint = "Send it as a tool's result: Message.tool(call_id, content)."
            what = f"A message of role {message.role!r}"
            raise unsupported(what, "through the Messages API", hint, provider=self._provider)
        write = {"assistant": self._write.assistant, "system": self._write.system}
        self._append(role, write.get(role, self._write.user)(message.parts), message)

    def _settle(self) -> None:
        """Put every turn where the API takes it, once all of them are known."""
        written = [turn for turn in self.turns if not self._is_empty(turn)]
        self.turns = []
        after, followers = "assistant", list[str]()
        for turn in reversed(written):
            followers.append(after)
            after = after if turn["role"] == "system" else turn["role"]
        for turn, after in zip(written, reversed(followers), strict=True):
            before = self.turns[-1]["role"] if self.turns else ""
            fits = self._late_system and (before, after) == ("user", "assistant")
            if turn["role"] == "system" and not fits:
                self._losses.add("position of a system message", "this API takes none there")
                self._add_system(turn["content"], extra=len(turn) > 2)
            else:
                self._place(turn)

    def _is_empty(self, turn: JSON) -> bool:
        """Whether nothing is left of a turn without the thoughts that it must not end with."""
        blocks: list[JSON] = turn["content"]
        while turn["role"] == "assistant" and blocks and blocks[-1].get("type") in THOUGHTS:
            blocks.pop()
            self._losses.add("Reasoning", "this API takes no message that ends with a thought")
        return not blocks and len(turn) == 2

    def _append(self, role: str, blocks: Iterable[JSON], message: Message) -> None:
        content = list(blocks)
        extra = self._marked(content, self._losses.own(message.extra, "Message"))
        if content or extra:
            self._place({"role": role, "content": content, **extra})
        elif not self.turns or self.turns[-1]["role"] != role:
            self._losses.add("Message", "this API takes none that is empty")

    def _marked(self, blocks: list[JSON], extra: JSONObject) -> JSONObject:
        """A message's `extra` without its mark for prompt caches, which goes to its last block."""
        mark = extra.get(CACHE_MARK)
        if mark is None:
            return extra
        if not blocks or blocks[-1].get("type") in THOUGHTS:
            self._losses.add(CACHE_MARK, "the message has no block at its end that takes one")
        elif CACHE_MARK not in blocks[-1]:
            blocks[-1] = {**blocks[-1], CACHE_MARK: mark}
        return {name: value for name, value in extra.items() if name != CACHE_MARK}

    def _place(self, turn: JSON) -> None:
        """Add a turn, or join it with the one before if both say nothing but their content."""
        last = self.turns[-1] if self.turns else None
        if last is None or last["role"] != turn["role"] or len(last) > 2 or len(turn) > 2:
            self.turns.append(turn)
        else:
            last["content"].extend(turn["content"])

    def _no_name(self, message: Message) -> None:
        # A result's name is its tool's, which the call says already.
        if message.name is not None and message.role != "tool":
            hint = "Write it into the text."
            where = "through the Messages API"
            raise unsupported("A message's `name`", where, hint, provider=self._provider)
