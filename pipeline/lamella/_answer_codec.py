"""Answers as bytes: what is kept of one comes back event by event as it was."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final, get_args

import attrs
import msgspec

from lamella import _events, _messages, _money, _parts, _responses, _usage
from lamella._answer_forms import Forms
from lamella._answer_pieces import merged
from lamella._events import Event, UsageReport
from lamella._evolve import Evolvable
from lamella._messages import Message
from lamella._money import Money
from lamella._parts import Part
from lamella._responses import Head
from lamella._usage import Usage

__all__ = ["VERSION", "KeptAnswer", "UnreadableError", "decode_answer", "encode_answer", "merged"]


@attrs.frozen(slots=False)
class KeptAnswer(Evolvable):
    """An answer as it is kept.

    Attributes:
        events: What it consists of, ending with `Finish`. Keeping it joins pieces of one block.
        head: What is known of it besides; without headers and the provider's own bytes.
        operation: The request's operation.
        model: The model that was asked for.
        tenant: Whose it is.
        tags: Words by which it can be purged.
        fresh_for: Seconds from its making for which it is fresh; None for ever.
        cost: What it cost to make; None if nobody knows.
        question: What was asked, where answers are compared by that; empty elsewhere.
        vector: Where the question points, likewise: of length 1, in 32-bit floats.
        age: Seconds since it was kept; 0 while it is not.
    """

    events: tuple[Event, ...] = attrs.field(repr=False)
    head: Head
    operation: str
    model: str | None = None
    tenant: str | None = None
    tags: frozenset[str] = frozenset()
    fresh_for: float | None = None
    cost: Money | None = None
    question: str = attrs.field(default="", repr=False)
    vector: tuple[float, ...] = attrs.field(default=(), repr=False)
    age: float = 0.0

    @property
    def fresh(self) -> bool:
        """Whether it is younger than it is fresh for."""
        return self.fresh_for is None or self.age < self.fresh_for

    @property
    def usage(self) -> Usage | None:
        """What it consumed when it was made."""
        for event in reversed(self.events):
            if type(event) is UsageReport:
                return event.usage
        return None

    @property
    def tokens(self) -> tuple[int, int]:
        """Those of the request and those of the answer, as far as somebody has counted."""
        usage = self.usage
        return (0, 0) if usage is None else (usage.input_tokens, usage.output_tokens)


class UnreadableError(ValueError):
    """Bytes are no answer that was kept here.

    Attributes:
        why: `"corrupt"`, `"foreign"` (not written with this key, or for this place) or `"outdated"`
            (by a version that wrote it otherwise).
    """

    def __init__(self, why: str) -> None:
        super().__init__(f"What was kept is {why}.")
        self.why = why


def encode_answer(answer: KeptAnswer) -> bytes:
    """The bytes of an answer; its age is not among them, nor are the head's headers and raw bytes.

    Raises:
        TypeError: If an event holds what has no form, such as an object in `extra`.
    """
    try:
        row = _FORMS.write(answer)
        try:
            return _PLAIN + _encode(row)
        except UnicodeEncodeError:  # half of a surrogate pair, as a stream may have cut it
            return _ESCAPED + _encode(_texts(row, _escaped))
    except OverflowError:
        raise TypeError("An answer holds a whole number beyond 64 bits.") from None
    except RecursionError:
        raise TypeError("An answer holds data nested too deeply.") from None


def decode_answer(data: bytes, age: float) -> KeptAnswer:
    """The answer that bytes stand for.

    Raises:
        UnreadableError: If they stand for none.
    """
    start, body = data[: len(_PLAIN)], data[len(_PLAIN) :]
    if start not in (_PLAIN, _ESCAPED):
        raise UnreadableError("outdated" if data.startswith(_MAGIC) else "corrupt")
    try:
        row = _decode(body)
        if start == _ESCAPED:
            row = _texts(row, _unescaped)
        values = _FORMS.values(KeptAnswer, row)
        values.append(age)
        return KeptAnswer(*values)
    except (ValueError, TypeError, RecursionError, msgspec.MsgspecError):
        pass
    raise UnreadableError("corrupt")  # not inside the handler: what failed may be quoted there


_KINDS: Final = dict.fromkeys((*get_args(Event), *get_args(Part), Message, Usage, Head, Money))
_FORMS: Final = Forms(
    (*_KINDS, KeptAnswer),
    # Public classes say that they are of the package, which has no such names.
    {
        name: value
        for module in (_parts, _usage, _messages, _events, _money, _responses)
        for name, value in vars(module).items()
    },
    {
        Head: frozenset({"headers", "raw", "cached", "service", "cost"}),
        Message: frozenset({"pinned"}),
        KeptAnswer: frozenset({"age"}),
    },
)

_MAGIC: Final = b"LA"
_FORMAT: Final = 1
"""Of how fields are written; to be raised where that changes."""

VERSION: Final = hashlib.blake2b(
    f"{_FORMAT}\n{_FORMS.description}".encode(), digest_size=8
).digest()
"""Of the classes' fields: what was written of others is not read."""

_PLAIN: Final = _MAGIC + VERSION + b"\0"
_ESCAPED: Final = _MAGIC + VERSION + b"\1"

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder().decode

_ESCAPE: Final = re.compile(r"\\(?:\\|u([0-9a-f]{4}))")


def _escaped(text: str) -> str:
    """The text with its surrogates written out, which are no Unicode."""
    return text.replace("\\", "\\\\").encode("utf-8", "backslashreplace").decode("utf-8")


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else "\\", text)


def _texts(value: Any, change: Any) -> Any:
    """Nested lists and mappings with every text changed."""
    if isinstance(value, str):
        return change(str.__str__(value))
    if isinstance(value, list):
        return [_texts(one, change) for one in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return {_texts(key, change): _texts(one, change) for key, one in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return value
