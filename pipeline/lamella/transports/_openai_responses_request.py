"""The Responses API: how a request is written.

A conversation becomes a list of items, in order: messages, reasoning, tool calls, their outputs.
Only what came from this API through the same provider goes back as it was: reasoning in its
encrypted form and the items of hosted tools. Other reasoning, and other providers' own items, are
left out, as are signatures of others. What the API has no words for is refused before the network.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import partial
from typing import Any

from lamella._chat import ChatRequest
from lamella._errors import UnsupportedError
from lamella._message_dicts import data_url
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
    no_name,
    told_failure,
    unsupported,
)

_AS_IT_IS = ("temperature", "top_p", "max_output_tokens", "parallel_tool_calls", "service_tier")
_NOT_THERE = {
    "stop": "Leave it out, or cut the text yourself.",
    "seed": "Leave it out: this API samples without a seed.",
    "presence_penalty": "Leave it out.",
    "frequency_penalty": "Leave it out.",
}
_CHOICES = ("auto", "none", "required")
_WHERE = "through the Responses API"
_OUTPUT_CONTENT = {"output_text", "refusal"}


def responses_body(
    request: ChatRequest, *, stream: bool, options: DialectOptions, provider: str, origin: str
) -> JSON:
    """The body of a request to the Responses API.

    Args:
        request: What is asked.
        stream: Whether to stream.
        options: The endpoint's quirks.
        provider: Whose endpoint it is.
        origin: How parts that came from this API are marked.

    Raises:
        UnsupportedError: If the API has no words for a parameter, a part or a value.
    """
    _refuse(request, provider)
    losses = Losses(provider, origin=origin, refuse_foreign=options.refuse_foreign)
    writer = _Writer(options, provider, losses)
    body: JSON = {} if request.model is None else {"model": request.model}
    body["input"] = writer.items(request)
    given = request.__dict__
    for name in _AS_IT_IS:
        if given[name] is not None:
            body[name] = given[name]
    if request.reasoning_effort is not None:
        body["reasoning"] = {"effort": request.reasoning_effort}
    if request.response_format is not None:
        body["text"] = {"format": _flat(request.response_format, "json_schema")}
    if request.tools:
        write = partial(_tools, provider)
        body["tools"] = written_tools(request.tools, write, losses, api="responses")
    if request.tool_choice is not None:
        body["tool_choice"] = _tool_choice(request, provider)
    include = _include(request, options)
    if include:
        body["include"] = include
    if request.logprobs:
        body["top_logprobs"] = request.logprobs
    if options.send_user and request.context.user is not None:
        body["user"] = request.context.user
    if stream:
        body["stream"] = True
    if request.extra:
        merge_extra(body, request, provider=provider)
    losses.declare(request)
    return body


def _refuse(request: ChatRequest, provider: str) -> None:
    refused = [name for name in _NOT_THERE if getattr(request, name) not in (None, ())]
    if request.n is not None and request.n > 1:
        refused.append("n")
    if refused:
        name = refused[0]
        hint = _NOT_THERE.get(name, "Send the request several times.")
        raise UnsupportedError(
            f"The Responses API does not take {name!r}.",
            hint=f'{hint} The chat API has it (`api="chat"`).',
            code="unsupported_parameter",
            provider=provider,
        )


def _include(request: ChatRequest, options: DialectOptions) -> list[str]:
    include: list[str] = []
    if request.logprobs is not None:
        include.append("message.output_text.logprobs")
    reasons = request.reasoning_effort not in (None, "none")
    if options.quirks.get("encrypted_reasoning", reasons):
        include.append("reasoning.encrypted_content")
    return include


def _tools(provider: str, tools: Tools, losses: Losses) -> list[Any]:
    return [_tool(tool, provider, losses) for tool in tools]


def _tool(tool: Tool | Opaque, provider: str, losses: Losses) -> Mapping[str, Any]:
    if isinstance(tool, Opaque):
        if not losses.is_own(tool):
            raise unsupported(
                f"A tool of {tool.provider!r}",
                f"to {provider!r}",
                "Take it out of the request, or send the request to the provider that has it.",
                provider=provider,
            )
        return _flat(_flat_grammar(tool.data), "custom")
    extra = losses.own(tool.extra, "Tool")
    inner = extra.get("function", {})
    return {
        "type": "function",
        "name": tool.name,
        **({"description": tool.description} if tool.description else {}),
        "parameters": dict(tool.parameters) or {"type": "object", "properties": {}},
        "strict": bool(tool.strict),  # this API is strict where nothing is said; chat is not
        **{key: value for key, value in extra.items() if key != "function"},
        **inner,
    }


def _flat(given: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Chat nests under the type's name what this API keeps beside it."""
    inner = given.get(key)
    if given.get("type") != key or not isinstance(inner, Mapping):
        return given
    return {**{name: value for name, value in given.items() if name != key}, **inner}


