"""Packing what is kept: damage, other hands, other places and other versions show."""

from __future__ import annotations

import random
import struct
import sys
import zlib
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella import ConfigurationError, Packing, Secret, SecretError
from lamella import _packing as packing_module
from lamella._answer_codec import UnreadableError
from lamella._packing import MOST, Packer, unpacked_size

KEY = b"0123456789abcdef-of-the-tests"
OTHER = b"0123456789abcdef-of-another"
SECRET = Secret.of_value(KEY.decode())


def packer(kind: str = "plain", *, secret: bytes = KEY, **options: Any) -> Packer:
    """One that checks only, signs, or seals."""
    if kind == "plain":
        return Packer(Packing(**options))
    return Packer(Packing(key=SECRET, encrypt=kind == "sealed", **options), secret)


def why(one: Packer, place: str, data: bytes) -> str:
    """Why it cannot be read."""
    with pytest.raises(UnreadableError) as caught:
        one.unpack(place, data)
    return caught.value.why


KINDS = pytest.mark.parametrize("kind", ["plain", "signed", "sealed"])


@KINDS
@given(data=st.binary(max_size=200), place=st.text(st.characters(codec=None), max_size=5))
def test_what_was_packed_is_unpacked(kind: str, data: bytes, place: str) -> None:
    """Anywhere, compressed or not."""
    for above in (None, 0, 100):
        one = packer(kind, compress_above=above)
        assert one.unpack(place, one.pack(place, data)) == data


@KINDS
@pytest.mark.parametrize("data", [b"abc", b"a" * 300], ids=["short", "compressed"])
def test_every_flipped_bit_is_damage(kind: str, data: bytes) -> None:
    """Wherever it is, in the mark, the version, the size or the checksum itself."""
    one = packer(kind, compress_above=100)
    whole = one.pack("here", data)
    for place in range(len(whole)):
        for bit in range(8):
            changed = bytearray(whole)
            changed[place] ^= 1 << bit
            assert why(one, "here", bytes(changed)) == "corrupt"


@KINDS
def test_damage_in_large_values_shows(kind: str) -> None:
    """Some bits of many, or a piece in another order."""
    chance = random.Random(7)
    one = packer(kind, compress_above=None)
    whole = one.pack("here", chance.randbytes(100_000))
    for _ in range(50):
        changed = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            changed[chance.randrange(len(changed))] ^= chance.randint(1, 255)
        assert why(one, "here", bytes(changed)) == "corrupt"
    swapped = whole[:1000] + whole[2000:3000] + whole[1000:2000] + whole[3000:]
    assert why(one, "here", swapped) == "corrupt"


@KINDS
def test_every_truncation_is_damage(kind: str) -> None:
    """At any length, and so are bytes behind the end."""
    one = packer(kind, compress_above=10)
    whole = one.pack("here", b"abc" * 20)
    assert {why(one, "here", whole[:length]) for length in range(len(whole))} == {"corrupt"}
    assert why(one, "here", whole + b"\0") == "corrupt"


@KINDS
def test_an_entry_in_another_place_is_foreign(kind: str) -> None:
    """What was kept for one tenant cannot be put where another looks."""
    one = packer(kind)
    assert why(one, "there", one.pack("here", b"abc")) == "foreign"


def test_what_others_wrote_is_foreign() -> None:
    """With another key, without one, encrypted or not: only its own hand is believed."""
    makers = [
        packer(),
        packer("signed"),
        packer("sealed"),
        packer("signed", secret=OTHER),
        packer("sealed", secret=OTHER),
    ]
    for writer in makers:
        data = writer.pack("here", b"abc" * 1000)
        for reader in makers:
            if reader is not writer:
                assert why(reader, "here", data) == "foreign"
    for data in (b"some other program's value", b"x", b"PK\3\4" * 100):
        assert why(makers[0], "here", data) == "foreign"


@KINDS
def test_another_version_is_outdated(kind: str) -> None:
    """If it is whole: otherwise it is damaged."""
    whole = bytearray(packer(kind).pack("here", b"abc"))
    whole[3] += 1
    assert why(packer(kind), "here", bytes(whole)) == "corrupt"
    body = bytes(whole[:-4])
    outdated = body + zlib.crc32(body).to_bytes(4, "big")
    assert why(packer(kind), "here", outdated) == "outdated"


def test_a_bomb_does_not_unfold() -> None:
    """Who could write without a key could compress gigabytes: no more is made than was said."""
    one = packer(compress_above=0)
    bomb = zlib.compress(bytes(5_000_000), 9)
    for size in (10, MOST + 1, 4_999_999, 5_000_001):
        head = packing_module._HEADS[packing_module._SMALL] + size.to_bytes(4, "big")
        where = packing_module._place("here")
        body = head + one._digest(where, head, bomb) + bomb
        assert why(one, "here", body + zlib.crc32(body).to_bytes(4, "big")) == "foreign"


def test_compression_is_used_where_it_helps() -> None:
    """Above its limit only, and only if the outcome is smaller."""
    same, noise = b"a" * 2000, random.Random(1).randbytes(2000)
    assert len(packer(compress_above=1999).pack("here", same)) < 200
    assert len(packer(compress_above=1999).pack("here", noise)) == 2000 + 41
    assert len(packer(compress_above=2000).pack("here", same)) == 2000 + 41
    assert len(packer(compress_above=None).pack("here", same)) == 2000 + 41


