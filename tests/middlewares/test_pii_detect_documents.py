"""Passports and driving licences: words around them, and forms that need none."""

from __future__ import annotations

import pytest
from detecting import ENGINES, engine
from hypothesis import given
from hypothesis import strategies as st

from lamella import Detector
from lamella_middlewares.pii._detect._documents import DRIVER_LICENCE, PASSPORT
from lamella_middlewares.pii._detect._scanner import Scanner

NAME = "P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<"
LINE = "L898902C36UTO7408122F1204159ZE184226B<<<<<10"


def _found(detector: Detector, text: str) -> list[str]:
    return [text[f.start : f.end] for f in Scanner([detector]).scan(text)]


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Passport No: 533401372", "533401372"),
        ("my passport is AB 1234567.", "AB 1234567"),
        ("passport number X1234567", "X1234567"),
        ("passportNumber: X1234567", "X1234567"),
        ('{"passport_number": "12AB34567"}', "12AB34567"),
        ("Reisepass C01X00T47", "C01X00T47"),
        ("Pasaporte: AAA123456", "AAA123456"),
        ("n° de passeport 12AB34567", "12AB34567"),
        ("паспорт 75 1234567", "75 1234567"),
        ("护照号码G12345678。", "G12345678"),
        ("Passport:\\nX1234567\\n", "X1234567"),
    ],
)
def test_passports_are_found_beside_a_word(text: str, number: str, name: str) -> None:
    """A word in one of many languages, and up to nine letters and digits behind it."""
    with engine(name):
        assert _found(PASSPORT, text) == [number]


@pytest.mark.parametrize(
    "text",
    [
        "533401372",
        "X1234567",
        "passport by 2024, please",
        "passport 12345",
        "passport 1234567890123",
        "the passenger 533401372",
        "compass 533401372",
        "passport" + " and on" * 12 + " 533401372",
        "passport EXPEDITED",
    ],
)
def test_other_numbers_are_no_passports(text: str) -> None:
    """Without the word, far from it, or of another length, it is none."""
    assert _found(PASSPORT, text) == []


def test_a_machine_readable_zone_is_found_with_its_name() -> None:
    """The specimen of ICAO Doc 9303 is found with the line above, which has the holder's name."""
    assert _found(PASSPORT, f"scan:\n{NAME}\n{LINE}\nend") == [f"{NAME}\n{LINE}"]
    assert _found(PASSPORT, f"{LINE}") == [LINE]


@given(place=st.integers(0, 43), by=st.integers(1, 9))
def test_a_wrong_digit_makes_it_no_zone(place: int, by: int) -> None:
    """With one of its digits changed, the line is no zone."""
    if not LINE[place].isdigit():
        return
    wrong = LINE[:place] + str((int(LINE[place]) + by) % 10) + LINE[place + 1 :]
    assert _found(PASSPORT, wrong) == []


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("My driver's license number is S530-460-99-424-0", "S530-460-99-424-0"),
        ("driver\u2019s licence: 92RPI23272", "92RPI23272"),
        ("driving licence no 12345678", "12345678"),
        ("DL# A1234567", "A1234567"),
        ("DL: WDLABCD456DG", "WDLABCD456DG"),
        ("Führerschein B072RRE2I55", "B072RRE2I55"),
        ("permis de conduire 12AA34567", "12AA34567"),
        ("patente di guida AB1234567C", "AB1234567C"),
        ("driversLicense=D1234567", "D1234567"),
    ],
)
def test_licences_are_found_beside_a_word(text: str, number: str, name: str) -> None:
    """A word that says so, and the letters and digits of any state behind it."""
    with engine(name):
        assert _found(DRIVER_LICENCE, text) == [number]


@pytest.mark.parametrize(
    "text",
    [
        "MORGA657054SM9IJ",
        "MORGA657054SM9IJ 35",
        "AB999657054SM9IJ",
        "JONES061102W97YT",
        "(SMITH711215J99AB)",
    ],
)
def test_british_licences_need_no_word(text: str) -> None:
    """The surname, the day of birth and the initials make their form."""
    assert _found(DRIVER_LICENCE, text) == [text.strip("()")]


@pytest.mark.parametrize(
    "text",
    [
        "S530-460-99-424-0",
        "license plate 12345678",
        "MORGA637054SM9IJ",  # month 37
        "MORGA657324SM9IJ",  # day 32
        "XMORGA657054SM9IJ",
        "MORG9A57054SM9IJ",
        "the driver has 4 cars",
        r"driver\u2019s license, and K\u00f8rekort \u0031234",
        "__3a4dL1-1b0jn 28569",
        "handle 12345678",
    ],
)
def test_other_words_are_no_licences(text: str) -> None:
    """Without a word, or with a day that is none, there is no licence."""
    assert _found(DRIVER_LICENCE, text) == []


@given(st.text(st.sampled_from("passport dl:AB019-\\n<é号"), max_size=60))
def test_both_engines_find_the_same(text: str) -> None:
    """With RE2 and without, findings are the same, and end at the ends of words."""
    for detector in (PASSPORT, DRIVER_LICENCE):
        results: list[list[str]] = []
        for name in ENGINES:
            with engine(name):
                results.append(_found(detector, text))
        assert results[0] == results[-1]
