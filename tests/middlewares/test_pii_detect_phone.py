"""Telephone numbers: signs, layouts, words, and the package that knows them."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella_middlewares.pii._detect import _phone_registry
from lamella_middlewares.pii._detect._phone import PHONE
from lamella_middlewares.pii._detect._phone_plans import calling_codes, national_lengths
from lamella_middlewares.pii._detect._phone_run import GAP, runs


@pytest.fixture(params=["phonenumbers", "own"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the package `phonenumbers`, and as if it were not installed."""
    if request.param == "own":
        monkeypatch.setattr(_phone_registry, "_package", lambda: None)
    return str(request.param)


def _found(text: str) -> list[str]:
    return [text[finding.start : finding.end] for finding in PHONE.find(text)]


@pytest.mark.parametrize(
    "number",
    [
        "+41 79 123 45 67",
        "+41 (0)79 123 45 67",
        "+1-415-555-2671",
        "+1 (415) 555-2671",
        "+14155552671",
        "(+44) 20 7946 0958",
        "+44(0)7700 900123",
        "+49 (0)89 60 25 65",
        "+919876543210",
        "+46 (0)8 123 456 78",
        "+55 11 91234-5678",
        "+852 9123 4567",
        "001-415-555-2671",
        "0041 79 123 45 67",
        "011 44 20 7946 0958",
        "415-555-2671",
        "(415) 555-2671",
        "(415)555-2671",
        "415.555.2671",
        "415 555 2671",
        "1-800-555-0199",
        "1 (800) 555-0199",
        "415-555-2671x123",
        "(415) 555-2671 ext. 12",
        "(020) 7946 0958",
        "020 7946 0958",
        "07700 900123",
        "07700900123",
        "(07700) 900 123",
        "02.64.62.52.37",
        "01 23 45 67 89",
        "0171/520 17 63",
        "0171-5201763",
        "(88) 158-170",
        "(11) 7113-8192",
        "(03) 5371 4059",
    ],
)
def test_numbers_that_need_no_word_are_found(number: str, library: str) -> None:
    """The sign, the prefix, the brackets, the layout or the 0 in front tell them."""
    for text in (
        number,
        f"it is {number}.",
        f"({number})"[1:-1],
        f"x: {number}, y",
        f"\\n{number}\\n",
    ):
        assert number in _found(text), text


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("call me at 84 23 30", "84 23 30"),
        ("Phone: 434 6815", "434 6815"),
        ("Phone:\\n439 4166\\n", "439 4166"),
        ("Tel. 772 616 930", "772 616 930"),
        ("mobile 4155552671", "4155552671"),
        ("reach me on 4155552671", "4155552671"),
        ("28-64-27-85 (fax)", "28-64-27-85"),
        ("914 54 925 office", "914 54 925"),
        ("phone_number=5551234", "5551234"),
        ("phoneNumber: 5551234", "5551234"),
        ("Rufnummer 12345-67", "12345-67"),
        ("電話番号03-1234-5678です", "03-1234-5678"),
        ("手机13912345678", "13912345678"),
        ("тел. 8 912 345-67-89", "8 912 345-67-89"),
        ("TELÉFONO: 612 345 678", "612 345 678"),
        ("Phone: 0041791234567", "0041791234567"),
        ("電話 415\u30fc555\u30fc2671", "415\u30fc555\u30fc2671"),
        ("tel:+1-415-555-2671;ext=12", "+1-415-555-2671;ext=12"),
    ],
)
def test_a_word_tells_any_digits(text: str, number: str, library: str) -> None:
    """Beside a word that speaks of telephones, six digits in groups or seven are enough."""
    assert _found(text) == [number]


@pytest.mark.parametrize(
    "text",
    [
        "2024-01-15",
        "15.01.2024",
        "call on 2024-01-15",
        "phone bill of 01/15/2024",
        "call in 1990-1995",
        "12:30:45",
        "1234567890",
        "4155552671",
        "1 234 567",
        "we reached 1 500 000 users",
        "reached 1500000 users",
        "call it 150 000",
        "phone for $1 234 567",
        "3.14159265358979",
        "0.123456789",
        "192.168.100.100",
        "phone at 192.168.100.100",
        "order ORD-415-555-2671",
        "415-555-2671-9",
        "9-415-555-2671",
        "536-90-4399",
        "a415-555-2671",
        "415-555-2671a",
        "5+4155552671",
        "+999 123 456 789",
        "+41 79",
        "4111 1111 1111 1111",
        "550e8400-e29b-41d4-a716-446655440000",
        "(2019) 1234-5678",
        "01 02 03 04 05 06 07 08",
        "2024-01-15 10:30:45 message sent",
        "message: 1732112345",
        '{"created": 1732112345, "phone": null}',
        "text in the box 0 0 16 16",
        "contact pages 158-499",
        "phone for 263 078,54 euros",
        "call S-1-5-32-544",
        "9d 61 28 64 27 85 be 41",
        "M22.00-32.40 26.73-19.40",
        "12+4155552671",
        "",
    ],
)
def test_other_numbers_are_not(text: str, library: str) -> None:
    """Dates, amounts, addresses of networks, parts of longer numbers and bare digits are none."""
    assert _found(text) == []


