"""Payment cards: 12 to 19 digits with the Luhn check digit and an issuer's first digits.

The number is read as people write it: in one piece, or in groups with the same separator between
(fours; 4-6-5 and 4-6-4 of American Express and Diners; groups of any other size when the number
stands by itself). One number in ten has a right check digit by chance, so its first digits have to
be an issuer's (ISO/IEC 7812-1: the issuer identification number), at a length that this issuer
gives out; beside a word such as "card", any issuer will do.

Not found: numbers with digits missing or masked, and test numbers whose check digit is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from lamella import Finding
from lamella_middlewares.pii._detect._checksums import luhn
from lamella_middlewares.pii._detect._look import Sign
from lamella_middlewares.pii._detect._near import Near
from lamella_middlewares.pii._detect._numbers import (
    DASHES,
    NumberDetector,
    group_spans,
    has_long_number,
    letter_or_digit,
)
from lamella_middlewares.pii._detect._open import at_numbers

_Lengths = frozenset[int]

_ANY: Final = frozenset(range(12, 20))
_16_TO_19: Final = frozenset(range(16, 20))
_16: Final = frozenset({16})

ISSUERS: Final[tuple[tuple[str, str, _Lengths], ...]] = (
    ("1800", "1800", frozenset({15})),  # JCB, before 1989
    ("2131", "2131", frozenset({15})),  # JCB, before 1989
    ("2200", "2205", _16_TO_19),  # Mir; 2205 Borica
    ("2221", "2720", _16),  # Mastercard, since 2017
    ("300", "305", frozenset({14, 16, 17, 18, 19})),  # Diners Club
    ("3095", "3095", frozenset({14, 16, 17, 18, 19})),  # Diners Club
    ("34", "34", frozenset({15})),  # American Express
    ("3528", "3589", _16_TO_19),  # JCB, RuPay (353, 356), LankaPay (357111)
    ("36", "36", frozenset({14, 15, 16, 17, 18, 19})),  # Diners Club International
    ("37", "37", frozenset({15})),  # American Express
    ("38", "39", frozenset({14, 16, 17, 18, 19})),  # Diners Club
    ("4", "4", frozenset({13, 16, 19})),  # Visa, and the national schemes beside it
    ("4903", "4905", frozenset({16, 18, 19})),  # Switch
    ("4911", "4911", frozenset({16, 18, 19})),  # Switch
    ("4936", "4936", frozenset({16, 18, 19})),  # Switch
    ("5018", "5018", _ANY),  # Maestro
    ("5019", "5019", _16),  # Dankort
    ("5020", "5020", _ANY),  # Maestro
    ("5038", "5038", _ANY),  # Maestro
    ("506099", "506198", frozenset({16, 18, 19})),  # Verve
    ("506699", "506778", _16),  # Elo
    ("507865", "507964", frozenset({16, 18, 19})),  # Verve
    ("508", "508", _16),  # RuPay
    ("509", "509", _16),  # Elo
    ("51", "55", _16),  # Mastercard
    ("5614", "5614", _16),  # Uzcard
    ("5893", "5893", _ANY),  # Maestro
    ("60", "60", _16),  # RuPay, Discover (6011), Hipercard (606282), UkrCard (604)
    ("6011", "6011", _16_TO_19),  # Discover
    ("62", "62", _16_TO_19),  # UnionPay, Discover
    ("6304", "6304", _ANY),  # Maestro, Laser
    ("636", "639", _16_TO_19),  # InterPayment, InstaPayment, Elo, Hipercard
    ("644", "649", _16_TO_19),  # Discover
    ("65", "65", _16_TO_19),  # Discover, RuPay, Verve, Troy, Elo
    ("6706", "6709", _16_TO_19),  # Laser
    ("6759", "6763", _ANY),  # Maestro
    ("6767", "6767", _ANY),  # Maestro, Solo
    ("6771", "6771", _16_TO_19),  # Laser
    ("81", "82", _16_TO_19),  # UnionPay, RuPay
    ("8600", "8600", _16),  # Uzcard
    ("9704", "9704", frozenset({16, 19})),  # Napas
    ("9792", "9792", _16),  # Troy
    ("9860", "9860", _16),  # Humo
)
"""First digits from, to, and the lengths given out: as the schemes publish them."""

DEBIT: Final = (("50", "50"), ("56", "58"), ("6", "6"))
"""What Mastercard set aside for Maestro: 12 to 19 digits. So much of it was given to nobody, or to
others, that a number there is a card less surely."""

_WORDS: Final = Near(
    (
        *("card", "cards", "cc", "ccn", "credit", "debit", "prepaid", "visa", "mastercard", "amex"),
        *("american express", "maestro", "diners", "discover", "jcb", "unionpay", "rupay", "mir"),
        *("verve", "troy", "elo", "carte", "tarjeta", "cartão", "cartao", "carta", "karte"),
        *("kreditkarte", "kreditkarten", "kreditkartennummer", "bankkarte", "debitkarte"),
        *("kartennummer", "kaart", "creditcard", "creditcardnummer", "kaartnummer", "kort"),
        *("kortnummer", "kreditkort", "kortti", "luottokortti", "karta", "karty", "kartu", "kart"),
        *("kártya", "bankkártya", "карта", "карты", "карту", "картой", "картка", "بطاقة", "כרטיס"),
        *("कार्ड", "บัตร", "カード", "卡号", "信用卡", "银行卡", "卡號", "카드"),
    ),
    before=48,
    after=24,
)

_STANDARD: Final = frozenset(
    {(4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (6, 13), (4, 4, 4, 1), (4, 4, 5)}
)
_RUN: Final = re.compile(rf"[0-9](?:(?:[ \t._/{DASHES}]{{0,3}}|\r?\n)[0-9]){{11,}}")
_BREAKS: Final = frozenset(("\n", "\r\n"))
_JOINTS: Final = _BREAKS | frozenset(
    (" ", "  ", "\t", ".", "_", "/", " - ", *DASHES.replace("\\", ""))
)
_TIGHT: Final = frozenset((".", "_", "/", *DASHES.replace("\\", "")))

REACH: Final = 48 + 19 + 18 * 3 + 24 + 2
"""Context, 19 digits with separators of three characters, context, and what touches it."""


def issued(digits: str) -> bool | None:
    """Whether an issuer gives out numbers like this one; None where that is not sure (Maestro).

    Args:
        digits: 12 to 19 digits.
    """
    length = len(digits)
    for low, high, lengths in ISSUERS:
        if low <= digits[: len(low)] <= high and length in lengths:
            return True
    return None if any(low <= digits[: len(low)] <= high for low, high in DEBIT) else False


def _read(text: str) -> Iterator[Finding]:
    for run in _RUN.finditer(text):
        groups = group_spans(text, run.start(), run.end())
        joints = [text[a[1] : b[0]] for a, b in pairwise(groups)]
        for first in range(len(groups)):
            yield from _from_group(text, groups, joints, first)


def _from_group(
    text: str, groups: list[tuple[int, int]], joints: list[str], first: int
) -> Iterator[Finding]:
    """The numbers that begin with one group of a run."""
    start = groups[first][0]
    if letter_or_digit(text, start - 1):
        return
    count = 0
    for last in range(first, len(groups)):
        if last > first and joints[last - 1] not in _JOINTS:
            return
        count += groups[last][1] - groups[last][0]
        if count > 19:
            return
        if count >= 12 and _is_grouped(groups, joints, first, last):
            end = groups[last][1]
            confidence = _confidence(text, start, end)
            if confidence and not letter_or_digit(text, end):
                yield Finding(start, end, "card", confidence)
        elif last == first and first and joints[first - 1] in _JOINTS and count != 4:
            return  # in the middle of other groups, only a number in fours can begin


def _is_grouped(groups: list[tuple[int, int]], joints: list[str], first: int, last: int) -> bool:
    """Whether groups `first` to `last` are one number, and not a part of a longer one."""
    inner = joints[first:last]
    around = {*joints[max(0, first - 1) : first], *joints[last : last + 1]}
    if not inner:  # in one piece: what a hyphen or a point ties to other digits is another thing
        return not around & _TIGHT
    if len(inner) > 1 and not _BREAKS.isdisjoint(inner):  # at the end of a line, one may be broken
        inner = [joint for joint in inner if joint not in _BREAKS]
        if len(inner) < last - first - 1:
            return False
    lengths = tuple(end - start for start, end in groups[first : last + 1])
    if lengths in _STANDARD:
        return not around & _TIGHT & {*inner}
    if len({*inner}) > 1 or inner[0] in around:
        return False
    if not any(size % 4 for size in lengths):  # fours that have run into each other
        return True
    *most, least = lengths
    if len({*most}) > 1 or (len(most) == 1 and least != most[0]):
        return False
    return 1 < least <= most[0] + 1 or max(lengths) == 1  # a last digit alone joins the others


def _confidence(text: str, start: int, end: int) -> float:
    digits = "".join(filter(str.isdigit, text[start:end]))
    if not luhn(digits) or len({*digits}) == 1:
        return 0.0
    known = issued(digits)
    is_broken = "\n" in text[start:end]  # columns of numbers are: a word has to say that it is one
    if known and not is_broken:
        return 0.95
    if _WORDS.around(text, start, end):
        return 0.85 if known is False else 0.95
    return 0.6 if known is None and not is_broken else 0.0


_GAP: Final = rf" \t\r\n._/{DASHES}"

CARD: Final = NumberDetector(
    "card",
    _read,
    reach=REACH,
    sign=Sign(rf"[0-9](?:[{_GAP}]{{0,3}}[0-9]){{11}}", plain=has_long_number),
    opens=at_numbers(_GAP, least=12, lead=0, behind=26, most=REACH),
)
"""Finds numbers of payment cards."""
