"""The Merkle tree of RFC 9162, against its definition."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella_middlewares.audit._tree import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

# The leaves and roots by which implementations of Certificate Transparency are compared.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
HASHES = [leaf_hash(number.to_bytes(2)) for number in range(70)]


def naive(leaves: list[bytes]) -> bytes:
    """The root as the RFC defines it, by halves."""
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256().digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\x01" + naive(leaves[:split]) + naive(leaves[split:])).digest()


@pytest.mark.parametrize("size", range(9))
def test_the_known_roots(size: int) -> None:
    """The same leaves give the roots that everybody else's trees have."""
    assert root_of([leaf_hash(leaf) for leaf in LEAVES[:size]]).hex() == ROOTS[size]


def test_no_records_have_a_root() -> None:
    """It is the hash of nothing."""
    assert Frontier().root() == EMPTY_ROOT == sha256().digest()


def test_the_growing_root_is_the_defined_one_and_takes_a_hash_a_bit() -> None:
    """At every size, and a copy goes its own way."""
    frontier = Frontier()
    for size, leaf in enumerate(HASHES):
        assert frontier.root() == naive(HASHES[:size])
        assert len(frontier.peaks) == size.bit_count()
        before = frontier.copy()
        frontier.add(leaf)
        assert (before.size, before.root()) == (size, naive(HASHES[:size]))


def test_every_leaf_is_shown_to_be_in_every_tree() -> None:
    """And in the tree of that size at that place only."""
    for size in range(1, 40):
        root = naive(HASHES[:size])
        for index in range(size):
            proof = inclusion_proof(HASHES, index, size)
            assert len(proof) <= (size - 1).bit_length()
            assert verify_inclusion(HASHES[index], index, size, proof, root)
            assert not verify_inclusion(HASHES[index + 1], index, size, proof, root)
            assert not verify_inclusion(HASHES[index], index + 1, size, proof, root)


def test_every_tree_is_shown_to_begin_every_later_one() -> None:
    """And another tree of that size is not."""
    for new in range(1, 40):
        for old in range(1, new + 1):
            proof = consistency_proof(HASHES, old, new)
            first, second = naive(HASHES[:old]), naive(HASHES[:new])
            assert verify_consistency(old, new, first, second, proof)
            assert not verify_consistency(old, new, HASHES[-1], second, proof)
            assert not verify_consistency(old, new, first, HASHES[-1], proof)


@given(st.integers(1, 70), st.data())
def test_no_other_proof_is_taken(size: int, data: Any) -> None:
    """A proof with a hash changed, left out or added shows nothing."""
    index = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(1, size))
    root = root_of(HASHES[:size])

    def in_it(proof: list[bytes]) -> bool:
        return verify_inclusion(HASHES[index], index, size, proof, root)

    def begins_it(proof: list[bytes]) -> bool:
        return verify_consistency(old, size, root_of(HASHES[:old]), root, proof)

    inclusion, consistency = (
        inclusion_proof(HASHES, index, size),
        consistency_proof(HASHES, old, size),
    )
    for proof, check in ((inclusion, in_it), (consistency, begins_it)):
        assert check(proof)
        place = data.draw(st.integers(0, len(proof)))
        assert not check([*proof[:place], sha256(b"more").digest(), *proof[place:]])
        if place < len(proof):
            assert not check([*proof[:place], *proof[place + 1 :]])
            assert not check([*proof[:place], sha256(b"else").digest(), *proof[place + 1 :]])


def test_nonsense_is_refused() -> None:
    """A proof of what is not there cannot be made, and one of it is not believed."""
    for index, size in ((0, 0), (3, 3), (-1, 3), (0, 71)):
        with pytest.raises(ValueError, match="No leaf"):
            inclusion_proof(HASHES, index, size)
        assert not verify_inclusion(HASHES[0], index, size, [], HASHES[1])
    for old, new in ((0, 3), (4, 3), (1, 71)):
        with pytest.raises(ValueError, match="No proof"):
            consistency_proof(HASHES, old, new)
        assert not verify_consistency(old, new, HASHES[0], HASHES[1], [])
    assert not verify_consistency(3, 3, HASHES[0], HASHES[0], [HASHES[0]])
    assert not verify_consistency(3, 5, HASHES[0], HASHES[0], [])
