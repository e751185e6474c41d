"""Social security, taxpayer, NHS and insurance numbers: who gives out which."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import Detector
from lamella_middlewares.pii._detect._checksums import mod_11_nhs
from lamella_middlewares.pii._detect._identity import (
    UK_NHS,
    UK_NINO,
    US_ITIN,
    US_SSN,
    could_be_itin,
    could_be_nino,
    could_be_ssn,
)


def _found(detector: Detector, text: str) -> list[str]:
    return [text[finding.start : finding.end] for finding in detector.find(text)]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("536-90-4399", "536-90-4399"),
        ("SSN: 536904399", "536904399"),
        ("His social security number is 536 90 4399.", "536 90 4399"),
        ("536.90.4399", "536.90.4399"),
        ("536\u201390\u20134399", "536\u201390\u20134399"),
        ("social_security_number=536904399;", "536904399"),
        ("536904399 (SSN)", "536904399"),
        ("\\n536-90-4399\\n", "536-90-4399"),
        ("001-01-0001, 899-99-9999", "001-01-0001"),
    ],
)
def test_social_security_numbers_are_found(text: str, number: str) -> None:
    """The layout tells them, or a word where there is none."""
    assert number in _found(US_SSN, text)


@pytest.mark.parametrize(
    "text",
    [
        "000-12-3456",
        "666-12-3456",
        "900-12-3456",
        "536-00-4399",
        "536-90-0000",
        "078-05-1120",
        "219-09-9999",
        "987-65-4320",
        "536904399",
        "536-90 4399",
        "1536-90-4399",
        "536-90-43990",
        "536-90-4399-1",
        "1-536-90-4399",
        "x536-90-4399",
        "ssn 0.536904399",
        "2024-01-15",
    ],
)
def test_what_was_never_given_out_is_none(text: str) -> None:
    """Numbers the SSA does not give out, and digits that are part of something else, are none."""
    assert _found(US_SSN, text) == []


@pytest.mark.parametrize("number", ["912-70-1234", "900-50-0000", "999-99-9999", "912 70 1234"])
def test_taxpayer_numbers_are_found(number: str) -> None:
    """A 9 first and a middle that the IRS gives out; no social security number is like that."""
    assert _found(US_ITIN, f"number {number}.") == [number]
    assert _found(US_SSN, f"ssn {number}.") == []


@pytest.mark.parametrize(
    "text", ["912-49-1234", "912-66-1234", "912-89-1234", "912-93-1234", "812-70-1234", "912701234"]
)
def test_other_numbers_are_no_taxpayers(text: str) -> None:
    """Other middles are none, nor are bare digits without a word."""
    assert _found(US_ITIN, text) == []


@given(st.integers(0, 999_999_999))
def test_no_number_is_both(number: int) -> None:
    """The SSA and the IRS never give out the same number."""
    digits = f"{number:09}"
    assert not (could_be_ssn(digits) and could_be_itin(digits))
    found = [*US_SSN.find(f"{digits[:3]}-{digits[3:5]}-{digits[5:]}")]
    assert bool(found) == could_be_ssn(digits)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("943 476 5919", "943 476 5919"),
        ("NHS number 9434765919", "9434765919"),
        ("nhs no. 943-476-5919", "943-476-5919"),
        ("patient 4010232137 came", "4010232137"),
    ],
)
def test_nhs_numbers_are_found(text: str, number: str) -> None:
    """With their usual spaces they are found, in other ways beside a word."""
    assert _found(UK_NHS, text) == [number]


@pytest.mark.parametrize(
    "text",
    [
        "943 476 5918",
        "9434765919",
        "943-476-5919",
        "NHS 9434765918",
        "1943 476 5919",
        "NHS 000 000 0000",
    ],
)
def test_other_ten_digits_are_not(text: str) -> None:
    """A wrong check digit is none, nor are ten digits without spaces or a word."""
    assert _found(UK_NHS, text) == []


@given(
    digits=st.text("0123456789", min_size=9, max_size=9),
    place=st.integers(0, 9),
    by=st.integers(1, 9),
)
def test_each_nhs_number_is_found(digits: str, place: int, by: int) -> None:
    """Each number with a right check digit is found, and none with one digit changed."""
    for number in (digits + str(check) for check in range(10)):
        if mod_11_nhs(number) and len({*number}) > 1:
            assert _found(UK_NHS, f"NHS {number}") == [number]
            wrong = number[:place] + str((int(number[place]) + by) % 10) + number[place + 1 :]
            assert _found(UK_NHS, f"NHS {wrong}") == []


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("AB 12 34 56 C", "AB 12 34 56 C"),
        ("AB123456C", "AB123456C"),
        ("my NI number is ab123456c!", "ab123456c"),
        ("NI no AB123456", "AB123456"),
        ("A B 12 34 56 D", "A B 12 34 56 D"),
        ("JG-10-37-59-A", "JG-10-37-59-A"),
    ],
)
def test_insurance_numbers_are_found(text: str, number: str) -> None:
    """Two letters, six digits and A to D; without the last letter beside a word."""
    assert _found(UK_NINO, text) == [number]


@pytest.mark.parametrize(
    "text",
    [
        "AB123456",
        "AB123456E",
        "DA123456C",
        "AO123456C",
        "GB123456C",
        "XAB123456C",
        "AB1234567C",
        "AB123456CD",
        "12-05-20",
    ],
)
def test_other_letters_and_digits_are_not(text: str) -> None:
    """Letters that HMRC does not use, and longer words, are none."""
    assert _found(UK_NINO, text) == []


@given(st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=2, max_size=2), st.integers(0, 999_999))
def test_prefixes_decide(prefix: str, number: int) -> None:
    """What is found is exactly what HMRC may give out."""
    text = f"{prefix}{number:06}B"
    assert _found(UK_NINO, text) == ([text] if could_be_nino(prefix) else [])


_BEFORE = st.sampled_from(("", " ", "5", "5a", "a", "\\n", "\\t", "-", "é", "\u4e00"))
_WORDS = st.sampled_from((
    *("ssn", "social security", "tax id", "Tax-ID", "SocialSecurity", "tin", "ITIN", "irs"),
    *("nhs", "NHS no", "health number", "chi", "CHİ", "tax\\nnumber", "meeting", "order"),
))  # fmt: skip
_GAPS = st.sampled_from((" ", ": ", "\n", "\\n", "-", "_", ' "', " is "))
_NUMBERS = st.sampled_from(("123456788", "912701234", "123.45.6788", "943 476 5919", "9434765919"))


@settings(max_examples=300)
@given(
    st.tuples(_BEFORE, _WORDS, _GAPS, _NUMBERS).map("".join)
    | st.tuples(_NUMBERS, _GAPS, _WORDS, _BEFORE).map("".join)
)
def test_where_something_is_found_its_sign_is_there(text: str) -> None:
    """A scanner asks no detector about texts without its sign."""
    for detector in (US_SSN, US_ITIN, UK_NHS):
        if list(detector.find(text)):
            assert detector.sign.within(text)
