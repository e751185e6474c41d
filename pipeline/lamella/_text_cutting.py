"""The beginning and the end of a long text: cut between words, and never inside of a character."""

from __future__ import annotations

import unicodedata
from typing import Final

_OPEN: Final = "\u27e6"
_CLOSE: Final = "\u27e7"
"""Between them stands what is sent for personal data, and what an answer's is restored from."""
_LOOKED_BACK: Final = 80
"""Characters in which the end of a word is looked for."""
_HEAD: Final = 0.7
"""How much of what stays of a text is its beginning."""


def cut_text(text: str, characters: int) -> str:
    """The beginning and the end of a text, with a mark that says how much was between them.

    Args:
        text: Any text.
        characters: How many of its characters stay at most, besides the mark.
    """
    if len(text) <= characters:
        return text
    head = _border_before(text, int(characters * _HEAD))
    tail = _border_after(text, len(text) - (characters - int(characters * _HEAD)))
    mark = f"\n[... {tail - head:,} characters left out ...]\n"
    return text[:head] + mark + text[tail:]


def _border_before(text: str, place: int) -> int:
    """Where a text may be cut at a place or before it."""
    for at in range(place, max(place - _LOOKED_BACK, 0), -1):
        if _between_words(text[at - 1], text[at]):
            return at
    place = _placeholder(text, place)[0]
    while place > 0 and not _apart(text[place - 1], text[place]):
        place -= 1
    return place


def _border_after(text: str, place: int) -> int:
    """Where a text may be cut at a place or after it."""
    for at in range(place, min(place + _LOOKED_BACK, len(text))):
        if _between_words(text[at - 1], text[at]):
            return at
    place = _placeholder(text, place)[1]
    while place < len(text) and not _apart(text[place - 1], text[place]):
        place += 1
    return place


def _placeholder(text: str, place: int) -> tuple[int, int]:
    """Where the placeholder begins and ends that a cut there would take apart; else the place."""
    start = text.rfind(_OPEN, max(0, place - _LOOKED_BACK), place)
    end = -1 if start < 0 else text.find(_CLOSE, start, start + _LOOKED_BACK)
    return (start, end + 1) if end >= place else (place, place)


def _between_words(left: str, right: str) -> bool:
    return (left.isspace() or right.isspace()) and _apart(left, right)


_JOINER: Final = "\u200d"
_VOWELS: Final = frozenset("\u0e33\u0eb3")
"""Letters of Thai and Lao that are written as one with the letter before."""


def _apart(left: str, right: str) -> bool:
    """Whether a text may be cut between two characters.

    It errs on the side of not cutting: a row of flags is not taken apart at all.
    """
    if right < "\u0300":
        return not (left == "\r" and right == "\n")
    if _JOINER in {left, right} or right in _VOWELS or unicodedata.combining(right):
        return False
    if unicodedata.category(right)[0] == "M" or "\U0001f3fb" <= right <= "\U0001f3ff":
        return False  # marks, variation selectors; shades of skin
    if "\U000e0020" <= right <= "\U000e007f":
        return False  # the tags of regional flags
    if "\U0001f1e6" <= right <= "\U0001f1ff" and "\U0001f1e6" <= left <= "\U0001f1ff":
        return False
    return not ("\u1160" <= right <= "\u11ff" and "\u1100" <= left <= "\u11ff")
