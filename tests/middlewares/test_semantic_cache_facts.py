"""Facts: what two questions must have in common besides sounding alike."""

from __future__ import annotations

# ruff: noqa: RUF001 - typographic signs look like others, and are meant
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella_middlewares.semantic_cache import different_facts

SAME = [
    ("What is the revenue of 2023?", "what was 2023's revenue"),
    ("What is the capital of France?", "what's france's capital"),
    ("WHAT IS THE CAPITAL OF FRANCE", "What is the capital of France?"),
    ("Why doesn't it work?", "Why is it not working?"),
    ("Why doesn’t it work?", "Why doesn't it work?"),
    ("take 10 mg", "take 10mg"),
    ("take 10 milligrams", "take 10 mg"),
    ("costs $5", "costs 5 dollars"),
    ("costs 5%", "costs 5 percent"),
    ("1,000 people", "1000 people"),
    ("two apples", "2 apples"),
    ("the 3rd one", "the 3 one"),
    ("１２ people", "12 people"),
    ("٣ people", "3 people"),
    ('Say "hello" to her', "Say hello to her, please"),
    ("What does git_push do?", "explain git_push"),
    ("C++ or C#?", "C# or C++?"),
    ("How do I enable the wifi?", "How do I turn the wifi on?"),
    ("Mail ⟦EMAIL_K7Q2M9XA⟧.", "Write to ⟦EMAIL_K7Q2M9XA⟧"),
    ("I think I'm lost", "am I lost?"),
    ("", ""),
]

DIFFERENT = [
    ("numbers", "revenue in 2023", "revenue in 2024"),
    ("numbers", "revenue in 2023", "revenue"),
    ("numbers", "from 5 to 10", "from 10 to 5"),
    ("numbers", "10 mg", "10 g"),
    ("numbers", "10mg", "10g"),
    ("numbers", "at 5 pm", "at 5am"),
    ("numbers", "costs $5", "costs €5"),
    ("numbers", "-5 degrees", "5 degrees"),
    ("numbers", "−5 degrees", "5 degrees"),
    ("numbers", "version 3.11", "version 3.1"),
    ("numbers", "two apples", "three apples"),
    ("numbers", "5%", "5"),
    ("numbers", "at 10:30", "at 10:45"),
    ("placeholders", "Mail ⟦EMAIL_K7Q2M9XA⟧", "Mail ⟦EMAIL_ABCDEFGH⟧"),
    ("placeholders", "Mail [EMAIL:3f9a11c20b7e]", "Mail [EMAIL:000000000000]"),
    ("placeholders", "Mail [EMAIL]", "Mail"),
    ("quotes", 'say "hello world"', 'say "hello moon"'),
    ("quotes", "say “hello”", "say hell"),
    ("quotes", "run `make`", "run `test`"),
    ("names", "the capital of France", "the capital of Germany"),
    ("names", "run foo_bar()", "run foo_baz()"),
    ("names", "call asyncio.run", "call asyncio.wait"),
    ("names", "use --force", "use --quiet"),
    ("names", "the fooBar of it", "the fooBaz of it"),
    ("names", "is it C++", "is it C"),
    ("names", "open /etc/hosts", "open /etc/passwd"),
    ("numbers", "for gpt-4o", "for gpt-4"),
    ("names", "the US army", "the UK army"),
    ("negations", "cook with salt", "cook without salt"),
    ("negations", "is it legal", "is it not legal"),
    ("negations", "can I", "can't I"),
    ("negations", "geht es", "geht es nicht"),
    ("negations", "可以吗", "不可以吗"),
    ("signs", "is a > b", "is a < b"),
    ("signs", "what is x + y", "what is x * y"),
    ("signs", "what is 3+4", "what is 3*4"),
    ("names", "if a>b", "if a<b"),
    ("names", "is it C++", "is it C#"),
    ("opposites", "enable wifi", "disable wifi"),
    ("opposites", "enable wifi", "turn off wifi"),
    ("opposites", "How do I turn on dark mode?", "How do I turn off dark mode?"),
    ("opposites", "open on monday", "open on tuesday"),
    ("opposites", "the day before it", "the day after it"),
    ("opposites", "the highest one", "the lowest one"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same_facts_in_other_words(one: str, other: str) -> None:
    """Spelling, order of words and polite phrases make no difference."""
    assert different_facts(one, other) == ""
    assert different_facts(other, one) == ""


@pytest.mark.parametrize(("kind", "one", "other"), DIFFERENT)
def test_another_fact_is_seen(kind: str, one: str, other: str) -> None:
    """Whichever of the two comes first."""
    assert different_facts(one, other) == kind
    assert different_facts(other, one) == kind


PIECES = [*"a1,.:-'\"`'’“”„«»⟦⟧$<+%=/#?!_éßİﬁ½²−٣𝟏ſŉ \n\x1f\u2028\u0345"]
PIECES += ["B_", "[A]", " not ", "n't", "'s", "'S", "’S", " two ", "1st", "May", " monday "]
TEXTS = st.text(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=14).map("".join)


@given(TEXTS, TEXTS)
@settings(deadline=None)  # a machine that is busy is no fault
def test_any_text_has_facts(one: str, other: str) -> None:
    """It fails on no text, is symmetric, and a text has its own facts."""
    assert different_facts(one, one) == ""
    assert different_facts(one, other) == different_facts(other, one)
    assert different_facts(one, f"{one} ") == ""


@pytest.mark.parametrize("text", ["A_B'S", "is it A_B’S", "it's X-Y'S"])
def test_a_text_has_its_own_names(text: str) -> None:
    """However they are written."""
    assert different_facts(text, f"{text} ") == ""


@given(st.integers(0, 10**6), st.integers(0, 10**6))
@settings(deadline=None)
def test_any_two_numbers_differ(one: int, other: int) -> None:
    """A number is never taken for another."""
    said = different_facts(f"how many of {one} are there", f"how many of {other} are there")
    assert said == ("" if one == other else "numbers")


MANY = " ".join([f'"a{number:x}"' for number in range(1300)])  # quotations


@pytest.mark.parametrize(
    "piece", ['"', "'a", '"a', "1.", "1 m ", "[A", "⟦", "-1", "a.", "9,9", "`a", "<", MANY]
)
def test_it_takes_time_in_proportion(piece: str) -> None:
    """No text makes it slow: 8,000 characters of it take some hundredths of a second."""
    text = piece * (8000 // len(piece))
    began = time.process_time()
    different_facts(text, f"{text} x")
    assert time.process_time() - began < 0.5
