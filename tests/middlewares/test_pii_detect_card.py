"""Numbers of payment cards: issuers, separators, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella_middlewares.pii._detect._card import CARD, ISSUERS, issued
from lamella_middlewares.pii._detect._checksums import luhn


def _found(text: str) -> list[str]:
    return [text[finding.start : finding.end] for finding in CARD.find(text)]


def _completed(body: str) -> str:
    """The digits with a right check digit behind."""
    return next(body + str(check) for check in range(10) if luhn(body + str(check)))


@st.composite
def cards(draw: st.DrawFn) -> str:
    """A number that one of the issuers may give out."""
    low, high, lengths = draw(st.sampled_from(ISSUERS))
    head = str(draw(st.integers(int(low), int(high)))).zfill(len(low))
    length = draw(st.sampled_from(sorted(lengths)))
    size = length - 1 - len(head)
    return _completed(head + draw(st.text("0123456789", min_size=size, max_size=size)))


@pytest.mark.parametrize(
    "number",
    [
        "4111111111111111",
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "4111.1111.1111.1111",
        "4111_1111_1111_1111",
        "4111\u20131111\u20131111\u20131111",
        "4111 - 1111 - 1111 - 1111",
        "4222222222222",
        "4222 2222 2222 2",
        "3782 822463 10005",
        "378282246310005",
        "3056 930902 5904",
        "6011 1111 1111 1117",
        "2223 0031 2200 3222",
        "3530111333300000",
        "6205 5000 0000 0000 004",
        "6759649826438453",
        "5018 0000 0009",
        "2200770212727079",
    ],
)
def test_numbers_of_issuers_are_found(number: str) -> None:
    """Published test numbers are found whole, in each of the usual ways to group them."""
    for text in (number, f"card {number}.", f"({number})", f"Karte:{number};", f"\\n{number}\\n"):
        assert number in _found(text), text


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",  # wrong check digit
        "1234567890123452",  # right one, and no issuer
        "41111111111111110000",  # 20 digits
        "x4111111111111111",
        "4111111111111111x",
        "0.4111111111111111",  # a fraction
        "550e8400-e29b-41d4-a716-446655440000",
        "192.168.100.100 10.10.100.100",
        "0000 0000 0000 0000",
        "4444444444444444",
        "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",  # 17 single digits
        "1732112345678",  # milliseconds
        "index 0a9a7a6..4837357 100644",  # groups of no one size
        "https://x.org/a/56809779/1709587",
        "4111 1111\n1111 1111",  # columns
        "card 4111\n1111\n1111\n1111",
        "",
        "card card card",
    ],
)
def test_other_numbers_are_not(text: str) -> None:
    """Digits without issuer, check digit or bounds of their own are no card."""
    assert _found(text) == []


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("valid 12/2027 4111 1111 1111 1111 cvv 123", "4111 1111 1111 1111"),
        ("2024 4111111111111111 12", "4111111111111111"),
        ("4111-1111-1111-1111 4111-1111-1111-1111", "4111-1111-1111-1111"),
        ("卡号4111111111111111。", "4111111111111111"),
        ("card 4111 1111\n1111 1111", "4111 1111\n1111 1111"),
        ("visa: 4111-1111-1111\r\n1111", "4111-1111-1111\r\n1111"),
        ("4111 1111 11111111", "4111 1111 11111111"),
        ("4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1"),
    ],
)
def test_a_number_is_found_among_others(text: str, number: str) -> None:
    """Other digits around do not hide a number that has a grouping of its own."""
    assert number in _found(text)


def test_a_word_stands_for_the_issuer() -> None:
    """A number of no known issuer is a card's beside a word that says so."""
    number = _completed("91112223334445")
    assert _found(f"order {number}") == []
    assert _found(f"my card number is {number}") == [number]


def test_maestro_is_surer_with_a_word() -> None:
    """In the range that Mastercard set aside, a word makes the finding sure."""
    number = _completed("56123456789")
    assert issued(number) is None
    (alone,) = CARD.find(number)
    (named,) = CARD.find(f"card {number}")
    assert alone.confidence < 0.7 < named.confidence


@given(
    number=cards(),
    joint=st.sampled_from(["", " ", "-", ".", "_", "\u2013", " - "]),
    around=st.sampled_from(
        [("", ""), ("card ", "."), ("a ", " b"), ("(", ")"), ("é:", ","), ("\n", "\n")]
    ),
)
def test_each_number_is_found_with_any_separator(
    number: str, joint: str, around: tuple[str, str]
) -> None:
    """Whatever the issuer and the separator, a valid number in fours is found as a whole."""
    if len({*number}) == 1:
        return
    cut = 12 if len(number) in (13, 17) else len(number)  # a last group of one digit joins another
    groups = [number[at : at + 4] for at in range(0, cut - cut % 4, 4)]
    rest = number[len(groups) * 4 :]
    if len(rest) == 1:
        groups[-1] += rest
    elif rest:
        groups.append(rest)
    written = joint.join(groups)
    assert written in _found(around[0] + written + around[1])


@given(number=cards(), place=st.integers(0, 18), by=st.integers(1, 9))
def test_a_wrong_digit_is_none(number: str, place: int, by: int) -> None:
    """With one digit changed, the same digits are no card's."""
    place %= len(number)
    wrong = number[:place] + str((int(number[place]) + by) % 10) + number[place + 1 :]
    assert wrong not in _found(f"card {wrong}")


@given(st.text(st.sampled_from("0123456789 -.x"), max_size=80))
def test_findings_are_cards(text: str) -> None:
    """Whatever is found has 12 to 19 digits with a right check digit, and nothing glued to it."""
    for finding in CARD.find(text):
        digits = "".join(filter(str.isdigit, text[finding.start : finding.end]))
        assert 12 <= len(digits) <= 19
        assert luhn(digits)
        assert not text[finding.end : finding.end + 1].isalnum()
        assert not text[: finding.start][-1:].isalnum()
