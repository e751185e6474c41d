"""Detectors of the caller's own: by expression, by a list of terms, by a function."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import pytest
from detecting import values
from hypothesis import given
from hypothesis import strategies as st

from lamella import ConfigurationError, Finding, _safe_patterns
from lamella_middlewares.pii._detect._custom import (
    allowed_pattern,
    callable_detector,
    dictionary_detector,
    regex_detector,
)
from lamella_middlewares.pii._detect._scanner import Scanner


def test_an_expression_finds_its_group() -> None:
    """With a group, group 1 is found; matches that are not valid are nothing."""
    detector = regex_detector(
        "case", r"case-(\d{4})\b", ignore_case=True, confidence=0.7, valid=lambda v: v != "0000"
    )
    assert list(detector.find("CASE-1234, case-0000, case-12345")) == [Finding(5, 9, "case", 0.7)]
    assert detector.kinds == ("case",)
    assert detector.reach == 11
    assert regex_detector("x", "x+").reach is None


def test_a_group_that_took_no_part_is_nothing() -> None:
    """A match without its group, or with an empty one, finds nothing."""
    assert list(regex_detector("x", "a(b)?").find("a ab")) == [Finding(3, 4, "x")]
    assert list(regex_detector("x", "a(b*)").find("a")) == []


@pytest.mark.parametrize("expression", ["x*", "", "a|", "(?=a)b", "(", r"(a)\1", "a{3000}"])
def test_an_expression_that_cannot_be_used_is_refused(expression: str) -> None:
    """What is everywhere, what needs to look around, and what is no expression at all."""
    with pytest.raises(ConfigurationError, match=r"regular expression|empty text"):
        regex_detector("x", expression)


@pytest.mark.parametrize("expression", ["(a+)+$", "(a|a)*b", "(.*)*x"])
def test_without_re2_an_exponential_expression_is_refused(
    monkeypatch: pytest.MonkeyPatch, expression: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """With RE2 it takes linear time; without, it is refused, and the hint says what to install."""
    regex_detector("x", f"y{expression}")
    monkeypatch.setattr(_safe_patterns, "_re2", lambda: None)
    with pytest.raises(ConfigurationError, match="without RE2") as caught:
        regex_detector("x", f"y{expression}")
    assert "lamella[pii]" in str(caught.value.hint)
    assert regex_detector("x", "[a-z]{2,5}-[0-9]+").pattern.engine == "re"
    assert capfd.readouterr().err == ""


def test_re2_says_nothing_on_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    """A wrong expression is an error of ours, not a line of a log that nobody asked for."""
    with pytest.raises(ConfigurationError):
        regex_detector("x", "(a")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", ["", "Case", "a-b", "1a", "a" * 41, "a\n", None, "é"])
def test_a_kind_is_a_word_in_lower_case(kind: str) -> None:
    """It becomes part of placeholders and notes, so it is plain."""
    for make in (
        lambda: regex_detector(kind, "a"),
        lambda: dictionary_detector(kind, ["a"]),
        lambda: callable_detector([kind], lambda _: []),
    ):
        with pytest.raises(ConfigurationError, match="the kind"):
            make()


@pytest.mark.parametrize("confidence", [0, -1, 1.1, True, "1", float("nan")])
def test_confidence_is_a_share(confidence: float) -> None:
    """Above 0, at most 1."""
    with pytest.raises(ConfigurationError, match="confidence"):
        regex_detector("a", "a", confidence=confidence)


def test_terms_are_found_whole_and_in_any_case() -> None:
    """Of overlapping terms all are found; what a term is a part of is another word."""
    detector = dictionary_detector("name", ["Ann", "Ann Lee", "C++", "straße", "\u017fmith"])
    text = "ANN LEE, annlee, Anna; STRASSE c++ c++11 Smith xc++"
    assert values(detector, text) == ["ANN LEE", "STRASSE", "c++", "c++", "Smith"]


def test_terms_may_stand_inside_words_if_asked() -> None:
    """For languages without spaces, and exactly as written where case matters."""
    detector = dictionary_detector("name", ["田中"], whole_words=False)
    assert values(detector, "私は田中です") == ["田中"]
    exact = dictionary_detector("name", ["Ann"], ignore_case=False)
    assert values(exact, "ann Ann") == ["Ann"]


@given(
    st.lists(st.text(alphabet="abß ", min_size=1, max_size=4), min_size=1, max_size=6),
    st.text(alphabet="abßẞSs ", max_size=30),
)
def test_terms_are_found_as_a_plain_search_finds_them(terms: list[str], text: str) -> None:
    """One pass over the text finds the same places as looking for each term by itself."""
    terms = [term for term in terms if term.strip()]
    if not terms:
        return
    detector = dictionary_detector("t", terms, whole_words=False, ignore_case=False)
    plain = {
        (start, start + len(term.strip()))
        for term in terms
        for start in range(len(text))
        if text.startswith(term.strip(), start)
    }
    assert {(f.start, f.end) for f in detector.find(text)} == plain
    assert all(end - start <= detector.reach for start, end in plain)


@pytest.mark.parametrize("terms", [[], [""], ["a", " "], "ann", [1]])
def test_a_list_of_nothing_is_refused(terms: list[str]) -> None:
    """Terms are texts with something in them; the message quotes none."""
    with pytest.raises(ConfigurationError, match="terms") as caught:
        dictionary_detector("name", terms)
    assert "ann" not in str(caught.value)


def test_a_dictionary_does_not_show_its_terms() -> None:
    """A list of names is personal data itself: it is counted, not printed."""
    assert repr(dictionary_detector("name", ["Ann", "Bob"])) == (
        "dictionary_detector('name', 2 terms)"
    )


def test_without_pyahocorasick_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A missing extra is named with the command that brings it."""
    monkeypatch.setitem(sys.modules, "ahocorasick", None)
    with pytest.raises(ConfigurationError, match="pyahocorasick") as caught:
        dictionary_detector("name", ["Ann"])
    assert "lamella[pii]" in str(caught.value.hint)


def test_a_function_gives_spans_or_findings() -> None:
    """Spans are of the first kind; findings say theirs."""

    def find(text: str) -> Iterable[Finding | tuple[int, int]]:
        yield 0, 1
        yield Finding(2, 3, "b", 0.5)

    detector = callable_detector(["a", "b"], find, reach=5, blocking=True)
    assert Scanner([detector]).scan("xyz") == (Finding(0, 1, "a"), Finding(2, 3, "b", 0.5))
    assert (detector.reach, detector.blocking) == (5, True)


def test_a_function_finds_its_own_kinds_only() -> None:
    """What a detector did not say that it finds is a mistake, not a finding."""
    detector = callable_detector("a", lambda _: [Finding(0, 1, "b")])
    with pytest.raises(ValueError, match="none of them"):
        Scanner([detector]).scan("x")


@pytest.mark.parametrize("reach", [0, -1, 1.5, True, "9"])
def test_a_reach_is_a_number_of_characters(reach: int) -> None:
    """At least 1, or None."""
    with pytest.raises(ConfigurationError, match="reach"):
        callable_detector("a", lambda _: [], reach=reach)
    with pytest.raises(ConfigurationError, match="name at least one kind"):
        callable_detector([], lambda _: [])


def test_an_allowed_pattern_is_about_the_whole_value() -> None:
    """Alternatives, too, match from the first character to the last."""
    pattern = allowed_pattern("a|ab", ignore_case=True)
    assert pattern.search("AB") is not None
    assert pattern.search("abc") is None
