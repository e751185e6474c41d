"""What a Converse answer consumed, in disjoint parts.

`inputTokens` are those that no cache served: what was read from a cache and written to one stands
beside them, and `cacheDetails` says for how long each part of the latter is kept. Reasoning is
part of `outputTokens` and not told apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lamella._nothing import NOTHING
from lamella._usage import Usage
from lamella.transports._wire_json import objects_of, text_of


def usage_of(stated: Mapping[str, Any]) -> Usage | None:
    """The usage that an answer states; None if it states none. Never raises."""
    counts = {name: _count(stated.get(name)) for name in _NAMES}
    prompt, answer = counts["inputTokens"], counts["outputTokens"]
    total = counts["totalTokens"]
    if prompt is None and answer is None and total is None:
        return None
    doubt = any(value is not None and value < 0 for value in counts.values())
    known = {name: max(value or 0, 0) for name, value in counts.items()}
    written = _by_lifetime(stated, counts["cacheWriteInputTokens"])
    inputs, outputs, read = (
        known["inputTokens"],
        known["outputTokens"],
        known["cacheReadInputTokens"],
    )
    cached = read + sum(written.values())
    if prompt is None or answer is None:  # one of the two is what the total leaves
        rest = max(known["totalTokens"] - inputs - outputs - cached, 0)
        inputs, outputs = (rest, outputs) if prompt is None else (inputs, rest)
        doubt = doubt or total is None
    elif total is not None and total not in {inputs + outputs, inputs + outputs + cached}:
        doubt = True
    return Usage(
        uncached_input=inputs,
        cache_read=read,
        cache_write=written or NOTHING,
        text_output=outputs,
        estimated=doubt,
    )


_NAMES = (
    "inputTokens",
    "outputTokens",
    "totalTokens",
    "cacheReadInputTokens",
    "cacheWriteInputTokens",
)


def _by_lifetime(stated: Mapping[str, Any], total: int | None) -> dict[str, int]:
    """Tokens written to the cache by how long they stay; `""` is for what no detail covers."""
    written: dict[str, int] = {}
    details = [
        (text_of(detail, "ttl") or "", max(_count(detail.get("inputTokens")) or 0, 0))
        for detail in objects_of(stated, "cacheDetails")
    ]
    left = sum([count for _, count in details]) if total is None else max(total, 0)
    for lifetime, stated_count in details:
        count = min(stated_count, left)
        if count:
            written[lifetime] = written.get(lifetime, 0) + count
            left -= count
    if left:
        written[""] = written.get("", 0) + left
    return written


def _count(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) else None
