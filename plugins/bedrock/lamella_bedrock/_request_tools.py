"""Converse: tools, which of them must be called, and how many at once.

Converse has `auto`, `any` and `tool`. What Claude knows besides (`none`, one call at a time) goes
into its own `tool_choice` among the additional fields, which Bedrock joins with what it makes of
`toolChoice`: that one has no `type` where `toolChoice` states it.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import attrs

from lamella._chat import ChatRequest
from lamella._errors import UnsupportedError
from lamella._messages import Message
from lamella._parts import Opaque, ToolCall, ToolResult
from lamella._prompt_caching import CACHE_MARK
from lamella._tools import Tool
from lamella.transports._closed_schemas import closed_schema
from lamella.transports._dialect import JSON
from lamella.transports._losses import Losses
from lamella.transports._stable_tools import Tools, written_tools
from lamella.transports._wire_parts import chosen_tool
from lamella_bedrock._request_parts import PartWriter

ADDITIONAL: Final = "additionalModelRequestFields"
_NOTHING: Final[JSON] = {"type": "object", "properties": {}}
_BEFORE: Final = "Was called earlier in this conversation. It cannot be called any more."


def add_tools(
    body: JSON,
    request: ChatRequest,
    family: str,
    writer: PartWriter,
    losses: Losses,
    *,
    able: bool = True,
) -> None:
    """Add tools and the choice among them.

    Args:
        body: What is written so far.
        request: What is asked.
        family: Whose model is asked.
        writer: Writes parts.
        losses: What is left out.
        able: Whether the model knows tools, as far as its card says.

    Raises:
        UnsupportedError: If the model cannot be told what is asked.
    """
    provider = writer.provider
    if not request.tools:
        _add_called(body, request, family, losses, able=able, provider=provider)
        return
    if request.tool_choice == "none" and family != "anthropic":
        _leave_out(request, losses, provider)
        return
    config: JSON = {"tools": _tools(request, writer, losses)}
    chosen = _choice(request, provider)
    if chosen is not None:
        config["toolChoice"] = chosen
    own = _own_choice(request, family, provider)
    if own is not None:
        body.setdefault(ADDITIONAL, {})["tool_choice"] = own
        if config.get("toolChoice") == {"auto": {}}:
            del config["toolChoice"]
    body["toolConfig"] = config


def _tools(request: ChatRequest, writer: PartWriter, losses: Losses) -> list[JSON]:
    """The tools of a request, with the points up to which a cache may keep them."""
    tools = [_unmarked(tool) for tool in request.tools]
    specs = written_tools(tools, partial(_specs, writer), losses, api="bedrock")
    points = [
        writer.cache_point(tool.extra, tools=True) if isinstance(tool, Tool) else []
        for tool in request.tools
    ]
    if not any(points):
        return specs
    return [block for spec, after in zip(specs, points, strict=True) for block in (spec, *after)]


def _unmarked(tool: Tool | Opaque) -> Tool | Opaque:
    """A tool without its mark, which becomes a block of its own."""
    if isinstance(tool, Opaque) or CACHE_MARK not in tool.extra:
        return tool
    extra = {name: value for name, value in tool.extra.items() if name != CACHE_MARK}
    return attrs.evolve(tool, extra=extra)


def _specs(writer: PartWriter, tools: Tools, losses: Losses) -> list[JSON]:
    return [
        writer.opaque(tool) if isinstance(tool, Opaque) else _tool(tool, losses, writer.provider)
        for tool in tools
    ]


def _leave_out(request: ChatRequest, losses: Losses, provider: str) -> None:
    """Send no tools, where none may be called: there is no other word for that."""
    if any(_used(message) for message in request.messages):
        raise UnsupportedError(
            "`tool_choice` is 'none', for which Converse has no word.",
            hint="The conversation has calls, so that its tools cannot be left out instead: "
            "take both out, or ask a Claude model.",
            code="unsupported_value",
            provider=provider,
        )
    losses.add("tool_choice", "Converse has no word for none: the tools were left out")


def _add_called(
    body: JSON, request: ChatRequest, family: str, losses: Losses, *, able: bool, provider: str
) -> None:
    """Name the tools that the conversation has calls of, where the request has none."""
    names = _called(request)
    if names and not able:
        raise UnsupportedError(
            f"The conversation has calls of tools, which {request.model!r} does not know.",
            hint="Take calls and results out, or write them as text.",
            code="unsupported_part",
            provider=provider,
        )
    if names:
        _name_again(body, names, family, losses)


def _called(request: ChatRequest) -> list[str]:
    """The tools that a conversation has calls of, each once; none if `extra` names the tools."""
    if "toolConfig" in request.extra:
        return []
    parts = [part for message in request.messages for part in message.parts]
    return list(dict.fromkeys([part.name for part in parts if isinstance(part, ToolCall)]))


def _name_again(body: JSON, names: list[str], family: str, losses: Losses) -> None:
    """Name the tools that were called, which Converse demands with every request.

    Claude is told that it must not call them; others know no word for that.
    """
    schema = {"json": _NOTHING}
    specs = [
        {"toolSpec": {"name": name, "description": _BEFORE, "inputSchema": schema}}
        for name in names
    ]
    body["toolConfig"] = {"tools": specs}
    if family == "anthropic":
        body.setdefault(ADDITIONAL, {})["tool_choice"] = {"type": "none"}
    losses.add("tools", "calls in the conversation need their tools, which were named again")


def _tool(tool: Tool, losses: Losses, provider: str) -> JSON:
    spec: JSON = {"name": tool.name}
    if tool.description:
        spec["description"] = tool.description
    parameters = {"type": "object", **tool.parameters} if tool.parameters else _NOTHING
    if tool.strict:
        parameters = closed_schema(parameters, losses, "Tool.parameters", provider=provider)
    spec["inputSchema"] = {"json": parameters}
    if tool.strict is not None:
        spec["strict"] = tool.strict
    if tool.extra:
        spec.update(losses.own(tool.extra, "Tool"))
    return {"toolSpec": spec}


def _choice(request: ChatRequest, provider: str) -> Any:
    choice = request.tool_choice
    if choice is None or choice == "none":
        return None
    if not isinstance(choice, str):
        return choice
    if choice == "auto":
        return {"auto": {}}
    if choice == "required":
        return {"any": {}}
    _, name = chosen_tool(request, choice, provider=provider)
    return {"tool": {"name": name or choice}}


def _own_choice(request: ChatRequest, family: str, provider: str) -> JSON | None:
    """What only Claude is told; None if there is nothing."""
    if request.tool_choice == "none":
        return {"type": "none"}
    if request.parallel_tool_calls is not False:
        return None
    if family != "anthropic":
        raise UnsupportedError(
            "`parallel_tool_calls` is False, for which Converse has no word.",
            hint="Leave it out, or ask a Claude model, which has one of its own.",
            code="unsupported_parameter",
            provider=provider,
        )
    one: JSON = {"disable_parallel_tool_use": True}
    return {"type": "auto", **one} if request.tool_choice in (None, "auto") else one


def _used(message: Message) -> bool:
    return any(isinstance(part, ToolCall | ToolResult) for part in message.parts)
