"""Values that were found in one place, wherever else they stand.

A passport's number is one where the word "passport" stands beside it. Where it is named again there
may be no such word, and it is the same number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from lamella import Finding

_WORD: Final = re.compile(r"\w+")
_LEAST: Final = 6
_FEW: Final = 32


class Repeats:
    """Finds known values in texts, in time that does not depend on how many there are.

    Values are found as they are, and not inside of longer words. Those that are shorter than six
    characters, or one word of letters, are not looked for: they may mean something else elsewhere.

    Args:
        values: Each value's kind.
    """

    __slots__ = ("_by_word", "_few", "_values")

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = {value: kind for value, kind in values.items() if _tells(value)}
        self._few = tuple(self._values) if len(self._values) <= _FEW else None
        self._by_word: dict[str, list[tuple[str, int]]] | None = None

    def __len__(self) -> int:
        return len(self._values)

    def findings(self, text: str) -> list[Finding]:
        """Where they stand, from left to right."""
        if self._few is not None and not any(value in text for value in self._few):
            return []
        by_word = self._by_word
        if by_word is None:
            by_word = self._by_word = self._index()
        found: list[Finding] = []
        done = 0
        for word in _WORD.finditer(text):
            for value, offset in by_word.get(word[0], ()):
                start = word.start() - offset
                end = start + len(value)
                if start >= done and text.startswith(value, start) and _ends(text, end):
                    found.append(Finding(start, end, self._values[value]))
                    done = end
                    break
        return found

    def _index(self) -> dict[str, list[tuple[str, int]]]:
        """By their first word; the longest first."""
        made: dict[str, list[tuple[str, int]]] = {}
        for value in sorted(self._values, key=len, reverse=True):
            word = _WORD.search(value)
            if word is not None:
                made.setdefault(word[0], []).append((value, word.start()))
        return made


def _tells(value: str) -> bool:
    return len(value) >= _LEAST and not value.isalpha()


def _ends(text: str, end: int) -> bool:
    """Whether no word goes on there."""
    return end == len(text) or not (_is_word(text[end - 1]) and _is_word(text[end]))


def _is_word(character: str) -> bool:
    return character == "_" or character.isalnum()
