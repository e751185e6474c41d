"""What detectors of numbers share: runs of digits, what stands around them, and their shape.

Numbers are looked for from their digits outwards: a text has few of them, so finding the first one
is what a scan costs. Expressions begin with a digit, and no two ways lead through a run, so that
Python's own engine is linear on them and quicker than any other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

import attrs

from lamella import Finding
from lamella_middlewares.pii._detect._look import Sign
from lamella_middlewares.pii._detect._open import Opens

DASHES: Final = "\\-\u2010\u2012\u2013\u2014\u2015\u2212\u30fc"
"""Hyphen-minus, hyphen, figure dash, en dash, em dash, bar, minus, and the long vowel that Japanese
keyboards give for a dash; to be put in a character class."""

DIGITS: Final = re.compile(r"[0-9]+")

UNSPACED: Final = re.compile("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
"""Thai, Japanese, Chinese and Korean letters: no space tells their words apart."""

_ANY: Final = re.compile(r"[0-9]")
_NINE: Final = re.compile(rf"[0-9](?:[ \t\r\n._/{DASHES}]{{0,3}}[0-9]){{8}}")

Read = Callable[[str], Iterable[Finding]]


def has_digit(text: str) -> bool:
    """Whether a digit is anywhere."""
    return _ANY.search(text) is not None


def has_long_number(text: str) -> bool:
    """Whether nine digits follow each other anywhere, with little between them."""
    return _NINE.search(text) is not None


@attrs.frozen
class NumberDetector:
    """A detector of one kind that reads texts with a function of its own.

    Args:
        kind: What it finds.
        read: Finds it.
        reach: The most characters that are looked at around one finding, context included.
        sign: What a text must have in it.
        opens: From which index on what is put behind a text may change what is found.
    """

    kind: str
    read: Read
    reach: int = attrs.field(kw_only=True)
    sign: Sign = attrs.field(kw_only=True)
    opens: Opens = attrs.field(kw_only=True)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Its one kind."""
        return (self.kind,)

    def find(self, text: str, /) -> Iterable[Finding]:
        """What is in the text, from left to right; findings may overlap."""
        return self.read(text)


def group_spans(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Where the groups of digits between two places are."""
    return [found.span() for found in DIGITS.finditer(text, start, end)]


def letter_or_digit(text: str, index: int) -> bool:
    """Whether one stands at an index that would make a number part of a longer word.

    Nothing stands outside the text. Letters of scripts without spaces do not, nor does the `n` of
    a line break that is written as an escape, as in quoted JSON.
    """
    if not 0 <= index < len(text) or not text[index].isalnum():
        return False
    if text[index] in "nrt":
        return index == 0 or text[index - 1] != "\\"
    return text[index].isascii() or UNSPACED.match(text[index]) is None


def mentions(*roots: str) -> Sign:
    """The sign of texts that name a thing: one of the roots is in one.

    Args:
        roots: Parts of words, in lower case.
    """

    def plain(text: str) -> bool:
        if not has_digit(text):
            return False
        lowered = text.lower()
        return any(root in lowered for root in roots)

    return Sign("(?i:" + "|".join(map(re.escape, roots)) + ")", plain=plain)
