"""Traces, explanations and tables: with rich on a terminal, as plain text elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, TextIO

from lamella._drawing import bar_of, draw, headline, labels, rows, time_of
from lamella._trace_records import TraceRecord
from lamella.cli._output import harmless, show

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from lamella._drawing import Row
    from lamella._explain import Explanation
    from lamella._trace import Trace

_BAR: Final = 32

_COLOURS: Final = {"layer": "cyan", "attempt": "green", "wait": "yellow", "note": "magenta"}

_LEGEND: Final = "━ until the first event   ─ streaming   ┄ waiting"


def show_trace(trace: Trace | TraceRecord, stream: TextIO | None = None) -> None:
    """Draw a call: the onion, and its attempts, waits and notes in it.

    Args:
        trace: What happened, now or then.
        stream: Where; None is standard error, so that standard output holds the answer alone.
    """
    record = trace if isinstance(trace, TraceRecord) else trace.record()
    show(lambda: _trace(record), lambda: draw(record), stream or sys.stderr)


def _trace(record: TraceRecord) -> Group:
    from rich.console import Group
    from rich.text import Text

    drawn = rows(record)
    lines = [Text(headline(record), style="bold")]
    lines += [
        _row(row, label, record.seconds) for row, label in zip(drawn, labels(drawn), strict=True)
    ]
    lines.append(Text(f"  {_LEGEND}", style="dim"))
    return Group(*lines)


def _row(row: Row, label: str, total: float) -> Text:
    from rich.text import Text

    colour = "red" if row.well is False else _COLOURS[row.kind]
    before, busy, streaming, after = bar_of(row, total, _BAR)
    return Text.assemble(
        (f"  {label} ", "bold" if row.kind == "layer" else colour),
        before,
        (busy, colour),
        (streaming, f"{colour} dim"),
        after,
        (f" {time_of(row):>8}  ", ""),
        ("  ".join(row.details), "red" if row.well is False else "dim"),
        no_wrap=True,
        overflow="ellipsis",
    )


def show_explanation(explanation: Explanation, preset: str, origin: str) -> None:
    """Print a pipeline as it will run, and where its preset comes from."""
    words = f"preset {preset!r} from {origin}"
    show(lambda: _explanation(explanation, words), lambda: f"{words}\n{explanation}")


def _explanation(explanation: Explanation, words: str) -> Any:
    from rich.console import Group
    from rich.text import Text

    return Group(
        Text.assemble((words, "bold"), ("; layers outermost first", "dim")),
        _stack(explanation),
        *[Text(f"  ?  {doubt.message}", style="yellow") for doubt in explanation.doubts],
        *[Text(f"  !  accepted: {allowed}", style="yellow") for allowed in explanation.allowed],
    )


def _stack(explanation: Explanation) -> Any:
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    layers = [
        (
            str(number),
            layer.name,
            layer.phase or "no phase",
            "\n".join(f"{name}={value!r}" for name, value in layer.options.items()),
            ", ".join(layer.effects),
            layer.distribution,
        )
        for number, layer in enumerate(explanation.layers, 1)
    ]
    table = _table(("", "layer", "phase", "options", "may", "from"), layers)
    transport = explanation.transport
    if isinstance(transport, str):
        return Group(table, Text(f"  -> {transport}", style="green"))
    inner = Padding(_stack(transport), (0, 0, 0, 4))
    return Group(table, Text("  -> a pipeline, in the same call:", style="green"), inner)


def show_table(headers: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    """Print a table: as wide as the terminal allows, elsewhere as wide as it is."""
    found = [tuple(line) for line in lines]
    show(lambda: _table(headers, found), lambda: columns(headers, found))


def _table(headers: Sequence[str], lines: Iterable[Sequence[str]]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for header in headers:
        table.add_column(header, overflow="fold")
    for line in lines:
        table.add_row(*[Text(harmless(cell)) for cell in line])
    return table


def columns(headers: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table as text: columns as wide as their widest cell, the last one without padding."""
    cells = [tuple(headers), *[tuple(line) for line in lines]]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )
