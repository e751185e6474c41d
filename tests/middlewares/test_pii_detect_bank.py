"""IBANs: countries, structures, check digits, and ways to write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella_middlewares.pii._detect._bank import IBAN, structures
from lamella_middlewares.pii._detect._checksums import mod_97

CHARACTERS = {"n": "0123456789", "a": "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
CHARACTERS["c"] = CHARACTERS["n"] + CHARACTERS["a"]


def _found(text: str) -> list[str]:
    return [text[finding.start : finding.end] for finding in IBAN.find(text)]


@st.composite
def ibans(draw: st.DrawFn) -> str:
    """An IBAN of any country with right check digits."""
    country, structure = draw(st.sampled_from(sorted(structures().items())))
    account = "".join(draw(st.sampled_from(CHARACTERS[kind])) for kind in structure)
    spelt = "".join(str(int(character, 36)) for character in account + country + "00")
    return f"{country}{98 - int(spelt) % 97:02}{account}"


@pytest.mark.parametrize(
    "iban",
    [
        "GB82 WEST 1234 5698 7654 32",
        "GB82WEST12345698765432",
        "gb82 west 1234 5698 7654 32",
        "GB82-WEST-1234-5698-7654-32",
        "DE89 3704 0044 0532 0130 00",
        "DE 89 370400440532013000",
        "DE89 3704 0044\n0532 0130 00",
        "DE89 3704\\n0044 0532 0130 00",
        "FR14 2004 1010 0505 0001 3M02 606",
        "FR76 30006 00001 12345678901 89",
        "NO93 8601 1117 947",
        "MT84 MALT 0110 0001 2345 MTLC AST0 01S",
        "BR18 0036 0305 0000 1000 9795 493C 1",
        "XK05 1212 0123 4567 8906",
    ],
)
def test_examples_of_the_registry_are_found(iban: str) -> None:
    """Examples of the registry are found whole, however they are grouped."""
    for text in (iban, f"IBAN: {iban}.", f"to {iban} please", f"({iban}),", f"账号{iban}。"):
        assert _found(text) == [iban], text


@pytest.mark.parametrize(
    "text",
    [
        "GB82 WEST 1234 5698 7654 33",  # wrong check digits
        "GB82 WEST 1234 5698 7654 3",  # a digit short
        "GB82 WEST 1234 5698 7654 321",  # one too many
        "XGB82WEST12345698765432",
        "GB82 WEST  1234 5698 7654 32",  # two spaces are another thing
        "ZZ82 1234 5678 9012 3456",  # no such country
        "in 20 minutes it is 18 and no 15 either",
        "GB82",
        "",
    ],
)
def test_other_texts_are_not(text: str) -> None:
    """Wrong digits, wrong lengths, unknown countries and prose are none."""
    assert _found(text) == []


def test_two_are_found_one_after_the_other() -> None:
    """A list of accounts is a list of findings."""
    first, second = "NO9386011117947", "GB82 WEST 1234 5698 7654 32"
    assert _found(f"{first}, {second} {first}") == [first, second, first]


@given(
    iban=ibans(),
    every=st.sampled_from([2, 4, 5, 6, 8]),
    joint=st.sampled_from(["", " ", "-", "\u2010"]),
    upper=st.booleans(),
)
def test_each_account_is_found(iban: str, every: int, joint: str, upper: bool) -> None:
    """Whatever the country, an account with right check digits is found in any regular groups."""
    written = joint.join(iban[at : at + every] for at in range(0, len(iban), every))
    written = written if upper else written.lower()
    assert written in _found(f"from {written}!")


@given(iban=ibans(), place=st.integers(0, 40), by=st.integers(1, 9))
def test_a_wrong_digit_is_none(iban: str, place: int, by: int) -> None:
    """With one digit changed, the account is not found."""
    places = [at for at, character in enumerate(iban) if character.isdigit()]
    at = places[place % len(places)]
    wrong = iban[:at] + str((int(iban[at]) + by) % 10) + iban[at + 1 :]
    assert wrong not in _found(wrong)


@given(st.text(st.sampled_from("GBDENO0123456789 -x"), max_size=80))
def test_findings_are_accounts(text: str) -> None:
    """Whatever is found passes the check and stands by itself."""
    for finding in IBAN.find(text):
        written = "".join(filter(str.isalnum, text[finding.start : finding.end]))
        assert mod_97(written.upper())
        assert len(written) == len(structures()[written[:2].upper()]) + 4
