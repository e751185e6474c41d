"""Records of spend in a file that other programs read: CSV, JSON lines, Parquet."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import anyio

from lamella import ConfigurationError, SpendQuery, SpendRecord
from lamella._ports import default_ports
from lamella_middlewares.spend._spools import flush

if TYPE_CHECKING:
    from lamella import Ports, SpendStore

T = TypeVar("T")

ROWS: Final = 5000
"""How many records are turned into rows, and written, at a time."""


class Table(Protocol):
    """A file that takes rows. Its methods block."""

    def write(self, records: list[SpendRecord]) -> None:
        """Append rows."""
        ...

    def close(self) -> None:
        """End the file. Once."""
        ...


def _csv(path: Path) -> Table:
    from lamella_middlewares.spend._text_tables import CSVTable

    return CSVTable(path)


def _lines(path: Path) -> Table:
    from lamella_middlewares.spend._text_tables import JSONLines

    return JSONLines(path)


def _parquet(path: Path) -> Table:
    from lamella_middlewares.spend._parquet import ParquetTable

    return ParquetTable(path)


FORMATS: Final[Mapping[str, Callable[[Path], Table]]] = {
    ".csv": _csv,
    ".jsonl": _lines,
    ".parquet": _parquet,
}
"""What makes a file, by the end of its name."""


async def export(
    store: SpendStore,
    path: str | os.PathLike[str],
    query: SpendQuery | None = None,
    *,
    overwrite: bool = False,
    ports: Ports | None = None,
) -> int:
    """Write records into a file, in order of time; how many there were.

    The end of the file's name says how: `.csv`, `.jsonl` or `.parquet` (needs `lamella[parquet]`).
    The file is there once it is whole, and not before. What a `Spend` of this process has not
    written to the store yet is written there first.

    Args:
        store: Where the records are: `spend.kept_in`, or any store of spend.
        path: The file.
        query: Which records; None is all. Its `by` means nothing here.
        overwrite: Whether a file that is there is replaced.
        ports: The doors to the world; None is the real one.

    Raises:
        ConfigurationError: If the name has another end, the file is there already, its directory is
            not, or a package is missing.
        StoreUnavailableError: If the store does not answer.
        OSError: If the file cannot be written.
    """
    target = Path(path)
    make = _maker(target, overwrite=overwrite)
    doors = ports or default_ports()
    await flush(store)
    partial = target.with_name(f".{target.name}.{doors.new_id()[:8]}.part")
    try:
        count = await _fill(partial, make, store.read(query or SpendQuery()), doors)
        partial.replace(target)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError):  # that of a write names no file
            error.filename = error.filename or str(target)
        raise
    return count


async def _fill(
    path: Path,
    make: Callable[[Path], Table],
    records: AsyncIterator[SpendRecord],
    ports: Ports,
) -> int:
    """Write records into a new file; how many there were."""
    count = 0
    rows: list[SpendRecord] = []
    table = await _whole(ports, make, path)
    try:
        async for record in records:
            rows.append(record)
            if len(rows) == ROWS:
                await _whole(ports, table.write, rows)
                count, rows = count + len(rows), []
        await _whole(ports, table.write, rows)
    finally:
        await _whole(ports, table.close)
    return count + len(rows)


async def _whole(ports: Ports, function: Callable[..., T], *args: Any) -> T:
    """Run it in a thread to its end: given up, it would go on with a file that is closed."""
    done: list[T] = []
    with anyio.CancelScope(shield=True):
        done.append(await ports.thread(function, *args))
    return done[0]


def _maker(target: Path, *, overwrite: bool) -> Callable[[Path], Table]:
    make = FORMATS.get(target.suffix.lower())
    if make is None:
        msg = f"Nothing says in which format {str(target)!r} is to be."
        raise ConfigurationError(msg, hint=f"End its name with {', '.join(FORMATS)}.")
    if not target.parent.is_dir():
        msg = f"There is no directory {str(target.parent)!r} for {target.name!r}."
        raise ConfigurationError(msg, hint="Make it, or give another path.")
    if target.exists() and not overwrite:
        msg = f"There is a file {str(target)!r} already."
        raise ConfigurationError(msg, hint="Give another name, or ask for it to be overwritten.")
    return make


def row_of(record: SpendRecord) -> dict[str, Any]:
    """A record as one row. Amounts are there exactly, in billionths and in whole units."""
    usage, cost = record.usage, record.cost
    return {
        "id": record.id,
        "at": record.at,
        "call_id": record.call_id,
        "parent_id": record.parent_id,
        "branch": record.branch,
        "layer": record.layer,
        "operation": record.operation,
        "category": record.category,
        "provider": record.provider,
        "model": record.model,
        "served_model": record.served_model,
        "service": record.service,
        "tenant": record.tenant,
        "user": record.user,
        "session": record.session,
        "tags": dict(record.tags),
        "outcome": record.outcome,
        "duration": record.duration,
        "time_to_first_event": record.time_to_first_event,
        "uncached_input": None if usage is None else usage.uncached_input,
        "cache_read": None if usage is None else usage.cache_read,
        "cache_write": {} if usage is None else dict(usage.cache_write),
        "audio_input": None if usage is None else usage.audio_input,
        "image_input": None if usage is None else usage.image_input,
        "text_output": None if usage is None else usage.text_output,
        "reasoning_output": None if usage is None else usage.reasoning_output,
        "audio_output": None if usage is None else usage.audio_output,
        "image_output": None if usage is None else usage.image_output,
        "tool_units": {} if usage is None else dict(usage.tool_units),
        "estimated": None if usage is None else usage.estimated,
        "currency": None if cost is None else cost.currency,
        "cost_nano": None if cost is None else cost.nano,
        "cost": None if cost is None else cost.amount,
    }
