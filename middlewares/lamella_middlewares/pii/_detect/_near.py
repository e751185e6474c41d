"""Words near a number that say what it is: in any language, in prose, labels and JSON keys."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from lamella_middlewares.pii._detect._numbers import UNSPACED

_WORD: Final = re.compile(r"(?<![0-9])[^\W\d_]+")
_ESCAPED: Final = re.compile(r"\\[nrt]")
_ELSEWHERE: Final = re.compile(r"\\?[\n;|}]|\\n|, ?\\?[\"']")
"""What ends a field, behind which another one begins: its name says nothing of what was before."""
_BETWEEN: Final = r"(?:[^A-Za-z]|\\[nrt])*"
"""What may stand between the parts of a word, for RE2: what Python calls no letter, and more."""


class Near:
    """Words to look for around a finding.

    Words are compared whole and without regard to case. One of several parts ("date of birth") may
    be written with anything but letters between them, or with nothing: `date_of_birth`,
    `dateOfBirth`. Words of scripts without spaces may stand inside others. A line break that is
    written as an escape, as in quoted JSON, is one.

    Args:
        words: The words.
        before: How many characters before a finding are looked at.
        after: How many behind it.
    """

    __slots__ = ("_after", "_before", "_beginnings", "_parts", "_phrases", "_single", "_unspaced")

    def __init__(self, words: Iterable[str], *, before: int, after: int = 0) -> None:
        words = tuple(words)
        parts = [_WORD.findall(word.lower()) for word in words]
        self._parts = tuple(parts)
        self._single = frozenset("".join(part) for part in parts)
        self._phrases = tuple(f" {' '.join(part)} " for part in parts if len(part) > 1)
        self._beginnings = frozenset(part[0] for part in parts if len(part) > 1)
        self._unspaced = tuple(word for word in words if UNSPACED.search(word))
        self._before = before
        self._after = after

    def around(self, text: str, start: int, end: int) -> bool:
        """Whether one of the words stands near text[start:end]."""
        first = max(0, start - self._before)
        if self._in(text[first:start], cut=first > 0 and text[first - 1].isalpha(), left=True):
            return True
        if not self._after:
            return False
        last = end + self._after
        elsewhere = _ELSEWHERE.search(text, end, last)
        if elsewhere is not None:
            return self._in(text[end : elsewhere.start()], cut=False, left=False)
        return self._in(text[end:last], cut=text[last : last + 1].isalpha(), left=False)

    def written(self) -> str:
        """What is in any text in which one of the words is around something, for RE2.

        It may be in others too. Words of scripts without spaces may stand inside longer ones, which
        is not looked for.
        """
        words = sorted({_BETWEEN.join(map(_as_written, part)) for part in self._parts})
        return f"(?:^|[^A-Za-z]|\\\\[nrt]|[0-9][A-Za-z])(?i:{'|'.join(words)})(?:$|[^A-Za-z])"

    def _in(self, window: str, *, cut: bool, left: bool) -> bool:
        """Whether one is in a window, whose first (`left`) or last word may have been cut."""
        if "\\" in window:
            window = _ESCAPED.sub("  ", window)
        window = window.lower()
        words = _WORD.findall(window)
        if cut and words and window[0 if left else -1].isalpha():
            del words[0 if left else -1]
        if not self._single.isdisjoint(words):
            return True
        if not self._beginnings.isdisjoint(words):
            joined = f" {' '.join(words)} "
            if any(phrase in joined for phrase in self._phrases):
                return True
        return not window.isascii() and any(word in window for word in self._unspaced)


def _as_written(part: str) -> str:
    """For RE2: in lower case a capital I with a dot is an i, behind which a word ends."""
    return f"{part[:-1]}[i\u0130]" if part[-1] == "i" else part
