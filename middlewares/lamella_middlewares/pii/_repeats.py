"""Values that were found in one place, wherever else they stand.

A passport's number is one where the word "passport" stands beside it. Where it is named again there
may be no such word, and it is the same number.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from lamella import Finding

_WORD: Final = re.compile(r"\w+")
_LEAST: Final = 6
_FEW: Final = 32


class Repeats:
    """Finds known values in texts, in time that hardly depends on how many there are.

    Values are found as they are, and not inside of longer words. Those that are shorter than six
    characters, or one word of letters, are not looked for: they may mean something else elsewhere.

    Args:
        values: Each value's kind.
    """

    __slots__ = ("_few", "_index", "_values")

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = {value: kind for value, kind in values.items() if _tells(value)}
        self._few = tuple(self._values) if len(self._values) <= _FEW else None
        self._index: _Index | None = None

    def __len__(self) -> int:
        return len(self._values)

    def findings(self, text: str) -> list[Finding]:
        """Where they stand, from left to right."""
        if self._few is not None and not any(value in text for value in self._few):
            return []
        if self._index is None:
            self._index = _Index(self._values)
        found: list[Finding] = []
        done = 0
        for word in _WORD.finditer(text):
            for value, start in self._index.at(text, word):
                end = start + len(value)
                if start >= done and _ends(text, end):
                    found.append(Finding(start, end, self._values[value]))
                    done = end
                    break
        return found


class _Index:
    """Values by how they go on from their first word.

    Of all that begin a text, the longest is sought among sorted ones by halving; shorter ones that
    begin it too are found from there. A thousand numbers that begin alike are so not all tried at
    each place where one may begin.
    """

    __slots__ = ("_longest", "_shorter", "_stems", "_values")

    def __init__(self, values: Iterable[str]) -> None:
        self._values: dict[str, list[str]] = {}  # by stem: the value from its first word on
        self._longest: dict[str, int] = {}  # by first word
        for value in sorted(values, key=len, reverse=True):
            word = _WORD.search(value)
            if word is not None:
                stem = value[word.start() :]
                self._values.setdefault(stem, []).append(value)
                self._longest[word[0]] = max(self._longest.get(word[0], 0), len(stem))
        self._stems = sorted(self._values)
        self._shorter: list[int] = []  # of each: the longest other one that it begins with, or -1
        open_ones: list[int] = []
        for place, stem in enumerate(self._stems):
            while open_ones and not stem.startswith(self._stems[open_ones[-1]]):
                open_ones.pop()
            self._shorter.append(open_ones[-1] if open_ones else -1)
            open_ones.append(place)

    def at(self, text: str, word: re.Match[str]) -> Iterator[tuple[str, int]]:
        """The values whose first word this one is, with where they begin; the longest first."""
        longest = self._longest.get(word[0])
        if longest is None:
            return
        begin = word.start()
        place = bisect_right(self._stems, text[begin : begin + longest]) - 1
        while place >= 0:
            stem = self._stems[place]
            if text.startswith(stem, begin):
                for value in self._values[stem]:
                    start = begin + len(stem) - len(value)
                    if start >= 0 and text.startswith(value, start):
                        yield value, start
            place = self._shorter[place]


def _tells(value: str) -> bool:
    return len(value) >= _LEAST and not value.isalpha()


def _ends(text: str, end: int) -> bool:
    """Whether no word goes on there."""
    return end == len(text) or not (_is_word(text[end - 1]) and _is_word(text[end]))


def _is_word(character: str) -> bool:
    return character == "_" or character.isalnum()
