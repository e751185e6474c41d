"""Passports and driving licences: numbers beside a word that says so, and forms that need none.

The numbers of most countries are any letters and digits, so a word before them has to say what they
are. Two forms speak for themselves: the machine-readable zone of a passport, with five check
digits, and the number on a British driving licence, with its holder's surname and day of birth.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from lamella import Finding
from lamella_middlewares.pii._detect._checksums import mrz_check
from lamella_middlewares.pii._detect._look import Sign
from lamella_middlewares.pii._detect._near import Near
from lamella_middlewares.pii._detect._numbers import (
    NumberDetector,
    has_digit,
    letter_or_digit,
    mentions,
)
from lamella_middlewares.pii._detect._open import last_word

_DIGIT: Final = re.compile(r"[0-9]")
_TOKEN: Final = re.compile(r"[A-Za-z0-9]{1,20}(?:-[A-Za-z0-9]{1,20}){0,6}(?: [0-9]{1,12}){0,3}")
_INITIALS: Final = re.compile(r"(?<![A-Za-z0-9])[A-Z]{1,3} \Z")
_CODE_POINT: Final = re.compile(r"\\(?:u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2})")
"""A letter that is written as an escape, as in quoted JSON: it is no number."""

_WORDS: Final = frozenset({"CNH", "DL", "DLN", "ID", "NO", "NR"})
"""What is written before a number in capitals and is nobody's initials."""
_LONGEST: Final = 24

_MRZ: Final = re.compile(
    r"[A-Z0-9<]{9}[0-9][A-Z<]{3}[0-9]{6}[0-9][MFX<][0-9]{6}[0-9][A-Z0-9<]{14}[0-9<][0-9]"
)
_MRZ_NAME: Final = re.compile(r"P[A-Z<][A-Z<]{42}(?:\r?\n|\\n|[ \t])[ \t]?\Z")
_MRZ_LINE: Final = 44
_BRITISH_LENGTH: Final = 16

_BRITISH: Final = re.compile(
    r"[0-9]([0156][0-9])([0-3][0-9])[0-9]([A-Z][A-Z9][A-Z0-9][A-Z]{2})(?: [0-9]{2})?(?![A-Za-z0-9])"
)
_SURNAME: Final = re.compile(r"[A-Z]{1,5}9{0,4}")

_PASSPORT: Final = Near(
    (
        *("passport", "passports", "passport number", "passport no", "pass no", "pass number"),
        *("reisepass", "reisepassnummer", "passnummer", "pass nr", "passeport", "pasaporte"),
        *("passaporto", "passaporte", "paspoort", "paspoortnummer", "passinumero", "pasnummer"),
        *("pasnr", "passnr", "paszport", "paszportu", "cestovní pas", "číslo pasu", "útlevél"),
        *("pașaport", "pașaportul", "pasaport", "διαβατήριο", "διαβατηρίου", "паспорт"),
        *("паспорта", "загранпаспорт", "جواز السفر", "جواز سفر", "דרכון", "पासपोर्ट"),
        *("หนังสือเดินทาง", "hộ chiếu", "paspor", "パスポート", "旅券", "护照", "護照", "여권"),
    ),
    before=40,
)
_LICENCE: Final = Near(
    (
        *("driver license", "drivers license", "driver's license", "driver\u2019s license"),
        *("driver licence", "drivers licence", "driver's licence", "driver\u2019s licence"),
        *("driving license", "driving licence", "driver lic", "drivers lic", "driver's lic"),
        *("dl", "dln", "dl number", "dl no", "dvla", "driver number", "driver permit"),
        *("führerschein", "führerscheinnummer", "fuehrerschein", "permis de conduire", "permis"),
        *(
            "permiso de conducir",
            "licencia de conducir",
            "licencia de conducción",
            "carnet de conducir",
        ),
        *("carné de conducir", "patente di guida", "patente", "carta de condução", "cnh"),
        *("carteira de motorista", "habilitação", "rijbewijs", "rijbewijsnummer", "ajokortti"),
        *("ajokortin", "kørekort", "førerkort", "körkort", "prawo jazdy", "řidičský průkaz"),
        *("jogosítvány", "vezetői engedély", "permis auto", "ehliyet", "sürücü belgesi"),
        *("άδεια οδήγησης", "водительское удостоверение", "водительские права", "רישיון נהיגה"),
        *("رخصة القيادة", "ड्राइविंग लाइसेंस", "ใบขับขี่", "giấy phép lái xe"),
        *("bằng lái", "運転免許", "運転免許証", "免許証番号", "驾驶证", "驾照", "駕照", "운전면허"),
    ),
    before=40,
)

