"""What the variables of a prompt template may be given: checked, and made plain data.

What is nested is copied. What is wrong is told by types, never by the value itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final, TypeAlias, cast

import attrs

from lamella._messages import Message
from lamella._parts import Audio, File, Image, Part, Text

Check: TypeAlias = Callable[..., Any]
"""Given a value, who may speak, and how long JSON may be: gives the value, or raises `Unfit`."""

MOST_CHARACTERS: Final = 2_000_000
"""How long the texts of one prompt may become, unless the layer says otherwise."""

_DEPTH: Final = 64
"""How deep JSON may be nested."""

_DIGITS: Final = 300
"""How many digits a number may have before its point, or zeros after it."""

_HUGE: Final = 10**_DIGITS

_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


class Unfit(Exception):
    """Raised with what was found and what was expected; never with the value."""


def as_json(value: Any, indent: int | None = None) -> str:
    """A value as JSON, its keys in the order given."""
    if indent is None:
        return _ENCODER.encode(value)
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)


def _unfit(given: object, expected: str) -> Unfit:
    return Unfit(f"is of the type {type(given).__name__}, expected {expected}")


def _text(given: Any, *_: object) -> str:
    if not isinstance(given, str):
        raise _unfit(given, "text")
    return str.__str__(given)  # of a class of its own, it could be read as anything later


def _number(given: Any, *_: object) -> int | float | Decimal:
    if isinstance(given, bool) or not isinstance(given, int | float | Decimal):
        raise _unfit(given, "a number")
    if isinstance(given, int):
        if not -_HUGE < given < _HUGE:
            raise Unfit(f"is a number of more than {_DIGITS} digits")
        return int.__index__(given)
    if not (given.is_finite() if isinstance(given, Decimal) else math.isfinite(given)):
        raise Unfit("is infinite or no number at all")
    if not isinstance(given, Decimal):
        return float.__float__(given)
    if abs(given.adjusted()) >= _DIGITS:  # written in full, it would have as many as it says
        raise Unfit(f"is a number of more than {_DIGITS} digits")
    return Decimal(given)


def _flag(given: Any, *_: object) -> bool:
    if not isinstance(given, bool):
        raise _unfit(given, "True or False")
    return given


def _json(given: Any, _: object, most: int) -> Any:
    return _Json(most).plain(given)


@attrs.define
class _Json:
    """Copies a value as JSON has it, and counts how long it becomes at least.

    What stands in it several times is as long as it is often: a few nested lists can be more text
    than there is memory.
    """

    most: int
    _left: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._left = self.most

    def plain(self, given: Any, depth: int = 0) -> Any:
        """The value as plain texts, numbers, lists and dicts."""
        if given is None or isinstance(given, bool):
            return given
        if isinstance(given, str):
            self._take(len(given))
            return _text(given)
        if isinstance(given, int | float):
            return _number(given)
        if depth == _DEPTH:
            raise Unfit(f"is nested deeper than {_DEPTH} levels, or holds itself")
        if isinstance(given, list | tuple):
            items = cast("Collection[Any]", given)
            self._take(max(1, 3 * len(items) - 1))  # with what stands between
            return [self.plain(item, depth + 1) for item in items]
        if isinstance(given, Mapping):
            table = cast("Any", given)
            self._take(max(1, 7 * len(table) - 1))
            return {self._key(key): self.plain(item, depth + 1) for key, item in table.items()}
        where = "holds something" if depth else "is"
        raise Unfit(
            f"{where} of the type {type(given).__name__}, expected what JSON has: texts, numbers, "
            "true, false, None, lists, and dicts with texts as keys"
        )

    def _key(self, given: Any) -> str:
        if not isinstance(given, str):
            raise Unfit(
                f"holds a dict with a key of the type {type(given).__name__}, expected text"
            )
        self._take(len(given))
        return _text(given)

    def _take(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise Unfit(f"takes more than {self.most} characters as JSON")


def _messages(given: Any, roles: Collection[str], *_: object) -> tuple[Message, ...]:
    if isinstance(given, Message):
        given = (given,)
    if not isinstance(given, list | tuple):
        raise _unfit(given, "a list of messages")
    found: list[Message] = []
    for place, item in enumerate(cast("Iterable[Any]", given)):
        try:
            message = Message.of(item)
        except (TypeError, ValueError):
            raise Unfit(f"is no list of messages: item {place} is none") from None
        if message.unwritten:
            raise Unfit(f"holds another Prompt as item {place}; place it beside this one")
        if message.role not in roles:
            raise Unfit(
                f"has a message of the role {message.role!r} as item {place}, and only "
                f"{', '.join(roles)} may speak there; `roles` of the variable says who may"
            )
        found.append(message)
    return tuple(found)


def _part(*kinds: type[Any], expected: str) -> Check:
    def check(given: Any, *_: object) -> Any:
        given = _of_dict(given, expected) if isinstance(given, Mapping) else given
        if not isinstance(given, kinds):
            raise _unfit(given, expected)
        return given

    return check


def _of_dict(given: Any, expected: str) -> Part:
    from lamella._message_dicts import part_from_dict

    try:
        return part_from_dict(given)
    except (TypeError, ValueError):
        raise _unfit(given, expected) from None


_ONE_PART: Final = _part(Text, Image, Audio, File, expected="text, Image, Audio or File")


def _parts(given: Any, *_: object) -> tuple[Part, ...]:
    several = cast("Iterable[Any]", given if isinstance(given, list | tuple) else (given,))
    items = [Text(_text(item)) if isinstance(item, str) else item for item in several]
    return tuple([_ONE_PART(item) for item in items])


TYPES: Final[Mapping[str, Check]] = {
    "text": _text,
    "number": _number,
    "flag": _flag,
    "json": _json,
    "messages": _messages,
    "parts": _parts,
    "image": _part(Image, expected="an Image"),
    "audio": _part(Audio, expected="an Audio"),
    "file": _part(File, expected="a File"),
}
"""The types, each with what checks a value."""

INLINE: Final = frozenset({"text", "number", "flag", "json"})
"""Types whose values are written within a text."""
