"""Expressions of anybody's: linear with RE2, and without it none that takes for ever."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import ConfigurationError, _safe_patterns
from lamella._ambiguity import ambiguity
from lamella._safe_patterns import compile_pattern

ENDLESS = [
    r"(a+)+b",
    r"(a*)*b",
    r"(.*)*x",
    r"(a|ab|b)*c",
    r"(a?b?)*c",
    r"(?:\w+\s?)*$",
    r"(x+x+)+y",
    r"([a-z]+,?)+;",
    r"(?:[^<]+|<[^>]*)*>",
    r"((a{1,3}){1,40})+b",
    r"(a?){30}a{30}",
]
HARMLESS = [
    r"[0-9]{3}-[0-9]{2}-[0-9]{4}",
    r"(?:[a-z]+\.)+[a-z]{2,}",
    r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,24}",
    r"(?:\d[ -]?){13,19}",
    r"(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}\d{1,3}",
    r"\b(?:one|two|three)+\b",
    r"(?:\"[^\"]*\"|'[^']*'|[^'\">])*",
    r"^a.*b$",
    r"(?:a|b)*?x",
]


@pytest.mark.parametrize("expression", ENDLESS)
def test_without_re2_what_can_take_for_ever_is_refused(expression: str) -> None:
    """With what is wrong, and what to do."""
    with pytest.raises(ConfigurationError, match=r"cannot be used without RE2.*lamella\[pii\]"):
        compile_pattern(expression, engine="re")


@pytest.mark.parametrize("expression", ENDLESS[:8])
def test_re2_takes_them_and_is_quick(expression: str) -> None:
    """Linear whatever the expression."""
    compiled = compile_pattern(expression, engine="re2")
    assert compiled.engine == "re2"
    list(compiled.finditer("a" * 100_000 + "!"))


@pytest.mark.parametrize("expression", HARMLESS)
@pytest.mark.parametrize("engine", ["re2", "re"])
def test_what_is_harmless_is_taken(expression: str, engine: str) -> None:
    """Repeats within repeats are fine where something stands between."""
    assert compile_pattern(expression, engine=engine).expression == expression


@pytest.mark.parametrize("expression", [r"(?=a)b", r"(?<!a)b", r"(a)\1", r"(?>a)b", r"a++", "["])
@pytest.mark.parametrize("engine", ["re2", "re"])
def test_both_engines_read_one_dialect(expression: str, engine: str) -> None:
    """What RE2 has not is refused with either, and nothing is written to stderr."""
    with pytest.raises(ConfigurationError, match="RE2"):
        compile_pattern(expression, engine=engine)


def test_refusals_are_silent(capfd: pytest.CaptureFixture[str]) -> None:
    """RE2's own log is off."""
    with pytest.raises(ConfigurationError):
        compile_pattern("(", engine="re2")
    assert capfd.readouterr().err == ""


def test_only_text_is_an_expression() -> None:
    """A compiled pattern of another engine would bring its own rules."""
    with pytest.raises(ConfigurationError, match="as a str"):
        compile_pattern(re.compile("a"))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def test_without_re2_python_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """And asking for RE2 by name says what to install."""
    monkeypatch.setattr(_safe_patterns, "_re2", lambda: None)
    assert compile_pattern("a+").engine == "re"
    with pytest.raises(ConfigurationError, match="lamella"):
        compile_pattern("a+", engine="re2")


@pytest.mark.parametrize("engine", ["re2", "re"])
def test_what_stands_before_the_start_is_seen(engine: str) -> None:
    """A word does not begin in its middle because the search begins there."""
    compiled = compile_pattern(r"\bcat\b", engine=engine)
    assert compiled.search("concat cat", 3) is not None
    assert [match.span() for match in compiled.finditer("concat cat", 3)] == [(7, 10)]
    assert compile_pattern("^b", engine=engine).search("ab", 1) is None


@pytest.mark.parametrize("engine", ["re2", "re"])
def test_half_a_surrogate_pair_is_a_character(engine: str) -> None:
    """Places are those of the text, whatever is in it."""
    compiled = compile_pattern("(c)at", engine=engine, ignore_case=True)
    found = [match.span() for match in compiled.finditer("é\ud800 CAT")]
    assert found == [(3, 6)]


@pytest.mark.parametrize(
    ("expression", "longest"),
    [("ab?c{2,5}", 7), (r"\d+", None), (r"a\Z", 1), (r"[[:alpha:]]x", None), (r"\pL", None)],
)
def test_the_longest_match_is_known(expression: str, longest: int | None) -> None:
    """Or known not to be."""
    assert compile_pattern(expression, engine="re2").longest == longest


EXPRESSIONS = st.recursive(
    st.sampled_from(["a", "b", "[ab]", "."]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"(?:{two[0]}|{two[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{0,12}"])).map(
            lambda two: f"(?:{two[0]}){two[1]}"
        ),
    ),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(EXPRESSIONS, st.text("ab", min_size=1, max_size=3))
def test_what_is_taken_does_not_explode(expression: str, unit: str) -> None:
    """Twice the text takes no hundredfold of the time: at worst a power of it."""
    if ambiguity(expression, 0) is not None:
        return
    compiled = re.compile(f"(?:{expression})!")
    began = time.perf_counter()
    compiled.match(unit * 10 + "?")
    assert time.perf_counter() - began < 10  # 2**30 steps take longer


@settings(deadline=None)
@given(EXPRESSIONS, st.text("ab\n", max_size=8))
def test_both_engines_find_the_same(expression: str, text: str) -> None:
    """First matches, where both take the expression."""
    try:
        other = compile_pattern(expression, engine="re").search(text)
    except ConfigurationError:
        return
    one = compile_pattern(expression, engine="re2").search(text)
    assert (one and one.span()) == (other and other.span())
