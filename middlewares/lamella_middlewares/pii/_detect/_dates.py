"""Dates of birth: dates of the calendar, in the ways they are written, beside a word of birth.

A date alone says nothing about anybody. Not found, then: a date of birth that only its sense tells
("it has been like that since 3/29/1982"), a year alone, and ages.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator
from typing import Final

from lamella import Finding
from lamella_middlewares.pii._detect._near import Near
from lamella_middlewares.pii._detect._numbers import (
    DASHES,
    DIGITS,
    NumberDetector,
    letter_or_digit,
    mentions,
)

_NAMES: Final = """
january jan janv janvier januari januar enero ene gennaio gen janeiro leden ledna stycznia января
янв

february feb février févr fév februari februar febrero febbraio fevereiro fev února lutego февраля
фев

march mar mars märz mrz marzo março maart marts března marca марта мар

april apr avril avr abril abr aprile dubna kwietnia апреля апр

may mai mayo maio maggio mag mei maj května maja мая май

june jun juin junio junho giugno giu juni června czerwca июня июн

july jul juillet juil julio julho luglio lug juli července lipca июля июл

august aug août agosto ago augustus augusti srpna sierpnia августа авг

september sep sept septembre septiembre setembro settembre set září września сентября сен

october oct octobre octubre outubro out ottobre ott oktober okt října października октября окт

november nov novembre noviembre novembro listopadu listopada ноября ноя