def test_two_numbers_are_two_findings(library: str) -> None:
    """Numbers in a row are told apart."""
    first, second = "415-555-2671", "+41 79 123 45 67"
    assert _found(f"{first}, {second}; {first}") == [first, second, first]
    assert _found(f"{first} / {first}") == [first, first]
    assert _found(f"{first} {second}") == [first, second]


def test_the_package_knows_national_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers in groups of one country need no word if the package knows them."""
    text = "his is 98765 43210 I think, hers 28 64 27 85"
    assert _found(text) == ["98765 43210", "28 64 27 85"]
    monkeypatch.setattr(_phone_registry, "_package", lambda: None)
    assert _found(text) == []


@pytest.mark.parametrize("sign", ["+", "(+", "+("])
def test_what_the_text_ends_with_is_not_before_its_first_number(sign: str) -> None:
    """A sign belongs to the number behind it, and to none at the beginning of the text."""
    assert _found(f"415-555-2671 is all {sign}") == ["415-555-2671"]


def test_a_number_ends_where_its_plan_says(library: str) -> None:
    """Digits behind a number with a calling code are no part of it once it is whole."""
    assert _found("+41 79 123 45 67 12 cars") == ["+41 79 123 45 67"]


def test_no_calling_code_begins_another() -> None:
    """Calling codes are a prefix code, so that digits are read in one way."""
    codes = sorted(calling_codes())
    assert all(not b.startswith(a) for a, b in pairwise(codes))
    assert all(
        least <= most and len(code) + most <= 16 for code, (least, most) in calling_codes().items()
    )
    assert national_lengths("999123") is None
    assert national_lengths("4") is None
    assert national_lengths("41") == ("41", 9, 10)


@st.composite
def international(draw: st.DrawFn) -> str:
    """A number with a calling code, of a length that its plan allows."""
    code, (least, most) = draw(st.sampled_from(sorted(calling_codes().items())))
    size = draw(
        st.integers(max(least, 7 - len(code)), max(7 - len(code), min(most, 15 - len(code))))
    )
    first = draw(st.sampled_from("123456789"))
    return code + first + draw(st.text("0123456789", min_size=size - 1, max_size=size - 1))


@given(
    number=international(),
    every=st.sampled_from([2, 3, 4, 20]),
    joint=st.sampled_from(" -."),
    named=st.booleans(),
)
def test_each_international_number_is_found(
    number: str, every: int, joint: str, named: bool
) -> None:
    """Whatever the country and the groups, a plus sign and a length of the plan are enough."""
    written = "+" + joint.join(number[at : at + every] for at in range(0, len(number), every))
    text = f"{written}, thanks"
    (found,) = _found(text)
    assert written.startswith(found)  # the package may know a shorter number


@given(st.text(st.sampled_from("0123456789 +-.()/x\n"), max_size=60))
def test_findings_are_numbers(text: str) -> None:
    """Whatever is found has 6 to 15 digits without prefix and extension, and stands by itself."""
    end = 0
    for finding in PHONE.find(text):
        assert finding.start >= end
        end = finding.end
        digits = "".join(
            filter(str.isdigit, text[finding.start : finding.end].split("x", maxsplit=1)[0])
        )
        assert 6 <= len(digits) <= 18
        assert not text[end : end + 1].isalnum()
        assert not text[: finding.start][-1:].isalnum()


@given(st.text("0123456789 -.(),a\n", max_size=80))
def test_runs_are_all_places_with_six_digits_and_little_between(text: str) -> None:
    """What lies before a run is passed over, and no run with it."""
    gap = f"[{GAP}]{{0,3}}"
    expected = [found.span() for found in re.finditer(rf"[0-9](?:{gap}[0-9]){{5,}}", text)]
    assert list(runs(text)) == expected
