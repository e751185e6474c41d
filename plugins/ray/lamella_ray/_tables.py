"""Blocks of a dataset as rows to ask, and their results as further columns of the block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Final

from lamella._bulk_columns import COLUMNS, from_columns
from lamella._bulk_rows import KNOWN

ANSWER_COLUMNS: Final[Mapping[str, type]] = {
    name: kind for name, kind in COLUMNS.items() if name not in {"index", "id"}
}
"""What a result says besides which row it belongs to: it stands in that row."""


def rows_of(block: Any) -> list[dict[str, Any]]:
    """What each row of an Arrow table asks: the columns that `lamella map` knows, no others."""
    asked = [name for name in block.column_names if name in KNOWN]
    return [from_columns(row) for row in block.select(asked).to_pylist()]


def with_answers(block: Any, answers: Sequence[Mapping[str, Any]], prefix: str) -> Any:
    """The block with a column for each thing that a result says; the same types in every block.

    Args:
        block: An Arrow table.
        answers: A flat result for each of its rows.
        prefix: What the names of the new columns begin with. Columns of the block that are called
            so are replaced.
    """
    pa: Any = import_module("pyarrow")

    types = {
        bool: pa.bool_(),
        float: pa.float64(),
        int: pa.int64(),
        str: pa.string(),
    }
    for name, kind in ANSWER_COLUMNS.items():
        column = prefix + name
        values = pa.array([answer[name] for answer in answers], type=types[kind])
        if column in block.column_names:
            block = block.drop_columns([column])
        block = block.append_column(column, values)
    return block
