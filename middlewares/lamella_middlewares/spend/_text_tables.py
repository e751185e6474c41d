"""Records of spend as text: for spreadsheets, and for programs that read a line at a time."""

from __future__ import annotations

import csv
import datetime as dt
import json
from pathlib import Path
from typing import Any, Final

from lamella import SpendRecord
from lamella_middlewares.spend._export import row_of

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
"""With what a cell begins that a spreadsheet would run rather than show."""


class CSVTable:
    """Comma-separated values, in UTF-8, with a line of names.

    A text that a spreadsheet would take for a formula gets an apostrophe before it: users and tags
    are often chosen by strangers.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("x", encoding="utf-8", errors="backslashreplace", newline="")
        self._rows = csv.DictWriter(self._file, list(row_of(SpendRecord(id="", at=0, call_id=""))))
        self._rows.writeheader()

    def write(self, records: list[SpendRecord]) -> None:
        """Append rows."""
        for record in records:
            row = _written(row_of(record))
            cost = row["cost"]  # a number, even if it begins like a formula
            cells = {name: _cell(value) for name, value in row.items()}
            self._rows.writerow({**cells, "cost": cost})

    def close(self) -> None:
        """End the file."""
        self._file.close()


class JSONLines:
    """One JSON object a line, in UTF-8. Amounts are texts, for a number would not be exact."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("x", encoding="utf-8", errors="backslashreplace", newline="\n")

    def write(self, records: list[SpendRecord]) -> None:
        """Append lines."""
        for record in records:
            self._file.write(json.dumps(_written(row_of(record)), ensure_ascii=False) + "\n")

    def close(self) -> None:
        """End the file."""
        self._file.close()


def _written(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its instant and its amount as texts."""
    row["at"] = dt.datetime.fromtimestamp(row["at"], dt.UTC).isoformat()
    row["cost"] = None if row["cost"] is None else f"{row['cost']:f}"
    return row


def _cell(value: Any) -> Any:
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False) if value else ""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
