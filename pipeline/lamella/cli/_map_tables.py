"""Rows out of tables, CSV and Parquet, a few at a time; and into them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

import msgspec

from lamella._bulk_columns import COLUMNS, flat, from_columns
from lamella._bulk_errors import RowError
from lamella._bulk_rows import KNOWN, LARGEST
from lamella.cli._errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Generator

    from lamella.cli._map import Format

_BATCH: Final = 512
"""Rows of a Parquet file that are read, or written, together."""


def table_rows(name: str, form: Format) -> tuple[Iterator[Any], int | None]:
    """The rows of a table, read as they are taken, and how many there are, if it says so.

    Raises:
        UsageError: If it cannot be read, or has columns that no row has.
    """
    try:
        if form == "csv":
            return _csv_rows(name), None
        return _parquet_rows(name)
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror or error}.") from None


def _must_be_known(name: str, columns: Sequence[str]) -> None:
    unknown = [column for column in columns if column not in KNOWN]
    if unknown:
        msg = f"{name} has columns that no row has: {', '.join(map(repr, unknown[:5]))}."
        hint = f"Leave them out, or rename them to one of: {', '.join(KNOWN)}."
        raise UsageError(msg, hint=hint)


def _csv_rows(name: str) -> Iterator[Any]:
    csv.field_size_limit(LARGEST)
    file = Path(name).open(encoding="utf-8-sig", newline="")  # noqa: SIM115 - see below
    try:
        with _readable(name):
            columns = next(csv.reader(file), list[str]())
        _must_be_known(name, columns)
    except BaseException:
        file.close()
        raise
    return _rest_of_csv(name, file, columns)


def _rest_of_csv(name: str, file: io.TextIOBase, columns: Sequence[str]) -> Iterator[Any]:
    with file, _readable(name):
        for cells in csv.reader(file):
            if not cells:
                continue
            if len(cells) > len(columns):
                yield RowError(f"The row has {len(cells)} cells for {len(columns)} columns.")
            else:
                yield from_columns(dict(zip(columns, cells, strict=False)))


@contextmanager
def _readable(name: str) -> Generator[None]:
    try:
        yield
    except UnicodeDecodeError:
        raise UsageError(f"{name} is no UTF-8 text.", hint="Save it as CSV in UTF-8.") from None
    except csv.Error as error:
        raise UsageError(f"{name} is no CSV: {error}.") from None


def _parquet() -> Any:
    try:
        import_module("pyarrow.parquet")
        return import_module("pyarrow")
    except ModuleNotFoundError:
        msg = "Parquet files need packages that are missing."
        raise UsageError(msg, hint='pip install "lamella[parquet]"') from None


def _parquet_rows(name: str) -> tuple[Iterator[Any], int | None]:
    arrow = _parquet()
    try:
        file = arrow.parquet.ParquetFile(name)
    except arrow.ArrowException as error:
        raise UsageError(f"{name} is no Parquet file: {_first_line(error)}.") from None
    try:
        _must_be_known(name, file.schema_arrow.names)
    except UsageError:
        file.close()
        raise

    def rows() -> Iterator[Any]:
        with file:
            for batch in file.iter_batches(batch_size=_BATCH):
                for row in batch.to_pylist():
                    yield from_columns(row)

    return rows(), int(file.metadata.num_rows)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


# --- writing ------------------------------------------------------------------------------------


class LineTable:
    """Lines of JSON, as they are.

    Args:
        file: Where.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def add(self, lines: Iterable[bytes]) -> None:
        """Write some."""
        self._file.writelines(lines)

    def close(self) -> None:
        """Write what is left."""


class CSVTable:
    """Columns as text with commas: UTF-8, a line for their names, quotes where they are needed.

    Args:
        file: Where.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._text = io.TextIOWrapper(
            cast("Any", file), "utf-8", errors="replace", newline="", write_through=True
        )
        self._writer = csv.DictWriter(self._text, list(COLUMNS))
        self._writer.writeheader()

    def add(self, lines: Iterable[bytes]) -> None:
        """Write some."""
        self._writer.writerows([flat(msgspec.json.decode(line)) for line in lines])

    def close(self) -> None:
        """Write what is left; the file stays open for who has opened it."""
        self._text.flush()
        self._text.detach()


class ParquetTable:
    """Columns with types.

    Args:
        file: Where.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._arrow = _parquet()
        types = {
            int: self._arrow.int64(),
            float: self._arrow.float64(),
            str: self._arrow.string(),
            bool: self._arrow.bool_(),
        }
        self._schema = self._arrow.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
        self._writer = self._arrow.parquet.ParquetWriter(file, self._schema)
        self._rows: list[dict[str, Any]] = []

    def add(self, lines: Iterable[bytes]) -> None:
        """Write some."""
        self._rows += [flat(msgspec.json.decode(line)) for line in lines]
        if len(self._rows) >= 16 * _BATCH:
            self._write()

    def _write(self) -> None:
        rows, self._rows = self._rows, []
        batch = self._arrow.RecordBatch.from_pylist(rows, schema=self._schema)
        self._writer.write_batch(batch)

    def close(self) -> None:
        """Write what is left."""
        if self._rows:
            self._write()
        self._writer.close()


TABLES: Final[Mapping[Format, Any]] = {
    "jsonl": LineTable,
    "csv": CSVTable,
    "parquet": ParquetTable,
}
"""What writes each format."""
