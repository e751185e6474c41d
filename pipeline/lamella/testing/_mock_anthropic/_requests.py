"""From a body of Anthropic's Messages API to the library's own request, and without loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from lamella._chat import ChatRequest
from lamella._messages import Message
from lamella._mock_rejections import Rejection
from lamella._nothing import NOTHING
from lamella._parts import Part, Text, ToolResult
from lamella.testing._mock_anthropic._blocks import MARK, BlockReader, check_mark
from lamella.testing._mock_anthropic._fields import (
    COUNTING,
    REQUEST,
    SAMPLING,
    Fields,
    checked,
    mapping,
    tag,
    wrong,
)
from lamella.testing._mock_anthropic._schemas import check_schema
from lamella.testing._mock_anthropic._tools import read_choice, read_tools
from lamella.testing._mock_openai._requests import JSON

NEWEST: Final = "2026-10-21"
"""The version of the API that took sampling away, and documents from the assistant's messages."""

VERSIONS: Final = ("2023-01-01", "2023-06-01", NEWEST)
OUTPUT_TOKENS: Final = 128_000
"""The most tokens that an answer may be allowed."""

_EFFORTS: Final = ("low", "medium", "high", "xhigh", "max")
_SHOWN: Final = {"display": "string?"}
_THINKING: Final[Mapping[str, Fields]] = {
    "enabled": {"budget_tokens": "integer", **_SHOWN},
    "adaptive": _SHOWN,
    "disabled": {},
    "between_tools": {},
}
_TIERS: Final = ("auto", "standard_only")
_KEPT: Final = (
    "cache_control", "container", "diagnostics", "inference_geo", "metadata", "speed", "thinking",
    "top_k", "user_profile_id",
)  # fmt: skip
"""What the library has no field for: it stays in the request's `extra` as it is."""


def read_anthropic(
    body: Any, *, version: str = NEWEST, beta: bool = False, counting: bool = False
) -> ChatRequest:
    """The request in a body of the Messages API.

    Only its shape is checked; what a conversation must be like is up to `check_conversation`.

    Args:
        body: What was sent.
        version: The version of the API that is spoken.
        beta: Whether betas are asked for, which may bring what nobody here knows.
        counting: Whether only its tokens are to be counted.

    Raises:
        Rejection: If a provider would not accept it.
    """
    sampling: Fields = SAMPLING if version < NEWEST and not counting else {}
    told = checked(body, {**(COUNTING if counting else REQUEST), **sampling}, "", loose=beta)
    reader = BlockReader(beta)
    check_mark(told.get(MARK), MARK)
    tools = read_tools(told.get("tools"), loose=beta)
    choice, parallel = read_choice(told.get("tool_choice"), tools)
    effort, shape = _output(told, loose=beta)
    _check_thinking(told, loose=beta)
    extra = {name: told[name] for name in _KEPT if told.get(name) is not None}
    extra |= {name: told[name] for name in told if name not in {*REQUEST, *SAMPLING}}
    others = _others(told.get("output_config"))
    if others:
        extra["output_config"] = others
    return ChatRequest(
        messages=[*_system(told.get("system"), reader), *_messages(told["messages"], reader)],
        model=told["model"],
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=parallel,
        response_format=shape,
        temperature=_sampled(told, "temperature"),
        top_p=_sampled(told, "top_p"),
        max_output_tokens=_limit(told.get("max_tokens")),
        stop=_stops(told.get("stop_sequences")),
        reasoning_effort=effort,
        service_tier=_one_of(told.get("service_tier"), _TIERS, "service_tier"),
        extra=extra or NOTHING,
    )


# --- the conversation --------------------------------------------------------------------------


def _system(given: Any, reader: BlockReader) -> list[Message]:
    if given is None:
        return []
    parts = reader.content(given, "system")
    if not all(isinstance(part, Text) for part in parts):
        raise wrong("system", "Input should be a valid string or a list of text blocks")
    return [Message("system", parts)] if parts else []


def _messages(given: list[Any], reader: BlockReader) -> list[Message]:
    if not given:
        raise wrong("messages", "at least one message is required")
    found: list[Message] = []
    for number, each in enumerate(given):
        where = f"messages.{number}"
        told = checked(each, {"role": "string", "content": "any"}, where, loose=reader.loose)
        role = told["role"]
        if role not in {"user", "assistant", "system"}:
            raise wrong(f"{where}.role", "Input should be 'user', 'assistant' or 'system'")
        parts = reader.content(told["content"], f"{where}.content")
        found.extend(_split(role, parts))
    return found


