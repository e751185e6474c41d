"""How often keys were asked for of late, in a few bits each, of those that are kept and of others.

A count-min sketch of four rows (G. Cormode, S. Muthukrishnan, 2005) whose counters have four bits.
Only the lowest of a key's counters are raised, which keeps what other keys add to them small. When
as many uses were counted as the caller's sample has, all counters are halved: what was popular once
is forgotten (G. Einziger, R. Friedman, B. Manes, "TinyLFU: A Highly Efficient Cache Admission
Policy", 2017, section 3.3).
"""

from __future__ import annotations

from array import array
from hashlib import blake2b
from typing import Final

HIGHEST: Final = 15
"""Where a counter stops."""

_CELLS: Final = 4  # for each key: with one of five taken, few keys find all of theirs taken
_NARROWEST: Final = 64
_WIDEST: Final = 1 << 20  # 2 MiB
_CHUNK: Final = 1 << 16  # bytes that are halved as one number


def spot_of(key: str) -> int:
    """Where the counters of a key are: the same in every process, and not to be chosen."""
    data = key.encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")


class FrequencySketch:
    """Estimates of uses, never too low but by ageing.

    Args:
        keys: How many keys it should tell apart. It takes 8 to 16 bytes for each, and never more
            than 2 MiB.
    """

    __slots__ = ("_cells", "_mask", "counted")

    def __init__(self, keys: int) -> None:
        width = 1 << (min(max(_CELLS * keys, _NARROWEST), _WIDEST) - 1).bit_length()
        self._mask = width - 1
        # A cell has one counter of each row, so that a row costs a shift and no arithmetic.
        self._cells = array("H", bytes(2 * width))
        self.counted = 0

    @property
    def width(self) -> int:
        """Counters in a row."""
        return self._mask + 1

    def count(self, spot: int) -> int:
        """How often the key of that spot was counted, of late; at most `HIGHEST`."""
        cells, mask, step = self._cells, self._mask, (spot >> 32) | 1
        return min(
            cells[spot & mask] & 15,
            cells[spot + step & mask] >> 4 & 15,
            cells[spot + 2 * step & mask] >> 8 & 15,
            cells[spot + 3 * step & mask] >> 12,
        )

    def add(self, spot: int) -> None:
        """Count one use of the key of that spot."""
        cells, mask, step = self._cells, self._mask, (spot >> 32) | 1
        one, two = spot & mask, spot + step & mask
        three, four = spot + 2 * step & mask, spot + 3 * step & mask
        first, second = cells[one] & 15, cells[two] >> 4 & 15
        third, fourth = cells[three] >> 8 & 15, cells[four] >> 12
        lowest = min(first, second, third, fourth)
        self.counted += 1
        if lowest == HIGHEST:
            return
        if first == lowest:
            cells[one] += 1
        if second == lowest:
            cells[two] += 1 << 4
        if third == lowest:
            cells[three] += 1 << 8
        if fourth == lowest:
            cells[four] += 1 << 12

    def halve(self) -> None:
        """Let every count be half of what it was, rounded down."""
        view = memoryview(self._cells).cast("B")
        for start in range(0, len(view), _CHUNK):
            part = view[start : start + _CHUNK]
            # All at once, as one number; the mask takes off what came over from the next counter.
            mask = int.from_bytes(b"\x77" * len(part), "little")
            half = int.from_bytes(part, "little") >> 1 & mask
            part[:] = half.to_bytes(len(part), "little")
        self.counted >>= 1
