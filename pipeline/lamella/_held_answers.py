"""Answers as a store in memory keeps them: as they are, and packed only for who asks for bytes.

Writing an answer down and reading it again costs more than all else that a cache does. In memory
neither is needed, as long as nobody can change the answer meanwhile: so this is for answers of
texts, finishes and counts alone, which are frozen to the ground. All others are kept as bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from lamella._answer_codec import KeptAnswer
from lamella._answer_pieces import merged
from lamella._events import Finish, ReasoningDelta, TextDelta, ToolCallDelta, UsageReport
from lamella._evolve import changed, put
from lamella._heads import Head, bare
from lamella._nothing import NOTHING
from lamella._usage import Usage

if TYPE_CHECKING:
    from lamella._answer_wrapping import Wrapping

ANSWER_OVERHEAD: Final = 1600
"""Bytes that an answer takes beside its texts and events, on CPython 3.11; not too few."""

EVENT_OVERHEAD: Final = 400
"""Bytes that each of its events takes beside its texts, likewise."""

_WORD_OVERHEAD: Final = 100
"""Bytes that a word in a list takes beside its characters."""

MOST_EVENTS: Final = 64
"""Events of an answer that is kept so; one of more is shorter as bytes."""


class HeldAnswer:
    """An answer that a store in memory holds at a place.

    Args:
        answer: The answer; its events are joined, and its head has nothing that is not kept.
        size: Bytes that it counts.
        place: Where it is kept.
        wrapping: What makes bytes of it.

    Attributes:
        size: Bytes that it counts.
    """

    __slots__ = ("_answer", "_head", "_place", "_tokens", "_wrapping", "size")

    def __init__(self, answer: KeptAnswer, size: int, place: str, wrapping: Wrapping) -> None:
        self._answer = answer
        self._place = place
        self._tokens: tuple[int, int] | None = None
        self._head: Head | None = None
        self._wrapping = wrapping
        self.size = size

    def __bytes__(self) -> bytes:
        """The same as it is packed for other stores."""
        return self._wrapping.packed(self._place, self._answer)

    def at(self, age: float) -> KeptAnswer:
        """The answer, so many seconds after it was kept."""
        return changed(self._answer, "age", age)

    @property
    def head(self) -> Head:
        """The head of what is given in place of a call."""
        if self._head is None:
            self._head = replay_head(self._answer.head)
        return self._head

    @property
    def tokens(self) -> tuple[int, int]:
        """Of the request that need not be sent and the answer that need not be made."""
        if self._tokens is None:
            self._tokens = self._answer.tokens
        return self._tokens


def kept_head(head: Head) -> Head:
    """What is kept of what is known of an answer."""
    return bare(head, cached=False)


def replay_head(head: Head) -> Head:
    """What is said of an answer that was kept and not paid for."""
    return bare(head, cached=True)


def held(
    answer: KeptAnswer, place: str, wrapping: Wrapping, *, most_text: int, most: int
) -> HeldAnswer | None:
    """The answer as a store in memory keeps it; None for one that is to be kept as bytes.

    Those are answers that are worth compressing, and whatever others could change. (What is signed
    or sealed is so in memory as well, and does not come here.)

    Args:
        answer: What is to be kept.
        place: Where.
        wrapping: What makes bytes of it.
        most_text: Bytes of text from which on it is worth being compressed.
        most: Bytes that it may count.
    """
    events = answer.events
    kinds = set(map(type, events))
    if not kinds <= _FROZEN or answer.vector:
        return None
    if len(kinds) != len(events):  # pieces of one block are of one class
        events = merged(events)
        if len(events) > MOST_EVENTS:
            return None
    text = 0
    for event in events:
        size = _SIZES[event.__class__](event)
        if size < 0:
            return None
        text += size
    if text > most_text:
        return None
    head = answer.head
    size = ANSWER_OVERHEAD + EVENT_OVERHEAD * len(events) + text + 4 * (
        len(answer.operation) + len(answer.model or "") + len(answer.tenant or "")
        + len(answer.question) + len(head.model or "") + len(head.provider or "")
        + len(head.request_id or "") + len(head.id or "")
    )  # fmt: skip
    for tag in answer.tags:
        size += _WORD_OVERHEAD + 4 * len(tag)
    if size > most:
        return None
    if head.raw is not None or head.headers or events is not answer.events:
        answer = put(answer, {"events": events, "head": kept_head(head)})
    return HeldAnswer(answer, size, place, wrapping)


# --- how many bytes the texts of an event take; less than none if others could change it --------

_NOT_FROZEN: Final = -1


def _length(text: str) -> int:
    """An upper bound of the bytes of a text, in memory as in UTF-8."""
    return len(text) if text.isascii() else 4 * len(text)


def _of_text(event: TextDelta) -> int:
    text = event.text
    if text.__class__ is not str or event.logprobs is not None or event.extra is not NOTHING:
        return _NOT_FROZEN
    return len(text) if text.isascii() else 4 * len(text)


def _of_reasoning(event: ReasoningDelta) -> int:
    if event.text.__class__ is not str or event.extra is not NOTHING:
        return _NOT_FROZEN
    return _length(event.text) + _length(event.signature or "") + _length(event.id or "")


def _of_call(event: ToolCallDelta) -> int:
    if event.arguments.__class__ is not str or event.extra is not NOTHING:
        return _NOT_FROZEN
    return _length(event.arguments) + _length(event.id or "") + _length(event.name or "")


def _of_usage(event: UsageReport) -> int:
    usage = event.usage
    if usage.__class__ is not Usage:
        return _NOT_FROZEN
    frozen = usage.cache_write is NOTHING and usage.tool_units is NOTHING
    return 0 if frozen else _NOT_FROZEN


def _of_finish(event: Finish) -> int:
    if event.reasons.__class__ is not tuple:  # a transport's own list
        return _NOT_FROZEN
    size = _length(event.reason)
    for reason in event.reasons:
        size += _WORD_OVERHEAD + _length(reason)
    return size


_SIZES: Final[dict[type, Callable[[Any], int]]] = {
    TextDelta: _of_text,
    ReasoningDelta: _of_reasoning,
    ToolCallDelta: _of_call,
    UsageReport: _of_usage,
    Finish: _of_finish,
}

_FROZEN: Final = frozenset(_SIZES)
