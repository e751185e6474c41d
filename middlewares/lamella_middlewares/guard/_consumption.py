"""Consumption: what one request may ask of a provider (OWASP LLM10, unbounded consumption)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypedDict, Unpack, cast

import attrs

from lamella import (
    ChatRequest,
    ConfigurationError,
    Image,
    Message,
    Request,
    Surface,
    ToolResult,
    map_texts,
)
from lamella_middlewares.guard._rules import Direction, Review, Rule, checked
from lamella_middlewares.guard._verdicts import Verdict, allow, block, change


class Bounds(TypedDict, total=False):
    """What `consumption` can bound; see there."""

    max_messages: int | None
    max_input_characters: int | None
    max_inputs: int | None
    max_tools: int | None
    max_images: int | None
    max_output_tokens: int | None
    max_answers: int | None


_LEAST: Final = dict.fromkeys(Bounds.__annotations__, 0) | {
    "max_output_tokens": 1,
    "max_answers": 1,
}


_ELSEWHERE: Final[Mapping[str, frozenset[str]]] = {
    "output_tokens": frozenset(
        {"max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens"}
        | {"max_new_tokens", "num_predict"}
    ),
    "answers": frozenset({"n", "best_of", "candidate_count", "candidateCount"}),
    "logprobs": frozenset(
        {"logprobs", "top_logprobs", "responseLogprobs", "response_logprobs", "prompt_logprobs"}
    ),
}
"""What providers call it: `extra` is written over the fields of a request."""


def consumption(
    *,
    require_max_output_tokens: bool = False,
    allow_logprobs: bool = True,
    name: str = "consumption",
    **bounds: Unpack[Bounds],
) -> Rule:
    """Bounds what one request asks for. None sets no bound; 0 allows none at all.

    Args:
        require_max_output_tokens: Whether a request must say how many tokens may be produced.
        allow_logprobs: Whether log probabilities may be asked for; they help to copy a model.
        name: See `Rule`.
        **bounds: `max_messages` of the conversation. `max_input_characters` of all texts together,
            those of tools included. `max_inputs` of an embedding or moderation request. `max_tools`
            that the model may call. `max_images`, those in tool results included.
            `max_output_tokens` that may be produced, 1 or more: a request that says nothing gets
            it, one that asks for more is lowered to it, one that asks for less keeps that.
            `max_answers` to one request (`n`), 1 or more.

    Raises:
        ConfigurationError: If an option is wrong, or nothing is bounded.
    """
    given: dict[str, int] = {}
    for option, value in bounds.items():
        low = _LEAST.get(option)
        if low is None:
            raise ConfigurationError(
                f"consumption() has no option {option!r}.", hint=f"There are {', '.join(_LEAST)}."
            )
        if value is None:
            continue
        if type(value) is not int or value < low:
            raise ConfigurationError(
                f"consumption({option}={value!r}): give a whole number, {low} or more, or None."
            )
        given[option] = value
    for option, flag in (
        ("require_max_output_tokens", require_max_output_tokens),
        ("allow_logprobs", allow_logprobs),
    ):
        if flag not in (True, False):
            raise ConfigurationError(f"consumption({option}={flag!r}): give True or False.")
    if not given and allow_logprobs and not require_max_output_tokens:
        raise ConfigurationError(
            "consumption() bounds nothing.", hint="Give it a limit, such as max_messages=200."
        )
    return checked(ConsumptionRule(name, given, require_max_output_tokens, allow_logprobs))


@attrs.frozen
class ConsumptionRule(Rule):
    """The rule that `consumption` makes."""

    name: str
    limits: dict[str, int] = attrs.field(hash=False)
    require_max_output_tokens: bool
    allow_logprobs: bool
    direction: Direction = "in"

    def review(self, review: Review, /) -> Verdict:
        """Count, and bound the output."""
        request, limits = review.request, self.limits
        for option, found in self._counts(request):
            most = limits[option]
            if found > most:
                kind = option.removeprefix("max_")
                return block("too_many", kinds=(kind,), most=most, found=found)
        if not isinstance(request, ChatRequest):
            return allow()
        if not self.allow_logprobs and (
            request.logprobs is not None or any(_in_extra(request.extra, "logprobs"))
        ):
            return block("not_allowed", kinds=("logprobs",))
        for kind in ("output_tokens", "answers"):
            limit = limits.get(f"max_{kind}")
            if limit is not None and any(one > limit for one in _in_extra(request.extra, kind)):
                return block("too_many", kinds=(kind,), most=limit)
        tokens = request.max_output_tokens
        if tokens is None and self.require_max_output_tokens:
            return block("not_bounded", kinds=("output_tokens",))
        bound = limits.get("max_output_tokens")
        if bound is None or (tokens is not None and tokens <= bound):
            return allow()
        changed = request.evolve(max_output_tokens=bound)
        return change(changed, "bounded", kinds=("output_tokens",), most=bound)

    def _counts(self, request: Request[Any]) -> Iterable[tuple[str, int]]:
        """What is bounded, and how much there is; the cheapest first."""
        limits = self.limits
        if isinstance(request, ChatRequest):
            if "max_messages" in limits:
                yield "max_messages", len(request.messages)
            if "max_tools" in limits:
                yield "max_tools", len(request.tools)
            if "max_answers" in limits:
                yield "max_answers", request.n or 1
            if "max_images" in limits:
                yield "max_images", _images(request.messages)
        if "max_inputs" in limits:
            yield "max_inputs", len(getattr(request, "inputs", ()))
        if "max_input_characters" in limits:
            yield "max_input_characters", _characters(request)


def _in_extra(extra: object, kind: str) -> Iterator[float]:
    """The numbers that stand in `extra` under one of a bound's names, however deep."""
    if isinstance(extra, Mapping):
        for key, value in cast("Mapping[object, object]", extra).items():
            if key in _ELSEWHERE[kind] and isinstance(value, int | float):
                yield value
            else:
                yield from _in_extra(value, kind)
    elif isinstance(extra, list | tuple):
        for item in cast("Iterable[object]", extra):
            yield from _in_extra(item, kind)


def _images(messages: Iterable[Message]) -> int:
    count = 0
    for message in messages:
        for part in message.parts:
            within = part.content if isinstance(part, ToolResult) else (part,)
            count += sum(isinstance(one, Image) for one in within)
    return count


def _characters(request: Request[Any]) -> int:
    count = 0

    def add(text: str, _: Surface) -> str:
        nonlocal count
        count += len(text)
        return text

    map_texts(request, add)
    return count
