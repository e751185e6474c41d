"""From what a client of Ollama's sends to the library's own requests."""

from __future__ import annotations

from json import JSONDecodeError, loads
from typing import Any

import attrs

from lamella._chat import ChatRequest
from lamella._messages import Message
from lamella._mock_rejections import Rejection
from lamella._parts import Image, Part, Reasoning, Text, ToolCall, ToolResult
from lamella._tools import Tool
from lamella.testing._mock_ollama._fields import (
    field,
    fields,
    listed,
    objects,
    picture,
    span,
    text,
    typed,
)
from lamella.testing._mock_ollama._options import sampling, thinking
from lamella.testing._mock_openai._requests import JSON
from lamella.testing._mock_sse import json_text

NAME = "ollama"

_CHAT = "ChatRequest"
_GENERATE = "GenerateRequest"
_MESSAGE = f"{_CHAT}.messages"
_ROLES = ("system", "user", "assistant", "tool")
_KEPT = ("keep_alive", "truncate", "shift")
"""What has no name of ours: how long a model stays, and what happens where the window ends."""


def read_ollama(body: JSON) -> ChatRequest:
    """The request in a body of `/api/chat`.

    A call without an id gets one by its place in the conversation, and a result belongs to the
    first unanswered call of its tool. What only this API knows (`options` such as `num_ctx`,
    `keep_alive`, `truncate`, `shift`) is in `extra`, as it stood.

    Raises:
        Rejection: If a server would not accept it.
    """
    reader = _Conversation()
    for given in objects(body, "messages", _CHAT):
        reader.add(given)
    tools = [_tool(given) for given in objects(body, "tools", _CHAT)]
    return ChatRequest(messages=reader.messages, tools=tools, **_fields(body, _CHAT))


def read_ollama_prompt(body: JSON) -> ChatRequest:
    """The request in a body of `/api/generate`: the context, the system's words, the prompt.

    Raises:
        Rejection: If a server would not accept it.
    """
    raw = field(body, "raw", "bool", _GENERATE)
    context = listed(body, "context", _GENERATE)
    system, template = text(body, "system", _GENERATE), text(body, "template", _GENERATE)
    if raw and (system or template or context):
        message = "raw mode does not support template, system, or context"
        raise Rejection(400, None, message, "raw")
    if text(body, "suffix", _GENERATE):
        message = f"{text(body, 'model', _GENERATE)} does not support insert"
        raise Rejection(400, None, message, "suffix")
    messages = _from_context(context)
    if system:
        messages.append(Message.system(system))
    pictures = _pictures(body, _GENERATE)
    messages.append(Message("user", (*pictures, Text(text(body, "prompt", _GENERATE)))))
    return ChatRequest(messages=messages, **_fields(body, _GENERATE))


def plain_name(model: str) -> str:
    """A model's name without the tag that it has if none is given."""
    return model.removesuffix(":latest")


def to_context(messages: list[Message]) -> list[int]:
    """A conversation as the numbers that `/api/generate` hands back: those of its characters."""
    said = [[message.role, message.text] for message in messages]
    return [ord(character) for character in json_text(said)]


def _from_context(numbers: list[Any]) -> list[Message]:
    for number in numbers:
        typed(number, "int", f"{_GENERATE}.context")
    if not numbers:
        return []
    try:
        said = loads("".join(map(chr, numbers)))
        return [Message(role, content) for role, content in said]
    except (JSONDecodeError, OverflowError, TypeError, ValueError):
        message = "The context holds tokens that the mock provider has not given."
        raise Rejection(400, None, message, "context") from None


