"""Values of an answer that is still being written.

A list gives each of its items once, when its last bracket or comma has come: the text is scanned
once. Anything else is parsed as far as it goes, by jiter, whenever the text has grown by a
sixteenth: so all parsing together costs what sixteen parses of the whole text cost, however small
the pieces are in which it comes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import jiter
import msgspec

from lamella._typed_problems import Misfit, Problem, Step

T = TypeVar("T")

_GROWTH: Final = 16
_MOST_CUTS: Final = 8
_MARKS: Final = re.compile(r'["\\{}\[\],]')
_IN_TEXT: Final = re.compile(r'["\\]')
_START: Final = re.compile(r"[{\[]")
_NUMBER_SO_FAR: Final = "0123456789+-.eE"
_NONE: Final = object()


class GrowingValue(Generic[T]):
    """A value that is given again each time there is more of it, once what is there fits.

    What is still open and does not fit yet (an object without a required property, half of an
    enum's value) is left out where it can be. A number is shown when it is complete.

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
        self._last: Any = _NONE

    def feed(self, text: str) -> list[T]:
        """The value with a further piece of the text, if it fits and has changed."""
        self._pieces.append(text)
        self._length += len(text)
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
            plain = jiter.from_json(
                text.encode(), partial_mode="trailing-strings", allow_inf_nan=False
            )
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
                return [value]
        return []


class ClosedItems(Generic[T]):
    """The items of a list, each when it is complete. After one that does not fit there are no more.

    Args:
        read: Makes the typed value of one plain item, or raises `Misfit`.
    """

    def __init__(self, read: Callable[[Any], T]) -> None:
        self._read = read
        self._item: list[str] = []  # the pieces of the item that is being written
        self._depth = -1  # of brackets inside the list; below 0 before it
        self._in_text = False
        self._escaped = False  # the next character is
        self._last = False  # the list's last bracket has come
        self._over = False

    def feed(self, text: str) -> list[T]:
        """The items that a further piece of the text completes."""
        items: list[T] = []
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
            elif self._depth < 0:  # before the list: `[`, or `{"value": [`
                if mark == "[":
                    self._depth, begin = 0, place
            elif self._ends_item(mark):
                self._take(text[begin:at], items)
                begin = place
                if self._over:
                    return items
        if self._depth >= 0 and begin < len(text):
            self._item.append(text[begin:])
        return items

    def end(self) -> list[T]:
        """Nothing: an item that is not complete is none."""
        return []

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


def _cut(plain: Any, problem: Problem) -> bool:
    """Take out of a value what is still open and does not fit; whether there was something.

    A property goes before the object around it: what was there before it came still stands.
    """
    way = _common(_open_way(plain), problem.steps)
    if not way:
        return False
    holder = plain
    for step in way[:-1]:
        holder = holder[step]
    del holder[way[-1]]
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
