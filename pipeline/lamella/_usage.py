"""What a model consumed and produced, in parts that never overlap.

Providers disagree: OpenAI's cached tokens are *included* in its prompt tokens, Anthropic's are
*added* to its input tokens. Here every token stands in exactly one part, so that totals are sums
and a price can be put on each part.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from lamella._nothing import NOTHING


def _counts() -> Mapping[str, int]:
    return attrs.field(default=NOTHING, hash=False)


@attrs.frozen
class Usage:
    """Tokens and units, disjoint.

    Attributes:
        uncached_input: Text tokens of the request that no cache served.
        cache_read: Tokens of the request that the provider's prompt cache served.
        cache_write: Tokens written to the provider's prompt cache, by lifetime (`"5m"`, `"1h"`;
            `""` where the provider does not say).
        audio_input: Audio tokens of the request.
        image_input: Image tokens of the request.
        text_output: Text tokens of the answer, tool calls included.
        reasoning_output: Reasoning tokens of the answer.
        audio_output: Audio tokens of the answer.
        image_output: Image tokens of the answer.
        tool_units: Units of hosted tools by name (a web search is one unit). Not tokens.
        estimated: True where counts are ours, not the provider's.
    """

    uncached_input: int = 0
    cache_read: int = 0
    cache_write: Mapping[str, int] = _counts()
    audio_input: int = 0
    image_input: int = 0
    text_output: int = 0
    reasoning_output: int = 0
    audio_output: int = 0
    image_output: int = 0
    tool_units: Mapping[str, int] = _counts()
    estimated: bool = False

    def __attrs_post_init__(self) -> None:
        """Refuse negative counts. All in one look, for there is a usage in every call."""
        if (
            self.uncached_input < 0
            or self.cache_read < 0
            or self.audio_input < 0
            or self.image_input < 0
            or self.text_output < 0
            or self.reasoning_output < 0
            or self.audio_output < 0
            or self.image_output < 0
            or (self.cache_write and min(self.cache_write.values()) < 0)
            or (self.tool_units and min(self.tool_units.values()) < 0)
        ):
            raise self._negative()

    def _negative(self) -> ValueError:
        found = {each.name: getattr(self, each.name) for each in attrs.fields(Usage)}
        for part in ("cache_write", "tool_units"):
            found |= {f"{part}[{name!r}]": count for name, count in found.pop(part).items()}
        name = next(name for name, value in found.items() if value < 0)
        return ValueError(f"Usage.{name} is {found[name]!r}: a count cannot be negative.")

    @property
    def input_tokens(self) -> int:
        """All tokens of the request, cached ones included."""
        written = sum(self.cache_write.values()) if self.cache_write else 0
        return self.uncached_input + self.cache_read + written + self.audio_input + self.image_input

    @property
    def output_tokens(self) -> int:
        """All tokens of the answer, reasoning included."""
        return self.text_output + self.reasoning_output + self.audio_output + self.image_output

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            uncached_input=self.uncached_input + other.uncached_input,
            cache_read=self.cache_read + other.cache_read,
            cache_write=_sum(self.cache_write, other.cache_write),
            audio_input=self.audio_input + other.audio_input,
            image_input=self.image_input + other.image_input,
            text_output=self.text_output + other.text_output,
            reasoning_output=self.reasoning_output + other.reasoning_output,
            audio_output=self.audio_output + other.audio_output,
            image_output=self.image_output + other.image_output,
            tool_units=_sum(self.tool_units, other.tool_units),
            estimated=self.estimated or other.estimated,
        )


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> Mapping[str, int]:
    if not other:
        return one
    return {key: one.get(key, 0) + other.get(key, 0) for key in {**one, **other}}
