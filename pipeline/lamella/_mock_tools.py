"""Which tools the embedded provider asks for, and with what arguments.

It calls a tool whose name the user's message mentions, as a whole word. JSON in brackets right
after the name is taken as the arguments, as in `get_weather({"city": "Paris"})`; otherwise they are
made to conform to the tool's schema, with values from `name=value` or `name: value` in the message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import takewhile
from json import JSONDecodeError, JSONDecoder, dumps
from typing import TYPE_CHECKING, Any, cast

from lamella._mock_rejections import Rejection
from lamella._mock_schema import sample
from lamella._mock_tokens import Draw
from lamella._parts import ToolCall
from lamella._tools import Tool

if TYPE_CHECKING:
    from lamella._chat import ChatRequest

_DECODER = JSONDecoder()


def wanted_calls(request: ChatRequest, text: str, draw: Draw) -> tuple[ToolCall, ...]:
    """The tools to call; empty if the answer is to be words.

    Args:
        request: Whose tools and `tool_choice` count.
        text: What the user asks for now; empty if nothing new was asked.
        draw: Where it is free to choose.

    Raises:
        Rejection: If `tool_choice` asks for what is not offered.
    """
    offered = {tool.name: tool for tool in request.tools if isinstance(tool, Tool)}
    choice = _choice(request.tool_choice)
    if choice == "none":
        return ()
    if choice not in {"auto", "required", *offered}:
        raise Rejection(400, None, f"Tool choice {choice!r} is not among the tools.", "tool_choice")
    if choice == "required" and not offered:
        message = "Tool choice 'required' needs tools, and none were given."
        raise Rejection(400, None, message, "tool_choice")
    found = [(name, given) for name in offered for given in _mentions(name, text)]
    if choice in offered:
        found = [pair for pair in found if pair[0] == choice] or [(choice, None)]
    elif choice == "required" and not found:
        called = _called(request)
        uncalled = (name for name in offered if name not in called)
        found = [(next(uncalled, next(iter(offered))), None)]
    if request.parallel_tool_calls is False:
        del found[1:]
    return tuple(
        [_call(offered[name], given, text, draw, n) for n, (name, given) in enumerate(found)]
    )


def _called(request: ChatRequest) -> set[str]:
    """The tools that have been called since the last question."""
    since = takewhile(lambda message: message.role != "user", reversed(request.messages))
    return {call.name for message in since for call in message.tool_calls}


def _choice(given: str | Mapping[str, Any] | None) -> str:
    """`auto`, `none`, `required`, or the name of a tool."""
    if given is None or isinstance(given, str):
        return given or "auto"
    inner = given.get("function")
    holder = cast("Mapping[str, Any]", inner) if isinstance(inner, Mapping) else given
    name = holder.get("name")
    return name if isinstance(name, str) else str(given.get("mode", "auto"))


def _mentions(name: str, text: str) -> Iterator[str | None]:
    """For each call that a text asks for, the arguments that it gives, or None.

    A name that is mentioned several times without arguments is one call.
    """
    bare = 0
    given = 0
    for found in re.finditer(rf"(?<!\w){re.escape(name)}(?!\w)", text):
        arguments = _arguments(text, found.end())
        if arguments is None:
            bare += 1
        else:
            given += 1
            yield arguments
    if bare and not given:
        yield None


def _arguments(text: str, position: int) -> str | None:
    opening = re.compile(r"\s*\(\s*").match(text, position)
    if opening is None or not text.startswith("{", opening.end()):
        return None
    try:
        _, end = _DECODER.raw_decode(text, opening.end())
    except JSONDecodeError:
        return None
    return text[opening.end() : end]


def _call(tool: Tool, given: str | None, text: str, draw: Draw, number: int) -> ToolCall:
    what = f"call {number} {tool.name}"
    if given is None:
        made = sample(tool.parameters or {"type": "object"}, Draw.of(draw.word(what)), text)
        given = dumps(made, ensure_ascii=False, separators=(",", ":"))
    return ToolCall(f"call_{draw.word(what)}", tool.name, given)
