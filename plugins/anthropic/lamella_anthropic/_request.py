"""The Messages API: how a request is written.

What the API has no words for is refused before the network; what no more than advises is left out
with a note in the trace. How a model is asked to think is its card's business: without a card the
newest way is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeGuard, cast

from lamella._chat import ChatRequest
from lamella._errors import UnsupportedError
from lamella._parts import Opaque
from lamella._requests import Request
from lamella._tools import Tool
from lamella.transports._closed_schemas import closed_schema
from lamella.transports._dialect import JSON, DialectOptions
from lamella.transports._losses import Losses
from lamella.transports._stable_tools import Tools, written_tools
from lamella.transports._wire_json import is_object
from lamella.transports._wire_parts import chosen_tool, merge_extra, unsupported
from lamella_anthropic._effort import add_effort, no_words
from lamella_anthropic._turns import Conversation

DEFAULT_MAX_TOKENS: Final = 8_192
"""The bound on output, which the API demands, where neither request, transport nor card has one."""

HEADERS: Final[Mapping[str, str]] = {
    "betas": "anthropic-beta",
    "workspace_id": "anthropic-workspace-id",
    "user_profile_id": "anthropic-user-profile-id",
}
"""What of `extra` goes into a header, as the official client's parameters of these names do."""

COUNTED: Final = frozenset(
    {
        "model", "messages", "system", "tools", "tool_choice", "thinking", "output_config",
        "cache_control", "speed", "billing_policy", "compaction", "context_management",
        "mcp_servers",
    }
)  # fmt: skip
"""What a request to count tokens may hold."""

_UNKNOWN: Final[Mapping[str, str]] = {
    "seed": "Leave it out: Claude's sampling cannot be repeated.",
    "presence_penalty": "Leave it out, or ask for variety in the words of the prompt.",
    "frequency_penalty": "Leave it out, or ask for variety in the words of the prompt.",
    "logprobs": "Leave it out, or choose a provider that gives log probabilities.",
}
_SAMPLING: Final = ("temperature", "top_p")
_NO_SAMPLING: Final = "the API has had no such word since version 2026-10-21"
_JOINED: Final = ("output_config", "metadata")


def chat_body(
    request: ChatRequest, *, stream: bool, options: DialectOptions, provider: str, origin: str
) -> JSON:
    """The body of a request for an answer.

    Args:
        request: What is asked.
        stream: Whether the answer is to be streamed.
        options: The endpoint's quirks; among them `max_output_tokens`, the bound on output of
            requests that have none, and `sampling`, whether it takes `temperature` and `top_p`.
        provider: Who is asked: the transport's name.
        origin: How parts that came from this API are marked.

    Raises:
        UnsupportedError: If the API has no words for a part or a value.
    """
    _refuse_unknown(request, provider)
    losses = Losses(
        provider, origin=origin, refuse_foreign=options.refuse_foreign, cache_marks=True
    )
    body: JSON = {"model": request.model, "max_tokens": _max_tokens(request, options)}
    _add_conversation(body, request, options, provider, losses)
    _add_sampling(body, request, options, losses)
    if request.service_tier is not None:
        body["service_tier"] = request.service_tier
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    if request.tools or request.tool_choice is not None:
        _add_tools(body, request, provider, losses)
    if request.response_format is not None:
        _add_format(body, request.response_format, provider, losses)
    if request.reasoning_effort is not None:
        add_effort(body, request.reasoning_effort, options.card, provider, losses)
    if options.send_user and request.context.user is not None:
        body["metadata"] = {"user_id": request.context.user}
    if stream:
        body["stream"] = True
    if request.extra:
        _merge_extra(body, request, provider)
    losses.declare(request)
    return body


def count_body(
    request: ChatRequest, *, options: DialectOptions, provider: str, origin: str
) -> JSON:
    """The body of a request to count a conversation's tokens: what of it makes tokens.

    Raises:
        UnsupportedError: If the API has no words for a part or a value.
    """
    counted = request.evolve(n=None, **dict.fromkeys((*_UNKNOWN, *_SAMPLING)))
    body = chat_body(counted, stream=False, options=options, provider=provider, origin=origin)
    return {name: value for name, value in body.items() if name in COUNTED}