@attrs.define
class _Conversation:
    """Reads messages one by one, and knows which calls are still without an answer."""

    messages: list[Message] = attrs.field(init=False, factory=list[Message])
    _open: list[ToolCall] = attrs.field(init=False, factory=list[ToolCall])
    _calls: int = attrs.field(init=False, default=0)

    def add(self, given: JSON) -> None:
        """Read the next message."""
        role = text(given, "role", _MESSAGE).lower()
        if role not in _ROLES:
            message = f"invalid message role: {role!r}; use {', '.join(_ROLES)}"
            raise Rejection(400, None, message, "messages")
        content = text(given, "content", _MESSAGE)
        if role == "tool":
            self.messages.append(self._result(given, content))
            return
        parts: list[Part] = []
        if thought := text(given, "thinking", _MESSAGE):
            parts.append(Reasoning(thought, extra={"provider": NAME}))
        parts += _pictures(given, _MESSAGE)
        if content or not parts:
            parts.append(Text(content))
        calls = [self._call(each) for each in objects(given, "tool_calls", _MESSAGE)]
        if calls and not content:
            parts = [part for part in parts if part != Text("")]
        self._open += calls
        self.messages.append(Message(role, [*parts, *calls]))

    def _call(self, given: JSON) -> ToolCall:
        where = f"{_MESSAGE}.tool_calls"
        function = fields(given, "function", where)
        arguments = fields(function, "arguments", f"{where}.function")
        name = text(function, "name", f"{where}.function")
        identity = text(given, "id", where) or f"call_{self._calls}"
        self._calls += 1
        return ToolCall(identity, name, json_text(arguments))

    def _result(self, given: JSON, content: str) -> Message:
        identity = text(given, "tool_call_id", _MESSAGE)
        name = text(given, "tool_name", _MESSAGE)
        for place, call in enumerate(self._open):
            if call.id == identity or (not identity and name in {"", call.name}):
                del self._open[place]
                return Message("tool", ToolResult(call.id, (Text(content),)))
        # A server takes it; what it answers stands nowhere else.
        own: JSON = {"tool_name": name} if name else {}
        return Message("tool", ToolResult(identity, (Text(content),), extra=own))


def _pictures(holder: JSON, where: str) -> list[Image]:
    found = listed(holder, "images", where)
    read = [picture(each, f"{where}.images") for each in found]
    return [Image(data=data, media_type=kind) for data, kind in read]


def _tool(given: JSON) -> Any:
    where = f"{_CHAT}.tools"
    function = fields(given, "function", where)
    if not text(function, "name", f"{where}.function"):
        raise Rejection(400, None, "A tool needs the name of its function.", "tools")
    field(function, "parameters", "object", f"{where}.function")
    return Tool.of({**given, "type": given.get("type") or "function"})


def _fields(body: JSON, where: str) -> JSON:
    """What both ways of asking have in common."""
    options = fields(body, "options", where)
    logprobs = None
    most = field(body, "top_logprobs", "int", where) or 0
    if not 0 <= most <= 20:
        raise Rejection(400, None, "top_logprobs must be between 0 and 20", "top_logprobs")
    if field(body, "logprobs", "bool", where):
        logprobs = most
    return {
        "model": plain_name(text(body, "model", where)),
        "response_format": _format(body.get("format")),
        "reasoning_effort": thinking(body.get("think")),
        "logprobs": logprobs,
        **sampling(options),
        "extra": extra_of(body, where),
    }


def extra_of(body: JSON, where: str) -> JSON:
    """What only this API knows of a request, as it stood.

    Raises:
        Rejection: If it is of the wrong type.
    """
    span(body.get("keep_alive"))
    field(body, "truncate", "bool", where)
    field(body, "shift", "bool", where)
    own = {name: body[name] for name in _KEPT if body.get(name) is not None}
    options = fields(body, "options", where)
    return own | ({"options": options} if options else {})


def _format(given: Any) -> JSON | None:
    if given is None or given == "":
        return None
    if given == "json":
        return {"type": "json_object"}
    if isinstance(given, dict):
        return {"type": "json_schema", "json_schema": {"name": "answer", "schema": given}}
    message = f'invalid format: {json_text(given)}; expected "json" or a valid JSON Schema object'
    raise Rejection(500, None, message, "format")
