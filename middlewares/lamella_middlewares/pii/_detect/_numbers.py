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

DASHES: Final = "\\-\u2010\u2012\u2013\u2014\u2212"
"""Hyphen-minus, hyphen, figure dash, en dash, em dash, minus; to be put in a character class."""

DIGITS: Final = re.compile(r"[0-9]+")

_ANY: Final = re.compile(r"[0-9]")

Read = Callable[[str], Iterable[Finding]]


def has_digit(text: str) -> bool:
    """Whether a digit is anywhere."""
    return _ANY.search(text) is not None


@attrs.frozen
class NumberDetector:
    """A detector of one kind that reads texts with a function of its own.

    Args:
        kind: What it finds.
        read: Finds it.
        reach: The most characters that are looked at around one finding, context included.
        needs: A quick look at the text: False means that nothing can be there.
    """

    kind: str
    read: Read
    reach: int = attrs.field(kw_only=True)
    needs: Callable[[str], bool] = attrs.field(default=has_digit, kw_only=True)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Its one kind."""
        return (self.kind,)

    def find(self, text: str, /) -> Iterable[Finding]:
        """What is in the text, from left to right; findings may overlap."""
        return self.read(text) if self.needs(text) else ()


def group_spans(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Where the groups of digits between two places are."""
    return [found.span() for found in DIGITS.finditer(text, start, end)]


def letter_or_digit(text: str, index: int) -> bool:
    """Whether one stands at an index; nothing stands outside the text.

    The `n` of a line break that is written as an escape, as in quoted JSON, is no letter.
    """
    if not 0 <= index < len(text) or not text[index].isalnum():
        return False
    return not (text[index] in "nrt" and index > 0 and text[index - 1] == "\\")


def stands_alone(text: str, start: int, end: int) -> bool:
    """Whether neither a letter nor a digit touches text[start:end]."""
    return not (letter_or_digit(text, start - 1) or letter_or_digit(text, end))


def mentions(*roots: str) -> Callable[[str], bool]:
    """A quick look for texts that name a thing: whether one of the roots is anywhere in one.

    Args:
        roots: Parts of words, in lower case.
    """

    def named(text: str) -> bool:
        lowered = text.lower()
        return any(root in lowered for root in roots)

    return named