def test_what_would_hardly_shrink_is_left_as_it_is() -> None:
    """Numbers, pictures: unfolding them each time would cost more than the room. A piece tells."""
    chance = random.Random(3)
    coordinates = struct.pack("<1536d", *[chance.random() for _ in range(1536)])
    picture = chance.randbytes(50_000) + b"word " * 100
    for data, worth in ((coordinates, False), (picture, False), (b"word " * 3000, True)):
        packed = packer().pack("here", data)
        assert (len(packed) < len(data)) == worth
        assert packer().unpack("here", packed) == data


@KINDS
def test_what_is_unpacked_is_no_larger_than_it_says(kind: str) -> None:
    """Whoever is to unpack it can tell beforehand, of whatever was found, how much it takes."""
    same, noise = b"a" * 100_000, random.Random(1).randbytes(100_000)
    assert unpacked_size(packer(kind).pack("here", same)) == 100_000
    assert 100_000 <= unpacked_size(packer(kind).pack("here", noise)) < 100_100
    for data in (b"", b"LAM\1", b"LAM\1\1", b"LAM\1\1\0\0\0", b"\xff" * 9, b"\xff" * 90):
        assert len(data) <= unpacked_size(data) <= MOST


def test_what_is_too_large_is_not_packed() -> None:
    """Its size when packed counts, and a bound holds for what it was before."""
    with pytest.raises(ValueError, match="at most 100 are kept"):
        packer(max_bytes=100, compress_above=None).pack("here", bytes(200))
    assert packer(max_bytes=100).pack("here", bytes(5000))
    assert packer(max_bytes=100, compress_above=None).pack("here", bytes(200), limited=False)
    with pytest.raises(ValueError, match="are kept"):
        packer(max_bytes=MOST).pack("here", bytes(MOST + 1))


def test_sealed_values_show_nothing() -> None:
    """Signed ones do."""
    assert b"secret words" in packer("signed").pack("here", b"secret words")
    assert b"secret words" not in packer("sealed").pack("here", b"secret words")


# --- names ---------------------------------------------------------------------------------------


@given(st.lists(st.text(max_size=4), max_size=3), st.lists(st.text(max_size=4), max_size=3))
def test_digests_are_equal_for_equal_texts_only(one: list[str], other: list[str]) -> None:
    """However they are cut; and another key makes another one."""
    digest = packer().digest
    assert (digest(*one) == digest(*other)) == (one == other)
    assert digest(*one) != packer("signed").digest(*one)
    assert packer("signed").digest(*one) != packer("signed", secret=OTHER).digest(*one)


def test_a_digest_is_of_any_value_that_a_key_can_have() -> None:
    """32 hexadecimal digits; numbers are no texts, and half a surrogate pair is one."""
    digest = packer().digest
    values = ["1", 1, None, "", "\ud800", ("1",), b"1", True]
    assert len({digest(value) for value in values}) == len(values)
    assert {len(digest(value)) for value in values} == {32}


# --- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"compress_above": -1}, "compress_above=-1"),
        ({"compress_above": 1.5}, "compress_above=1.5"),
        ({"compress_above": True}, "compress_above=True"),
        ({"max_bytes": 0}, "max_bytes=0"),
        ({"max_bytes": None}, "max_bytes=None"),
        ({"encrypt": "no"}, "encrypt='no'"),
        ({"encrypt": True}, "no key to encrypt with"),
        ({"key": b"0123456789abcdef"}, "was given bytes"),
    ],
)
def test_wrong_options_are_refused_at_once(options: dict[str, Any], words: str) -> None:
    """With what is wrong and what to give, and never with the key."""
    with pytest.raises(ConfigurationError) as caught:
        Packing(**options)
    assert words in str(caught.value)
    assert "0123456789" not in str(caught.value)


def test_a_key_is_given_by_reference() -> None:
    """What is no reference may be the key itself, and is not repeated."""
    assert Packing(key="env:CACHE_KEY").key == Secret("env:CACHE_KEY")
    with pytest.raises(SecretError) as caught:
        Packing(key="0123456789abcdef")
    assert "0123456789" not in str(caught.value)
    assert "0123456789" not in repr(Packing(key=SECRET)) + repr(packer("signed"))


def test_a_key_that_could_be_guessed_is_refused() -> None:
    """It has 16 characters at least."""
    with pytest.raises(ConfigurationError, match="fewer than 16 characters"):
        Packer(Packing(key=SECRET), b"0123456789abcde")


def test_encrypting_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever lacks it is told which command installs it."""
    monkeypatch.setattr(packing_module, "find_spec", lambda name: None if name else sys)
    with pytest.raises(ConfigurationError, match=r"pip install 'lamella\[audit\]'"):
        Packing(key=SECRET, encrypt=True)


def test_packings_with_the_same_options_are_equal() -> None:
    """What is known of a store is found by them."""
    assert Packing() == Packing()
    assert len({Packing(key=SECRET), Packing(key=SECRET), Packing()}) == 2
    assert attrs.evolve(Packing(), max_bytes=5) != Packing()
