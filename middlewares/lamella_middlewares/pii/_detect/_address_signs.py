"""What postal addresses begin with, and where one may be under way in a text that goes on."""

from __future__ import annotations

import re
from typing import Final

from lamella_middlewares.pii._detect._address_forms import (
    BOXES,
    ENDING_WORDS,
    ENDINGS,
    PARTICLES,
    PARTICLES_FIRST,
    PLAIN_TYPES,
    STATES,
    TYPES,
    TYPES_BEFORE_NAME,
    TYPES_BEHIND,
    TYPES_FIRST,
    UNITS,
)
from lamella_middlewares.pii._detect._look import Sign
from lamella_middlewares.pii._detect._numbers import UNSPACED, has_digit, mentions
from lamella_middlewares.pii._detect._pattern import any_of

CODE_WORDS: Final = mentions(
    *("zip", "post", "plz", "pin", "postal", "cep", "cap", "psč", "irányítószám", "индекс", "郵便"),
    *("邮编", "邮政", "우편"),
)
"""Parts of words that introduce a code for a town."""


def _of_forms() -> str:
    """Any of the forms, where its letters stand as they have to; what is around is looked at later.

    Types of streets behind the name with a capital, or the plain ones behind a number and one word;
    French ones behind a number; those before a name; endings and boxes before a number; a state
    before a code; and the codes of Britain and Canada.
    """
    capital = "|".join(f"{t[0].upper()}(?i:{re.escape(t[1:])})" for t in TYPES_BEHIND.split("|"))
    house = r"[0-9](?:[A-Za-z]|[-/][0-9]{1,5})?(?:,? (?i:bis|ter))?,? "
    forms = (
        f"[0-9](?s:.*) (?:{capital})",
        f"{house}[^ ]+ (?i:{any_of([*PLAIN_TYPES])})",
        f"{house}(?i:{TYPES_BEFORE_NAME})",
        rf"(?:^|[^A-Za-z]|\\[nrt])(?i:{any_of([*TYPES_FIRST])}) ",
        f"(?i:{any_of([*ENDINGS, *ENDING_WORDS])})[., ]+[0-9]",
        f"(?i:{any_of([box.rstrip('.') for box in BOXES])})[ ,#:.]+[0-9]",
        rf"(?:{any_of([*STATES])})(?:[ ,\t\r\n]|\\n){{1,4}}[0-9]{{5}}",
        "[A-Z][0-9][0-9A-Z]? ?[0-9][A-Z]{2}|[A-Z][0-9][A-Z][ -]?[0-9][A-Z][0-9]",
    )
    return "|".join(forms)


SIGN: Final = Sign(f"{_of_forms()}|{CODE_WORDS.expression}", plain=has_digit)
"""What a text must have in it for an address to be found."""

_LOWER: Final = frozenset((*TYPES_BEFORE_NAME.split("|"), "bis", "ter"))
_JOINED: Final = " ,-/0123456789"
_FOLLOWING: Final = frozenset(" ,-/abcdefghABCDEFGH")
_ENDS: Final = ".,;:!?)"
_STREET: Final = 96
_CLOSE: Final = 16
_GOES_ON: Final = 256
_MOST_NAME: Final = 64

_PARTICLES: Final = frozenset(PARTICLES.split("|"))
_LINKS: Final = frozenset(
    word
    for form in (*TYPES_FIRST, *ENDING_WORDS, *_PARTICLES, *PARTICLES_FIRST, *BOXES)
    for word in re.findall(r"[^\W_]+", form)
)
_BEHIND: Final = frozenset((*_PARTICLES, *UNITS.split("|")))
_SPACED: Final = re.compile(r"[^ \t\r\n]+")
_WORDS: Final = re.compile(r"[^\W_]+")
BEGINS: Final = r"(?:(?<![^\W\d_])|(?<=\\[nrt]))"
"""No letter before, but that of a line break which is written as an escape."""

_CAPITAL: Final = re.compile(rf"{BEGINS}[A-ZÀ-ÖØ-ÞĀ-ž]")
OPENING: Final = re.compile(r"[\n([{\"\u201c\u201e\u00ab]|\\n")
"""What a street's name begins behind."""


def may_be_street(rest: str, *, open_end: bool = False) -> bool:
    """A quick look at what stands behind a number: most numbers have no street there.

    Args:
        rest: The text behind the number.
        open_end: Whether the text may go on, so that what is not there yet may come.
    """
    if rest[:1] not in _FOLLOWING:
        return open_end and not rest
    words = rest[rest[0].isalpha() : _STREET].lstrip(_JOINED).split(None, 6)
    if open_end and (len(words) < 2 or (len(words) < 3 and not rest[-1].isspace())):
        return len(rest) < _STREET
    if not words or not (words[0][0].isupper() or words[0] in _LOWER or _is_plain(words)):
        return False
    if open_end and len(words) < 7:
        return len(rest) < _STREET
    return not TYPES.isdisjoint([word.rstrip(_ENDS).lower() for word in words])


def _is_plain(words: list[str]) -> bool:
    """Whether a street is named in lower case: one word, and a type that is nothing else."""
    return len(words) > 1 and words[1].rstrip(_ENDS).lower() in PLAIN_TYPES


def street_to_come(rest: str) -> bool:
    """Whether what is behind a number may still become an address, in a text that goes on."""
    return len(rest) < _CLOSE or may_be_street(rest, open_end=True)


def may_go_on(rest: str) -> bool:
    """Whether what is behind an address may still become a part of it: a flat, a town, a code."""
    if len(rest) > _GOES_ON:
        return False
    words = _WORDS.findall(rest.replace("\\n", "  "))
    if words and rest[-1].isalnum():
        del words[-1]
    return all(word[0].isupper() or word[0].isdigit() or word.lower() in _BEHIND for word in words)


def name_begins(text: str, end: int) -> int:
    """Where the name of a street, a box or a town begins that a number may follow at a place."""
    begins = end
    words = list(_SPACED.finditer(text, max(0, end - _MOST_NAME), end))
    for found in reversed(words):
        word = UNSPACED.split(found[0])[-1]
        place = found.end() - len(word)
        parts = _WORDS.findall(word)
        is_last = begins == end == found.end()
        if not (is_last or not parts or word[0].isupper() or _is_linking(parts[-1])):
            capital = _CAPITAL.search(word)
            return begins if capital is None else place + capital.start()
        begins = place
        if place > found.start():
            break
    return begins


def _is_linking(word: str) -> bool:
    return word[0].isupper() or word.isdigit() or word.lower() in _LINKS
