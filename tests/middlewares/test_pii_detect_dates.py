"""Dates of birth: the calendar, the ways to write a day, and the words around."""

from __future__ import annotations

import datetime as dt

import pytest
from detecting import ENGINES, engine
from hypothesis import given
from hypothesis import strategies as st

from lamella_middlewares.pii._detect._dates import DATE_OF_BIRTH, EARLIEST, MONTHS
from lamella_middlewares.pii._detect._scanner import Scanner

FORMS = (
    "%Y-%m-%d",
    "%d.%m.%Y",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%d/%m/%y",
    "%Y/%m/%d",
    "%Y%m%d",
    "%d %B %Y",
    "%d %b %Y",
    "%B %d, %Y",
    "%b. %d, %Y",
    "%d-%b-%Y",
    "%Y年%m月%d日",
)
DAYS = st.dates(dt.date(EARLIEST, 1, 1), dt.date(2099, 12, 31))


def _found(text: str) -> list[str]:
    return [text[f.start : f.end] for f in Scanner([DATE_OF_BIRTH]).scan(text)]


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("Please note my date of birth. It's 3/29/1982", "3/29/1982"),
        ("born on 3/29/1982.", "3/29/1982"),
        ("DOB: 1984-05-03", "1984-05-03"),
        ("D.O.B. 03-MAY-1984", "03-MAY-1984"),
        ("born May 3rd, 1984", "May 3rd, 1984"),
        ("born on the 3rd of May 1984", "3rd of May 1984"),
        ("3 May 1984 (DOB)", "3 May 1984"),
        ("date_of_birth: 19840503", "19840503"),
        ("dateOfBirth=1984-05-03T00:00:00Z", "1984-05-03"),
        ("Birthday:\\n5/3/84\\n", "5/3/84"),
        ("née le 3 mai 1984", "3 mai 1984"),
        ("geboren am 3. Mai 1984", "3. Mai 1984"),
        ("geb. 3.5.84", "3.5.84"),
        ("Geburtsdatum: 03. 05. 1984", "03. 05. 1984"),
        ("nacido el 3 de mayo de 1984", "3 de mayo de 1984"),
        ("nato il 3 maggio 1984", "3 maggio 1984"),
        ("родился 3 мая 1984", "3 мая 1984"),
        ("生年月日1984年5月3日", "1984年5月3日"),
        ("생년월일: 1984년 5월 3일", "1984년 5월 3일"),
        ("born 29 February 2000", "29 February 2000"),
    ],
)
def test_dates_of_birth_are_found(text: str, date: str, name: str) -> None:
    """A day of the calendar is found beside a word of birth, in many languages."""
    with engine(name):
        assert _found(text) == [date]


@pytest.mark.parametrize(
    "text",
    [
        "3/29/1982",
        "the meeting of 1984-05-03",
        "born in 1984",
        "born 31/02/1984",
        "born 29 February 1900",
        "born 13/13/1984",
        "born 1984-00-10",
        "born 3 Mayor 1984",
        "born 12.5.1.84",
        "reborn 3/29/1982",
        "stubborn 3/29/1982",
        "born" + " and" * 20 + " 3/29/1982",
        "born 03/05/1684",
        "born a3/29/1982",
        "born 5 apples",
    ],
)
def test_other_days_are_not(text: str) -> None:
    """Without a word, or where the calendar has no such day, nothing is found."""
    assert _found(text) == []


def test_what_is_no_date_hides_none() -> None:
    """A number before a date, and a word between, do not take it away."""
    assert _found("born at 5 pounds 2012-05-03") == ["2012-05-03"]
    assert _found("born 31/02/1984, sorry, 3/2/1984") == ["3/2/1984"]


@given(day=DAYS, form=st.sampled_from(FORMS))
def test_each_day_is_found(day: dt.date, form: str) -> None:
    """Every day that people are born on is found, in all ways to write it."""
    written = day.strftime(form)
    assert _found(f"DOB {written}, ok") == [written]


@given(day=DAYS, form=st.sampled_from(FORMS))
def test_a_day_alone_is_none(day: dt.date, form: str) -> None:
    """Without a word of birth, a day is a day."""
    assert _found(f"On {day.strftime(form)}, ok") == []


def test_months_have_one_number() -> None:
    """There are names for the twelve months, in lower case."""
    assert {*MONTHS.values()} == {*range(1, 13)}
    assert all(name == name.lower() for name in MONTHS)
