"""What an OpenAI-style answer consumed, in disjoint parts.

Chat Completions counts `prompt_tokens` and `completion_tokens`, the Responses API `input_tokens`
and `output_tokens`; in both, the details (cached, written to the cache, audio, image, reasoning)
are *included* in those totals. Here each detail is taken out of its total and the text is what
remains, so that the parts always add up to the provider's totals. Details that cannot be true
(larger than their total) are cut down and the usage is flagged `estimated`: the answer was paid
for, so a strange count must not lose it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeAlias

import msgspec

from lamella._making import unfrozen
from lamella._nothing import NOTHING
from lamella._usage import Usage

_INPUT = ("prompt_tokens", "input_tokens")
_OUTPUT = ("completion_tokens", "output_tokens")
_INPUT_DETAILS = ("prompt_tokens_details", "input_tokens_details")
_OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details")
_CACHED = ("prompt_cache_hit_tokens", "cached_tokens")
"""Where DeepSeek and Moonshot put cached tokens: beside the totals, not in details."""

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0)] | None


class _InputDetails(msgspec.Struct, gc=False):
    cached_tokens: Count = None
    audio_tokens: Count = None
    image_tokens: Count = None
    cached_tokens_details: None = None
    cache_write_tokens: None = None
    cache_write_tokens_details: None = None


class _OutputDetails(msgspec.Struct, gc=False):
    reasoning_tokens: Count = None
    audio_tokens: Count = None
    image_tokens: Count = None


class ChatUsage(msgspec.Struct, gc=False):
    """What Chat Completions state as a rule. Fields that mean more, and are there, do not fit."""

    prompt_tokens: Annotated[int, msgspec.Meta(ge=0)]
    completion_tokens: Annotated[int, msgspec.Meta(ge=0)]
    total_tokens: Count = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None
    input_tokens_details: None = None
    output_tokens_details: None = None
    prompt_cache_hit_tokens: None = None
    cached_tokens: None = None
    num_search_queries: None = None
    server_tool_use: None = None
    cost: None = None
    cost_in_usd_ticks: None = None

    def usage(self) -> Usage | None:
        """The usage; None if its parts do not add up, which `usage_of` knows to make sense of."""
        uncached, text = self.prompt_tokens, self.completion_tokens
        if self.total_tokens is not None and self.total_tokens != uncached + text:
            return None
        cached = heard = seen = thought = spoken = drawn = 0
        inputs, outputs = self.prompt_tokens_details, self.completion_tokens_details
        if inputs is not None:
            cached, heard = inputs.cached_tokens or 0, inputs.audio_tokens or 0
            seen = inputs.image_tokens or 0
            uncached -= cached + heard + seen
        if outputs is not None:
            thought, spoken = outputs.reasoning_tokens or 0, outputs.audio_tokens or 0
            drawn = outputs.image_tokens or 0
            text -= thought + spoken + drawn
        if uncached < 0 or text < 0:
            return None
        new = object.__new__(_Usage)  # no count is below 0: there is nothing for Usage to check
        new.uncached_input, new.cache_read, new.cache_write = uncached, cached, NOTHING
        new.audio_input, new.image_input = heard, seen
        new.text_output, new.reasoning_output = text, thought
        new.audio_output, new.image_output = spoken, drawn
        new.tool_units, new.estimated = NOTHING, False
        new.__class__ = Usage
        return new  # type: ignore[no-any-return]


_Usage = unfrozen(Usage)
_LIFETIMES = {"ttl_30m_tokens": "30m", "ttl_12h_tokens": "12h", "ttl_5m_tokens": "5m"}


def usage_of(given: object, tool_units: Mapping[str, int] = NOTHING) -> Usage | None:
    """The usage that an answer states; None if it states none. Never raises.

    Where the stated total is larger than prompt and completion together, the provider left its
    reasoning out of the completion (xAI, Gemini): what is missing counts as reasoning.

    Args:
        given: The provider's `usage` object, of either API.
        tool_units: Units of hosted tools, counted by the caller.
    """
    if not isinstance(given, Mapping):
        return None
    if not tool_units:
        usage = _as_a_rule(given)  # pyright: ignore[reportUnknownArgumentType]
        if usage is not None:
            return usage
    stated: Mapping[str, Any] = given  # pyright: ignore[reportUnknownVariableType]
    prompt, answer = _count(stated, *_INPUT), _count(stated, *_OUTPUT)
    total = _count(stated, "total_tokens")
    if prompt is None and answer is None and total is None:
        return None
    doubt = any(value is not None and value < 0 for value in (prompt, answer, total))
    known = max(prompt or 0, 0), max(answer or 0, 0)
    surplus = 0 if total is None else total - sum(known)
    prompt_total, answer_total = known
    if prompt is None and surplus > 0:
        prompt_total, surplus = surplus, 0
    elif answer is None and surplus > 0:
        answer_total, surplus = surplus, 0
    if surplus < 0:
        doubt, surplus = True, 0
    inputs = _Rest(prompt_total)
    _take_inputs(inputs, stated)
    outputs = _Rest(answer_total + surplus)
    _take_outputs(outputs, stated, surplus)
    return Usage(
        uncached_input=inputs.left,
        text_output=outputs.left,
        **inputs.taken,
        **outputs.taken,
        tool_units={**_tool_units(stated), **tool_units} or NOTHING,
        estimated=doubt or inputs.doubt or outputs.doubt,
    )


def _as_a_rule(given: Mapping[str, Any]) -> Usage | None:
    """The usage of the common shape; None for others."""
    try:
        return msgspec.convert(given, ChatUsage).usage()
    except msgspec.ValidationError:
        return None


class _Rest:
    """A total from which details are taken; what is left is text."""

    def __init__(self, total: int) -> None:
        self.left = total
        self.doubt = False
        self.taken: dict[str, Any] = {}

    def take(self, count: int | None) -> int:
        """As much of `count` as the total still holds."""
        wanted = count or 0
        got = self.most(wanted)
        self.doubt = self.doubt or got != wanted
        return got

    def most(self, count: int) -> int:
        """Likewise, where less may well be meant: a cache may have served some of it."""
        got = min(max(count, 0), self.left)
        self.left -= got
        return got


def _take_inputs(inputs: _Rest, stated: Mapping[str, Any]) -> None:
    details = _details(stated, _INPUT_DETAILS)
    cached = _count(details, "cached_tokens")
    inputs.taken["cache_read"] = inputs.take(_count(stated, *_CACHED) if cached is None else cached)
    written: dict[str, int] = {}
    by_lifetime = _details(details, ("cache_write_tokens_details",))
    for name, lifetime in _LIFETIMES.items():
        if count := inputs.take(_count(by_lifetime, name)):
            written[lifetime] = count
    other = (_count(details, "cache_write_tokens") or 0) - sum(written.values())
    if other > 0 and (count := inputs.take(other)):
        written[""] = count
    inputs.taken["cache_write"] = written or NOTHING
    # What a cache served or keeps stands in these as well, unless they are said apart.
    from_cache = _details(details, ("cached_tokens_details",))
    left = inputs.left + inputs.taken["cache_read"] + sum(written.values())
    for part, name in (("audio_input", "audio_tokens"), ("image_input", "image_tokens")):
        count = _count(details, name) or 0
        left -= count
        inputs.doubt = inputs.doubt or count < 0 or left < 0
        inputs.taken[part] = inputs.most(count - (_count(from_cache, name) or 0))


def _take_outputs(outputs: _Rest, stated: Mapping[str, Any], surplus: int) -> None:
    details = _details(stated, _OUTPUT_DETAILS)
    reasoning = _count(details, "reasoning_tokens") or 0
    outputs.taken["reasoning_output"] = outputs.take(max(reasoning, surplus))
    outputs.taken["audio_output"] = outputs.take(_count(details, "audio_tokens"))
    outputs.taken["image_output"] = outputs.take(_count(details, "image_tokens"))


def _tool_units(stated: Mapping[str, Any]) -> dict[str, int]:
    """Searches that Perplexity and OpenRouter count beside the tokens."""
    searches = _count(stated, "num_search_queries")
    if searches is None:
        searches = _count(_details(stated, ("server_tool_use",)), "web_search_requests")
    return {"web_search": searches} if searches is not None and searches > 0 else {}


def _details(stated: Mapping[str, Any], names: Iterable[str]) -> Mapping[str, Any]:
    for name in names:
        found = stated.get(name)
        if isinstance(found, Mapping):
            return found  # pyright: ignore[reportUnknownVariableType]
    return NOTHING


def _count(stated: Mapping[str, Any], *names: str) -> int | None:
    """The first of `names` that holds a whole number."""
    for name in names:
        value = stated.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, float) and value.is_integer():
            return int(value)
    return None