def headers_of(request: Request[Any], betas: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """The headers that come of a transport's betas and of a request's `extra`.

    Raises:
        UnsupportedError: If they are no text, or `betas` no list of it.
    """
    extra = request.extra
    found: list[tuple[str, str]] = []
    given = extra.get("betas") or ()
    if not _are_texts(given):
        hint = "Give a list of names: extra={'betas': ['files-api-2025-04-14']}."
        raise no_words("extra['betas']", hint)
    joined = tuple(dict.fromkeys((*betas, *given)))
    if joined:
        found.append((HEADERS["betas"], ",".join(joined)))
    for name in ("workspace_id", "user_profile_id"):
        value = extra.get(name)
        if value is None:
            continue
        if not isinstance(value, str):
            raise no_words(f"extra[{name!r}]", "Give it as text.")
        found.append((HEADERS[name], value))
    return tuple(found)


def _are_texts(given: Any) -> TypeGuard[Sequence[str]]:
    return isinstance(given, list | tuple) and all(isinstance(each, str) for each in given)  # pyright: ignore[reportUnknownVariableType]


def _add_conversation(
    body: JSON, request: ChatRequest, options: DialectOptions, provider: str, losses: Losses
) -> None:
    card = options.card
    conversation = Conversation(
        request.messages,
        provider=provider,
        losses=losses,
        late_system=card is None or "x-late-system" in card.capabilities,
    )
    if conversation.system is not None:
        body["system"] = conversation.system
    body["messages"] = conversation.turns


def _add_sampling(
    body: JSON, request: ChatRequest, options: DialectOptions, losses: Losses
) -> None:
    taken = options.quirks.get("sampling", False)
    for name in _SAMPLING:
        value = getattr(request, name)
        if value is None:
            continue
        if taken:
            body[name] = value
        else:
            losses.add(name, _NO_SAMPLING)


def _max_tokens(request: ChatRequest, options: DialectOptions) -> int:
    stated = request.max_output_tokens or options.quirks.get("max_output_tokens")
    if stated is None and options.card is not None:
        stated = options.card.max_output_tokens
    return stated or DEFAULT_MAX_TOKENS


def _refuse_unknown(request: ChatRequest, provider: str) -> None:
    for name, hint in _UNKNOWN.items():
        if getattr(request, name) is not None:
            raise no_words(f"`{name}`", hint, provider)
    if request.n is not None and request.n != 1:
        hint = "Ask several times: the API gives one answer to a request."
        raise no_words("`n`", hint, provider)


# --- tools -----------------------------------------------------------------------------------


def _add_tools(body: JSON, request: ChatRequest, provider: str, losses: Losses) -> None:
    if request.tools:
        write = partial(_tools, provider)
        body["tools"] = written_tools(request.tools, write, losses, api="anthropic")
    choice = _tool_choice(request, provider)
    if request.parallel_tool_calls is False and (choice or {}).get("type") != "none":
        choice = {"type": "auto", **(choice or {})}
        choice.setdefault("disable_parallel_tool_use", True)
    if choice is not None:
        body["tool_choice"] = choice


def _tools(provider: str, tools: Tools, losses: Losses) -> list[Any]:
    return [
        _tool(tool, provider, losses) if isinstance(tool, Tool) else _hosted(tool, provider, losses)
        for tool in tools
    ]


def _tool(tool: Tool, provider: str, losses: Losses) -> JSON:
    written: JSON = {"name": tool.name}
    if tool.description:
        written["description"] = tool.description
    schema: JSON = {"type": "object", **tool.parameters}
    if tool.strict:
        schema = closed_schema(schema, losses, "Tool.parameters", provider=provider)
    written["input_schema"] = schema
    if tool.strict is not None:
        written["strict"] = tool.strict
    if tool.extra:
        extra = dict(losses.own(tool.extra, "Tool"))
        inner = extra.pop("function", None)  # what an OpenAI-style dict said of the function
        written.update(inner if is_object(inner) else {})
        written.update(extra)
    return written


def _hosted(tool: Opaque, provider: str, losses: Losses) -> Mapping[str, Any]:
    """A tool of the API's own, as it was given."""
    if not losses.is_own(tool):
        hint = "Take it out of the request, or send the request to the provider that has it."
        what = f"A tool of {tool.provider!r}"
        raise unsupported(what, f"to {provider!r}", hint, provider=provider)
    if is_object(tool.data.get("custom")):
        hint = "The Messages API has tools with JSON arguments only: give a Tool with a schema."
        raise unsupported("A tool of kind 'custom'", "to Claude", hint, provider=provider)
    return tool.data


def _tool_choice(request: ChatRequest, provider: str) -> JSON | None:
    choice = request.tool_choice
    if choice is None:
        return None
    if not isinstance(choice, str):
        return dict(choice)
    if choice in {"auto", "none"}:
        return {"type": choice}
    if choice == "required":
        return {"type": "any"}
    kind, name = chosen_tool(request, choice, provider=provider)
    if not name:  # a hosted tool, chosen by its kind
        named = (
            tool.data.get("name")
            for tool in request.tools
            if isinstance(tool, Opaque) and tool.data.get("type") == kind
        )
        name = str(next(named, None) or kind)
    return {"type": "tool", "name": name}


# --- the shape of the answer, and what is added verbatim -------------------------------------


def _add_format(body: JSON, given: Mapping[str, Any], provider: str, losses: Losses) -> None:
    kind = given.get("type")
    if kind == "text":
        return
    nested = given.get("json_schema")
    described: Mapping[str, Any] = nested if isinstance(nested, Mapping) else given  # pyright: ignore[reportUnknownVariableType]
    schema: Any = described.get("schema")
    if kind != "json_schema" or not isinstance(schema, Mapping):
        hint = "Give a schema: {'type': 'json_schema', 'json_schema': {'schema': {...}}}."
        raise no_words(f"A `response_format` of type {kind!r}", hint, provider)
    if described.get("description"):  # its name is a label for APIs that want one
        losses.add("response_format.description", "this API takes a schema alone")
    if described.get("strict") is False:
        losses.add("response_format.strict", "this API always holds the answer to the schema")
    output: JSON = body.setdefault("output_config", {})
    closed = closed_schema(
        cast("Mapping[str, Any]", schema), losses, "response_format", provider=provider
    )
    output["format"] = {"type": "json_schema", "schema": closed}


def _merge_extra(body: JSON, request: ChatRequest, provider: str) -> None:
    extra = {name: value for name, value in request.extra.items() if name not in HEADERS}
    if "system" in extra:
        raise UnsupportedError(
            "`extra` may not hold 'system': layers go by the request's own messages.",
            hint="Instead, begin `messages` with Message.system(...).",
            code="unsupported_parameter",
            provider=provider,
        )
    for name in _JOINED:
        before: Any = body.get(name)
        if is_object(before) and is_object(extra.get(name)):
            extra[name] = {**before, **extra[name]}
    merge_extra(body, request.evolve(extra=extra), provider=provider)
