"""What dialects share in writing a request: errors, failed tools, pictures, names, `extra`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import attrs

from lamella._chat import ChatRequest
from lamella._errors import UnsupportedError
from lamella._message_dicts import data_url
from lamella._messages import Message
from lamella._parts import File, Image, Part, Text, ToolResult
from lamella._requests import Request
from lamella._tools import Tool
from lamella.transports._dialect import JSON
from lamella.transports._wire_json import is_list, is_object

_RESERVED = {
    "stream": "use `pipeline.stream(request)` or `pipeline.run(request)`",
    "model": "set `model` on the request",
    "messages": "set `messages` on the request",
    "input": "set `messages` (chat) or `inputs` (embeddings, moderation) on the request",
}


def unsupported(part: object, where: str, hint: str, *, provider: str) -> UnsupportedError:
    """The error for a part of a message that an API has no words for."""
    kind = part if isinstance(part, str) else f"A part of type {type(part).__name__}"
    return UnsupportedError(
        f"{kind} cannot be sent {where}.", hint=hint, code="unsupported_part", provider=provider
    )


def told_failure(result: ToolResult) -> tuple[Part, ...]:
    """The content of a tool result; a failed one's text starts with `Error: `.

    OpenAI's APIs have no field for a failed tool, so the model is told in the words.
    """
    if not result.error:
        return result.content
    first = result.content[0] if result.content else Text("the tool failed")
    if isinstance(first, Text):
        return (attrs.evolve(first, text=f"Error: {first.text}"), *result.content[1:])
    return (Text("Error: "), *result.content)


def image_url(part: Image, *, provider: str) -> str:
    """The address of an image, or its content as a data URL."""
    if part.url is not None:
        return part.url
    if part.media_type is None:
        raise unsupported(
            "An Image with `data` but no `media_type`",
            "to a provider",
            "Say what it is: Image(data=..., media_type='image/png').",
            provider=provider,
        )
    return data_url(part.media_type, part.data)


def file_name(part: File) -> str:
    """A document's name; OpenAI wants one wherever it gets the content."""
    subtype = (part.media_type or "application/octet-stream").partition("/")[2]
    return part.filename or f"file.{subtype.partition('+')[0].partition(';')[0]}"


def chosen_tool(request: ChatRequest, name: str, *, provider: str) -> tuple[str, str]:
    """The kind and name of the tool that `tool_choice` names: `function`, `custom` or a hosted one.

    Raises:
        UnsupportedError: If the request has tools, but none of that name.
    """
    for tool in request.tools:
        if isinstance(tool, Tool):
            if tool.name == name:
                return "function", name
            continue
        kind = str(tool.data.get("type", ""))
        custom = tool.data.get("custom")
        inner: Mapping[str, Any] = custom if isinstance(custom, Mapping) else tool.data  # pyright: ignore[reportUnknownVariableType]
        if inner.get("name") == name:
            return kind, name
        if kind == name:
            return kind, ""
    if not request.tools:
        return "function", name
    known = [tool.name for tool in request.tools if isinstance(tool, Tool)]
    raise UnsupportedError(
        f"`tool_choice` is {name!r}, but the request has no tool of that name.",
        hint=f"Use 'auto', 'none', 'required' or one of {', '.join(map(repr, known)) or 'none'}.",
        code="unsupported_value",
        provider=provider,
    )


def fitting_id(given: str, fits: re.Pattern[str]) -> str:
    """A tool call's id as an API takes it: another provider's may be too long, or of other letters.

    The same id always becomes the same, so that a call and its result stay together.

    Args:
        given: The id in the conversation.
        fits: What the API takes.
    """
    if fits.fullmatch(given):
        return given
    return f"call_{hashlib.sha256(given.encode(errors='surrogatepass')).hexdigest()[:32]}"


def merge_extra(body: JSON, request: Request[Any], *, provider: str) -> None:
    """Add `request.extra` to a body, verbatim and last, so that it wins over typed fields.

    What would make the answer unreadable, or pass by layers that look at the request, is refused.
    `stream_options` and `include` are joined with what is there already.
    """
    for name, value in request.extra.items():
        if name in _RESERVED:
            raise UnsupportedError(
                f"`extra` may not hold {name!r}: layers go by the request's own field.",
                hint=f"Instead, {_RESERVED[name]}.",
                code="unsupported_parameter",
                provider=provider,
            )
        before: Any = body.get(name)
        if name == "stream_options" and is_object(before) and is_object(value):
            body[name] = {**before, **value}
        elif name == "include" and is_list(before) and is_list(value):
            body[name] = list(dict.fromkeys([*before, *value]))
        else:
            body[name] = value


def no_name(message: Message, *, provider: str) -> None:
    """Refuse a participant's name where the API has no place for it."""
    if message.name is not None:
        raise unsupported(
            "A message's `name`",
            "through the Responses API",
            'Write it into the text, or use the chat API (`api="chat"`).',
            provider=provider,
        )