december dec décembre déc diciembre dic dezembro dezember dez dicembre prosince grudnia декабря
дек
"""
MONTHS: Final = {
    name: month for month, names in enumerate(_NAMES.split("\n\n"), 1) for name in names.split()
}
"""Names of months and their short forms, in lower case."""

EARLIEST: Final = 1880
"""The year that nobody who is spoken of with care was born before."""

_LATEST: Final = 2099
"""Today is not known here, and a text may be read long after."""

_MONTH: Final = "|".join(sorted(MONTHS, key=len, reverse=True))
_YEAR: Final = "(?:1[89]|20)[0-9]{2}"
_DATE: Final = re.compile(
    rf"(?P<y>{_YEAR}) ?[年년] ?(?P<m>[0-9]{{1,2}}) ?[月월] ?(?P<d>[0-9]{{1,2}}) ?[日일]"
    rf"|(?P<first>[0-9]{{1,4}})(?P<joint>\. |[ ./{DASHES}])(?P<second>[0-9]{{1,2}})(?P=joint)"
    r"(?P<third>[0-9]{4}|[0-9]{2})(?![0-9])"
    r"|(?P<day>[0-9]{1,2})(?:st|nd|rd|th|er|º|ª|\.)?[ -]?(?:(?:of|de|di) )?"
    rf"(?P<month>{_MONTH})[.,]{{0,2}}[ -]?(?:(?:de|del) )?(?P<year>{_YEAR}|'?[0-9]{{2}})"
    r"(?![0-9])"
    rf"|(?P<behind>[0-9]{{1,2}})(?:st|nd|rd|th)?,? (?P<last>{_YEAR})(?![0-9])"
    rf"|(?P<written>{_YEAR}[01][0-9][0-3][0-9])(?![0-9])",
    re.IGNORECASE,
)
_MONTH_BEFORE: Final = re.compile(r"([^\W\d_]{3,12})\.? (?:the )?\Z")

_BEHIND: Final = 14
_WORDS: Final = Near(
    (
        *("born", "birth", "birthday", "birthdate", "birth day", "date of birth", "dob", "d.o.b."),
        *("bday", "b-day", "birthdays", "newborn", "née", "né", "nées", "naissance"),
        *("date de naissance", "naquit", "geboren", "geb", "geburtsdatum", "geburtstag", "geburt"),
        *("nacimiento", "fecha de nacimiento", "nacido", "nacida", "nació", "cumpleaños", "nato"),
        *("nata", "nascita", "data di nascita", "compleanno", "nascimento", "nascido", "nascida"),
        *("aniversário", "geboortedatum", "geboorte", "verjaardag", "født", "fødselsdato", "född"),
        *("födelsedatum", "fødselsdag", "födelsedag", "syntynyt", "syntymäaika", "urodzony"),
        *("urodzona", "urodzenia", "narozen", "narozena", "narození", "született", "születési"),
        *("născut", "născută", "nașterii", "doğum", "doğum tarihi", "doğumlu", "γέννησης"),
        *("γεννήθηκε", "родился", "родилась", "рождения", "народився", "ميلاد", "الميلاد"),
        *("مواليد",),
        *("לידה", "जन्म", "जन्मतिथि", "วันเกิด", "ngày sinh", "sinh ngày", "lahir", "tanggal lahir"),
        *("生年月日", "誕生日", "生まれ", "出生", "出生日期", "生日", "생년월일", "생일"),
    ),
    before=40,
    after=_BEHIND,
)

_ROOTS: Final = mentions(
    *("born", "birth", "dob", "d.o.b", "bday", "b-day", "née", "né ", "né(", "nais", "naquit"),
    *("geb", "nacim", "nacid", "nació", "cumplea", "nato", "nata", "nasci", "complea"),
    *("aniver", "verjaar", "fød", "föd", "synty", "urodz", "naroz", "szület", "născut", "naște"),
    *("doğum", "γέννησ", "γεννήθ", "родил", "рожден", "народи", "ميلاد", "مواليد", "לידה", "जन्म"),
    *("วันเกิด", "sinh", "lahir", "生", "생"),
)

REACH: Final = 40 + 40 + 14


def _read(text: str) -> Iterator[Finding]:
    done = 0
    for digits in DIGITS.finditer(text):
        start = digits.start()
        if start < done or _is_tied(text, start):
            continue
        match = _DATE.match(text, start)
        if match is None or not is_date(match) or _goes_on(text, match.end()):
            continue
        if match["behind"]:
            month = _MONTH_BEFORE.search(text, max(0, start - 18), start)
            if month is None or month[1].lower() not in MONTHS:
                continue
            start = month.start()
        if _WORDS.around(text, start, match.end()):
            done = match.end()
            yield Finding(start, done, "date_of_birth", 0.95)


def _is_tied(text: str, start: int) -> bool:
    """Whether digits belong to a word or a number that begins before them."""
    if letter_or_digit(text, start - 1):
        return True
    return start > 1 and text[start - 1] in "./-" and text[start - 2].isdigit()


def _goes_on(text: str, end: int) -> bool:
    """Whether more belongs to the last word of a date; a time of day (ISO 8601) is a new one."""
    is_time = text[end : end + 1] in "Tt" and text[end + 1 : end + 2].isdigit()
    return letter_or_digit(text, end) and not is_time


def is_date(match: re.Match[str]) -> bool:
    """Whether what is written like a date is a day of the calendar, in any order of its parts."""
    if match["y"]:
        return _is_day(match["y"], match["m"], match["d"])
    if match["first"]:
        first, second, third = match["first"], match["second"], match["third"]
        if len(first) > 2:
            return len(first) == 4 and len(third) == 2 and _is_day(first, second, third)
        return _is_day(third, second, first) or _is_day(third, first, second)
    if match["month"]:
        month = MONTHS.get(match["month"].lower())
        return month is not None and _is_day(match["year"].lstrip("'"), str(month), match["day"])
    if match["written"]:
        return _is_day(match["written"][:4], match["written"][4:6], match["written"][6:])
    return 1 <= int(match["behind"]) <= 31


def _is_day(year: str, month: str, day: str) -> bool:
    """Whether there is such a day; a year of two digits is any that ends so."""
    number = int(year) if len(year) == 4 else 2000
    if not (EARLIEST <= number <= _LATEST and 1 <= int(month) <= 12 and int(day) >= 1):
        return False
    leap = len(year) == 2 or calendar.isleap(number)
    return int(day) <= (29 if int(month) == 2 and leap else _DAYS[int(month)])


_DAYS: Final = (0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

_LEAD: Final = 18
_LONGEST: Final = 48
"""Characters of a date from its first digit on, and those behind that say what date it is."""

_BEGUN: Final = re.compile(
    rf"[0-9]{{1,4}}(?:st|nd|rd|th|er|º|ª)?[ .,/{DASHES}년年]{{0,3}}(?:(?:of|de|di) )?"
    rf"(?:[^\W\d_]{{1,12}}[.,]{{0,2}}[ -]?(?:(?:de|del) )?)?'?[0-9 ./{DASHES}월月일日]*\Z",
    re.IGNORECASE,
)
"""What there may be of a date at the end of a text that goes on."""


def _opens(text: str) -> int:
    length = len(text)
    place = length
    for digits in DIGITS.finditer(text, max(0, length - _LONGEST)):
        date = _DATE.match(text, digits.start())
        if _BEGUN.match(text, digits.start()) or (date and date.end() + _BEHIND + 2 >= length):
            place = digits.start()
            break
    return max(0, place - _LEAD)


DATE_OF_BIRTH: Final = NumberDetector(
    "date_of_birth", _read, reach=REACH, sign=_ROOTS, opens=_opens
)
"""Finds dates of birth."""
