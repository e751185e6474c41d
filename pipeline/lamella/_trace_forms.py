"""What happened in a call, as JSON values. Names stay; more may be added.

Times are seconds since the call began. What is not known is null. Money has its exact integer, and
a decimal in a text for who only shows it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import attrs

from lamella._money import Money

if TYPE_CHECKING:
    from lamella._attempts import Attempt
    from lamella._trace import Note, Span
    from lamella._trace_records import TraceRecord
    from lamella._usage import Usage

VERSION: Final = 1
"""Of the form. It grows when a name changes its meaning; readers know all older ones."""

_DEEPEST: Final = 20
_MOST_LETTERS: Final = 1_000


def trace_form(record: TraceRecord) -> dict[str, Any]:
    """A whole call."""
    return {
        "version": VERSION,
        "call_id": record.call_id,
        "parent_id": record.parent_id,
        "started": record.started,
        "seconds": record.seconds,
        "outcome": None if record.outcome is None else str(record.outcome),
        "usage": usage_form(record.usage),
        "cost": money_form(record.cost),
        "costs": [money_form(cost) for cost in record.costs.values()],
        "attempts": [attempt_form(attempt) for attempt in record.attempts],
        "notes": [note_form(note) for note in record.notes],
        "layers": [span_form(span) for span in record.spans],
        "adopted": [
            {
                "branch": adopted.branch,
                "at": adopted.at,
                "began": adopted.began,
                "call": trace_form(adopted.call),
            }
            for adopted in record.adopted
        ],
        "content": plain(record.content),
    }


def attempt_form(attempt: Attempt) -> dict[str, Any]:
    """One attempt: its fields by their names."""
    return {
        **attrs.asdict(attempt, recurse=False),
        "outcome": None if attempt.outcome is None else str(attempt.outcome),
        "usage": usage_form(attempt.usage),
        "cost": money_form(attempt.cost),
    }


def note_form(note: Note) -> dict[str, Any]:
    """One note."""
    return {"layer": note.layer, "name": note.name, "at": note.at, "fields": plain(note.fields)}


def span_form(span: Span) -> dict[str, Any]:
    """One layer's time."""
    return attrs.asdict(span)


def usage_form(usage: Usage | None) -> dict[str, Any] | None:
    """Totals, and the disjoint parts that are not 0."""
    if usage is None:
        return None
    parts = attrs.asdict(usage, recurse=False)
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "estimated": parts.pop("estimated"),
        "parts": {name: plain(value) for name, value in parts.items() if value},
    }


def money_form(money: Money | None) -> dict[str, Any] | None:
    """An amount in whole units, exactly: a text, and the integer of its nano-units."""
    if money is None:
        return None
    amount = f"{money.amount:f}"
    return {"amount": amount, "currency": money.currency, "nano": money.nano}


def plain(value: Any, above: tuple[int, ...] = ()) -> Any:
    """A value as JSON has it; what JSON has no word for becomes a text.

    Args:
        value: Any; a table's names become texts too.
        above: The ids of what it stands in. What is nested beyond reason, or in itself, becomes a
            text.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if len(above) < _DEEPEST and id(value) not in above:
        each: Any = value
        above = (*above, id(each))
        if isinstance(value, Mapping):
            return {text_of(key): plain(each[key], above) for key in each}
        if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
            return [plain(item, above) for item in each]
    return text_of(cast("object", value))


def text_of(value: object) -> str:
    """A value as text, whatever its class does; a long one is cut."""
    try:
        return str(value)[:_MOST_LETTERS]
    except Exception:  # noqa: BLE001 - a stranger's class; the rest of the trace is still wanted
        return f"<{type(value).__name__}>"
