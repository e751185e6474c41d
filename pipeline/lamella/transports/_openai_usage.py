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
from typing import Any, cast

import msgspec

from lamella._chat import ChatRequest
from lamella._nothing import NOTHING
from lamella._parts import (
    Audio,
    File,
    Image,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from lamella._tools import Tool
from lamella._usage import Usage

_INPUT = ("prompt_tokens", "input_tokens")
_OUTPUT = ("completion_tokens", "output_tokens")
_INPUT_DETAILS = ("prompt_tokens_details", "input_tokens_details")
_OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details")
_CACHED = ("prompt_cache_hit_tokens", "cached_tokens")
"""Where DeepSeek and Moonshot put cached tokens: beside the totals, not in details."""

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


class _Rest:
    """A total from which details are taken; what is left is text."""

    def __init__(self, total: int) -> None:
        self.left = total
        self.doubt = False
        self.taken: dict[str, Any] = {}

    def take(self, count: int | None) -> int:
        """As much of `count` as the total still holds."""
        wanted = count or 0
        got = min(max(wanted, 0), self.left)
        self.doubt = self.doubt or got != wanted
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
    inputs.taken["audio_input"] = inputs.take(_count(details, "audio_tokens"))
    inputs.taken["image_input"] = inputs.take(_count(details, "image_tokens"))


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


# --- where nothing is stated -----------------------------------------------------------------

BYTES_PER_TOKEN = 2
IMAGE_TOKENS = 1_000
SOUND_BYTES_PER_TOKEN = 400
DOCUMENT_BYTES_PER_TOKEN = 20
MESSAGE_TOKENS = 4


def estimated_tokens(pieces: Iterable[str]) -> int:
    """More tokens than texts are likely to have.

    One token for every two bytes of UTF-8, each piece rounded up. Byte-pair tokenizers give English
    prose 4 to 5 bytes a token, code and JSON about 3, Chinese and Japanese about 3, base64 about 2;
    and a streamed piece is at least one token. Only text of single symbols or digits can have more.
    """
    return sum([-(-len(piece.encode(errors="replace")) // BYTES_PER_TOKEN) for piece in pieces])


def estimated_usage(
    request: object,
    texts: Iterable[str],
    thoughts: Iterable[str] = (),
    *,
    sound_bytes: int = 0,
    tool_units: Mapping[str, int] = NOTHING,
) -> Usage:
    """The usage of an answer whose provider stated none, flagged `estimated`; errs upwards.

    Prompt and answer are counted with `estimated_tokens`. A message adds 4 tokens, an image 1,000,
    sound one for every 400 bytes, a document one for every 20 bytes.

    Args:
        request: What was asked; only a `ChatRequest` is counted.
        texts: The pieces of text, refusals and tool calls that were delivered.
        thoughts: The pieces of reasoning that were delivered.
        sound_bytes: How much sound was delivered.
        tool_units: Units of hosted tools.
    """
    prompt = _request_tokens(request) if isinstance(request, ChatRequest) else 0
    return Usage(
        uncached_input=prompt,
        text_output=estimated_tokens(texts),
        reasoning_output=estimated_tokens(thoughts),
        audio_output=-(-sound_bytes // SOUND_BYTES_PER_TOKEN),
        tool_units=tool_units,
        estimated=True,
    )


def _request_tokens(request: ChatRequest) -> int:
    tools = [tool.to_dict() if isinstance(tool, Tool) else tool.data for tool in request.tools]
    total = _json_tokens(tools) if tools else 0
    if request.response_format is not None:
        total += _json_tokens(request.response_format)
    for message in request.messages:
        total += MESSAGE_TOKENS + sum([_part_tokens(part) for part in message.parts])
    return total


def _part_tokens(part: Part) -> int:
    match part:
        case Text() | Refusal() | Reasoning():
            return estimated_tokens((part.text,))
        case ToolCall():
            return estimated_tokens((part.name, part.arguments))
        case ToolResult():
            return sum([_part_tokens(inner) for inner in part.content])
        case Image():
            return IMAGE_TOKENS
        case Audio():
            sound = -(-len(part.data or b"") // SOUND_BYTES_PER_TOKEN)
            return max(sound, estimated_tokens((part.transcript or "",)))
        case File():
            return -(-len(part.data or b"") // DOCUMENT_BYTES_PER_TOKEN)
        case Opaque():
            return _json_tokens(part.data)


def _json_tokens(value: object) -> int:
    size = len(msgspec.json.encode(value, enc_hook=_plain))
    return -(-size // BYTES_PER_TOKEN)


def _plain(value: object) -> object:
    """What of a request's JSON msgspec does not know: a mapping that is no dict."""
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, Any]", value))
    return repr(value)
