"""A Merkle tree that is kept whole, so that every root and every proof of it costs a few hashes.

It is the tree of `_tree`, with its inner nodes kept: level 0 holds the leaves, each level above the
nodes over complete pairs. A root or a proof of any size up to the present one is then found in
O(log n) to O(log² n) steps rather than O(n), which matters where there is a proof for each record.
"""

from __future__ import annotations

from lamella_middlewares.audit._tree import EMPTY_ROOT, node_hash


class Forest:
    """The hashes of leaves, and of the complete subtrees over them."""

    __slots__ = ("_levels",)

    def __init__(self) -> None:
        self._levels: list[list[bytes]] = [[]]

    @property
    def size(self) -> int:
        """How many leaves there are."""
        return len(self._levels[0])

    def leaf(self, index: int) -> bytes:
        """The hash of a leaf."""
        return self._levels[0][index]

    def add(self, leaf: bytes) -> None:
        """Append the hash of a leaf."""
        levels = self._levels
        node, level = leaf, 0
        levels[0].append(leaf)
        while len(levels[level]) % 2 == 0:
            node = node_hash(levels[level][-2], node)
            level += 1
            if level == len(levels):
                levels.append([])
            levels[level].append(node)

    def root(self, size: int) -> bytes:
        """The root of the first `size` leaves.

        Raises:
            ValueError: If there are fewer.
        """
        if not 0 <= size <= self.size:
            raise ValueError(f"No root of {size} leaves: there are {self.size}.")
        return self._node(0, size) if size else EMPTY_ROOT

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """What shows that a leaf is in the tree of the first `size`; see `inclusion_proof`.

        Raises:
            ValueError: If there is no such leaf or tree.
        """
        if not 0 <= index < size <= self.size:
            raise ValueError(f"No leaf {index} in a tree of {size}: there are {self.size} leaves.")
        proof: list[bytes] = []
        start, end = 0, size
        while end - start > 1:
            middle = start + _split(end - start)
            if index < middle:
                proof.append(self._node(middle, end))
                end = middle
            else:
                proof.append(self._node(start, middle))
                start = middle
        return proof[::-1]

    def consistency(self, old: int, new: int) -> list[bytes]:
        """What shows that the tree of `new` begins with that of `old`; see `consistency_proof`.

        Raises:
            ValueError: If there are no such trees.
        """
        if not 0 < old <= new <= self.size:
            raise ValueError(f"No proof from size {old} to size {new} of {self.size} leaves.")
        proof: list[bytes] = []
        start, end, whole = 0, new, True
        while old != end:
            middle = start + _split(end - start)
            if old <= middle:
                proof.append(self._node(middle, end))
                end = middle
            else:
                proof.append(self._node(start, middle))
                start, whole = middle, False
        if not whole:
            proof.append(self._node(start, end))
        return proof[::-1]

    def _node(self, start: int, end: int) -> bytes:
        """The hash over leaves, of which a complete subtree begins at `start`."""
        parts: list[bytes] = []
        while start < end:
            level = (end - start).bit_length() - 1
            parts.append(self._levels[level][start >> level])
            start += 1 << level
        node = parts.pop()
        while parts:
            node = node_hash(parts.pop(), node)
        return node


def _split(size: int) -> int:
    """The largest power of two below a size of at least 2."""
    return 1 << (size - 1).bit_length() - 1
