"""Text as it is looked at: one spelling for what reads alike, with the way back to the original.

What looks for words in texts would miss full-width letters, or a term with a soft hyphen or a
zero-width space in its middle. So it looks at a view: compatible form (NFKC), digits of all scripts
as ASCII digits, without characters that take no place, and, where case does not matter, folded (The
Unicode Standard 3.13, NFKC_Casefold). Each place of the view leads back to the characters it came
from.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from functools import cache
from itertools import accumulate
from typing import Final

_INVISIBLE: Final = frozenset(
    chr(code)
    for first, last in (
        (0x00AD, 0x00AD),  # soft hyphen
        (0x034F, 0x034F),  # combining grapheme joiner
        (0x061C, 0x061C),  # Arabic letter mark
        (0x115F, 0x1160),  # Hangul fillers
        (0x17B4, 0x17B5),  # Khmer inherent vowels
        (0x180B, 0x180F),  # Mongolian variation selectors and vowel separator
        (0x200B, 0x200F),  # zero-width space, joiners, direction marks
        (0x202A, 0x202E),  # bidirectional embeddings and overrides
        (0x2060, 0x206F),  # word joiner, invisible operators, isolates
        (0x3164, 0x3164),  # Hangul filler
        (0xFE00, 0xFE0F),  # variation selectors
        (0xFEFF, 0xFEFF),  # byte order mark
        (0xFFA0, 0xFFA0),  # half-width Hangul filler
        (0xFFF9, 0xFFFB),  # interlinear annotation
        (0x1BCA0, 0x1BCA3),  # shorthand format controls
        (0x1D173, 0x1D17A),  # musical format controls
        (0xE0000, 0xE0FFF),  # tags and further variation selectors
    )
    for code in range(first, last + 1)
)
"""Default_Ignorable_Code_Point and annotation marks: they take no place on a screen."""

_MOST_KEPT: Final = 50_000
_LONGEST_KEPT: Final = 8
"""Characters whose form is remembered, with what belongs to them; texts hold few different ones."""


class NormalText:
    """A view of a text, and where each place of it stands in the original.

    Attributes:
        text: The view.
        source: The original.
    """

    __slots__ = ("_forms", "_offsets", "_origins", "source", "text")

    def __init__(self, source: str, text: str, forms: _Forms | None) -> None:
        self.source = source
        self.text = text
        self._forms = forms  # None: each character of the view is the one at the same index
        self._offsets: list[int] | None = None
        self._origins: list[int] = []

    def original(self, start: int, end: int) -> tuple[int, int]:
        """The span of the original that `text[start:end]` came from.

        It covers whole characters: where one character became three in the view, any of them leads
        back to it. Invisible characters on the edges are not part of it. An empty span leads to an
        empty one.
        """
        if self._forms is None:
            return start, end
        if end <= start:
            place = self.place(start)
            return place, place
        source = self.source
        first = self.place(start)
        last = self._segment(end - 1)
        stop = self._origins[last + 1]
        while stop > first and source[stop - 1] in _INVISIBLE:
            stop -= 1
        while first < stop and source[first] in _INVISIBLE:
            first += 1
        return first, stop

    def place(self, index: int) -> int:
        """The index in the original of the character that `text[index]` came from.

        The length of the original for the length of the view.
        """
        if self._forms is None:
            return index
        if index >= len(self.text):
            return len(self.source)
        segment = self._segment(index)
        return self._origins[segment]

    def index(self, place: int) -> int:
        """The index in the view of the first character that came from `place` or behind it."""
        if self._forms is None:
            return place
        if place <= 0:
            return 0
        self._segment(0)
        offsets = self._offsets or [0]
        return offsets[min(bisect_left(self._origins, place), len(offsets) - 1)]

    def _segment(self, index: int) -> int:
        offsets = self._offsets
        if offsets is None:
            starts = _starts(self.source)
            pieces = _pieces(self.source, starts, self._forms or _PLAIN)
            offsets = self._offsets = list(accumulate(map(len, pieces), initial=0))
            self._origins = [*starts, len(self.source)]
        return bisect_right(offsets, index) - 1


def normal_text(text: str, *, fold_case: bool = False) -> NormalText:
    """The view of a text.

    Args:
        text: Any text.
        fold_case: Whether case is folded away too.
    """
    if text.isascii():
        return NormalText(text, text.lower() if fold_case else text, None)
    if not fold_case and plain_letters().fullmatch(text) is not None:
        return NormalText(text, text, None)
    forms = _FOLDED if fold_case else _PLAIN
    try:
        view = "".join(map(forms.__getitem__, text))
    except _Joins:  # and so a character may be several, though the view looks like the text
        return NormalText(text, "".join(_pieces(text, _starts(text), forms)), forms)
    return NormalText(text, view, None if view == text else forms)


@cache
def plain_letters() -> re.Pattern[str]:
    """Matches texts of characters that are themselves in the view, whatever stands beside them.

    Most texts have no others. Twenty times as quick as looking each character up.
    """
    few = [chr(code) for block in _LOOKED_THROUGH for code in block]
    still = [c for c in few if _PLAIN.of(c) == c and not _joins(c)]
    many = "".join(f"{chr(block[0])}-{chr(block[-1])}" for block in _ALL_STILL)
    return re.compile(f"[\x00-\x7f{''.join(still)}{many}]*")


def settled(text: str) -> int:
    """How many characters at the beginning look the same whatever is put behind the text.

    The view of `text[:settled(text)]` is the beginning of the view of any text that begins so: the
    last character may still get an accent.
    """
    return beginning(text, len(text) - 1)


def beginning(text: str, index: int) -> int:
    """Where the character that holds `text[index]` begins, with what stands before its accents."""
    while index > 0 and _joins(text[index]):
        index -= 1
    return max(index, 0)


def invisible(character: str) -> bool:
    """Whether a character takes no place, and so is not in the view."""
    return character in _INVISIBLE


class _Joins(Exception):
    """A character that cannot be looked at without the one before it."""


def _joins(character: str) -> bool:
    """Whether a character may become one with what stands before it.

    Combining marks, the vowels and final consonants of Hangul, the vowel signs of Kirat Rai, and
    what decomposes into such; invisible characters too, as they would stand between a letter and
    its accent. It may say so of more characters than really do.
    """
    if character < "\u00ad":
        return False
    if character in _INVISIBLE:
        return True
    first = unicodedata.normalize("NFKD", character)[0]
    return (
        unicodedata.category(first)[0] == "M"
        or "\u1160" <= first <= "\u11ff"
        or "\ud7b0" <= first <= "\ud7ff"
        or "\U00016d63" <= first <= "\U00016d6a"
    )


class _Forms(dict[str, str]):
    """What stands in the view for one character."""

    def __init__(self, *, fold: bool) -> None:
        self._fold = fold

    def __missing__(self, piece: str) -> str:
        if len(piece) == 1 and _joins(piece):
            raise _Joins
        made = self.of(piece)
        if len(self) < _MOST_KEPT and len(piece) <= _LONGEST_KEPT:
            self[piece] = made
        return made

    def of(self, piece: str) -> str:
        """What stands for a character with all that belongs to it."""
        made = unicodedata.normalize("NFKC", "".join([c for c in piece if c not in _INVISIBLE]))
        if self._fold:
            made = unicodedata.normalize("NFKC", made.casefold())
        if made.isascii():
            return made
        return "".join([_digit(c) for c in made if c not in _INVISIBLE])


def _digit(character: str) -> str:
    value = unicodedata.decimal(character, None)
    return character if value is None else str(value)


_LOOKED_THROUGH: Final = (range(0x80, 0x530), range(0x2010, 0x2070), range(0x20A0, 0x20C0))
"""Latin, Greek and Cyrillic letters, punctuation, signs of money: some have other forms."""

_ALL_STILL: Final = (range(0x3041, 0x3095), range(0x30A1, 0x30FB), range(0x4E00, 0xA000))
"""Hiragana, Katakana and the common Chinese characters: none of them has another form."""

_PLAIN: Final = _Forms(fold=False)
_FOLDED: Final = _Forms(fold=True)
_JOINING: Final[dict[str, bool]] = {}


def _starts(text: str) -> list[int]:
    """Where the characters begin, each with all that belongs to it."""
    starts: list[int] = []
    for index, character in enumerate(text):
        joins = _JOINING.get(character)
        if joins is None:
            joins = _joins(character)
            if len(_JOINING) < _MOST_KEPT:
                _JOINING[character] = joins
        if not joins or index == 0:
            starts.append(index)
    return starts


def _pieces(text: str, starts: list[int], forms: _Forms) -> list[str]:
    """What stands in the view for each; a text may begin with what belongs to nothing."""
    first = starts[1] if len(starts) > 1 else len(text)
    rest = zip(starts[1:], [*starts[2:], len(text)], strict=False)
    return [forms.of(text[:first]), *[forms[text[start:end]] for start, end in rest]]
