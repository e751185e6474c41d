"""What has been spent, as a table for people: a line for each group, and a bar for its share.

Amounts are whole numbers until they are written out, and as exact as their column.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

from lamella import Money, SpendTotal

_BAR: Final = 24
"""Characters of the longest bar."""
_NANO_DIGITS: Final = 9
_NONE: Final = "-"


def show_totals(totals: Sequence[SpendTotal], by: Sequence[str]) -> None:
    """Print a table, and remarks on what is not in its sums.

    Args:
        totals: At least one.
        by: What they are told apart by.
    """
    from lamella.cli._output import say
    from lamella.cli._render import show_table

    lines = [*totals, whole(totals)] if len(totals) > 1 else list(totals)
    columns = [*_groups(lines, by), *_counts(lines), *_money(lines), _bars(lines)]
    shown = [(header, cells) for header, cells in columns if any(cells)]
    cells = [list(line) for line in zip(*[cells for _, cells in shown], strict=True)]
    show_table([header for header, _ in shown], cells)
    total = lines[-1]
    if total.unpriced:
        say(
            f"({_times(total.unpriced, 'attempt has', 'attempts have')} no known cost, and "
            "the sums are without: name prices with Cost(prices=...).)",
            style="yellow",
        )
    if total.estimated:
        what = _times(total.estimated, "attempt has", "attempts have")
        say(f"({what} estimated tokens: their providers have not counted them.)", style="dim")


def whole(totals: Iterable[SpendTotal]) -> SpendTotal:
    """All groups together."""
    counts = dict.fromkeys(_COUNTS, 0)
    costs: dict[str, Money] = {}
    for total in totals:
        for name in counts:
            counts[name] += getattr(total, name)
        for currency, cost in total.costs.items():
            costs[currency] = costs[currency] + cost if currency in costs else cost
    return SpendTotal(group=(), costs=costs, **counts)


def form(total: SpendTotal, by: Sequence[str]) -> dict[str, Any]:
    """A total as JSON: amounts as texts, and in billionths."""
    return {
        "group": dict(zip(by, total.group, strict=True)),
        **{name: getattr(total, name) for name in _COUNTS},
        "costs": {
            currency: {"amount": f"{cost.amount:f}", "nano": cost.nano}
            for currency, cost in total.costs.items()
        },
    }


_COUNTS: Final = (
    "attempts", "unpriced", "estimated", "input_tokens", "cached_tokens", "output_tokens",
    "reasoning_tokens",
)  # fmt: skip
_ALWAYS: Final = {"attempts": "attempts", "input_tokens": "input", "output_tokens": "output"}
_SOMETIMES: Final = {
    "cached_tokens": "cached", "reasoning_tokens": "reasoning", "unpriced": "unpriced",
}  # fmt: skip

_Column = tuple[str, list[str]]


def _groups(lines: Sequence[SpendTotal], by: Sequence[str]) -> list[_Column]:
    several = len(lines) > 1
    columns: list[_Column] = []
    for place, name in enumerate(by):
        cells = [_shown(line.group[place]) for line in (lines[:-1] if several else lines)]
        if several:
            cells.append("" if place else "all")
        columns.append((name.removeprefix("tag:"), cells))
    return columns


def _shown(value: str | None) -> str:
    """A value in one line. Users and tags are often chosen by strangers, who may write more."""
    if not value:
        return _NONE
    return "".join(each if each.isprintable() else "\ufffd" for each in value)


def _counts(lines: Sequence[SpendTotal]) -> list[_Column]:
    columns: list[_Column] = []
    for name in ("attempts", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"):
        found: list[int] = [getattr(line, name) for line in lines]
        if name in _ALWAYS or any(found):
            header = _ALWAYS.get(name) or _SOMETIMES[name]
            columns.append(_right(header, [f"{number:,}" for number in found]))
    return columns


def _money(lines: Sequence[SpendTotal]) -> list[_Column]:
    """A column for each currency that anything has been paid in, and one for what is not known."""
    currencies = sorted({name for line in lines for name, cost in line.costs.items() if cost})
    currencies = currencies or sorted({name for line in lines for name in line.costs})
    columns: list[_Column] = []
    for currency in currencies:
        nanos = [line.costs[currency].nano if currency in line.costs else None for line in lines]
        places = _places([nano for nano in nanos if nano])
        cells = [_NONE if nano is None else amount(nano, places) for nano in nanos]
        columns.append(_right(currency, cells))
    if any(line.unpriced for line in lines):
        columns.append(_right("unpriced", [f"{line.unpriced:,}" for line in lines]))
    return columns


def _bars(lines: Sequence[SpendTotal]) -> _Column:
    """A bar for each group's share of the largest, where all is one currency and there are some."""
    from lamella.cli._output import is_terminal

    groups = lines[: max(0, len(lines) - 1)]
    currencies = {name for line in groups for name, cost in line.costs.items() if cost}
    currency = currencies.pop() if len(currencies) == 1 else ""
    nanos = [line.costs[currency].nano if currency in line.costs else 0 for line in groups]
    most = max(nanos, default=0)
    if most <= 0:  # nothing to compare
        return ("", [""] * len(lines))
    stroke = "━" if is_terminal(sys.stdout) else "="
    # What has cost anything is seen: rounded up, never to nothing.
    bars = [stroke * (-(-nano * _BAR // most) if nano > 0 else 0) for nano in nanos]
    return ("", [*bars, ""])


def amount(nano: int, places: int) -> str:
    """Billionths as a number with so many decimals, rounded half to even.

    Args:
        nano: How many billionths.
        places: 0 to 9.
    """
    unit = 10 ** (_NANO_DIGITS - places)
    quotient, rest = divmod(abs(nano), unit)
    quotient += rest * 2 > unit or (rest * 2 == unit and quotient % 2)
    units, part = divmod(quotient, 10**places)
    sign = "-" if nano < 0 and quotient else ""
    return f"{sign}{units:,}.{part:0{places}}" if places else f"{sign}{units:,}"


def _places(nanos: Sequence[int]) -> int:
    """Decimals with which the smallest of them keeps two digits, as far as it has them."""
    if not nanos:
        return 2
    places = _NANO_DIGITS + 2 - len(str(min(abs(nano) for nano in nanos)))
    exact = _NANO_DIGITS
    while exact > 2 and all(nano % 10 ** (_NANO_DIGITS + 1 - exact) == 0 for nano in nanos):
        exact -= 1
    return max(2, min(places, exact, _NANO_DIGITS))


def _right(header: str, cells: Sequence[str]) -> _Column:
    width = max(len(header), *[len(cell) for cell in cells])
    return header.rjust(width), [cell.rjust(width) for cell in cells]


def _times(number: int, one: str, more: str) -> str:
    return f"{number:,} {one if number == 1 else more}"
