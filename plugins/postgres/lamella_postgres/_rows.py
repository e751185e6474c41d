"""Records as rows of the table, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lamella import Money, SpendRecord, Usage
from lamella._nothing import NOTHING
from lamella_postgres._table import COLUMNS, table_of

_PLAIN: Final = (
    "id", "call_id", "parent_id", "branch", "layer", "operation", "category", "provider", "model",
    "served_model", "service", "tenant", "session", "outcome",
)  # fmt: skip
_COUNTS: Final = (
    "uncached_input", "cache_read", "audio_input", "image_input", "text_output",
    "reasoning_output", "audio_output", "image_output",
)  # fmt: skip
READ: Final = (
    *_PLAIN, "at", "end_user", "duration", "time_to_first_event", "tags", "cost_nano", "currency",
    *_COUNTS, "cache_write", "tool_units", "estimated",
)  # fmt: skip
"""The columns that a record is made of."""


def insertion(schema: str) -> str:
    """The statement that appends the rows of a JSON array, and passes over ids that are there."""
    names = ", ".join(COLUMNS)
    kinds = ", ".join(f"{name} {kind.split(' COLLATE')[0]}" for name, kind in COLUMNS.items())
    kinds = kinds.replace(" NOT NULL", "")
    table = table_of(schema).replace("%", "%%")
    return (
        f"INSERT INTO {table} ({names}) SELECT {names} "  # noqa: S608 - words of ours
        f"FROM json_to_recordset(%s::json) AS given ({kinds}) ON CONFLICT (id) DO NOTHING"
    )


def row_of(record: SpendRecord) -> str:
    """What a record is written as: a JSON object of columns."""
    cost, usage = record.cost, record.usage
    row: dict[str, Any] = {name: getattr(record, name) for name in _PLAIN}
    row["at"] = float(record.at)
    row["end_user"] = record.user
    row["duration"] = float(record.duration)
    row["time_to_first_event"] = record.time_to_first_event
    if record.tags:
        row["tags"] = dict(record.tags)
    if cost is not None:
        row["cost_nano"], row["currency"] = cost.nano, cost.currency
    if usage is not None:
        row.update({name: getattr(usage, name) for name in _COUNTS})
        row["cache_write"] = dict(usage.cache_write) or None
        row["tool_units"] = dict(usage.tool_units) or None
        row["estimated"] = usage.estimated
        row["input_tokens"], row["output_tokens"] = usage.input_tokens, usage.output_tokens
    return json.dumps(row, ensure_ascii=False)


def record_of(row: Sequence[Any]) -> SpendRecord:
    """The record that was written as a row."""
    found: dict[str, Any] = dict(zip(READ, row, strict=True))
    nano, currency = found.pop("cost_nano"), found.pop("currency")
    counts = {name: found.pop(name) for name in _COUNTS}
    written, units = _mapping(found.pop("cache_write")), _mapping(found.pop("tool_units"))
    estimated, tags = found.pop("estimated"), _mapping(found.pop("tags"))
    user, usage = found.pop("end_user"), None
    if estimated is not None:
        usage = Usage(**counts, cache_write=written, tool_units=units, estimated=estimated)
    return SpendRecord(
        **found,
        user=user,
        tags=tags,
        usage=usage,
        cost=None if nano is None else Money(nano, currency),
    )


def _mapping(found: Mapping[str, Any] | None) -> Mapping[str, Any]:
    return found or NOTHING
