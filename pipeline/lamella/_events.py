"""What an answer is made of while it is on its way.

An answer, streamed or not, is a sequence of these and ends with exactly one `Finish`. Those that
say something (`semantic`) commit the answer: once the first of them is out, nothing is retried.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self, TypeAlias

import attrs

from lamella._making import unfrozen
from lamella._messages import Message
from lamella._nothing import NOTHING
from lamella._parts import JSONObject, Opaque, extra
from lamella._usage import Usage


@attrs.frozen
class TextDelta:
    """A piece of text.

    Attributes:
        text: The piece; empty only where `extra` comes by itself.
        choice: Which of the `n` answers it belongs to.
        logprobs: The provider's log probabilities of its tokens, verbatim.
        index: Which block of text it belongs to: pieces in a row of one block are one part.
        extra: What only the provider knows of the block (a seal, citations), verbatim.
    """

    semantic: ClassVar[bool] = True
    text: str
    choice: int = 0
    logprobs: Sequence[Mapping[str, Any]] | None = attrs.field(default=None, hash=False, repr=False)
    index: int = 0
    extra: JSONObject = extra()


_TextDelta = unfrozen(TextDelta)


def text_delta(text: str, choice: int = 0) -> TextDelta:
    """`TextDelta(text, choice)` for who makes one of each chunk of a stream: in half the time."""
    new = object.__new__(_TextDelta)
    new.text = text
    new.choice = choice
    new.logprobs = None
    new.index = 0
    new.extra = NOTHING
    new.__class__ = TextDelta
    return new  # type: ignore[no-any-return]


@attrs.frozen
class ReasoningDelta:
    """A piece of the model's thinking, or the seal on it.

    Attributes:
        text: The piece; empty where only the seal comes.
        choice: Which of the `n` answers it belongs to.
        index: Which block of reasoning it belongs to.
        signature: The provider's seal or encrypted form, whole.
        id: The provider's id of the block.
        redacted: The provider withholds the text.
    """

    semantic: ClassVar[bool] = True
    text: str = ""
    choice: int = 0
    index: int = 0
    signature: str | None = attrs.field(default=None, repr=False)
    id: str | None = None
    redacted: bool = False
    extra: JSONObject = extra()


@attrs.frozen
class RefusalDelta:
    """A piece of the words in which the model declines."""

    semantic: ClassVar[bool] = True
    text: str
    choice: int = 0


@attrs.frozen
class ToolCallDelta:
    """A piece of a tool call.

    Attributes:
        index: Which call; pieces with the same (choice, index) belong together until `id` changes.
        id: The call's id, once known.
        name: The tool's name, in the piece that brings it.
        arguments: The next piece of the arguments.
        choice: Which of the `n` answers it belongs to.
        kind: `"function"` or `"custom"`.
    """

    semantic: ClassVar[bool] = True
    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    choice: int = 0
    kind: str = "function"
    extra: JSONObject = extra()


@attrs.frozen
class MediaDelta:
    """A piece of sound or picture.

    Attributes:
        kind: `"audio"`, `"image"` or `"video"`.
        data: The piece; may be empty where only the transcript or the id comes.
        media_type: Its MIME type or format, where known.
        transcript: The next piece of the words spoken.
        id: The provider's id of it.
        index: Which medium it belongs to.
        choice: Which of the `n` answers it belongs to.
        extra: What only the provider knows of it (a seal), verbatim.
    """

    semantic: ClassVar[bool] = True
    kind: str
    data: bytes = attrs.field(default=b"", repr=False)
    media_type: str | None = None
    transcript: str = ""
    id: str | None = None
    index: int = 0
    choice: int = 0
    extra: JSONObject = extra()


@attrs.frozen
class Vector:
    """The embedding of one input.

    Attributes:
        index: Which input.
        values: Its coordinates.
    """

    semantic: ClassVar[bool] = True
    index: int
    values: tuple[float, ...] = attrs.field(repr=False)
    choice: int = 0


@attrs.frozen
class TokenCount:
    """How many tokens a conversation has.

    Attributes:
        tokens: 0 or more.
    """

    semantic: ClassVar[bool] = True
    tokens: int
    choice: int = 0


@attrs.frozen
class Moderation:
    """What a classifier found in one input.

    Attributes:
        flagged: Whether the classifier calls the input harmful.
        categories: Its categories by its own words, and whether each is flagged.
        scores: The same categories, and how sure it is of each, from 0 to 1.
        input_types: For each category, what it was looked for in: `"text"`, `"image"`. Empty where
            nobody says.
        index: Which input.
    """

    semantic: ClassVar[bool] = True
    flagged: bool
    categories: Mapping[str, bool] = attrs.field(default=NOTHING, hash=False)
    scores: Mapping[str, float] = attrs.field(default=NOTHING, hash=False, repr=False)
    input_types: Mapping[str, tuple[str, ...]] = attrs.field(
        default=NOTHING, hash=False, repr=False
    )
    index: int = 0
    choice: int = 0

    @classmethod
    def of(cls, scores: Mapping[str, float], *, threshold: float = 0.5, index: int = 0) -> Self:
        """A result from scores: a category is flagged from `threshold` up.

        Args:
            scores: The categories and how sure of them, from 0 to 1.
            threshold: From 0 to 1.
            index: Which input.
        """
        categories = {name: score >= threshold for name, score in scores.items()}
        return cls(any(categories.values()), categories, dict(scores), index=index)

    @property
    def flagged_categories(self) -> tuple[str, ...]:
        """The categories that are flagged, in alphabetical order."""
        return tuple(sorted([name for name, flagged in self.categories.items() if flagged]))


@attrs.frozen
class Turn:
    """The end of one model turn inside an answer: what follows belongs to the next.

    Attributes:
        messages: All that the turn added to the conversation, tool results included.
    """

    semantic: ClassVar[bool] = True
    messages: tuple[Message, ...]
    choice: int = 0


@attrs.frozen
class UsageReport:
    """What the answer consumed, cumulative; at most one per attempt, before `Finish`."""

    semantic: ClassVar[bool] = False
    usage: Usage
    choice: int = 0


_UsageReport = unfrozen(UsageReport)


def usage_report(usage: Usage) -> UsageReport:
    """`UsageReport(usage)`, in half the time."""
    new = object.__new__(_UsageReport)
    new.usage = usage
    new.choice = 0
    new.__class__ = UsageReport
    return new  # type: ignore[no-any-return]


@attrs.frozen
class Finish:
    """The end of a good answer, and always its last event.

    Attributes:
        reason: `"stop"`, `"length"`, `"tool_calls"`, `"content_filter"`, or the provider's
            own word.
        reasons: One for each choice where there are several.
    """

    semantic: ClassVar[bool] = False
    reason: str
    reasons: tuple[str, ...] = ()
    choice: int = 0


Event: TypeAlias = (
    TextDelta
    | ReasoningDelta
    | RefusalDelta
    | ToolCallDelta
    | MediaDelta
    | Vector
    | TokenCount
    | Moderation
    | Turn
    | UsageReport
    | Finish
    | Opaque
)
