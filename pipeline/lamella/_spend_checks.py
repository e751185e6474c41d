"""What a store of spend can keep: looked at before it writes, and the same for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any, Final

import attrs

from lamella._spend_records import MOST_NANO, SpendRecord, is_countable, keepable
from lamella._usage import Usage

LAST_INSTANT: Final = 7_258_118_400
"""The year 2200, in seconds since the epoch: an attempt that ended later is a mistake."""

_MOST_COUNT: Final = 10**12

_TEXTS: Final = tuple(
    each.name for each in attrs.fields(SpendRecord) if str(each.type) in ("str", "str | None")
)
_OPTIONAL: Final = {
    each.name for each in attrs.fields(SpendRecord) if str(each.type) == "str | None"
}
_COUNTS: Final = tuple(each.name for each in attrs.fields(Usage) if str(each.type) == "int")
_texts_of: Final = attrgetter(*_TEXTS)
_counts_of: Final = attrgetter(*_COUNTS)


def storable(record: SpendRecord) -> SpendRecord:
    """The record as every store keeps it: for stores, before they write.

    It is the same one, unless a text in it has to be made `keepable`. Takes a few microseconds.

    Raises:
        ValueError: If it has what no store can keep: no id, an instant before 1970 or after 2200
            (milliseconds?), a duration that is no number, a count of tokens above 10**12, or a
            cost beyond 2**63 nano-units.
    """
    _check_texts(record)
    _check_numbers(record)
    usage = record.usage
    if usage is not None:
        _check_counts(record, usage)
    words = [text for text in _texts_of(record) if text]
    words += record.tags
    words += record.tags.values()
    if usage is not None:
        words += usage.cache_write
        words += usage.tool_units
    together = "".join(words)
    if not together.isascii() or "\0" in together:
        return record if keepable(together) == together else _made_keepable(record)
    return record


def _made_keepable(record: SpendRecord) -> SpendRecord:
    changed: dict[str, Any] = {
        name: keepable(text) for name in _TEXTS if (text := getattr(record, name)) is not None
    }
    changed["tags"] = {keepable(name): keepable(value) for name, value in record.tags.items()}
    usage = record.usage
    if usage is not None:
        changed["usage"] = attrs.evolve(
            usage,
            cache_write={keepable(key): each for key, each in usage.cache_write.items()},
            tool_units={keepable(key): each for key, each in usage.tool_units.items()},
        )
    return attrs.evolve(record, **changed)


def _check_texts(record: SpendRecord) -> None:
    texts: tuple[Any, ...] = _texts_of(record)
    for name, text in zip(_TEXTS, texts, strict=True):
        if not isinstance(text, str) and not (text is None and name in _OPTIONAL):
            raise _unstorable(record, name, type(text).__name__, "a text")
    if not record.id:
        raise _unstorable(record, "id", record.id, "a text that is not empty")
    pairs: Mapping[Any, Any] = record.tags
    for name, value in pairs.items():
        if not (isinstance(name, str) and isinstance(value, str)):
            raise _unstorable(record, "tags", type(value).__name__, "texts by name")


def _check_numbers(record: SpendRecord) -> None:
    if not (is_countable(record.at) and 0 <= record.at < LAST_INSTANT):
        want = "seconds since the epoch (and not milliseconds), before the year 2200"
        raise _unstorable(record, "at", record.at, want)
    for name in ("duration", "time_to_first_event"):
        seconds = getattr(record, name)
        if seconds is not None and not (is_countable(seconds) and 0 <= seconds < LAST_INSTANT):
            raise _unstorable(record, name, seconds, "seconds, 0 or more")
    cost = record.cost
    if cost is None:
        return
    if not -MOST_NANO <= cost.nano <= MOST_NANO:
        raise _unstorable(record, "cost", cost, "at most 2**63 - 1 nano-units")
    if not (cost.currency.isascii() and cost.currency.isalnum()):
        raise _unstorable(record, "cost", cost, "money of a currency, such as USD")


def _check_counts(record: SpendRecord, usage: Usage) -> None:
    counts = [*zip(_COUNTS, _counts_of(usage), strict=True)]
    if usage.cache_write:
        counts += [(f"cache_write {key!r}", each) for key, each in usage.cache_write.items()]
    if usage.tool_units:
        counts += [(f"tool_units {key!r}", each) for key, each in usage.tool_units.items()]
    for name, count in counts:
        if not (isinstance(count, int) and 0 <= count <= _MOST_COUNT):
            raise _unstorable(record, name, count, f"a whole number up to {_MOST_COUNT}")


def _unstorable(record: SpendRecord, name: str, value: object, want: str) -> ValueError:
    return ValueError(
        f"SpendStore.append: the record {record.id!r} has {name} {value!r}, and no store can keep "
        f"that: it has to be {want}. Nothing was written."
    )
