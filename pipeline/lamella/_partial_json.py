"""Values of an answer that is still being written.

A list gives each of its items once, when its last bracket or comma has come: the text is scanned
once. Anything else is parsed as far as it goes, by jiter, whenever the text has grown by a
sixteenth: so all parsing together costs what sixteen parses of the whole text cost, however small
the pieces are in which it comes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Generic, Literal, TypeVar

import jiter
import msgspec

from lamella._typed_problems import Misfit, Problem, Step

T = TypeVar("T")

_GROWTH: Final = 16
_LONGEST: Final = 200_000
"""Characters up to which a value is read as it grows: a reading then takes some 30 ms."""

_MOST_CUTS: Final = 8
_AND_ON: Final = " \u2026 and so on"
"""What is put behind a text that is still open, to see whether it may go on in any way."""

_MARKS: Final = re.compile(r'["\\{}\[\],]')
_IN_TEXT: Final = re.compile(r'["\\]')
_START: Final = re.compile(r"[{\[]")
_BEFORE_ITEMS: Final = re.compile(r'\s*(?:```[^\n`]*\n\s*)?(?:\{\s*"value"\s*:\s*)?\[')
_MOST_BEFORE: Final = 1_000
_HUGE: Final = re.compile(r"\d[eE]\+?\d{3}|\d{300}")
"""What jiter may make an infinity of, where a strict parser refuses."""

_NUMBER_SO_FAR: Final = "0123456789+-.eE"
_NONE: Final = object()


class GrowingValue(Generic[T]):
    """A value that is given again each time there is more of it, once what is there fits.

    What is still open and does not fit yet (an object without a required property, half of an
    enum's value) is left out where it can be. A number is shown when it is complete, and so is a
    text that may not go on in any way: of an enum, a date, a pattern.

    Args:
        read: Makes the typed value of a plain one, or raises `Misfit`.
        skip: Whether text before the first bracket is passed over: the value is no scalar.
    """

    def __init__(self, read: Callable[[Any], T], *, skip: bool) -> None:
        self._read = read
        self._skip = skip
        self._pieces: list[str] = []
        self._length = 0
        self._next = 1
        self._last: Any = _NONE  # as JSON has it
        self._given: Any = _NONE  # what was made of it
        self._shown: set[tuple[Step, ...]] = set()  # ways to texts that may be shown as they grow

    def feed(self, text: str) -> list[T]:
        """The value with a further piece of the text, if it fits and has changed."""
        self._length += len(text)
        if self._length > _LONGEST:  # it would keep the loop; the whole is read elsewhere
            self._pieces.clear()
            return []
        self._pieces.append(text)
        if self._length < self._next:
            return []
        self._next = self._length + self._length // _GROWTH + 1
        return self._values(self._text().rstrip(_NUMBER_SO_FAR))

    def end(self) -> list[T]:
        """The value at the end of the text, if that is not what was given last."""
        return self._values(self._text())

    def _text(self) -> str:
        whole = "".join(self._pieces)
        self._pieces = [whole]
        return whole

    def _values(self, text: str) -> list[T]:
        if self._skip:
            start = _START.search(text)
            text = text[start.start() :] if start else ""
        try:
            plain = _parsed(text)
            if plain == self._last:
                return []
            if not self._may_grow(plain, text):
                plain = _parsed(text, open_text=False)
        except (ValueError, RecursionError):  # also of text that is not Unicode
            return []
        for _ in range(_MOST_CUTS):
            if plain == self._last:
                return []
            try:
                value = self._read(plain)
            except Misfit as wrong:
                if not _cut(plain, wrong.problems[0]):
                    return []
            except RecursionError:
                return []
            else:
                self._last = plain
                return self._news(value)
        return []

    def _news(self, value: T) -> list[T]:
        """The value, unless it equals what was given last: what is new may be a default."""
        last, self._given = self._given, value
        try:
            return [] if last is not _NONE and bool(last == value) else [value]
        except Exception:  # noqa: BLE001 - of somebody else's __eq__, which may raise anything
            return [value]

    def _may_grow(self, plain: Any, text: str) -> bool:
        """Whether the text that was written last is complete, or may go on in any way."""
        way = _open_way(plain)
        general = tuple(["*" if isinstance(step, int) else step for step in way])
        if general in self._shown or _at(plain, way).__class__ is not str:
            return True
        with suppress(ValueError):
            if _parsed(text, open_text=False) == plain:
                return True
        longer = _parsed(text)
        if way:
            _at(longer, way[:-1])[way[-1]] += _AND_ON
        else:
            longer += _AND_ON
        try:
            self._read(longer)
        except Misfit:
            return False
        self._shown.add(general)
        return True


class ClosedItems(Generic[T]):
    """The items of a list, each when it is complete; none after one that does not fit.

    The list is all of the text, bare or wrapped, within a fence or not. Behind anything else no
    item is given: brackets in prose may mean something else.

    Args:
        read: Makes the typed value of one plain item, or raises `Misfit`.
    """

    def __init__(self, read: Callable[[Any], T]) -> None:
        self._read = read
        self._head: str | None = ""  # what stands before the list; None behind its bracket
        self._item: list[str] = []  # the pieces of the item that is being written
        self._depth = 0  # of brackets inside the list
        self._in_text = False
        self._escaped = False  # the next character is
        self._last = False  # the list's last bracket has come
        self._over = False

    def feed(self, text: str) -> list[T]:
        """The items that a further piece of the text completes."""
        items: list[T] = []
        if self._head is not None:
            text = self._behind(self._head + text)
        if self._over or not text:
            return items
        place = 1 if self._escaped else 0
        self._escaped = False
        begin = 0  # where the current item goes on in this piece
        while found := (_IN_TEXT if self._in_text else _MARKS).search(text, place):
            mark, at = found[0], found.start()
            place = at + 1
            if mark == '"':
                self._in_text = not self._in_text
            elif mark == "\\":
                self._escaped = place == len(text)
                place += 1
            elif self._ends_item(mark):
                self._take(text[begin:at], items)
                begin = place
                if self._over:
                    return items
        if begin < len(text):
            self._item.append(text[begin:])
        return items

    def end(self) -> list[T]:
        """Nothing: an item that is not complete is none."""
        return []

    def _behind(self, text: str) -> str:
        """What stands behind the list's first bracket; empty until that has come."""
        begin = _BEFORE_ITEMS.match(text)
        self._head = text if begin is None else None
        self._over = begin is None and len(text) > _MOST_BEFORE
        return "" if begin is None else text[begin.end() :]

    def _ends_item(self, mark: str) -> bool:
        """Count a bracket or a comma inside the list; whether an item ends before it."""
        if mark in "[{":
            self._depth += 1
        elif mark != "," and self._depth:
            self._depth -= 1
        elif mark != ",":
            self._last = True  # the list's own bracket
            return True
        else:
            return self._depth == 0
        return False

    def _take(self, rest: str, items: list[T]) -> None:
        text = "".join(self._item) + rest
        self._item.clear()
        self._over = self._last
        if not text.strip():
            return
        try:
            items.append(self._read(msgspec.json.decode(text)))
        except (Misfit, msgspec.DecodeError, UnicodeError, RecursionError):
            self._over = True


def _parsed(text: str, *, open_text: bool = True) -> Any:
    """A value as far as it goes, with or without a text that is still open."""
    mode: Literal["trailing-strings", "on"] = "trailing-strings" if open_text else "on"
    plain = jiter.from_json(text.encode(), partial_mode=mode, allow_inf_nan=False)
    if _HUGE.search(text) and _has_endless(plain):
        msg = "a number is too large"
        raise ValueError(msg)
    return plain


def _has_endless(plain: Any) -> bool:
    waiting: list[Any] = [plain]
    while waiting:
        each = waiting.pop()
        if each.__class__ is float and not math.isfinite(each):
            return True
        if each.__class__ is list:
            waiting.extend(each)
        elif each.__class__ is dict:
            waiting.extend(each.values())
    return False


def _at(plain: Any, way: list[Step]) -> Any:
    for step in way:
        plain = plain[step]
    return plain


def _cut(plain: Any, problem: Problem) -> bool:
    """Take out of a value what is still open and does not fit; whether there was something.

    A property goes before the object around it: what was there before it came still stands.
    """
    way = _common(_open_way(plain), problem.steps)
    if not way:
        return False
    del _at(plain, way[:-1])[way[-1]]
    return True


def _open_way(plain: Any) -> list[Step]:
    """The way to what was written last."""
    way: list[Step] = []
    while plain.__class__ in (dict, list) and plain:
        step: Any = len(plain) - 1 if plain.__class__ is list else next(reversed(plain))
        way.append(step)
        plain = plain[step]
    return way


def _common(way: list[Step], steps: tuple[Step, ...]) -> list[Step]:
    shared: list[Step] = []
    for one, other in zip(way, steps, strict=False):
        if one != other:
            break
        shared.append(one)
    return shared
