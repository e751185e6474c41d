"""How a chat request is written: `generateContent` of both of Google's APIs.

What the API has no words for is refused before the network. Left out with a note in the trace are
marks for prompt caches (Google's caches are resources of their own, named by `cachedContent`),
`Tool.strict`, names of files, and what only another provider understands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lamella._chat import ChatRequest
from lamella._errors import UnsupportedError
from lamella.transports._dialect import JSON, DialectOptions
from lamella.transports._losses import Losses
from lamella.transports._wire_json import is_object
from lamella_google._contents import Target, write_conversation
from lamella_google._tools import add_tools

THINKING_LEVEL: Final = "x-thinking-level"
THINKING_BUDGET: Final = "x-thinking-budget"
"""What a card says of how thinking is asked for. A model without a card is taken for a new one."""

_BUDGETS: Final = {"none": 0, "minimal": 512, "low": 1_024, "medium": 8_192, "high": 24_576}
"""Tokens of thinking by effort, as Google's own compatible endpoint has them for the models that
take a budget (`minimal` is the least that all of them take)."""

_CONFIG: Final = {
    "temperature": "temperature",
    "top_p": "topP",
    "max_output_tokens": "maxOutputTokens",
    "n": "candidateCount",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
_TIERS: Final = {"default": "standard", "auto": None}
_RESERVED: Final = {
    "model": "set `model` on the request",
    "stream": "use `pipeline.stream(request)` or `pipeline.run(request)`",
    "messages": "set `messages` on the request",
    "contents": "set `messages` on the request",
    "systeminstruction": "put a system message first",
    "content": "set `inputs` on the request",
    "requests": "set `inputs` on the request",
    "instances": "set `inputs` on the request",
}


def chat_body(
    request: ChatRequest, options: DialectOptions, *, provider: str, vertex: bool
) -> JSON:
    """The body of a chat request.

    Raises:
        UnsupportedError: If the API has no words for a part or a value.
    """
    losses = Losses(provider, refuse_foreign=options.refuse_foreign)
    card = options.card
    by_level = card is None or THINKING_BUDGET not in card.capabilities
    signs = card is None or THINKING_LEVEL in card.capabilities
    target = Target(provider=provider, vertex=vertex, signs=signs)
    body = write_conversation(request, target, losses)
    if request.tools or request.tool_choice is not None or request.parallel_tool_calls is False:
        add_tools(body, request, losses, provider=provider)
    config = _config(request, provider)
    thinking = _thinking(request.reasoning_effort, by_level=by_level, provider=provider)
    shown = options.quirks.get("thoughts")
    if shown or (shown is None and thinking and request.reasoning_effort != "none"):
        thinking["includeThoughts"] = True
    if thinking:
        config["thinkingConfig"] = thinking
    if config:
        body["generationConfig"] = config
    if request.service_tier is not None:
        tier = _TIERS.get(request.service_tier, request.service_tier)
        if tier is not None:
            body["serviceTier"] = tier
    if options.send_user and request.context.user is not None:
        losses.add("context.user", "this API has no field for the end user")
    merge_extra(body, request.extra, provider=provider)
    losses.declare(request)
    return body


def merge_extra(body: JSON, extra: Mapping[str, Any], *, provider: str) -> None:
    """Add `request.extra` to a body, last, so that it wins over typed fields.

    Objects are joined with what is there already: `{"generationConfig": {"topK": 40}}` adds one
    field. What would pass by layers that look at the request is refused, in either spelling.

    Raises:
        UnsupportedError: If it holds a field that layers go by.
    """
    for name, value in extra.items():
        instead = _RESERVED.get(name.replace("_", "").lower())
        if instead is not None:
            raise UnsupportedError(
                f"`extra` may not hold {name!r}: layers go by the request's own field.",
                hint=f"Instead, {instead}.",
                code="unsupported_parameter",
                provider=provider,
            )
        body[name] = _joined(body.get(name), value)


def _joined(before: Any, value: Any) -> Any:
    if not (is_object(before) and isinstance(value, Mapping)):
        return value
    joined = dict(before)
    for name, inner in value.items():  # pyright: ignore[reportUnknownVariableType]
        joined[name] = _joined(joined.get(name), inner)  # pyright: ignore[reportUnknownArgumentType]
    return joined


def _config(request: ChatRequest, provider: str) -> JSON:
    given = request.__dict__
    config: JSON = {wire: given[ours] for ours, wire in _CONFIG.items() if given[ours] is not None}
    if request.stop:
        config["stopSequences"] = list(request.stop)
    if request.logprobs is not None:
        config["responseLogprobs"] = True
        if request.logprobs:
            config["logprobs"] = request.logprobs
    if request.response_format is not None:
        config.update(_format(request.response_format, provider))
    return config


def _format(given: Mapping[str, Any], provider: str) -> JSON:
    kind = given.get("type")
    if kind == "text":
        return {}
    if kind == "json_object":
        return {"responseMimeType": "application/json"}
    inner = given.get("json_schema")
    if kind == "json_schema" and isinstance(inner, Mapping):
        schema: Any = inner.get("schema")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        asked: JSON = {"responseMimeType": "application/json"}
        return asked if schema is None else {**asked, "responseJsonSchema": schema}
    raise UnsupportedError(
        f"Google has no response_format of type {kind!r}.",
        hint="Use 'json_schema' or 'json_object'; other forms go by extra['generationConfig'].",
        code="unsupported_value",
        provider=provider,
    )


def _thinking(effort: str | None, *, by_level: bool, provider: str) -> JSON:
    if effort is None:
        return {}
    if by_level and effort != "none":
        return {"thinkingLevel": effort.upper()}
    if not by_level and effort in _BUDGETS:
        return {"thinkingBudget": _BUDGETS[effort]}
    known = "'minimal', 'low', 'medium' or 'high'" if by_level else ", ".join(map(repr, _BUDGETS))
    raise UnsupportedError(
        f"This model has no reasoning_effort {effort!r}.",
        hint=f"Use {known}, or extra['generationConfig']['thinkingConfig'].",
        code="unsupported_value",
        provider=provider,
    )
