"""Numbers that states give to persons: US social security and taxpayer, UK NHS and insurance.

None of the American numbers has a check digit: what tells them is the layout 3-2-4, which little
else has, and which numbers were never given out. Without the layout, a word around has to say what
the number is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Final

import attrs

from lamella import Finding
from lamella_middlewares.pii._detect._checksums import mod_11_nhs
from lamella_middlewares.pii._detect._look import Sign
from lamella_middlewares.pii._detect._near import Near
from lamella_middlewares.pii._detect._numbers import (
    DASHES,
    NumberDetector,
    has_digit,
    has_long_number,
    letter_or_digit,
)
from lamella_middlewares.pii._detect._open import at_numbers

_LAYOUT: Final = rf"[0-9]{{2}}([ .{DASHES}]?)[0-9]{{2}}\1[0-9]{{4}}(?![0-9])"
_SSN: Final = re.compile(rf"[0-8](?<![0-9].){_LAYOUT}")
_ITIN: Final = re.compile(rf"9(?<![0-9].){_LAYOUT}")
_TEN: Final = re.compile(
    rf"[0-9](?<![0-9].)[0-9]{{2}}([ .{DASHES}]?)[0-9]{{3}}\1[0-9]{{4}}(?![0-9])"
)
_SIX: Final = re.compile(
    rf"[0-9](?:(?<=[A-Za-z].)|(?<=[A-Za-z][ .{DASHES}].))[0-9]"
    rf"([ .{DASHES}]?)[0-9]{{2}}\1[0-9]{{2}}(?![0-9])"
)
_PREFIX: Final = re.compile(rf"([A-Za-z])[ ]?([A-Za-z])[ .{DASHES}]?\Z")
_SUFFIX: Final = re.compile(rf"[ .{DASHES}]?[A-Da-d](?![A-Za-z0-9])")

NEVER_ISSUED: Final = frozenset({"078051120", "219099999"})
"""Social security numbers printed on a card sold with wallets and in an advertisement, and void for
that (SSA, "Social Security Cards Issued by Woolworth")."""

_SSN_WORDS: Final = Near(
    (
        *("ssn", "ssns", "social security", "social security number", "social security no"),
        *("social", "soc sec", "ssn last", "seguro social", "número de seguro social", "tin"),
        *("taxpayer", "tax id", "tax identification", "itin", "individual taxpayer"),
    ),
    before=48,
    after=16,
)
_ITIN_WORDS: Final = Near(
    (
        *("itin", "tin", "taxpayer", "tax id", "tax identification", "individual taxpayer", "irs"),
        *("tax number", "ssn", "social security"),
    ),
    before=48,
    after=16,
)
_NHS_WORDS: Final = Near(
    (
        *("nhs", "nhs number", "nhs no", "national health service", "health number", "patient"),
        *("patient number", "chi", "chi number", "health and care number", "hcn"),
    ),
    before=48,
    after=16,
)
_NINO_WORDS: Final = Near(
    (
        *("nino", "ni number", "ni no", "ni", "nin", "national insurance", "insurance number"),
        *("hmrc", "paye", "national insurance number"),
    ),
    before=48,
    after=16,
)

REACH: Final = 48 + 18 + 16
"""Context, a number, context."""


def could_be_ssn(digits: str) -> bool:
    """Whether the SSA may have given out nine digits.

    No area 000, 666 or 900 to 999, no group 00, no serial 0000 (SSA POMS RM 10201.035, and 42 USC
    405's regulations on randomised numbers since 2011).
    """
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    if area in ("000", "666") or area[0] == "9" or group == "00" or serial == "0000":
        return False
    return digits not in NEVER_ISSUED


def could_be_itin(digits: str) -> bool:
    """Whether the IRS may have given out nine digits to who has no social security number.

    A 9 first, and 50 to 65, 70 to 88, 90 to 92 or 94 to 99 in the middle (IRS Internal Revenue
    Manual 3.21.263).
    """
    group = int(digits[3:5])
    return digits[0] == "9" and (
        50 <= group <= 65 or 70 <= group <= 88 or 90 <= group <= 92 or 94 <= group <= 99
    )


def could_be_nino(prefix: str) -> bool:
    """Whether HMRC gives out insurance numbers that begin with two letters.

    D, F, I, Q, U, V are in neither place, O is not in the second; BG, GB, KN, NK, NT, TN, ZZ are
    kept for other things (HMRC National Insurance Manual NIM39110).
    """
    if {*prefix} & {*"DFIQUV"} or prefix[1] == "O":
        return False
    return prefix not in {"BG", "GB", "KN", "NK", "NT", "TN", "ZZ"}


def _read_american(text: str, kind: str) -> Iterator[Finding]:
    """Social security and taxpayer numbers: the layout of both is the same."""
    if kind == "us_ssn":
        pattern, could_be, words = _SSN, could_be_ssn, _SSN_WORDS
    else:
        pattern, could_be, words = _ITIN, could_be_itin, _ITIN_WORDS
    for match in pattern.finditer(text):
        start, end = match.span()
        joint = match[1]
        if _is_tied(text, start, end, joint):
            continue
        if not could_be("".join(filter(str.isdigit, match[0]))):
            continue
        alone = 0.9 if joint not in ("", " ", ".") else 0.6 if joint else 0.0
        confidence = 1.0 if words.around(text, start, end) else alone
        if confidence:
            yield Finding(start, end, kind, confidence)


def _read_nhs(text: str) -> Iterator[Finding]:
    for match in _TEN.finditer(text):
        start, end = match.span()
        digits = "".join(filter(str.isdigit, match[0]))
        if _is_tied(text, start, end, match[1]) or not mod_11_nhs(digits):
            continue
        if len({*digits}) == 1:
            continue
        if _NHS_WORDS.around(text, start, end):
            yield Finding(start, end, "uk_nhs", 1.0)
        elif match[1] == " ":
            yield Finding(start, end, "uk_nhs", 0.5)


def _read_nino(text: str) -> Iterator[Finding]:
    for match in _SIX.finditer(text):
        prefix = _PREFIX.search(text, max(0, match.start() - 4), match.start())
        if prefix is None or letter_or_digit(text, prefix.start() - 1):
            continue
        if not could_be_nino((prefix[1] + prefix[2]).upper()):
            continue
        suffix = _SUFFIX.match(text, match.end())
        start, end = prefix.start(), match.end() if suffix is None else suffix.end()
        if suffix is None and letter_or_digit(text, end):
            continue
        if _NINO_WORDS.around(text, start, end):
            yield Finding(start, end, "uk_nino", 1.0)
        elif suffix is not None:
            yield Finding(start, end, "uk_nino", 0.9 if text[start].isupper() else 0.6)


def _is_tied(text: str, start: int, end: int, joint: str) -> bool:
    """Whether letters, or more digits with the same between, belong to the number."""
    if letter_or_digit(text, start - 1) or letter_or_digit(text, end):
        return True
    if not joint:  # a fraction, or a part of something with dashes
        joint = text[start - 1 : start] if text[start - 1 : start] in (".", "-") else "."
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    return (before[-1:] == joint and before[:1].isdigit()) or (
        after[:1] == joint and after[1:].isdigit()
    )


_GAP: Final = rf" .{DASHES}"
_NINE: Final = Sign(
    rf"(?:^|[^0-9])[0-9]{{3}}[{_GAP}][0-9]{{2}}[{_GAP}][0-9]{{4}}(?:$|[^0-9])"
    f"|{_SSN_WORDS.written()}|{_ITIN_WORDS.written()}",
    plain=has_long_number,
)
"""Nine digits in the layout; on end a word has to be around."""

US_SSN: Final = NumberDetector(
    "us_ssn",
    partial(_read_american, kind="us_ssn"),
    reach=REACH,
    sign=_NINE,
    opens=at_numbers(_GAP, least=9, lead=0, behind=18, most=REACH),
)
"""Finds social security numbers of the United States."""

US_ITIN: Final = attrs.evolve(US_SSN, kind="us_itin", read=partial(_read_american, kind="us_itin"))
"""Finds taxpayer numbers that the United States give to who has no social security number."""

UK_NHS: Final = NumberDetector(
    "uk_nhs",
    _read_nhs,
    reach=REACH,
    sign=Sign(
        rf"(?:^|[^0-9])[0-9]{{3}}[{_GAP}][0-9]{{3}}[{_GAP}][0-9]{{4}}(?:$|[^0-9])"
        f"|{_NHS_WORDS.written()}",
        plain=has_long_number,
    ),
    opens=at_numbers(_GAP, least=10, lead=0, behind=18, most=REACH),
)
"""Finds NHS numbers of the United Kingdom."""

UK_NINO: Final = NumberDetector(
    "uk_nino",
    _read_nino,
    reach=REACH,
    sign=Sign(
        rf"(?:^|[^A-Za-z0-9]|\\[nrt])[A-Za-z] ?[A-Za-z][{_GAP}]?[0-9]{{2}}[{_GAP}]?[0-9]{{2}}"
        rf"[{_GAP}]?[0-9]{{2}}",
        plain=has_digit,
    ),
    opens=at_numbers(_GAP, least=6, lead=4, behind=20, most=REACH),
)
"""Finds National Insurance numbers of the United Kingdom."""
