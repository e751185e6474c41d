"""Vectors of one length in rows, and which rows are nearest to one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from lamella._errors import ConfigurationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROWS: Final = 1024  # of one block: vectors are kept in blocks, so that what is there is not copied


def numpy() -> Any:
    """The module, which only vectors in memory need.

    Raises:
        ConfigurationError: If it is not installed.
    """
    try:
        import numpy as np
    except ImportError:
        raise ConfigurationError(
            "Vectors in memory need numpy, which is not installed.",
            hint="Run: pip install 'lamella[semantic]'; or give another index.",
        ) from None
    return np


class Rows:
    """Vectors of one length, in blocks of rows; the last row fills the hole of one that goes."""

    __slots__ = ("blocks", "dimensions", "keys", "order", "rows")

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        self.blocks: list[NDArray[Any]] = []
        self.keys: list[str] = []  # by row
        self.rows: dict[str, int] = {}
        self.order: OrderedDict[str, None] = OrderedDict()  # the longest unused first

    def put(self, key: str, vector: NDArray[Any]) -> None:
        row = self.rows.get(key)
        if row is None:
            row = len(self.keys)
            self._make_room(row)
            self.keys.append(key)
            self.rows[key] = row
        self.blocks[row // _ROWS][row % _ROWS] = vector
        self.order[key] = None
        self.order.move_to_end(key)

    def remove(self, key: str) -> None:
        row = self.rows.pop(key)
        del self.order[key]
        last = len(self.keys) - 1
        moved = self.keys.pop()
        if row != last:
            self.keys[row] = moved
            self.rows[moved] = row
            self.blocks[row // _ROWS][row % _ROWS] = self.blocks[last // _ROWS][last % _ROWS]
        if last % _ROWS == 0:
            self.blocks.pop()

    def row(self, key: str) -> NDArray[Any]:
        row = self.rows[key]
        return self.blocks[row // _ROWS][row % _ROWS]  # type: ignore[no-any-return]

    def _make_room(self, row: int) -> None:
        block, place = divmod(row, _ROWS)
        made = numpy()
        if place == 0:
            self.blocks.append(made.zeros((1, self.dimensions), dtype=made.float32))
        elif place == len(self.blocks[block]):
            old = self.blocks[block]
            new = made.zeros((min(_ROWS, 2 * place), self.dimensions), dtype=made.float32)
            new[:place] = old
            self.blocks[block] = new


def nearest_rows(
    blocks: Sequence[NDArray[Any]], rows: int, unit: NDArray[Any], count: int
) -> list[int]:
    """The `count` rows that are nearest to a vector, as they stand now; it takes no lock.

    Args:
        blocks: As they were when somebody looked.
        rows: How many there were in all.
        unit: The vector, of length 1.
        count: How many are wanted.
    """
    np = numpy()
    scores: list[Any] = []
    places: list[Any] = []
    for number, block in enumerate(blocks):
        here = min(rows - number * _ROWS, len(block))
        score = block[:here] @ unit
        if here > count:
            best = np.argpartition(score, here - count)[here - count :]
        else:
            best = np.arange(here)
        scores.append(score[best])
        places.append(best + number * _ROWS)
    score, place = np.concatenate(scores), np.concatenate(places)
    order = np.argsort(-score, kind="stable")[:count]
    found: list[int] = place[order].tolist()
    return found
