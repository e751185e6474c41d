"""How tools are written, and what choice the model has between them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from lamella._chat import ChatRequest
from lamella._errors import UnsupportedError
from lamella._tools import Tool
from lamella.transports._dialect import JSON
from lamella.transports._losses import Losses
from lamella.transports._stable_tools import Tools, written_tools
from lamella.transports._wire_json import is_object
from lamella.transports._wire_parts import chosen_tool, unsupported

_MODES: Final = {"auto": "AUTO", "none": "NONE", "required": "ANY"}


def add_tools(body: JSON, request: ChatRequest, losses: Losses, *, provider: str) -> None:
    """Write a request's tools and its choice between them.

    Functions go into one entry, in order; each hosted tool is an entry of its own, verbatim.

    Raises:
        UnsupportedError: If a tool is another provider's, or the choice cannot be said.
    """
    if request.tools:
        body["tools"] = written_tools(
            request.tools, partial(_entries, provider), losses, api="google"
        )
    functions = any(isinstance(tool, Tool) for tool in request.tools)
    if request.tool_choice is not None and (
        functions or isinstance(request.tool_choice, Mapping) or _needed(request, provider)
    ):
        _add_choice(body, request, provider)
    if request.parallel_tool_calls is False:
        raise UnsupportedError(
            "Google has no way to ask for one tool call at a time.",
            hint="Leave `parallel_tool_calls` out, and answer the calls one after the other.",
            code="unsupported_parameter",
            provider=provider,
        )


def _entries(provider: str, tools: Tools, losses: Losses) -> list[Any]:
    functions: list[JSON] = []
    entries: list[Any] = [{"functionDeclarations": functions}]
    for tool in tools:
        if isinstance(tool, Tool):
            functions.append(_declaration(tool, losses))
        elif losses.is_own(tool) and "type" not in tool.data:
            entries.append(tool.data)
        else:
            raise unsupported(
                f"A hosted tool of {tool.provider or 'another provider'!r}",
                f"to {provider!r}",
                'Google\'s own look like Opaque({"googleSearch": {}}).',
                provider=provider,
            )
    return entries if functions else entries[1:]


def _needed(request: ChatRequest, provider: str) -> bool:
    """Whether a choice without functions must be said: the API refuses one that means nothing.

    Raises:
        UnsupportedError: If hosted tools are to be used, or are not: the API cannot say that.
    """
    choice = request.tool_choice
    if choice == "auto" or (choice == "none" and not request.tools):
        return False
    if choice in _MODES and request.tools:
        raise UnsupportedError(
            f"Google has no tool_choice {choice!r} between hosted tools.",
            hint="Leave `tool_choice` out; for 'none', leave the tools out.",
            code="unsupported_value",
            provider=provider,
        )
    return True


def _declaration(tool: Tool, losses: Losses) -> JSON:
    made: JSON = {"name": tool.name}
    if tool.description:
        made["description"] = tool.description
    if tool.parameters:
        made["parametersJsonSchema"] = tool.parameters
    if tool.strict:
        why = "this API is strict with all tools or none: tool_choice={'mode': 'VALIDATED'}"
        losses.add("Tool.strict", why)
    extra = dict(losses.own(tool.extra, "Tool"))
    more: Any = extra.pop("function", None)
    return {**made, **extra, **(more if is_object(more) else {})}


def _add_choice(body: JSON, request: ChatRequest, provider: str) -> None:
    choice = request.tool_choice
    if isinstance(choice, Mapping):
        whole = "functionCallingConfig" in choice
        body["toolConfig"] = dict(choice) if whole else {"functionCallingConfig": dict(choice)}
        return
    assert choice is not None  # noqa: S101 - asked before
    config: JSON = {"mode": _MODES.get(choice, "ANY")}
    if choice not in _MODES:
        kind, name = chosen_tool(request, choice, provider=provider)
        if kind != "function":
            hint = "Only functions can be asked for by name."
            raise unsupported(
                "A hosted tool as `tool_choice`", "to Google", hint, provider=provider
            )
        config["allowedFunctionNames"] = [name]
    body["toolConfig"] = {"functionCallingConfig": config}
