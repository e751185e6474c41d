"""Ollama's chat: how a conversation is written.

A message there is one text, with thoughts and pictures before it and calls after it. Parts that
stand in another order are written as several messages of one role, which a server puts together
again. A tool's result is a message of its own and names its tool, as a model's template wants it,
and its call, as newer servers have it.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

import msgspec

from lamella._message_dicts import from_data_url
from lamella._messages import Message
from lamella._parts import (
    Audio,
    File,
    Image,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from lamella.transports._dialect import JSON
from lamella.transports._losses import Losses
from lamella.transports._wire_json import is_object, mended
from lamella.transports._wire_parts import told_failure, unsupported

_ROLES: Final = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_BEFORE, _TEXT, _CALLS = 0, 1, 2
"""Where in a message something stands."""

_NO_FIELDS: Final = "this API has no such fields"


class Conversation:
    """Writes the messages of one request.

    Args:
        messages: The conversation.
        provider: Who is asked, for messages.
        losses: Where what is left out is noted.

    Attributes:
        turns: The messages as they are sent.
    """

    __slots__ = ("_losses", "_names", "_place", "_provider", "_role", "turns")

    def __init__(self, messages: Sequence[Message], *, provider: str, losses: Losses) -> None:
        self._provider = provider
        self._losses = losses
        self._names: dict[str, str] = {}
        self._role = ""
        self._place = _CALLS
        self.turns: list[JSON] = []
        for message in messages:
            self._add(message)

    def _add(self, message: Message) -> None:
        role = _ROLES.get(message.role)
        if role is None:
            hint = "Send it as a tool's result: Message.tool(call_id, content)."
            self._refuse(f"A message of role {message.role!r}", "to Ollama", hint)
        if message.name is not None and role != "tool":
            self._refuse("A message's `name`", "to Ollama", "Write it into the text.")
        count = len(self.turns)
        self._role = role
        self._place = _CALLS + 1  # whatever comes first begins a message
        for part in message.parts:
            self._part(part, message)
        if len(self.turns) == count and role != "tool":
            self._begin()
        if message.extra:
            self.turns[-1].update(self._losses.own(message.extra, "Message"))

    def _part(self, part: Part, message: Message) -> None:
        match part:
            case Text():
                self._text(part.text)
                self._no_fields(part.extra, "Text")
            case ToolResult():
                self._result(part, message.name)
            case Opaque():
                self._opaque(part)
            case Image() | Audio() | File() if self._role in {"user", "assistant"}:
                self._medium(part)
            case Reasoning() if self._role == "assistant":
                self._thought(part)
            case ToolCall() if self._role == "assistant":
                self._at(_CALLS).setdefault("tool_calls", []).append(self._call(part))
            case Refusal() if self._role == "assistant":
                self._losses.add("Refusal", "this API takes it back as plain text")
                self._text(part.text)
            case _:
                where = f"in a message of role {message.role!r}"
                hint = "Put it into a user message, or leave it out of the conversation."
                self._refuse(part, where, hint)

    # --- messages ----------------------------------------------------------------------------

    def _begin(self) -> JSON:
        turn: JSON = {"role": self._role, "content": ""}
        self.turns.append(turn)
        return turn

    def _at(self, place: int) -> JSON:
        """The message that something goes into which stands at this place of it."""
        turn = self.turns[-1] if self._place <= place else self._begin()
        self._place = place
        return turn

    # --- parts -------------------------------------------------------------------------------

    def _text(self, text: str) -> None:
        if not text:
            return
        if self._place == _TEXT and self._role != "assistant":
            self._place = _CALLS  # another text is another message
        turn = self._at(_TEXT)
        turn["content"] += text

    def _thought(self, part: Reasoning) -> None:
        if part.signature is not None or part.redacted or not part.text:
            self._losses.thought(part)
            return
        turn = self._at(_BEFORE)
        turn["thinking"] = turn.get("thinking", "") + part.text
        self._no_fields(part.extra, "Reasoning")

    def _medium(self, part: Image | Audio | File) -> None:
        kind = type(part).__name__
        encoded = base64.b64encode(self._bytes_of(part)).decode()
        self._at(_BEFORE).setdefault("images", []).append(encoded)
        self._no_fields(part.extra, kind)

    def _bytes_of(self, part: Image | Audio | File) -> bytes:
        if isinstance(part, Audio):
            if part.data is None:
                hint = "Give its bytes: Audio(data=..., format='wav')."
                self._refuse("An Audio part without `data`", "to Ollama", hint)
            return part.data
        if isinstance(part, File):
            kind = part.media_type or ""
            if part.data is None or not kind.startswith(("image/", "audio/")):
                hint = "It takes pictures and sound: put a document's text into the message."
                self._refuse("A File that is neither", "to Ollama", hint)
            return part.data
        if part.detail is not None:
            self._losses.add("Image.detail", "this API has no such choice")
        if part.data is not None:
            return part.data
        found = from_data_url(part.url)
        if found is None:
            hint = "Ollama fetches nothing: Image(data=..., media_type='image/png')."
            self._refuse("An Image with a `url`", "to Ollama", hint)
        return found[1]

    def _call(self, call: ToolCall) -> JSON:
        if call.kind != "function":
            hint = "Ollama has tools with JSON arguments only; choose another provider."
            self._refuse(f"A tool call of kind {call.kind!r}", "to Ollama", hint)
        arguments = _parsed(call.arguments)
        if not is_object(arguments):
            self._refuse(
                f"The call {call.id!r} of the tool {call.name!r}, whose arguments are no JSON "
                "object,",
                "to Ollama",
                "Answer it with a failed result and leave the call out, or mend its arguments.",
            )
        self._names[call.id] = call.name
        extra = dict(self._losses.own(call.extra, "ToolCall")) if call.extra else {}
        inner: Any = extra.pop("function", None)
        more = inner if is_object(inner) else {}
        function: JSON = {**more, "name": call.name, "arguments": arguments}
        return {**extra, "id": call.id, "function": function}

    def _result(self, result: ToolResult, name: str | None) -> None:
        content = told_failure(result)
        for part in content:
            if not isinstance(part, Text):
                hint = "Send it in a user message after the result."
                self._refuse(part, "as a tool's result to Ollama", hint)
            self._no_fields(part.extra, "Text")
        words = "\n\n".join([part.text for part in content if isinstance(part, Text)])
        turn: JSON = {"role": "tool", "content": words, "tool_call_id": result.call_id}
        tool = self._names.get(result.call_id) or name
        if tool is not None:
            turn["tool_name"] = tool
        turn.update(self._losses.own(result.extra, "ToolResult"))
        self.turns.append(turn)
        self._place = _CALLS + 1

    def _opaque(self, part: Opaque) -> None:
        if self._losses.is_own(part):
            self._at(_BEFORE if self._place > _CALLS else self._place).update(part.data)
        elif self._role == "assistant":
            self._losses.foreign("Opaque")
        else:
            self._refuse(
                f"An Opaque part of {part.provider!r}",
                f"to {self._provider!r}",
                "Take it out of the request, or send the request to the provider that made it.",
            )

    def _no_fields(self, extra: Mapping[str, Any], what: str) -> None:
        if extra and self._losses.own(extra, what):
            self._losses.add(f"{what}.extra", _NO_FIELDS)

    def _refuse(self, part: object, where: str, hint: str) -> NoReturn:
        raise unsupported(part, where, hint, provider=self._provider)


def _parsed(arguments: str) -> Any:
    """What arguments say; None if they are no JSON. Nothing at all is no arguments."""
    if not arguments.strip():
        return {}
    with contextlib.suppress(msgspec.MsgspecError, ValueError, RecursionError):
        return msgspec.json.decode(arguments.encode())
    with contextlib.suppress(ValueError, RecursionError):
        return mended(json.loads(arguments, parse_constant=_no_constant))
    return None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)