_PASSPORT_ROOTS: Final = mentions(
    *("passp", "pass n", "pass-n", "pass_n", "passn", "passeport", "passap", "pasap", "paspo"),
    *("reisep", "passin", "pasnu", "pasnr", "paszport", "cestovní", "číslo pasu", "pașap"),
    *("útlevél", "διαβατ", "паспорт", "جواز", "דרכון", "पासपोर्ट", "หนังสือเดินทาง", "hộ chiếu"),
    *("パスポート", "旅券", "护照", "護照", "여권"),
)
_LICENCE_ROOTS: Final = mentions(
    *("driver", "driving l", "drivers", "dl ", "dl:", "dl#", "dl.", "dl-", "dl_", "dln", "dvla"),
    *("führer", "fuehrer", "permis ", "permis:", "conducir", "conducci", "patente", "condução"),
    *("conduire", "cnh", "carteira", "habilitação", "rijbewijs", "ajokort", "kørekort"),
    *("førerkort", "körkort", "jazdy", "průkaz", "jogosítvány", "engedély", "ehliyet", "sürücü"),
    *("οδήγησης", "водительск", "רישיון", "رخصة", "लाइसेंस", "ใบขับขี่", "giấy phép", "bằng lái"),
    *("免許", "驾", "駕", "운전면허"),
)

PASSPORT_REACH: Final = 40 + 2 * _MRZ_LINE + 4
LICENCE_REACH: Final = 40 + 32


def _read_passports(text: str) -> Iterator[Finding]:
    if "<<" in text:
        yield from _read_zones(text)
    if _PASSPORT_ROOTS.within(text):
        for start, end in _tokens(text):
            if could_be_passport(text[start:end]) and _PASSPORT.around(text, start, end):
                yield Finding(start, end, "passport", 0.85)


def _read_zones(text: str) -> Iterator[Finding]:
    """Machine-readable zones of passports: 44 characters under a line with the name.

    ICAO Doc 9303 part 4 (size TD3), 4.2.2: number, nationality, birth, sex, expiry, personal
    number, each with a check digit, and one over all. The line with the name belongs to it.
    """
    for match in _MRZ.finditer(text):
        start, end = match.span()
        line = match[0]
        fields = (line[:10], line[13:20], line[21:28], line[28:43])
        if not all(mrz_check(field[:-1], field[-1]) for field in fields):
            continue
        if not mrz_check(line[:10] + line[13:20] + line[21:43], line[43]):
            continue
        name = _MRZ_NAME.search(text, max(0, start - _MRZ_LINE - 4), start)
        yield Finding(start if name is None else name.start(), end, "passport", 1.0)


def could_be_passport(token: str) -> bool:
    """Whether a passport may have that number.

    Up to nine letters and digits (ICAO Doc 9303 part 4, 4.2.2.2). States print six or more with at
    least five digits or, in Germany and the Netherlands, any mixture of nine.
    """
    number = "".join(filter(str.isalnum, token))
    digits = sum(map(str.isdigit, number))
    if not 6 <= len(number) <= 9:
        return False
    return digits >= 5 or (len(number) == 9 and digits >= 1 and number.isupper())