def _flat_grammar(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    custom = tool.get("custom")
    if not isinstance(custom, Mapping) or not isinstance(custom.get("format"), Mapping):  # pyright: ignore[reportUnknownMemberType]
        return tool
    return {**tool, "custom": {**custom, "format": _flat(custom["format"], "grammar")}}  # pyright: ignore[reportUnknownArgumentType]


def _tool_choice(request: ChatRequest, provider: str) -> Any:
    choice = request.tool_choice
    if not isinstance(choice, str) or choice in _CHOICES:
        return choice
    kind, name = chosen_tool(request, choice, provider=provider)
    return {"type": kind, "name": name} if name else {"type": kind}


class _Writer:
    """Writes the items of one request."""

    __slots__ = ("_custom", "_developer", "_losses", "_provider")

    def __init__(self, options: DialectOptions, provider: str, losses: Losses) -> None:
        self._provider = provider
        self._losses = losses
        self._developer = options.developer_role
        self._custom: set[str] = set()

    def items(self, request: ChatRequest) -> list[Any]:
        items: list[Any] = []
        for message in request.messages:
            no_name(message, provider=self._provider)
            if message.role == "assistant":
                self._assistant(message, items)
            elif message.role == "tool":
                items.append(self._output(message.parts[0]))
            elif message.role == "function":
                raise unsupported(
                    "A message of role 'function'",
                    _WHERE,
                    "Use Message.tool(call_id, content).",
                    provider=self._provider,
                )
            else:
                items.append(self._said(message))
        return items

    def _said(self, message: Message) -> JSON:
        role, parts = message.role, message.parts
        if role == "system" and self._developer:
            role = "developer"
        if len(parts) == 1 and type(parts[0]) is Text and not parts[0].extra:
            out: JSON = {"role": role, "content": parts[0].text}
        else:
            out = {"role": role, "content": [self._input(part) for part in parts]}
        if message.extra:
            out.update(self._losses.own(message.extra, "Message"))
        return out

    def _input(self, part: Part) -> Any:
        match part:
            case Text():
                return {"type": "input_text", "text": part.text, **self._extra(part)}
            case Image():
                url = image_url(part, provider=self._provider)
                body = {"type": "input_image", "image_url": url, "detail": part.detail or "auto"}
                return {**body, **self._extra(part, "image_url")}
            case File():
                return {"type": "input_file", **_file(part), **self._extra(part, "file")}
            case Audio():
                return self._sound(part)
            case Opaque():
                return self._own(part)
            case _:
                raise self._unsupported(part, "It belongs into an assistant's message.")

    def _sound(self, part: Audio) -> JSON:
        if part.data is None or part.format is None:
            raise self._unsupported(
                "An Audio part without `data` and `format`",
                "Give its bytes and their format: Audio(data=..., format='wav').",
            )
        sound = {"data": base64.b64encode(part.data).decode(), "format": part.format}
        return {"type": "input_audio", "input_audio": sound, **self._extra(part)}

    def _output(self, result: Part) -> JSON:
        assert isinstance(result, ToolResult)  # noqa: S101 - a Message of role tool holds nothing else
        kind = "custom_tool_call" if result.call_id in self._custom else "function_call"
        content = told_failure(result)
        output: Any
        if all(isinstance(part, Text) and not part.extra for part in content) and len(content) < 2:
            output = "".join([part.text for part in content if isinstance(part, Text)])
        else:
            output = [self._input(part) for part in content]
        out: JSON = {"type": f"{kind}_output", "call_id": result.call_id, "output": output}
        return {**out, **self._losses.own(result.extra, "ToolResult")}

    # --- an assistant's message: a run of text is one item, everything else is one each ------

    def _assistant(self, message: Message, items: list[Any]) -> None:
        content: list[Any] = []
        extra = self._losses.own(message.extra, "Message")
        for part in message.parts:
            if isinstance(part, Text):
                content.append({"type": "output_text", "text": part.text, **self._extra(part)})
            elif isinstance(part, Refusal):
                content.append({"type": "refusal", "refusal": part.text})
            elif isinstance(part, Opaque) and part.data.get("type") in _OUTPUT_CONTENT:
                content.append(part.data)
            else:
                item = self._item(part)
                if item is not None:
                    _flush(content, extra, items)
                    items.append(item)
        _flush(content, extra, items)

    def _item(self, part: Part) -> Any:
        """The item of a part; None if it is left out."""
        if isinstance(part, ToolCall):
            return self._tool_call(part)
        if isinstance(part, Reasoning):
            return self._reasoning(part)
        if isinstance(part, Opaque):
            return self._own_item(part)
        raise self._unsupported(
            part, "Put it into a user message, or leave it out of the conversation."
        )

    def _tool_call(self, call: ToolCall) -> JSON:
        if call.kind == "custom":
            self._custom.add(call.id)
            body: JSON = {"type": "custom_tool_call", "call_id": call.id, "name": call.name}
            body["input"] = call.arguments
        else:
            body = {"type": "function_call", "call_id": call.id, "name": call.name}
            body["arguments"] = call.arguments or "{}"
        extra = self._losses.own(call.extra, "ToolCall")
        return {**body, **extra} if extra else body

    def _reasoning(self, part: Reasoning) -> JSON | None:
        if part.signature is None or not self._losses.is_own(part):
            self._losses.thought(part)
            return None
        summary = [{"type": "summary_text", "text": part.text}] if part.text else []
        out: JSON = {"type": "reasoning", "summary": summary, "encrypted_content": part.signature}
        if part.id is not None:
            out["id"] = part.id
        return out

    def _own_item(self, part: Opaque) -> Mapping[str, Any] | None:
        if "type" in part.data and self._losses.is_own(part):
            return part.data
        self._losses.foreign("Opaque")
        return None

    def _own(self, part: Opaque) -> Mapping[str, Any]:
        if not self._losses.is_own(part):
            raise self._unsupported(
                f"An Opaque part of {part.provider!r}",
                "Take it out of the request, or send the request to the provider that made it.",
            )
        return part.data

    def _extra(self, part: Text | Image | Audio | File, nested: str = "") -> Mapping[str, Any]:
        extra = self._losses.own(part.extra, type(part).__name__)
        if not nested or nested not in extra:
            return extra
        return {**{key: value for key, value in extra.items() if key != nested}, **extra[nested]}

    def _unsupported(self, part: object, hint: str) -> UnsupportedError:
        return unsupported(part, _WHERE, hint, provider=self._provider)


def _flush(content: list[Any], extra: Mapping[str, Any], items: list[Any]) -> None:
    """Close a run of text; one that is only text is written as a string, as users write it."""
    if not content:
        return
    texts = [item["text"] for item in content if item["type"] == "output_text" and len(item) == 2]
    said: Any = "".join(texts) if len(texts) == len(content) else list(content)
    items.append({"role": "assistant", "content": said, **extra})
    content.clear()


def _file(part: File) -> JSON:
    if part.id is not None:
        return {"file_id": part.id}
    if part.url is not None:
        return {"file_url": part.url}
    return {"filename": file_name(part), "file_data": data_url(part.media_type, part.data)}
