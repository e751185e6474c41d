"""Bank accounts: IBANs (ISO 13616-1), by country, structure and check digits.

An IBAN is a country (ISO 3166-1), two check digits, and the country's own account number, whose
length and characters are in the registry that SWIFT keeps for ISO 13616. That structure is walked
character by character, over a space, hyphen or line break wherever somebody put one; so prose that
happens to begin like an IBAN is left at once, and what passes modulus 97 as well is one by chance
in very few cases. Upper and lower case are read alike.

Not found: account numbers without country and check digits (a sort code and eight digits, a
routing number and ten): nothing tells them from other numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import groupby
from typing import Final

from lamella import Finding
from lamella_middlewares.pii._detect._checksums import mod_97
from lamella_middlewares.pii._detect._look import Sign
from lamella_middlewares.pii._detect._numbers import (
    DASHES,
    NumberDetector,
    has_digit,
    letter_or_digit,
)

_REGISTERED: Final = """
AD8n12c AE19n AL8n16c AT16n AZ4a20c BA16n BE12n BG4a6n8c BH4a14c BI23n BR23n1a1c BY4c4n16c CH5n12c
CR18n CY8n16c CZ20n DE18n DJ23n DK14n DO4c20n EE16n EG25n ES20n FI14n FK2a12n FO14n FR10n11c2n
GB4a14n GE2a16n GI4a15c GL14n GR7n16c GT24c HN4a20n HR17n HU24n IE4a14n IL19n IQ4a15n IS22n
IT1a10n12c JO4a4n18c KW4a22c KZ3n13c LB4n20c LC4a24c LI5n12c LT16n LU3n13c LV4a13c LY21n
MC10n11c2n MD20c ME18n MK3n10c2n MN16n MR23n MT4a5n18c MU4a19n3a NI4a20n NL4a10n NO11n OM3n16c
PK4a16c PL24n PS4a21c PT21n QA4a21c RO4a16c RS18n RU14n15c SA2n18c SC4a20n3a SD14n SE20n SI15n
SK20n SM1a10n12c SO19n ST21n SV4a20n TL19n TN20n TR6n16c UA6n19c VA18n VG4a16n XK16n YE4a4n18c
"""
"""The IBAN registry (SWIFT, for ISO 13616): country, then how many of which: n digits, a letters,
c either."""

_UNREGISTERED: Final = """
AO21n BF2c22n BJ2c22n CF23n CG23n CI2a22n CM23n CV21n DZ22n GA23n GQ23n GW2c19n IR22n KM23n MA24n
MG23n ML2c22n MZ21n NE2a22n SN2a22n TD23n TG2a22n
"""
"""Countries whose banks write account numbers that way without being in the registry."""

_PART: Final = re.compile(r"([0-9]+)([nac])")
_CHECK: Final = re.compile(
    rf"[0-9](?:(?<=[A-Za-z][A-Za-z].)|(?<=[A-Za-z][A-Za-z][ {DASHES}].))[0-9]"
)
"""Two digits behind two letters, perhaps with a separator; it begins with what is rare: a digit."""
_BETWEEN: Final = frozenset(" \n" + DASHES.replace("\\", ""))
_BREAKS: Final = frozenset(("\r\n", "\\n"))
_LONGEST: Final = 33
_SHORTEST: Final = 11

REACH: Final = 2 * _LONGEST + 2
"""An IBAN with a separator between any two characters, and what touches it."""


@cache
def structures() -> dict[str, str]:
    """For each country, one of `n`, `a`, `c` for each character of its account numbers."""
    made: dict[str, str] = {}
    for entry in (_REGISTERED + _UNREGISTERED).split():
        parts = _PART.findall(entry[2:])
        made[entry[:2]] = "".join(kind * int(times) for times, kind in parts)
    return made


def _read(text: str) -> Iterator[Finding]:
    for digits in _CHECK.finditer(text):
        start = _country(text, digits.start())
        if start is None:
            continue
        structure = structures().get(text[start : start + 2].upper())
        end = None if structure is None else _walk(text, digits.end(), structure)
        if end is None or letter_or_digit(text, end):
            continue
        written = "".join(filter(str.isalnum, text[start:end].replace("\\n", "")))
        if mod_97(written.upper()):
            yield Finding(start, end, "iban", 1.0)


def _country(text: str, digits: int) -> int | None:
    """Where two letters that stand alone begin before the check digits."""
    start = digits - 2
    if start > 0 and text[digits - 1] in _BETWEEN:
        start -= 1
    letters = text[start : start + 2] if start >= 0 else ""
    if len(letters) == 2 and letters.isascii() and letters.isalpha():
        return None if letter_or_digit(text, start - 1) else start
    return None


def _walk(text: str, at: int, structure: str) -> int | None:
    """The end of an account number of that structure; None where the text leaves it."""
    for kind in structure:
        if text[at : at + 1] in _BETWEEN:
            at += 1
        elif text[at : at + 2] in _BREAKS:
            at += 2
        character = text[at : at + 1]
        if not character.isascii() or not _FITS[kind](character):
            return None
        at += 1
    return at


_FITS: Final = {"n": str.isdigit, "a": str.isalpha, "c": str.isalnum}
_CLASSES: Final = {"n": "[0-9]", "a": "[A-Za-z]", "c": "[0-9A-Za-z]"}


def _opens(text: str) -> int:
    """Where an account number begins that the end of the text cuts off."""
    for digits in _CHECK.finditer(text, max(0, len(text) - REACH)):
        start = _country(text, digits.start())
        structure = structures().get(text[start : start + 2].upper()) if start is not None else None
        if start is not None and structure is not None:
            rest = _longer(text[digits.end() :].rstrip("\r\\"), structure)
            end = _walk(rest, 0, structure)
            if end is not None and digits.end() + end >= len(text):
                return start
    return max(0, len(text) - 4)


def _longer(rest: str, structure: str) -> str:
    """The rest of a text as if it went on in the best way for an account number."""
    written = sum(map(str.isalnum, rest.replace("\\n", "")))
    return rest + "".join("A" if kind == "a" else "0" for kind in structure[written:])


def _begun() -> str:
    """Eleven characters of an account number behind its country and check digits, for RE2."""
    alike: dict[str, list[str]] = {}
    for country, structure in structures().items():
        alike.setdefault(structure[:_SHORTEST], []).append(country)
    gap = rf"(?:[ \n{DASHES}]|\r\n|\\n)?"
    forms: list[str] = []
    for kinds, countries in alike.items():
        parts = [f"(?:{gap}{_CLASSES[kind]}){{{len([*run])}}}" for kind, run in groupby(kinds)]
        forms.append(f"(?i:{'|'.join(countries)})[ {DASHES}]?[0-9]{{2}}{''.join(parts)}")
    return rf"(?:^|[^A-Za-z0-9]|\\[nrt])(?:{'|'.join(forms)})"


IBAN: Final = NumberDetector(
    "iban",
    _read,
    reach=REACH,
    sign=Sign(_begun(), plain=has_digit),
    opens=_opens,
)
"""Finds IBANs."""
