"""Prices that a program states itself: a table of its own, or the path of a file with one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any, TypeAlias, cast

from lamella._errors import ConfigurationError
from lamella._prices import Price

Rows: TypeAlias = Mapping[str, tuple[Price, ...]]
"""A program's own prices, by `"model"` or `"provider/model"`."""


def own_prices(given: Any, what: str) -> Rows:
    """Prices from what an option `prices=` takes: a table, or the path of a TOML or JSON file.

    Args:
        given: The option.
        what: What it is called in messages: `Cost(prices=...)`.

    Raises:
        ConfigurationError: If an entry is no price; all such entries are named.
    """
    # Reading decimals sets a context variable of the decimal module; not in the caller's context.
    return copy_context().run(partial(_own_prices, given, what))


def _own_prices(given: Any, what: str) -> Rows:
    table: Any = given
    if not isinstance(given, Mapping):
        from lamella._price_files import read_prices

        what, table = read_prices(given, what)
    rows: dict[str, tuple[Price, ...]] = {}
    wrong: list[str] = []
    for model, entry in cast("Mapping[Any, Any]", table).items():
        try:
            if not isinstance(model, str) or not model:
                raise TypeError("a model's name is a text, such as 'openai/gpt-4o-mini'.")
            rows[model] = _rows(entry)
        except (TypeError, ValueError) as error:
            wrong.append(f"{model!r}: {error}")
    if wrong:
        raise ConfigurationError(
            f"{what} has entries that are no price: {' '.join(wrong)}",
            hint='Write {"input": "0.50", "output": "1.50"}: per million tokens, in quotes.',
        )
    return rows


def _rows(entry: object) -> tuple[Price, ...]:
    if not isinstance(entry, list | tuple):
        return (price_from(entry),)
    rows = tuple([price_from(one) for one in cast("Sequence[object]", entry)])
    days = [row.effective_from for row in rows]
    if not rows or len(set(days)) != len(days):
        raise ValueError("rows of one model have an `effective_from` each, all different")
    return rows


def price_from(entry: object) -> Price:
    """A price from a `Price`, or from a table such as `{"input": "0.50", "output": "1.50"}`.

    Raises:
        TypeError: If it is neither.
        ValueError: If a part of the table is no price.
    """
    if isinstance(entry, Price):
        return entry
    if not isinstance(entry, Mapping):
        raise TypeError(f"{entry!r} is neither a Price nor a table.")
    table = dict(cast("Mapping[str, Any]", entry))
    begins = table.get("effective_from")
    if isinstance(begins, str):  # JSON has no days
        table["effective_from"] = dt.date.fromisoformat(begins)
    elif begins is not None and type(begins) is not dt.date:
        raise TypeError(f"effective_from = {begins!r}: expected a day such as 2026-11-21.")
    services = table.get("services")
    if services is not None and not isinstance(services, Mapping):
        raise TypeError(f"services = {services!r}: expected a table such as {{'batch': '1/2'}}.")
    return Price.of(**table)
