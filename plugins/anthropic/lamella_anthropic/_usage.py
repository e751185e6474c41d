"""What an answer of the Messages API consumed, in disjoint parts.

Its input counts are disjoint already: `input_tokens` are those that no cache served, tokens written
to the cache and read from it are *added* to them. `output_tokens` includes the thinking, which is
taken out. Counts that cannot be true are cut down and the usage is flagged `estimated`: the answer
was paid for, so a strange count must not lose it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from lamella._nothing import NOTHING
from lamella._usage import Usage
from lamella.transports._estimated_usage import estimated_tokens
from lamella.transports._wire_json import mapping_of, objects_of, text_of

_LIFETIMES = {"ephemeral_5m_input_tokens": "5m", "ephemeral_1h_input_tokens": "1h"}
_UNITS = "_requests"
_ANYWHERE = (None, "", "global", "not_available")
_COUNTS = ("input_tokens", "output_tokens", "cache_creation_input_tokens")


def joined_usage(before: Mapping[str, Any], stated: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is known after a further statement: counts are cumulative, and what it leaves out holds.

    A stream states usage twice: at its start, and with the stop reason.
    """
    if not stated:
        return before
    return {**before, **{name: value for name, value in stated.items() if value is not None}}


def usage_of(stated: Mapping[str, Any]) -> Usage | None:
    """The usage that an answer states; None if it states none. Never raises.

    Tokens of a compaction on the server stand beside the totals and are billed, so that they are
    added.

    Args:
        stated: The `usage` object; of a stream, all of its statements joined.
    """
    counts = _Counts()
    if all(counts.read(stated, name) is None for name in _COUNTS):
        return None
    tallied = [stated]
    tallied += [
        entry for entry in objects_of(stated, "iterations") if entry.get("type") == "compaction"
    ]
    for entry in tallied:
        counts.add(entry)
    units = mapping_of(stated, "server_tool_use")
    tool_units = {
        name.removesuffix(_UNITS): count
        for name in units
        if name.endswith(_UNITS) and (count := counts.number(units, name))
    }
    return Usage(
        uncached_input=counts.uncached,
        cache_read=counts.read_from_cache,
        cache_write=counts.written or NOTHING,
        text_output=counts.text,
        reasoning_output=counts.thinking,
        tool_units=tool_units or NOTHING,
        estimated=counts.doubt,
    )


def service_of(stated: Mapping[str, Any]) -> str | None:
    """The class of service that an answer is billed as, in the words of the model cards.

    Fast inference is one, and so is inference within a geography, which costs more: `us`, with the
    tier behind it where that is not the ordinary one (`us_batch`).

    Args:
        stated: As for `usage_of`.
    """
    tier = text_of(stated, "service_tier")
    if text_of(stated, "speed") == "fast":
        tier = "fast" if tier in (None, "standard") else f"fast_{tier}"
    geography = text_of(stated, "inference_geo")
    if geography in _ANYWHERE:
        return tier
    return geography if tier in (None, "standard") else f"{geography}_{tier}"


def at_least(stated: Usage, texts: Iterable[str], thoughts: Iterable[str]) -> Usage:
    """What is stated, but not less output than was delivered; flagged where that is estimated."""
    text = max(stated.text_output, estimated_tokens(texts))
    thinking = max(stated.reasoning_output, estimated_tokens(thoughts))
    if text + thinking <= stated.output_tokens:
        return stated
    return attrs.evolve(stated, text_output=text, reasoning_output=thinking, estimated=True)


class _Counts:
    """Adds up statements; `doubt` says that one of them could not be true."""

    def __init__(self) -> None:
        self.uncached = 0
        self.read_from_cache = 0
        self.written: dict[str, int] = {}
        self.text = 0
        self.thinking = 0
        self.doubt = False

    def add(self, stated: Mapping[str, Any]) -> None:
        self.uncached += self.number(stated, "input_tokens")
        self.read_from_cache += self.number(stated, "cache_read_input_tokens")
        self._add_writes(stated)
        output = self.number(stated, "output_tokens")
        thinking = self.number(mapping_of(stated, "output_tokens_details"), "thinking_tokens")
        self.doubt = self.doubt or thinking > output
        thinking = min(thinking, output)
        self.thinking += thinking
        self.text += output - thinking

    def _add_writes(self, stated: Mapping[str, Any]) -> None:
        """The total counts; the lifetimes, which only the start of a stream states, divide it."""
        by_lifetime = mapping_of(stated, "cache_creation")
        details = {life: self.number(by_lifetime, name) for name, life in _LIFETIMES.items()}
        total = self.number(stated, "cache_creation_input_tokens")
        if self.read(stated, "cache_creation_input_tokens") is None:
            total = sum(details.values())
        left = total
        for life, count in details.items():
            taken = min(count, left)
            self.doubt = self.doubt or taken != count
            left -= taken
            self._write(life, taken)
        self._write("", left)

    def _write(self, life: str, count: int) -> None:
        if count:
            self.written[life] = self.written.get(life, 0) + count

    def number(self, stated: Mapping[str, Any], name: str) -> int:
        """A count that is 0 or more; 0 where there is none."""
        found = self.read(stated, name)
        if found is None:
            self.doubt = self.doubt or stated.get(name) is not None
            return 0
        self.doubt = self.doubt or found < 0
        return max(found, 0)

    @staticmethod
    def read(stated: Mapping[str, Any], name: str) -> int | None:
        value = stated.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, float) and value.is_integer():
            return int(value)
        return None
