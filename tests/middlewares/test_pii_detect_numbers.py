"""What detectors of numbers share: bounds, words around, and work that only the text makes grow."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

import pytest
from detecting import ENGINES, NUMBERS, engine
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella._ambiguity import ambiguity
from lamella_middlewares.pii._detect._builtin import BUILTIN
from lamella_middlewares.pii._detect._near import Near
from lamella_middlewares.pii._detect._numbers import (
    has_digit,
    has_long_number,
    letter_or_digit,
    mentions,
)

LOOKAROUND = re.compile(r"\(\?<?[!=](?:\(.*?\)|[^()])*?\)")
REFERENCE = re.compile(r"\(\?P=joint\)|\\[0-9]")

KINDS = (
    *("phone", "card", "iban", "us_ssn", "us_itin", "uk_nhs", "uk_nino", "passport"),
    *("driver_licence", "date_of_birth", "postal_address"),
)
MODULES = (
    "_address",
    "_bank",
    "_card",
    "_dates",
    "_documents",
    "_identity",
    "_near",
    "_numbers",
    "_phone",
)


@pytest.mark.parametrize("module", MODULES)
def test_no_expression_is_ambiguous(module: str) -> None:
    """No pattern has two ways through the same text, so that none takes exponential time."""
    found = import_module(f"lamella_middlewares.pii._detect.{module}")
    patterns = [value for value in vars(found).values() if isinstance(value, re.Pattern)]
    for pattern in patterns:
        written = re.sub(
            r"\(\?P=joint\)|\\[0-9]",
            "[-]",
            re.sub(r"\(\?<?[!=](?:\(.*?\)|[^()])*?\)", "", pattern.pattern),
        )
        assert ambiguity(written, pattern.flags) is None, pattern.pattern


@pytest.mark.parametrize("kind", KINDS)
@given(st.lists(st.sampled_from([*NUMBERS, "a", " ", "é", "号"]), max_size=8).map("".join))
def test_findings_need_their_sign(kind: str, text: str) -> None:
    """Where the sign of a kind is not there, nothing is found; findings are spans."""
    detector: Any = BUILTIN[kind]()
    findings = list(detector.find(text))
    for finding in findings:
        assert 0 <= finding.start < finding.end <= len(text)
        assert finding.kind == kind
        assert 0 < finding.confidence <= 1
    for name in ENGINES:
        with engine(name):
            assert detector.sign.within(text) or not findings


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None)
@given(
    pieces=st.lists(st.sampled_from(NUMBERS), min_size=10, max_size=30),
    place=st.floats(0, 1),
)
def test_reach_is_all_that_is_looked_at(kind: str, pieces: list[str], place: float) -> None:
    """What comes more than `reach` characters behind a finding changes nothing about it."""
    detector: Any = BUILTIN[kind]()
    text = "".join(pieces)
    cut = int(len(text) * place)
    edge = cut - detector.reach

    def certain(of: str) -> list[tuple[int, int]]:
        return [(f.start, f.end) for f in detector.find(of) if f.end <= edge]

    assert certain(text[:cut]) == certain(text)


def test_what_touches_a_number() -> None:
    """Letters and digits do; the n of an escaped line break and letters without spaces do not."""
    assert letter_or_digit("a1", 0)
    assert letter_or_digit("é1", 0)
    assert letter_or_digit("n1", 0)
    assert not letter_or_digit("\\n1", 1)
    assert not letter_or_digit("号1", 0)
    assert not letter_or_digit("번1", 0)
    assert not letter_or_digit("_1", 0)
    assert not letter_or_digit("1", -1)
    assert not letter_or_digit("1", 1)


def test_quick_looks() -> None:
    """They look for a digit, for nine of them, and for a digit with a root of a word."""
    assert has_digit("a1")
    assert not has_digit("a²")
    assert has_long_number("12-34 56.78 9")
    assert not has_long_number("12345678 and 9")


@pytest.mark.parametrize("name", ENGINES)
def test_mentions(name: str) -> None:
    """A root is found in any case and script, in either engine."""
    names = mentions("passp", "паспорт", "a.b")
    with engine(name):
        assert names.within("my PASSPORT 1")
        assert names.within("ПАСПОРТ 1")
        assert names.within("A.B 1")
        assert not names.within("my pass port 1")
        assert not names.within("axb 1")


@pytest.mark.parametrize(
    ("text", "is_near"),
    [
        ("date of birth: #", True),
        ("Date-of-Birth #", True),
        ("date_of_birth=#", True),
        ("dateOfBirth=#", True),
        ("\\ndob: #", True),
        ("x.dob #", True),
        ("adob #", False),
        ("dobs #", False),
        ("date of the birth #", False),
        ("dob and very far away #", False),
        ("很生日#", True),
        ("# (dob)", True),
        ("# and a dob", False),
        ("# dobs", False),
        ('#, "dob"', False),
        ("#\ndob", False),
        ("3dob #", False),
        ("#", False),
    ],
)
def test_words_are_near(text: str, is_near: bool) -> None:
    """Whole words count, however their parts are joined, within so many characters."""
    near = Near(("date of birth", "dob", "生日"), before=18, after=6)
    place = text.index("#")
    assert near.around(text, place, place + 1) is is_near


def test_a_word_that_the_window_cuts_is_none() -> None:
    """What the window shows of a longer word is not taken for a word."""
    near = Near(("dob",), before=4, after=4)
    assert near.around("dob #", 4, 5)
    assert not near.around("adob #", 5, 6)
    assert near.around("# dob", 0, 1)
    assert not near.around("# doba", 0, 1)
