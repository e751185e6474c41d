"""What an answer of Google's consumed, in disjoint parts.

`totalTokenCount` is the sum of `promptTokenCount`, `toolUsePromptTokenCount` (what hosted tools
brought, read as input), `candidatesTokenCount` and `thoughtsTokenCount`. The prompt includes what a
cache served; the candidates do not include the thoughts. Details by modality are parts of each.
Video counts as images, documents as text. Fields whose value is zero are left out on the wire.

What cannot be true (more cached than there was) is cut down and the usage flagged `estimated`: the
answer was paid for, so that a strange count must not lose it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lamella._nothing import NOTHING
from lamella._usage import Usage
from lamella.transports._wire_json import is_object, objects_of, text_of

_MOST_DIGITS = 16
_PARTS = {"AUDIO": "audio", "IMAGE": "image", "VIDEO": "image"}


def usage_of(given: object, tool_units: Mapping[str, int] = NOTHING) -> Usage | None:
    """The usage that an answer states; None if it states none. Never raises.

    Args:
        given: The provider's `usageMetadata` object.
        tool_units: Units of hosted tools, counted by the caller.
    """
    if not is_object(given):
        return None
    prompt, tools = _count(given, "promptTokenCount"), _count(given, "toolUsePromptTokenCount")
    answer = _count(given, "candidatesTokenCount")
    thoughts, total = _count(given, "thoughtsTokenCount"), _count(given, "totalTokenCount")
    stated = (prompt, tools, answer, thoughts, total)
    if all(value is None for value in stated):
        return None
    doubt = any(value is not None and value < 0 for value in stated)
    parts = [max(value or 0, 0) for value in (prompt, tools, answer, thoughts)]
    surplus = 0 if total is None else total - sum(parts)
    if surplus > 0:  # what one of the parts must have been that is not stated
        parts[0 if prompt is None else 2 if answer is None and thoughts is None else 3] += surplus
    doubt = doubt or surplus < 0 or (surplus > 0 and None not in (prompt, answer, thoughts))
    inputs, outputs = _Rest(parts[0] + parts[1]), _Rest(parts[2])
    cached = inputs.take(_count(given, "cachedContentTokenCount") or 0)
    read = _modalities(given, "promptTokensDetails")
    from_cache = _modalities(given, "cacheTokensDetails")
    by_tools = _modalities(given, "toolUsePromptTokensDetails")
    written = _modalities(given, "candidatesTokensDetails")
    heard, seen = (
        inputs.most(max(read.get(kind, 0) - from_cache.get(kind, 0), 0) + by_tools.get(kind, 0))
        for kind in ("audio", "image")
    )
    spoken, drawn = outputs.take(written.get("audio", 0)), outputs.take(written.get("image", 0))
    return Usage(
        uncached_input=inputs.left,
        cache_read=cached,
        audio_input=heard,
        image_input=seen,
        text_output=outputs.left,
        reasoning_output=parts[3],
        audio_output=spoken,
        image_output=drawn,
        tool_units=tool_units,
        estimated=doubt or inputs.doubt or outputs.doubt,
    )


def service_of(given: object) -> str | None:
    """The class of service that an answer was given, in the words of the model cards.

    Gemini states it as `serviceTier`, Vertex AI as `trafficType`: `ON_DEMAND_FLEX`, or
    `PROVISIONED_THROUGHPUT`, which is not billed by the token.

    Args:
        given: As for `usage_of`.
    """
    if not is_object(given):
        return None
    traffic = text_of(given, "trafficType")
    if traffic is None or traffic == "TRAFFIC_TYPE_UNSPECIFIED":
        return text_of(given, "serviceTier")
    return traffic.lower().removeprefix("on_demand_")


class _Rest:
    """A total from which details are taken; what is left is text."""

    def __init__(self, total: int) -> None:
        self.left = total
        self.doubt = False

    def take(self, count: int) -> int:
        """As much of `count` as the total still holds."""
        got = self.most(count)
        self.doubt = self.doubt or got != count
        return got

    def most(self, count: int) -> int:
        """Likewise, where less may well be meant: nobody says which modalities a cache served."""
        got = min(max(count, 0), self.left)
        self.left -= got
        return got


def _modalities(given: Mapping[str, Any], name: str) -> dict[str, int]:
    """Tokens by the part of the usage in which they stand."""
    found: dict[str, int] = {}
    for entry in objects_of(given, name):
        part = _PARTS.get(str(entry.get("modality")).upper())
        if part is not None:
            found[part] = found.get(part, 0) + max(_count(entry, "tokenCount") or 0, 0)
    return found


def _count(stated: Mapping[str, Any], name: str) -> int | None:
    """A whole number; protocol buffers write large ones as text."""
    value = stated.get(name)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < _MOST_DIGITS:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return int(value) if isinstance(value, float) and value.is_integer() else None
