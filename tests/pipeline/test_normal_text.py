"""The view of a text: what reads alike is one, and each place leads back."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lamella._normal_text import _joins, invisible, normal_text, settled

SPELLINGS = {
    "full-width": "ｐａｓｓｗｏｒｄ",  # noqa: RUF001 - meant
    "soft hyphen": "pass\u00adword",
    "zero-width space": "p\u200ba\u200bs\u200bsword",
    "direction marks": "\u202epassword\u202c",
    "byte order mark": "\ufeffpassword",
    "tag characters": "pass\U000e0041word",
    "variation selectors": "p\ufe0fassword",
    "mathematical letters": "𝐩𝐚𝐬𝐬𝐰𝐨𝐫𝐝",  # noqa: RUF001 - meant
    "upper case": "PASSWORD",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_what_reads_alike_looks_alike(spelling: str) -> None:
    """Letters of other widths and fonts, and what takes no place, hide nothing."""
    view = normal_text(f"é {SPELLINGS[spelling]}!", fold_case=True)
    assert view.text == "é password!"
    start, end = view.original(2, 10)
    assert view.source[start:end] == SPELLINGS[spelling].strip("\u202e\u202c\ufeff")


def test_digits_of_all_scripts_are_digits() -> None:
    """Arabic, Devanagari and full-width digits."""
    assert normal_text("٠١٢ १२३ １２").text == "012 123 12"  # noqa: RUF001 - meant


def test_an_accent_belongs_to_its_letter_whatever_stands_between() -> None:
    """A zero-width space between a letter and its accent changes nothing."""
    assert normal_text("e\u200b\u0301t").text == "\u00e9t"
    assert normal_text("\u1100\u1161\u11a8").text == "\uac01"


def test_one_character_may_become_several() -> None:
    """Each of them leads back to it."""
    view = normal_text("a\ufb03x")
    assert view.text == "affix"
    assert [view.original(index, index + 1) for index in range(5)] == [
        (0, 1), (1, 2), (1, 2), (1, 2), (2, 3),
    ]  # fmt: skip
    assert view.original(1, 3) == (1, 2)
    assert (view.place(5), view.index(1), view.index(2)) == (3, 1, 4)


def test_plain_text_is_its_own_view() -> None:
    """No copy, and no table."""
    text = "plain text"
    assert normal_text(text).text is text
    assert normal_text("déjà vu").original(2, 5) == (2, 5)


def test_all_that_composes_is_known() -> None:
    """Every second half of a composed character joins, and so does every accent."""
    missing: set[str] = set()
    for code in range(0x110000):
        if 0xD800 <= code < 0xE000:
            continue
        character = chr(code)
        if unicodedata.combining(character) and not _joins(character):
            missing.add(character)
        halves = unicodedata.decomposition(character).split()
        if len(halves) == 2 and not halves[0].startswith("<"):
            pair = "".join([chr(int(half, 16)) for half in halves])
            if unicodedata.normalize("NFC", pair) == character and not _joins(pair[1]):
                missing.add(pair[1])
    assert missing == set()


STRANGE = st.text(
    st.one_of(
        st.sampled_from("aeA1 \u0301\u0323\u200b\u00ad\ufb03\u1100\u1161\u11a8\uff21\u0345\ud800"),
        st.characters(),
    ),
    max_size=12,
)


@given(STRANGE)
def test_it_is_the_compatible_form(text: str) -> None:
    """NFKC of what can be seen, but for digits."""
    seen = "".join([c for c in text if not invisible(c)])
    want = unicodedata.normalize("NFKC", seen)
    digits = "".join([str(unicodedata.decimal(c, c)) for c in want if not invisible(c)])
    assert normal_text(text).text == digits


@given(STRANGE, STRANGE, st.booleans())
def test_what_is_settled_stays(one: str, other: str, fold: bool) -> None:
    """The view of the settled beginning is the beginning of the view of any longer text."""
    sure = one[: settled(one)]
    whole = normal_text(one + other, fold_case=fold).text
    assert whole.startswith(normal_text(sure, fold_case=fold).text)


@given(STRANGE, STRANGE, st.booleans(), st.data())
@example(one="0\u0301x", other="\u200b", fold=False, data=None)
def test_a_span_leads_to_the_same_place_whatever_follows(
    one: str, other: str, fold: bool, data: st.DataObject | None
) -> None:
    """What is found in a settled beginning is cut where it would be cut in the whole text."""
    sure = normal_text(one[: settled(one)], fold_case=fold)
    whole = normal_text(one + other, fold_case=fold)
    size = len(sure.text)
    start, end = 0, min(1, size)
    if data is not None:
        start = data.draw(st.integers(0, size))
        end = data.draw(st.integers(start, size))
    if start < end:
        assert sure.original(start, end) == whole.original(start, end)


@given(STRANGE, st.booleans(), st.data())
def test_each_span_leads_back(text: str, fold: bool, data: st.DataObject) -> None:
    """What a span came from has that span in its own view."""
    view = normal_text(text, fold_case=fold)
    start = data.draw(st.integers(0, len(view.text)))
    end = data.draw(st.integers(start, len(view.text)))
    first, last = view.original(start, end)
    assert 0 <= first <= last <= len(text)
    if start < end:
        assert view.text[start:end] in normal_text(text[first:last], fold_case=fold).text
        assert view.index(first) <= start
