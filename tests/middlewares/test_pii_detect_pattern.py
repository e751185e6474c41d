"""Patterns: the same findings by either engine, in time that grows with the text."""

from __future__ import annotations

import pytest
from detecting import ENGINES, engine
from hypothesis import given
from hypothesis import strategies as st

from lamella_middlewares.pii._detect import _engine
from lamella_middlewares.pii._detect._look import Sign
from lamella_middlewares.pii._detect._near import Near
from lamella_middlewares.pii._detect._pattern import Pattern, PatternDetector
from lamella_middlewares.pii._detect._scanner import Scanner

PATTERNS = (
    Pattern("[a-z]{1,3}@[a-z]{1,3}", before="a-z", after="a-z"),
    Pattern("[a-z]{1,3}@[a-z]{1,3}"),
    Pattern("k=([0-9é]{1,4})", before="0-9k", after="0-9"),
    Pattern("ab|a|é{1,2}", after="b"),
    Pattern("x([0-9]{1,2})x?", ignore_case=True),
    Pattern("[ab]", before="x"),
    Pattern("n?[a-b]{1,2}", before="a-z", after="=a-z"),
)


def spans(pattern: Pattern, text: str, name: str) -> list[tuple[int, int]]:
    """What a pattern finds by an engine."""
    with engine(name):
        return list(pattern.finditer(text))


@given(st.text(alphabet="abknxX@=019é中 \n\\", max_size=40))
def test_both_engines_find_the_same(text: str) -> None:
    """RE2, which consumes what bounds a match, and `re`, which looks around, agree on any text."""
    for pattern in PATTERNS:
        assert spans(pattern, text, "re2") == spans(pattern, text, "re")


@pytest.mark.parametrize("name", ENGINES)
def test_neighbours_share_what_bounds_them(name: str) -> None:
    """One character may bound the match before it and the match behind it."""
    pattern = Pattern("[0-9]{2}", before="0-9", after="0-9")
    assert spans(pattern, "12 34,56é78 999 10", name) == [(0, 2), (3, 5), (6, 8), (9, 11), (16, 18)]


@pytest.mark.parametrize("name", ENGINES)
def test_an_escaped_line_break_bounds_as_a_line_break_does(name: str) -> None:
    """In quoted JSON the letter of an escape is no part of the word behind it."""
    pattern = Pattern("[a-z]{1,9}@x", before="a-z")
    assert spans(pattern, r"to:\nbob@x\tann@x nob@x", name) == [(5, 10), (12, 17), (18, 23)]


@pytest.mark.parametrize("name", ENGINES)
def test_a_group_is_what_is_found(name: str) -> None:
    """With a group, group 1 is found, and the next match begins behind the whole."""
    assert spans(Pattern("k:([0-9]{1,3});"), "k:12;k:3;", name) == [(2, 4), (7, 8)]


@pytest.mark.parametrize("name", ENGINES)
def test_what_may_not_stand_behind_makes_a_match_shorter(name: str) -> None:
    """A shorter match that fits is taken where the longest does not."""
    pattern = Pattern(r"[a-z]{1,5}(?:\.[a-z]{2,3}){1,2}", after="a-z")
    assert spans(pattern, "ab.com.toolong", name) == [(0, 6)]


@pytest.mark.parametrize("expression", [r"a\s", r"(?=a)", r"(?<!a)b", r"(a)\1"])
def test_what_the_engines_do_not_share_is_refused(expression: str) -> None:
    """Classes, lookaround and references that one engine reads differently cannot be written."""
    with pytest.raises(ValueError, match="not the same in re and RE2"):
        Pattern(expression)


def test_letters_beyond_ascii_are_not_folded() -> None:
    """Case is ignored for ASCII only, which both engines fold alike."""
    with pytest.raises(ValueError, match="write both cases out"):
        Pattern("né", ignore_case=True)


def test_re2_reads_where_it_is_installed() -> None:
    """The engine with the linear time is taken when it is there, as it is in this environment."""
    assert _engine.name() == "re2"


@given(st.integers(0, 400))
def test_a_text_is_searched_once_for_each_match(count: int) -> None:
    """As many searches as matches, and one: none begins again before where another ended."""
    pattern = Pattern("[a-z]{1,9}@", before="a-z")
    searched: list[int] = []

    class Counting:
        groups = 1

        def search(self, data: bytes, position: int) -> object:
            searched.append(position)
            return compiled.search(data, position)

    compiled = pattern._compile("re2")
    assert len(list(pattern._spans(Counting(), b"a@ " * count))) == count
    assert len(searched) == count + 1
    assert searched == sorted(set(searched))


def test_confidence_is_that_of_the_value() -> None:
    """What is not valid, and what forbidden words stand before, is nothing."""

    def sure(word: str) -> float:
        return 0.0 if word == "000" else 0.6

    detector = PatternDetector(
        "number", (Pattern("[0-9]{3}"),), reach=30, valid=sure, unless=Near(("page",), before=6)
    )
    found = list(detector.find("000 123 page 123 and the id 123"))
    assert [(f.start, f.confidence) for f in found] == [(4, 0.6), (28, 0.6)]
    assert detector.kinds == ("number",)


def test_a_text_without_its_sign_is_not_read() -> None:
    """The look at all signs decides: without its own a detector is not asked."""
    detector = PatternDetector("n", (Pattern("[0-9]{3}"),), reach=9, sign=Sign("#|@{2}"))
    scanner = Scanner([PatternDetector("x", (Pattern("x"),), reach=1, sign=Sign("x")), detector])
    for name in ENGINES:
        with engine(name):
            assert scanner.scan("@123") == ()
            assert [f.kind for f in scanner.scan("#123")] == ["n"]
            assert [f.kind for f in scanner.scan("x@@123")] == ["x", "n"]
