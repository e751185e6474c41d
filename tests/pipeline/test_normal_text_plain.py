"""Texts of plain letters are looked at as they are, and quickly."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from lamella._normal_text import _PLAIN, _joins, normal_text, plain_letters


def test_plain_letters_are_themselves_wherever_they_stand() -> None:
    """Of all of Unicode, only what has one form and joins nothing counts as plain."""
    plain = plain_letters()
    letters = [chr(code) for code in range(sys.maxunicode + 1) if plain.fullmatch(chr(code))]
    assert len(letters) > 20_000
    assert [c for c in letters if _PLAIN.of(c) != c or _joins(c)] == []
    assert {"a", "ü", "é", "ж", "λ", "—", "€", "中", "の"} <= {*letters}
    assert not {"\u00ad", "\u00a0", "²", "\u0301", "\u200b", "\uff11", "\u0661"} & {*letters}


@given(st.text(alphabet=st.sampled_from("aZ9 -éñжλ中の—\u0301\u00ad²\u200b"), max_size=12))
def test_the_quick_way_gives_the_same_view(text: str) -> None:
    """A text among plain letters has the view that it has beside one that is not plain."""
    beside = normal_text(f"{text} \uff11")
    view = normal_text(text)
    assert beside.text == f"{view.text} 1"
    for start in range(len(view.text)):
        assert view.original(start, start + 1) == beside.original(start, start + 1)
