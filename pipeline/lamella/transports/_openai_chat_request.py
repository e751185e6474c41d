"""Chat Completions: how a request is written.

What the API has no words for is refused before the network. What is left out, with a note in the
trace: reasoning, unless the endpoint's quirk `send_reasoning` says that it takes it back in
`reasoning_field`; signatures, always; marks for prompt caches, unless its quirk `cache_marks` says
that it takes them; and what another provider's answer brought (`Opaque` parts and `extra` of an
earlier assistant message), which is that provider's own state.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import partial
from typing import Any

import attrs

from lamella._chat import ChatRequest
from lamella._message_dicts import data_url, tool_call_to_dict
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
from lamella._tools import Tool
from lamella.transports._dialect import JSON, DialectOptions
from lamella.transports._losses import Losses
from lamella.transports._stable_tools import Tools, written_tools
from lamella.transports._wire_parts import (
    chosen_tool,
    file_name,
    image_url,
    merge_extra,
    told_failure,
    unsupported,
)

_AS_IT_IS = (
    "temperature", "top_p", "n", "seed", "presence_penalty", "frequency_penalty",
    "parallel_tool_calls", "response_format", "reasoning_effort", "service_tier",
)  # fmt: skip
_CHOICES = ("auto", "none", "required")
_CHAT = "in a chat request"


def chat_body(
    request: ChatRequest, *, stream: bool, options: DialectOptions, provider: str
) -> JSON:
    """The body of a chat request.

    Raises:
        UnsupportedError: If the API has no words for a part or a value.
    """
    body: JSON = {} if request.model is None else {"model": request.model}
    body["messages"], writer = _messages(request, options, provider)
    given = request.__dict__
    for name in _AS_IT_IS:
        value = given[name]
        if value is not None:
            body[name] = value
    if request.max_output_tokens is not None:
        body[options.max_tokens_name] = request.max_output_tokens
    if request.stop:
        body["stop"] = list(request.stop)
    if request.logprobs is not None:
        body["logprobs"] = True
        if request.logprobs:
            body["top_logprobs"] = request.logprobs
    if request.tools or request.tool_choice is not None:
        writer = writer or _writer(options, provider)
        _add_tools(body, request, provider, writer.losses)
    if options.send_user and request.context.user is not None:
        body["user"] = request.context.user
    if stream:
        _add_stream(body, options)
    if request.extra:
        merge_extra(body, request, provider=provider)
    if writer is not None:
        writer.losses.declare(request)
    return body


def _messages(
    request: ChatRequest, options: DialectOptions, provider: str
) -> tuple[list[JSON], _Writer | None]:
    """The messages, and what wrote those that are not plain; None where all are."""
    writer: _Writer | None = None
    messages: list[JSON] = []
    for message in request.messages:
        written = None if message.extra else _plain(message, options)
        if written is None:
            writer = writer or _writer(options, provider)
            written = writer.message(message)
        messages.append(written)
    return messages, writer


def _plain(message: Message, options: DialectOptions) -> JSON | None:
    """A message of nothing but one text, of which nothing can be lost; None for others."""
    parts = message.parts
    if len(parts) != 1 or message.listed or message.name is not None:
        return None
    text = parts[0]
    if type(text) is not Text or text.extra:
        return None
    role: str = message.role
    if role == "system" or role == "developer":  # noqa: PLR1714 - a set is slower on the way of every call
        role = "developer" if options.developer_role else "system"
    return {"role": role, "content": text.text}


def _add_stream(body: JSON, options: DialectOptions) -> None:
    body["stream"] = True
    if options.stream_usage:
        body["stream_options"] = {"include_usage": True}


def _add_tools(body: JSON, request: ChatRequest, provider: str, losses: Losses) -> None:
    if request.tools:
        body["tools"] = written_tools(request.tools, partial(_tools, provider), losses, api="chat")
    if request.tool_choice is not None:
        body["tool_choice"] = _tool_choice(request, provider)


def _tools(provider: str, tools: Tools, losses: Losses) -> list[Any]:
    return [
        _tool(tool, losses) if isinstance(tool, Tool) else _opaque(tool, provider, losses)
        for tool in tools
    ]


def _tool_choice(request: ChatRequest, provider: str) -> Any:
    choice = request.tool_choice
    if not isinstance(choice, str) or choice in _CHOICES:
        return choice
    kind, name = chosen_tool(request, choice, provider=provider)
    return {"type": kind, kind: {"name": name}} if name else {"type": kind}


def _tool(tool: Tool, losses: Losses) -> JSON:
    if not tool.extra:
        return tool.to_dict()
    return attrs.evolve(tool, extra=losses.own(tool.extra, "Tool")).to_dict()


def _opaque(part: Opaque, provider: str, losses: Losses) -> Mapping[str, Any]:
    if not losses.is_own(part):
        raise unsupported(
            f"An Opaque part of {part.provider!r}",
            f"to {provider!r}",
            "Take it out of the request, or send the request to the provider that made it.",
            provider=provider,
        )
    return part.data


def _writer(options: DialectOptions, provider: str) -> _Writer:
    losses = Losses(
        provider,
        refuse_foreign=options.refuse_foreign,
        cache_marks=options.quirks.get("cache_marks", False),
    )
    return _Writer(options, provider, losses)


class _Writer:
    """Writes messages for one endpoint."""

    __slots__ = ("_developer", "_losses", "_provider", "_reasoning", "losses")

    def __init__(self, options: DialectOptions, provider: str, losses: Losses) -> None:
        self._provider = provider
        self._losses = self.losses = losses
        self._developer = options.developer_role
        sends = options.quirks.get("send_reasoning", False)
        self._reasoning = options.reasoning_field if sends else None

    def message(self, message: Message) -> JSON:
        """A message as it goes over the wire."""
        role, parts = message.role, message.parts
        if role == "system" or role == "developer":  # noqa: PLR1714 - a set is slower on the way of every call
            role = "developer" if self._developer else "system"
        out: JSON = {"role": role, "content": None}
        if len(parts) == 1 and type(parts[0]) is Text and not parts[0].extra:
            out["content"] = parts[0].text
            if message.listed:
                out["content"] = [{"type": "text", "text": parts[0].text}]
        elif role == "assistant":
            self._assistant(message, out)
        elif role == "tool":
            self._tool(parts[0], out)
        else:
            listed = message.listed or len(parts) > 1
            out["content"] = self._text_content(parts, listed=listed) if parts else ""
        if message.name is not None:
            out["name"] = message.name
        if message.extra:
            out.update(self._losses.own(message.extra, "Message"))
        return out

    def _tool(self, result: Part, out: JSON) -> None:
        assert isinstance(result, ToolResult)  # noqa: S101 - a Message of role tool holds nothing else
        content = told_failure(result)
        for part in content:
            if not isinstance(part, Text | Opaque):
                raise unsupported(
                    part,
                    "as a tool's result in a chat request",
                    'Send it in a user message after the result, or use `api="responses"`.',
                    provider=self._provider,
                )
        out["tool_call_id"] = result.call_id
        out["content"] = self._text_content(content, listed=result.listed)
        out.update(self._losses.own(result.extra, "ToolResult"))

    def _text_content(self, parts: tuple[Part, ...], *, listed: bool) -> Any:
        """A string where one text says all, otherwise a list."""
        if not parts and not listed:
            return ""
        bodies = [self._part(part) for part in parts]
        if not listed and len(parts) == 1 and isinstance(parts[0], Text) and len(bodies[0]) == 2:
            return parts[0].text
        return bodies

    # --- an assistant's message: some of its parts stand beside the content ------------------

    def _assistant(self, message: Message, out: JSON) -> None:
        content: list[Part] = []
        thoughts: list[Reasoning] = []
        for part in message.parts:
            if isinstance(part, Text):
                said = self._without_foreign(part) if part.extra else part
                if said is not None:
                    content.append(said)
            elif isinstance(part, ToolCall):
                out.setdefault("tool_calls", []).append(self._tool_call(part))
            elif isinstance(part, Reasoning):
                thoughts.append(part)
            elif isinstance(part, Audio) and part.id is not None:
                out["audio"] = {"id": part.id}
            elif isinstance(part, Opaque):
                self._assistant_opaque(part, content, out)
            elif isinstance(part, Refusal):
                content.append(part)
            else:
                raise unsupported(
                    part,
                    "in an assistant's message of a chat request",
                    "Put it into a user message, or leave it out of the conversation.",
                    provider=self._provider,
                )
        if len(content) == 1 and type(content[0]) is Refusal and not content[0].extra:
            out["refusal"] = content[0].text
        elif content or message.listed:
            out["content"] = self._said(content, listed=message.listed)
        elif not out.keys() - {"role", "content"}:
            out["content"] = ""
        self._add_thoughts(thoughts, out)

    def _without_foreign(self, part: Text) -> Text | None:
        """A text with what goes out with it; None for one that had no words, only that."""
        extra = self._losses.own(part.extra, "Text")
        return attrs.evolve(part, extra=extra) if part.text or extra else None

    def _add_thoughts(self, thoughts: list[Reasoning], out: JSON) -> None:
        for part in thoughts:
            if self._reasoning is None or not part.text:
                self._losses.thought(part)
            else:
                out[self._reasoning] = out.get(self._reasoning, "") + part.text

    def _said(self, content: list[Part], *, listed: bool) -> Any:
        """What the model said before: one string where it is only text, as many servers want."""
        texts = [part.text for part in content if isinstance(part, Text) and not part.extra]
        if len(texts) == len(content) and not listed:
            return "".join(texts)
        return [self._part(part) for part in content]

    def _assistant_opaque(self, part: Opaque, content: list[Part], out: JSON) -> None:
        if not self._losses.is_own(part):
            self._losses.foreign("Opaque")
            return
        if part.data.get("type") == "tool_call":  # a call of a kind that we do not know
            out.setdefault("tool_calls", []).append(part.data.get("tool_call"))
        elif "type" in part.data:
            content.append(part)
        else:
            out.update(
                part.data
            )  # a field that stood beside the content, such as reasoning_details

    def _tool_call(self, call: ToolCall) -> JSON:
        arguments = call.arguments
        if call.kind == "function" and not arguments.strip():
            arguments = "{}"  # servers parse it, and some models write nothing for no arguments
        if not call.extra:
            words = "arguments" if call.kind == "function" else "input"
            body = {"name": call.name, words: arguments}
            return {"id": call.id, "type": call.kind, call.kind: body}
        extra = self._losses.own(call.extra, "ToolCall")
        return tool_call_to_dict(ToolCall(call.id, call.name, arguments, call.kind, extra))

    # --- parts -------------------------------------------------------------------------------

    def _part(self, part: Part) -> Any:
        match part:
            case Text():
                return {"type": "text", "text": part.text, **self._losses.own(part.extra, "Text")}
            case Image():
                body: JSON = {"url": image_url(part, provider=self._provider)}
                if part.detail is not None:
                    body["detail"] = part.detail
                return self._nested("image_url", body, part)
            case Audio():
                return self._nested("input_audio", self._sound(part), part)
            case File():
                return self._nested("file", self._file(part), part)
            case Opaque():
                return _opaque(part, self._provider, self._losses)
            case Refusal():
                return {"type": "refusal", "refusal": part.text}
            case _:
                hint = "It belongs into an assistant's message."
                if isinstance(part, ToolResult):
                    hint = (
                        "Send each result as a message of its own: Message.tool(call_id, content)."
                    )
                where = "in a system or user message of a chat request"
                raise unsupported(part, where, hint, provider=self._provider)

    def _nested(self, key: str, body: JSON, part: Image | Audio | File) -> JSON:
        extra = self._losses.own(part.extra, type(part).__name__)
        if not extra:
            return {"type": key, key: body}
        outer = {name: value for name, value in extra.items() if name != key}
        return {"type": key, key: {**body, **extra.get(key, {})}, **outer}

    def _sound(self, part: Audio) -> JSON:
        if part.data is None or part.format is None:
            missing = "format" if part.data is not None else "data"
            raise unsupported(
                f"An Audio part without `{missing}`",
                _CHAT,
                "Give its bytes and their format: Audio(data=..., format='wav').",
                provider=self._provider,
            )
        return {"data": base64.b64encode(part.data).decode(), "format": part.format}

    def _file(self, part: File) -> JSON:
        if part.id is not None:
            return {"file_id": part.id}
        if part.url is not None:
            raise unsupported(
                "A File with a `url`",
                _CHAT,
                'Give its `data`, upload it and give its `id`, or use `api="responses"`.',
                provider=self._provider,
            )
        return {"filename": file_name(part), "file_data": data_url(part.media_type, part.data)}