def _read_licences(text: str) -> Iterator[Finding]:
    """Numbers beside a word, and British ones.

    Those are five letters of the surname filled up with 9, the day of birth as decade, month (50
    more for women), day and year, two initials, and three characters against duplicates (DVLA,
    "Information on driving licences"); an issue number may follow.
    """
    for match in _BRITISH.finditer(text):
        start = match.end(3) - _BRITISH_LENGTH
        surname = text[max(0, start) : start + 5]
        if _SURNAME.fullmatch(surname) is None or letter_or_digit(text, start - 1):
            continue
        if len(surname) == 5 and 1 <= int(match[1]) % 50 <= 12 and 1 <= int(match[2]) <= 31:
            yield Finding(start, match.end(), "driver_licence", 0.95)
    if not _LICENCE_ROOTS.within(text):
        return
    for start, end in _tokens(text):
        if could_be_licence(text[start:end]) and _LICENCE.around(text, start, end):
            yield Finding(start, end, "driver_licence", 0.8)


def could_be_licence(token: str) -> bool:
    """Whether a licence may have that number.

    5 to 19 letters and digits (AAMVA DL/ID Card Design Standard, annex D, and the formats of states
    and countries), with four digits or, as in Washington, twelve characters in all.
    """
    number = "".join(filter(str.isalnum, token))
    digits = sum(map(str.isdigit, number))
    return 5 <= len(number) <= 19 and (digits >= 4 or (digits >= 1 and len(number) == 12))


def _tokens(text: str) -> Iterator[tuple[int, int]]:
    """Words with a digit in them: with hyphens inside, groups of digits behind, initials before."""
    found = _DIGIT.search(text)
    while found is not None:
        start = found.start()
        while start > 0 and found.start() - start < _LONGEST and _is_inner(text, start - 1):
            start -= 1
        token = _TOKEN.match(text, start)
        end = found.end()
        if token is not None and token.end() > found.start():
            end = token.end()
            initials = _INITIALS.search(text, max(0, start - 5), start)
            if initials is not None and initials[0].rstrip() in _WORDS:
                initials = None
            if (
                not letter_or_digit(text, start - 1)
                and not letter_or_digit(text, end)
                and _CODE_POINT.match(text, max(0, start - 1)) is None
            ):
                yield start if initials is None else initials.start(), end
        found = _DIGIT.search(text, end)


def _is_inner(text: str, index: int) -> bool:
    """Whether a character may be inside a word; the `n` of an escaped line break is not."""
    character = text[index]
    if not character.isascii():
        return False
    return character == "-" or letter_or_digit(text, index)


_OPEN: Final = re.compile(r"(?<![A-Za-z0-9-])(?:[A-Z]{1,3} )?[A-Za-z0-9-]*(?: [0-9]{0,12}){0,4}\Z")
"""The last word, as far as a number may still begin with it or go on behind it."""


def _opens(text: str) -> int:
    first = max(0, len(text) - LICENCE_REACH)
    # Looked for from the initials before the last word on, whatever digits are behind that.
    space = text.rfind(" ", first, len(text.rstrip(" 0123456789")))
    found = _OPEN.search(text, max(first, space - 3))
    return first if found is None else found.start()


def _opens_passport(text: str) -> int:
    if "<" in text[-2 * _MRZ_LINE - 4 :]:
        return max(0, len(text) - 2 * _MRZ_LINE - 4)
    return min(_opens(text), last_word(text, _MRZ_LINE))


PASSPORT: Final = NumberDetector(
    "passport",
    _read_passports,
    reach=PASSPORT_REACH,
    sign=Sign(
        f"<<|{_PASSPORT_ROOTS.expression}",
        plain=lambda text: "<<" in text or _PASSPORT_ROOTS.within(text),
    ),
    opens=_opens_passport,
)
"""Finds numbers and machine-readable zones of passports."""

DRIVER_LICENCE: Final = NumberDetector(
    "driver_licence",
    _read_licences,
    reach=LICENCE_REACH,
    sign=Sign(
        f"[A-Z9]{{5}}[0-9]{{6}}[A-Z]|{_LICENCE_ROOTS.expression}",
        plain=has_digit,
    ),
    opens=_opens,
)
"""Finds numbers of driving licences."""
