"""Where in a text that may go on something could be under way.

`reach` alone would hold a whole key's length of every answer back. But what is made of visible
ASCII characters, a key or an address, is under way in the last run of them only; and a number in
the last run of digits.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

Opens = Callable[[str], int]

_VISIBLE: Final = re.compile("[!-~]*")
_NOT_WHITE: Final = re.compile(r"[^ \n\t\r]*")
_GAP: Final = 3


def last_word(text: str, most: int) -> int:
    """Where the last run of visible ASCII characters begins, at most `most` from the end."""
    return _from_end(_VISIBLE, text, most)


def last_run(text: str, most: int) -> int:
    """Where the last run of characters without white space begins, at most `most` from the end."""
    return _from_end(_NOT_WHITE, text, most)


def _from_end(run: re.Pattern[str], text: str, most: int) -> int:
    backwards = text[: -most - 1 : -1]
    found = run.match(backwards)
    return len(text) - (0 if found is None else found.end())


def in_last_word(most: int) -> Opens:
    """For what is made of visible ASCII characters."""

    def opens(text: str) -> int:
        return last_word(text, most)

    return opens


def at_numbers(gap: str, *, least: int, lead: int, behind: int, most: int) -> Opens:
    """For numbers: digits with up to three other characters between.

    Args:
        gap: The inside of a character class: what may stand between the digits.
        least: How many digits such a number has at least.
        lead: How many characters before the first digit may belong to it.
        behind: How many characters behind the last digit have to do with it.
        most: The most characters that matter to one number, all in all.
    """
    run = re.compile(rf"[0-9](?:[{gap}]{{0,{_GAP}}}[0-9])*")

    def opens(text: str) -> int:
        length = len(text)
        first = max(0, length - most)
        for found in run.finditer(text, first):
            start, end = found.span()
            cut = start == first > 0
            if end + _GAP >= length or (
                end + behind >= length and (cut or _digits(found[0]) >= least)
            ):
                return max(0, start - lead)
        return max(0, length - lead)

    return opens


def _digits(text: str) -> int:
    return sum(map(str.isdigit, text))