def _split(role: str, parts: tuple[Part, ...]) -> list[Message]:
    """A message as the library has it: each result of a tool is one of its own."""
    if role != "user":
        return [Message(role, parts)]
    found: list[Message] = []
    own: list[Part] = []
    for part in parts:
        if not isinstance(part, ToolResult):
            own.append(part)
            continue
        if own:
            found.append(Message("user", own))
            own = []
        found.append(Message("tool", part))
    if own or not found:
        found.append(Message("user", own))
    return found


# --- its options -------------------------------------------------------------------------------


def _output(told: JSON, *, loose: bool) -> tuple[str | None, JSON | None]:
    """How much effort, and the shape of the answer."""
    given = told.get("output_config")
    if given is None:
        return None, None
    config = checked(
        given, {"effort": "string?", "format": "object?"}, "output_config", loose=loose
    )
    effort = _one_of(config.get("effort"), _EFFORTS, "output_config.effort")
    shape = config.get("format")
    if shape is None:
        return effort, None
    tag(shape, {"json_schema": None}, "output_config.format")
    checked(shape, {"schema": "object"}, "output_config.format", loose=loose)
    check_schema(shape["schema"], "output_config.format.schema")
    inner = {"name": "response", "schema": shape["schema"], "strict": True}
    return effort, {"type": "json_schema", "json_schema": inner}


def _others(given: Any) -> JSON:
    config = cast("JSON", given or {})
    return {name: config[name] for name in config if name not in {"effort", "format"}}


def _check_thinking(told: JSON, *, loose: bool) -> None:
    given = told.get("thinking")
    if given is None:
        return
    thinking = mapping(given, "thinking")
    kind = tag(thinking, _THINKING, "thinking")
    checked(thinking, _THINKING[kind], f"thinking.{kind}", loose=loose)
    _one_of(thinking.get("display"), ("summarized", "omitted"), f"thinking.{kind}.display")
    forced = cast("JSON", told.get("tool_choice") or {}).get("type") in {"any", "tool"}
    if forced and kind in {"enabled", "adaptive"}:
        message = "Thinking may not be enabled when tool_choice forces tool use."
        raise Rejection(400, None, message)
    if kind == "enabled":
        _check_budget(told, thinking["budget_tokens"])


def _check_budget(told: JSON, budget: int) -> None:
    if budget < 1024:
        message = "Input should be greater than or equal to 1024"
        raise wrong("thinking.enabled.budget_tokens", message)
    limit = told.get("max_tokens")
    if limit is not None and limit <= budget:
        raise Rejection(400, None, "`max_tokens` must be greater than `thinking.budget_tokens`.")
    if told.get("temperature") not in {None, 1}:
        message = "`temperature` may only be set to 1 when thinking is enabled."
        raise Rejection(400, None, message)


def _limit(given: int | None) -> int | None:
    """The most tokens of the answer; none at all is asked for by 0, which only fills the cache."""
    if given is None or given == 0:
        return None
    if given < 0:
        raise wrong("max_tokens", "Input should be greater than or equal to 0")
    if given > OUTPUT_TOKENS:
        most = "the maximum allowed number of output tokens for this model"
        raise wrong("max_tokens", f"{given} > {OUTPUT_TOKENS}, which is {most}")
    return given


def _sampled(told: JSON, name: str) -> float | None:
    value: float | None = told.get(name)
    if value is not None and not 0 <= value <= 1:
        raise wrong(name, "Input should be between 0 and 1")
    return value


def _stops(given: list[Any] | None) -> tuple[str, ...]:
    for number, each in enumerate(given or ()):
        if not isinstance(each, str):
            raise wrong(f"stop_sequences.{number}", "Input should be a valid string")
        if not each.strip():
            message = "each stop sequence must contain non-whitespace"
            raise wrong("stop_sequences", message)
    return tuple(given or ())


def _one_of(given: Any, words: tuple[str, ...], where: str) -> Any:
    if given is not None and given not in words:
        raise wrong(where, f"Input should be {', '.join(repr(word) for word in words)}")
    return given
