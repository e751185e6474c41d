"""Postal addresses: what their form tells, and what it does not."""

from __future__ import annotations

import pytest
from detecting import ENGINES, engine
from hypothesis import given
from hypothesis import strategies as st

from lamella_middlewares.pii._detect._address import POSTAL_ADDRESS
from lamella_middlewares.pii._detect._address_forms import STATES


def _found(text: str) -> list[str]:
    return [text[finding.start : finding.end] for finding in POSTAL_ADDRESS.find(text)]


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize(
    "address",
    [
        "221B Baker Street",
        "10 Downing St",
        "350 Fifth Avenue",
        "1600 Pennsylvania Avenue NW, Washington, DC 20500",
        "45 W 34th St Apt 5B, New York, NY 10001",
        "4605 Harley Brook Lane\nSuite 730\nAltoona, PA 16602",
        "221B Baker Street, London NW1 6XE",
        "24 Sussex Drive, Ottawa, ON K1M 1M4",
        "12-14 O'Connell Road",
        "12 rue de la Paix, 75002 Paris",
        "3 bis Avenue Foch",
        "82 Rue Beauvau",
        "Calle Mayor 12",
        "Calle de Alcalá, 48",
        "Via Roma, 5",
        "Rua Segundo Gregório Bellodi 1237",
        "ul. Zamkowa 33, 62-800 Kalisz",
        "Hauptstraße 5, 10115 Berlin",
        "Bahnhofstr. 12a",
        "Linzer Strasse 69",
        "Kalverstraat 92, 1012 PH Amsterdam",
        "Olmstraat 69",
        "Kungsgatan 44",
        "P.O. Box 255",
        "PO Box 1234, Austin, TX 78701",
        "Postfach 12",
        "APO AE 09012-1234",
        "San Antonio, TX 78205-1234",
        "SW1A 1AA",
        "M1 1AE",
        "SW1A1AA",
        "K1A 0B1",
        "H0H0H0",
    ],
)
def test_addresses_are_found(address: str, name: str) -> None:
    """Streets with numbers, boxes, towns with codes: found whole, in several countries' forms."""
    with engine(name):
        for text in (address, f"send it to {address} please", f"({address})", f"at: {address}\n"):
            assert _found(text) == [address], text


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("My zip code is 78205", "78205"),
        ("ZIP: 78205-1234", "78205-1234"),
        ("postcode 2830", "2830"),
        ("PLZ 10115", "10115"),
        ("postal_code: 533 41", "533 41"),
        ("CEP 13224-110", "13224-110"),
        ("邮编100000。", "100000"),
    ],
)
def test_codes_are_found_beside_a_word(text: str, code: str, name: str) -> None:
    """A code is any number until a word says what it is."""
    with engine(name):
        assert _found(text) == [code]


def test_names_in_lower_case_need_a_word() -> None:
    """In lower case, one name and a plain type are a street where somebody lives."""
    assert _found("i live at 12 baker street") == ["12 baker street"]
    assert _found("it took 12 baker street signs") == []
    assert _found("my address is 5 minutes down the road") == []


@pytest.mark.parametrize(
    "text",
    [
        "5 minutes down the road",
        "12 people were in the street",
        "GPT 4 Turbo drive",
        "In 2024 Apple Park opened",
        "the year 78205",
        "78205",
        "Windows 11 is in place",
        "version 3 of Drive",
        "Arbeitsplatz 3",
        "log in via Zoom 5",
        "room 12 Main",
        "XX 12345",
        "QQ1 1AA",
        "A1B 2C",
        "box 3 of 4",
        "",
    ],
)
def test_other_words_and_numbers_are_not(text: str) -> None:
    """Words of streets in other senses, and codes that nobody gives out, are none."""
    assert _found(text) == []


@given(
    number=st.integers(1, 99_999),
    name=st.sampled_from(["Oak", "St. John", "Martin Luther King", "North 5th", "O'Hara"]),
    kind=st.sampled_from(["Street", "St.", "Ave", "Road", "Blvd", "Lane", "Court", "Way"]),
    town=st.sampled_from(["Springfield", "New York", "Winston-Salem"]),
    state=st.sampled_from(sorted(STATES)),
    code=st.integers(501, 99_950),
)
def test_american_addresses_are_found_whole(
    number: int, name: str, kind: str, town: str, state: str, code: int
) -> None:
    """Any number, name and type, with town, state and ZIP code behind, is one finding."""
    address = f"{number} {name} {kind}, {town}, {state} {code:05}"
    assert _found(f"Ship to {address}.") == [address]
    assert _found(f"Ship to {address.replace(', ', chr(10), 1)}.")[0].startswith(f"{number} {name}")


@given(st.text(st.sampled_from("0123456789 ,.\nABCabc") | st.sampled_from("éß号"), max_size=60))
def test_findings_are_in_the_text(text: str) -> None:
    """Findings are spans of the text from left to right that do not overlap."""
    end = 0
    for finding in POSTAL_ADDRESS.find(text):
        assert end <= finding.start < finding.end <= len(text)
        end = finding.end
