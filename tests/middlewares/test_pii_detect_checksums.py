"""Check digits, against published numbers and by changing one digit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella_middlewares.pii._detect._checksums import (
    are_digits,
    luhn,
    mod_11_nhs,
    mod_97,
    mrz_check,
)

DIGITS = st.text("0123456789", min_size=1, max_size=18)


def _replaced(text: str, place: int, by: int) -> str:
    """The digits with one of them made another one."""
    return text[:place] + str((int(text[place]) + by) % 10) + text[place + 1 :]


@pytest.mark.parametrize(
    "digits",
    ["4111111111111111", "378282246310005", "30569309025904", "6304000000000000", "79927398713"],
)
def test_luhn_holds(digits: str) -> None:
    """Published card numbers, and the example of the patent, have a right check digit."""
    assert luhn(digits)


@pytest.mark.parametrize(
    "digits", ["", "0", "4111111111111112", "4111 1111", "\uff14\uff11\uff11\uff11", "1a", "-18"]
)
def test_luhn_does_not_hold(digits: str) -> None:
    """A wrong digit, and whatever is no digits, do not pass."""
    assert not luhn(digits)


@given(body=DIGITS, place=st.integers(0, 17), by=st.integers(1, 9))
def test_luhn_finds_one_wrong_digit(body: str, place: int, by: int) -> None:
    """Of the ten numbers that differ in the last digit one passes; with one digit changed none."""
    right = [body + str(check) for check in range(10) if luhn(body + str(check))]
    assert len(right) == 1
    assert not luhn(_replaced(right[0], place % len(right[0]), by))


@pytest.mark.parametrize(
    "iban",
    [
        "GB82WEST12345698765432",
        "DE89370400440532013000",
        "NO9386011117947",
        "MT84MALT011000012345MTLCAST001S",
    ],
)
def test_mod_97_holds(iban: str) -> None:
    """Examples of the registry pass."""
    assert mod_97(iban)


@pytest.mark.parametrize(
    "iban",
    ["", "GB82", "GB82WEST12345698765433", "GB8?WEST12345698765432", "GBWEWEST1234", "ÄB82WEST"],
)
def test_mod_97_does_not_hold(iban: str) -> None:
    """Wrong digits and other characters do not pass."""
    assert not mod_97(iban)


@given(digits=st.text("0123456789", min_size=18, max_size=18), wrong=st.integers(1, 9))
def test_mod_97_finds_one_wrong_digit(digits: str, wrong: int) -> None:
    """With the check digits of the standard it passes, with one digit changed it does not."""
    remainder = int(digits + "131400") % 97
    iban = f"DE{98 - remainder:02}{digits}"
    assert mod_97(iban)
    assert not mod_97(_replaced(iban, 10, wrong))


@pytest.mark.parametrize("digits", ["9434765919", "9434765870", "4010232137", "0000000000"])
def test_nhs_holds(digits: str) -> None:
    """The dictionary's examples pass; that all are zero is not the sum's to see."""
    assert mod_11_nhs(digits)


@pytest.mark.parametrize("digits", ["", "943476591", "94347659199", "9434765918", "943476591X"])
def test_nhs_does_not_hold(digits: str) -> None:
    """Other lengths and digits do not pass."""
    assert not mod_11_nhs(digits)


@given(
    digits=st.text("0123456789", min_size=9, max_size=9),
    place=st.integers(0, 9),
    by=st.integers(1, 9),
)
def test_nhs_finds_one_wrong_digit(digits: str, place: int, by: int) -> None:
    """At most one last digit passes, and no number beside it that differs in one digit."""
    right = [digits + str(check) for check in range(10) if mod_11_nhs(digits + str(check))]
    assert len(right) <= 1
    assert all(not mod_11_nhs(_replaced(number, place, by)) for number in right)


@pytest.mark.parametrize(
    ("field", "check"),
    [("L898902C3", "6"), ("740812", "2"), ("120415", "9"), ("<<<<<<", "<"), ("<<<", "0")],
)
def test_mrz_holds(field: str, check: str) -> None:
    """The specimen of ICAO Doc 9303 part 4 passes, and an empty field with a filler."""
    assert mrz_check(field, check)


@pytest.mark.parametrize(
    ("field", "check"), [("L898902C3", "7"), ("a", "1"), ("A<", "<"), ("1", "12"), ("1", "")]
)
def test_mrz_does_not_hold(field: str, check: str) -> None:
    """Wrong digits, and characters that a zone does not have, do not pass."""
    assert not mrz_check(field, check)


def test_digits_are_ascii() -> None:
    """Only ASCII digits are digits: the text is folded to them before."""
    assert are_digits("0123456789")
    assert not are_digits("")
    assert not are_digits("²")
    assert not are_digits("٣")
