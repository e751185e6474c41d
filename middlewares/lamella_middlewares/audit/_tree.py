"""The Merkle tree over a segment's records, as in RFC 9162 (and RFC 6962), section 2.1.

A root stands for all records up to a size. That a record is in it, or that a later root still holds
everything an earlier one did, is shown by some twenty hashes among a million records, and checked
without the records themselves. Leaves and inner nodes are hashed with different first bytes, so
that neither can be passed off as the other; a lone node moves up unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

import attrs

EMPTY_ROOT: Final = sha256(b"").digest()
"""The root of no records."""


def leaf_hash(data: bytes) -> bytes:
    """The hash of a record's bytes, as a leaf."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return sha256(b"\x01" + left + right).digest()


@attrs.define
class Frontier:
    """A tree that grows by leaves and keeps only what its root needs.

    Attributes:
        size: How many leaves it has.
        peaks: The roots of its complete subtrees, the largest first: one for each 1 in its size.
    """

    size: int = 0
    peaks: list[bytes] = attrs.field(factory=list[bytes], repr=False)

    def add(self, leaf: bytes) -> None:
        """Append the hash of a leaf."""
        peaks, node, size = self.peaks, leaf, self.size
        while size & 1:
            node = node_hash(peaks.pop(), node)
            size >>= 1
        peaks.append(node)
        self.size += 1

    def root(self) -> bytes:
        """The root of all leaves so far."""
        if not self.peaks:
            return EMPTY_ROOT
        *rest, root = self.peaks
        for peak in reversed(rest):
            root = node_hash(peak, root)
        return root

    def copy(self) -> Frontier:
        """The same tree, which grows by itself."""
        return Frontier(self.size, self.peaks.copy())


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The root over hashes of leaves."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.add(leaf)
    return frontier.root()


def inclusion_proof(leaves: Sequence[bytes], index: int, size: int) -> list[bytes]:
    """What shows that a leaf is in the tree of the first `size` leaves (RFC 9162, 2.1.3.1).

    Args:
        leaves: The hashes of at least `size` leaves.
        index: The leaf's, from 0.
        size: Of the tree.

    Returns:
        The hashes beside its way up, the lowest first.

    Raises:
        ValueError: If there is no such leaf or tree.
    """
    if not 0 <= index < size <= len(leaves):
        raise ValueError(f"No leaf {index} in a tree of {size}: there are {len(leaves)} leaves.")
    proof: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            proof.append(root_of(leaves[middle:end]))
            end = middle
        else:
            proof.append(root_of(leaves[start:middle]))
            start = middle
    proof.reverse()
    return proof


def consistency_proof(leaves: Sequence[bytes], old: int, new: int) -> list[bytes]:
    """What shows that the first `old` leaves still begin the tree of `new` (RFC 9162, 2.1.4.1).

    Args:
        leaves: The hashes of at least `new` leaves.
        old: The size of the earlier tree, at least 1.
        new: The size of the later tree.

    Returns:
        The hashes, the lowest first; none if both are the same.

    Raises:
        ValueError: If there are no such trees.
    """
    if not 0 < old <= new <= len(leaves):
        raise ValueError(
            f"No proof from size {old} to size {new}: there are {len(leaves)} leaves, and a tree "
            "of none is part of every other."
        )
    proof: list[bytes] = []
    start, end, whole = 0, new, True
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            proof.append(root_of(leaves[middle:end]))
            end = middle
        else:
            proof.append(root_of(leaves[start:middle]))
            start, whole = middle, False
    if not whole:
        proof.append(root_of(leaves[start:end]))
    proof.reverse()
    return proof


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> bool:
    """Whether a proof shows the hash of a leaf to be in a tree (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    place, last, node = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            node = node_hash(sibling, node)
            while not place & 1 and place:
                place >>= 1
                last >>= 1
        else:
            node = node_hash(node, sibling)
        place >>= 1
        last >>= 1
    return last == 0 and node == root


def verify_consistency(
    old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether a proof shows that a later tree begins with an earlier one (RFC 9162, 2.1.4.2)."""
    if not 0 < old <= new:
        return False
    if old == new:
        return not proof and old_root == new_root
    hashes = list(proof)
    if old & (old - 1) == 0:
        hashes.insert(0, old_root)  # the earlier tree is itself a node of the later one
    if not hashes:
        return False
    place, last = old - 1, new - 1
    while place & 1:
        place >>= 1
        last >>= 1
    first = second = hashes[0]
    for node in hashes[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            first = node_hash(node, first)
            second = node_hash(node, second)
            while not place & 1 and place:
                place >>= 1
                last >>= 1
        else:
            second = node_hash(second, node)
        place >>= 1
        last >>= 1
    return last == 0 and first == old_root and second == new_root


def _split(size: int) -> int:
    """The largest power of two below a size of at least 2."""
    return 1 << (size - 1).bit_length() - 1
