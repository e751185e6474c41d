"""Ollama's chat: how a request is written.

What the API has no words for is refused before the network; what no more than advises is left out
with a note in the trace.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final, NoReturn

from lamella._chat import ChatRequest
from lamella._errors import UnsupportedError
from lamella._parameter_rules import ParameterRule, RuleBook
from lamella._tools import Tool
from lamella.transports._dialect import JSON, DialectOptions
from lamella.transports._losses import Losses
from lamella.transports._stable_tools import Tools, written_tools
from lamella.transports._wire_json import is_object
from lamella.transports._wire_parts import unsupported
from lamella_ollama._defaults import ORIGIN, Defaults, merge_own
from lamella_ollama._messages import Conversation

OPTIONS: Final[Mapping[str, str]] = {
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "max_output_tokens": "num_predict",
}
"""What stands among the model's options, by our names."""

MOST_LOGPROBS: Final = 20
_LEVELS: Final = ("low", "medium", "high", "max")

RULES: Final = RuleBook(
    "Ollama's server",
    (
        ParameterRule(
            "reasoning_effort",
            "replace",
            apis=frozenset({"chat"}),
            replacements={"minimal": "low", "xhigh": "max", "ultra": "max"},
        ),
        ParameterRule(
            "parallel_tool_calls",
            "drop",
            apis=frozenset({"chat"}),
            when={"parallel_tool_calls": (False,)},
            hint="the server has no such switch",
        ),
        ParameterRule(
            "service_tier",
            "drop",
            apis=frozenset({"chat"}),
            hint="the server has no classes of service",
        ),
    ),
)
"""What becomes of parameters that only advise. The efforts are the server's own equivalents."""


def chat_body(
    request: ChatRequest,
    *,
    stream: bool,
    options: DialectOptions,
    provider: str,
    defaults: Defaults,
) -> JSON:
    """The body of a request for an answer.

    Args:
        request: What is asked.
        stream: Whether the answer is to be streamed. It is always said: the server's way is to.
        options: The endpoint's quirks.
        provider: Who is asked: the transport's name.
        defaults: What goes with every request.

    Raises:
        UnsupportedError: If the API has no words for a part or a value.
    """
    _refuse_unknown(request, provider)
    losses = Losses(provider, origin=ORIGIN, refuse_foreign=options.refuse_foreign)
    conversation = Conversation(request.messages, provider=provider, losses=losses)
    body: JSON = {
        "model": request.model,
        "messages": conversation.turns,
        "stream": stream,
        **defaults.fields,
    }
    _add_options(body, request, defaults)
    if request.tools or request.tool_choice is not None:
        _add_tools(body, request, provider, losses)
    if request.response_format is not None:
        _add_format(body, request.response_format, provider, losses)
    if request.reasoning_effort is not None:
        body["think"] = _think(request.reasoning_effort, provider)
    if request.logprobs is not None:
        body["logprobs"] = True
        if request.logprobs:
            body["top_logprobs"] = request.logprobs
    if request.extra:
        merge_own(body, request, provider=provider)
    losses.declare(request)
    return body


def _add_options(body: JSON, request: ChatRequest, defaults: Defaults) -> None:
    given = request.__dict__
    found: JSON = dict(defaults.options)
    for ours, theirs in OPTIONS.items():
        value = given[ours]
        if value is not None:
            found[theirs] = value
    if request.stop:
        found["stop"] = list(request.stop)
    if found:
        body["options"] = found


def _refuse_unknown(request: ChatRequest, provider: str) -> None:
    if request.n is not None and request.n != 1:
        _refuse("`n`", "Ask several times: the API gives one answer to a request.", provider)
    if request.service_tier is not None:
        _refuse("`service_tier`", "Leave it out: there are no classes of service.", provider)
    if request.parallel_tool_calls is False:
        hint = "Leave it out, and answer the calls one after the other."
        _refuse("`parallel_tool_calls=False`", hint, provider)
    if request.logprobs is not None and request.logprobs > MOST_LOGPROBS:
        hint = f"Ask for {MOST_LOGPROBS} alternatives at most."
        _refuse(f"`logprobs={request.logprobs}`", hint, provider)


def _add_tools(body: JSON, request: ChatRequest, provider: str, losses: Losses) -> None:
    choice = request.tool_choice
    if choice == "none":
        if request.tools:
            losses.add("tool_choice", "this API has no such word: the tools are left out instead")
        return
    if choice is not None and choice != "auto":
        named = "a dict" if isinstance(choice, Mapping) else repr(choice)
        hint = (
            "Leave it out: ask for the tool in the words of the prompt, and give no other tool. "
            "Where Structured(mode='tool') has set it, take mode='auto'."
        )
        _refuse(f"`tool_choice` as {named}", hint, provider)
    if request.tools:
        write = partial(_tools, provider)
        body["tools"] = written_tools(request.tools, write, losses, api="ollama")


def _tools(provider: str, tools: Tools, losses: Losses) -> list[Any]:
    return [_tool(tool, losses) if isinstance(tool, Tool) else _no_tool(provider) for tool in tools]


def _tool(tool: Tool, losses: Losses) -> JSON:
    function: JSON = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = {"type": "object", "properties": {}, **tool.parameters}
    if tool.strict:
        losses.add("Tool.strict", "this API does not hold arguments to their schema")
    extra = dict(losses.own(tool.extra, "Tool")) if tool.extra else {}
    inner: Any = extra.pop("function", None)
    if is_object(inner):
        function.update(inner)
    return {"type": "function", "function": function, **extra}


def _no_tool(provider: str) -> NoReturn:
    raise unsupported(
        "A tool that is no function",
        "to Ollama",
        "It has no tools of its own, and none with free text: give a Tool with a schema.",
        provider=provider,
    )


def _add_format(body: JSON, given: Mapping[str, Any], provider: str, losses: Losses) -> None:
    kind = given.get("type")
    if kind == "text":
        return
    if kind == "json_object":
        body["format"] = "json"
        return
    nested = given.get("json_schema")
    described: Mapping[str, Any] = nested if isinstance(nested, Mapping) else given  # pyright: ignore[reportUnknownVariableType]
    schema: Any = described.get("schema")
    if kind != "json_schema" or not isinstance(schema, Mapping):
        hint = "Give a schema: {'type': 'json_schema', 'json_schema': {'schema': {...}}}."
        _refuse(f"A `response_format` of type {kind!r}", hint, provider)
    if described.get("description"):  # its name is a label for APIs that want one
        losses.add("response_format.description", "this API takes a schema alone")
    if described.get("strict") is False:
        losses.add("response_format.strict", "this API always holds the answer to the schema")
    body["format"] = schema


def _think(effort: str, provider: str) -> bool | str:
    if effort == "none":
        return False
    if effort not in _LEVELS:
        known = ", ".join(map(repr, _LEVELS))
        hint = f"Use 'none' or one of {known}; extra={{'think': True}} leaves it to the model."
        _refuse(f"`reasoning_effort={effort!r}`", hint, provider)
    return effort


def _refuse(what: str, hint: str, provider: str) -> NoReturn:
    raise UnsupportedError(
        f"{what} cannot be said in Ollama's API.",
        hint=hint,
        code="unsupported_parameter",
        provider=provider,
    )
