"""Records of the audit log: one form each, and nothing else is taken for a record."""

from __future__ import annotations

import json
from contextlib import suppress
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella_middlewares.audit._chain import Chain
from lamella_middlewares.audit._record import (
    GENESIS,
    MAX_NUMBER,
    MAX_RECORD,
    RESERVED,
    Draft,
    MalformedRecord,
    canonical,
    digest,
    read_record,
)

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_NUMBER, MAX_NUMBER) | NAMES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.dictionaries(NAMES.filter(lambda name: name not in RESERVED), VALUES, max_size=6)


class Colour(StrEnum):
    RED = "red"


def line(fields: dict[str, Any] | None = None, seq: int = 0) -> bytes:
    """A record's bytes."""
    return Draft.of("note", fields or {}).stamp(5, 7).line(seq, GENESIS, back=False)


def by_utf16(value: Any) -> Any:
    """The same JSON value with its keys in the order of RFC 8785."""
    if isinstance(value, list):
        return [by_utf16(each) for each in value]
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return {name: by_utf16(value[name]) for name in names}
    return value


def test_keys_are_in_the_order_of_rfc_8785() -> None:
    """Names sort by UTF-16 code units, in which an emoji comes before some letters below it."""
    # The example of RFC 8785, section 3.2.3.
    names = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    order = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    assert list(json.loads(canonical(dict.fromkeys(names, 0)))) == order


def test_every_character_has_the_shortest_escape() -> None:
    """Texts are written as RFC 8785, section 3.2.2.2, says, and else as they are."""
    for code in (*range(0x3000), 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF):
        assert canonical(chr(code)) == json.dumps(chr(code), ensure_ascii=False).encode()


@given(VALUES)
def test_the_form_is_that_of_a_plain_writer_of_json(value: Any) -> None:
    """Sorted, dense, and in UTF-8: what another language's writer of RFC 8785 gives."""
    plain = json.dumps(by_utf16(value), ensure_ascii=False, separators=(",", ":"))
    assert canonical(value) == plain.encode()


@given(FIELDS, st.integers(0, 2**40), st.booleans())
def test_a_record_reads_back_as_it_was_written(
    fields: dict[str, Any], seq: int, back: bool
) -> None:
    """Whatever its fields are called, they stand where they belong."""
    written = Draft.of("intent", fields).stamp(-3, 4).line(seq, "ab" * 32, back=back)
    own = {"at": -3, "mono": 4, "kind": "intent", "seq": seq, "prev": "ab" * 32}
    assert read_record(written) == {**fields, **own, **({"clock": "back"} if back else {})}
    assert len(written) <= Draft.of("intent", fields).size


@given(FIELDS, st.data())
def test_no_changed_byte_leaves_the_same_record(fields: dict[str, Any], data: Any) -> None:
    """A line with another byte is either no record, or has another digest and says other things."""
    whole = line(fields)
    place = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[place]))
    changed = whole[:place] + bytes([byte]) + whole[place + 1 :]
    assert digest(changed) != digest(whole)
    with suppress(MalformedRecord):
        assert read_record(changed) != read_record(whole)


@pytest.mark.parametrize(
    ("value", "error", "says"),
    [
        (1.0, TypeError, "smaller unit"),
        (float("nan"), TypeError, "float"),
        (b"bytes", TypeError, "bytes"),
        ({1: 2}, TypeError, "keys"),
        ({"a"}, TypeError, "set"),
        (MAX_NUMBER + 1, ValueError, "2^53"),
        (-MAX_NUMBER - 1, ValueError, "2^53"),
        ("\ud800", ValueError, "Unicode"),
        ({"\ud800": 1}, ValueError, "Unicode"),
    ],
)
def test_what_has_no_one_form_is_refused(value: Any, error: type[Exception], says: str) -> None:
    """The error names the field and never shows what is in it."""
    with pytest.raises(error) as caught:
        Draft.of("intent", {"cost": [value]})
    assert "'cost'" in str(caught.value)
    assert says in str(caught.value)


def test_what_nests_without_end_is_refused() -> None:
    """A value that holds itself is an error, not a crash."""
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="'notes' nests deeper"):
        Draft.of("intent", {"notes": endless})


def test_texts_of_classes_of_their_own_are_texts() -> None:
    """A member of an enumeration is written as the text that it is, and True is no 1."""
    assert canonical([Colour.RED, True, 1, None]) == b'["red",true,1,null]'


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a_record_cannot_say_two_things_of_itself(name: str) -> None:
    """The names that every record has are no others'."""
    with pytest.raises(ValueError, match=f"'{name}'"):
        Draft.of("intent", {name: "x"})


def test_a_record_has_a_largest_size() -> None:
    """What no reader would take is not written."""
    with pytest.raises(ValueError, match="keep large values elsewhere"):
        Draft.of("intent", {"content": "x" * MAX_RECORD})


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"{}",
        b'{"a":' * 100_000,
        b"\xff",
        line().replace(b'"seq":0', b'"seq":-1'),
        line().replace(b'"seq":0', b'"seq":0.0'),
        line().replace(b'"seq":0', b'"seq":true'),
        line().replace(b'"seq":0', b'"seq":99999999999999999999'),
        line().replace(b'"at":5', b'"at":"5"'),
        line().replace(b'"at":5,', b'"at":5,"at":5,'),
        line().replace(b'"at":5,', b'"at":5,"clock":"on",'),
        line().replace(b'"mono":7', b'"mono":null'),
        line().replace(b'"kind":"note"', b'"kind":7'),
        line().replace(b'"kind":"note"', b'"kind":"n\\u006fte"'),
        line().replace(b'"kind"', b'"kine"'),
        line().replace(b"000", b"00g", 1),
        line().replace(b"000", b"00A", 1),
        line().replace(b"0000", b"000", 1),
        line() + b" ",
        b" " + line(),
    ],
)
def test_nothing_else_is_a_record(text: bytes) -> None:
    """One record, one line: another way to write the same is no record either."""
    assert read_record(line())
    with pytest.raises(MalformedRecord):
        read_record(text)


def test_a_clock_that_goes_back_is_written_down() -> None:
    """The record after it says so, and one that hides it or makes it up does not follow."""
    chain, reader = Chain(), Chain()
    for at, back in ((10, False), (9, True), (9, False), (20, False)):
        written, _ = chain.add(Draft.of("note" if chain.size else "segment", {}).stamp(at, 0))
        record = read_record(written)
        assert ("clock" in record) == back
        assert reader.follow(written, record) is None
    assert reader == chain


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seq": 3}, "its number is 3, and 2 comes here"),
        ({"prev": "ab" * 32}, "does not follow"),
        ({"kind": "segment"}, "a header stands at the beginning"),
        ({"at": 0}, "the clock"),
        ({"clock": "back"}, "the clock"),
    ],
)
def test_a_record_follows_only_in_its_place(change: dict[str, Any], says: str) -> None:
    """What does not fit is named."""
    chain, reader = Chain(), Chain()
    for kind in ("segment", "note"):
        written, _ = chain.add(Draft.of(kind, {}).stamp(5, 5))
        assert reader.follow(written, read_record(written)) is None
    written, _ = chain.add(Draft.of("note", {}).stamp(5, 5))
    assert says in (reader.follow(written, {**read_record(written), **change}) or "")
