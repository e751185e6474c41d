"""Records of spend as columns: for data frames, warehouses and notebooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lamella import ConfigurationError, SpendRecord
from lamella_middlewares.spend._export import row_of


class ParquetTable:
    """A Parquet file, compressed, with a row group for each batch of rows.

    Instants are microseconds of UTC, amounts decimals with nine places, and counts 64-bit integers.

    Raises:
        ConfigurationError: If pyarrow is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow as pa  # pyright: ignore[reportMissingTypeStubs]
            from pyarrow import parquet  # pyright: ignore[reportMissingTypeStubs]
        except ImportError:
            msg = "Parquet files need the package pyarrow, which is not installed."
            hint = 'Run pip install "lamella[parquet]", or write a .csv or .jsonl file.'
            raise ConfigurationError(msg, hint=hint) from None
        self._arrow: Any = pa
        self._schema: Any = _schema(pa)
        self._writer: Any = parquet.ParquetWriter(str(path), self._schema, compression="zstd")

    def write(self, records: list[SpendRecord]) -> None:
        """Append a row group."""
        if not records:
            return
        rows = [row_of(record) for record in records]
        for row in rows:
            row["at"] = round(row["at"] * 1_000_000)
            for name in ("tags", "cache_write", "tool_units"):
                row[name] = list(row[name].items())
        table = self._arrow.Table.from_pylist(rows, schema=self._schema)
        self._writer.write_table(table)

    def close(self) -> None:
        """End the file."""
        self._writer.close()


def _schema(arrow: Any) -> Any:
    text, count, real = arrow.string(), arrow.int64(), arrow.float64()
    types = {
        "at": arrow.timestamp("us", tz="UTC"),
        "tags": arrow.map_(text, text),
        "duration": real,
        "time_to_first_event": real,
        "cache_write": arrow.map_(text, count),
        "tool_units": arrow.map_(text, count),
        "estimated": arrow.bool_(),
        "cost_nano": count,
        "cost": arrow.decimal128(28, 9),
    }
    counts = {name for name in row_of(_NOBODY) if name.endswith(("_input", "_output", "_read"))}
    return arrow.schema(
        [(name, types.get(name, count if name in counts else text)) for name in row_of(_NOBODY)]
    )


_NOBODY = SpendRecord(id="", at=0.0, call_id="")
