"""The waterfall of a page: what happened when, layer by layer, over one axis of time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lamella._drawing import rows, share, time, time_of
from lamella._page_parts import section, words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lamella._drawing import Row
    from lamella._trace_records import TraceRecord

STYLE: Final = """
body { max-width: 72rem; }
.wide { overflow-x: auto; }
.fall td, .fall th { padding: .1rem .5rem .1rem 0; vertical-align: middle; white-space: nowrap; }
.fall .when { width: 45%; min-width: 14rem; }
.fall .axis { display: flex; justify-content: space-between; }
.fall .rest { white-space: normal; min-width: 12rem; color: var(--dim); overflow-wrap: anywhere; }
.fall th[scope=row] { color: var(--ink); } .fall tr.bad td.rest { color: var(--bad); }
.fall svg { height: 1rem; background: repeating-linear-gradient(to right, transparent 0
  calc(25% - 1px), var(--line) calc(25% - 1px) 25%); } .fall .layer { fill: var(--plot); }
.fall .attempt { fill: var(--good); } .fall .bad rect.busy { fill: var(--bad); }
.fall .wait { fill: var(--dim); } .fall .tail { opacity: .45; } .fall .tick { fill: var(--ink); }
.key { display: inline-block; width: 1.4rem; height: .6rem; margin: 0 .3rem 0 1rem; }
.key.layer { background: var(--plot); } .key.attempt { background: var(--good); }
.key.bad { background: var(--bad); } .key.wait { background: var(--dim); }
.key.tick { background: var(--ink); width: .2rem; height: .9rem; }
""" + "\n".join(f".d{depth} {{ padding-left: {depth}rem !important; }}" for depth in range(1, 25))
"""Without a style in an element, which the page's policy would refuse."""

_DEEPEST: Final = 24
_WIDTH: Final = 1000
_HEIGHT: Final = 16
_PARTS: Final = 4
_LEAST: Final = 3.0
"""What is there is seen, however short it was."""

_LEGEND: Final = (
    '<p><span class="key layer"></span>layer, <span class="key attempt"></span>attempt, '
    '<span class="key bad"></span>failed, <span class="key wait"></span>wait, '
    '<span class="key tick"></span>note; pale: the answer streams</p>'
)


def waterfall(record: TraceRecord) -> str:
    """Layers, attempts and waits in the order in which they began, and notes where they stand."""
    found = rows(record)
    bars = [row for row in found if row.kind != "note"]
    notes = _by_row([row for row in found if row.kind == "note"], bars)
    marks = [time(record.seconds * part / _PARTS) for part in range(_PARTS + 1)]
    axis = "".join([f"<span>{words(mark)}</span>" for mark in marks])
    lines = [_line(row, record.seconds, notes.get(place, ())) for place, row in enumerate(bars)]
    call = _bar("", "", [], notes.get(None, ()), record.seconds)
    return section(
        "What happened when",
        '<table class="fall"><thead><tr><th scope="col">what</th>'
        f'<th scope="col" class="when"><div class="axis">{axis}</div></th>'
        '<th scope="col">began</th><th scope="col">took</th><th scope="col">said</th></tr></thead>'
        f'<tbody><tr><th scope="row">call</th><td class="when">{call}</td><td></td>'
        f"<td>{words(time(record.seconds))}</td>"
        f'<td class="rest">{words(str(record.outcome or "under way"))}</td></tr>'
        f"{''.join(lines)}</tbody></table>{_LEGEND}",
    )


def _by_row(notes: Iterable[Row], bars: Sequence[Row]) -> dict[int | None, list[Row]]:
    """The notes by the place of the layer's row in which they stand; None for the call's own."""
    found: dict[int | None, list[Row]] = {}
    for note in notes:
        places = [
            place
            for place, row in enumerate(bars)
            if row.kind == "layer"
            and row.layer == note.layer
            and row.start <= note.start <= row.tail
        ]
        found.setdefault(places[-1] if places else None, []).append(note)
    return found


def _line(row: Row, total: float, notes: Iterable[Row]) -> str:
    kind = f"{row.kind} bad" if row.well is False else row.kind
    bar = _bar(
        row.kind,
        f"{row.label}, {time_of(row)}",
        [("busy", row.start, row.end), ("tail", row.end, row.tail)],
        notes,
        total,
    )
    depth = f' class="d{min(row.depth, _DEEPEST)}"' if row.depth else ""
    return (
        f'<tr class="{kind}"><th scope="row"{depth}>{words(row.label)}</th>'
        f'<td class="when">{bar}</td><td>{words(time(row.start))}</td>'
        f'<td>{words(time(row.seconds))}</td><td class="rest">{words("  ".join(row.details))}</td>'
        "</tr>"
    )


def _bar(
    kind: str,
    title: str,
    pieces: Iterable[tuple[str, float, float]],
    notes: Iterable[Row],
    total: float,
) -> str:
    """One row's picture. What it shows stands in the row's cells too, for who cannot see it."""
    shapes: list[str] = []
    shown = f"<title>{words(title)}</title>" if title else ""
    for name, start, end in pieces:
        left, right = _place(start, total), _place(end, total)
        if name == "busy" or right > left:
            width = max(_LEAST, right - left)
            left = min(left, _WIDTH - width)
            shapes.append(_rect(f"{kind} {name}", left, width, shown, inset=3))
    for note in notes:
        told = words("  ".join([note.label, f"at {time(note.start)}", *note.details]))
        left = min(_place(note.start, total), _WIDTH - _LEAST)
        shapes.append(_rect("tick", left, _LEAST, f"<title>{told}</title>"))
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" aria-hidden="true">'
        f"{''.join(shapes)}</svg>"
    )


def _place(instant: float, total: float) -> float:
    return share(instant, total) * _WIDTH if total > 0 else 0.0


def _rect(name: str, left: float, width: float, inner: str = "", inset: int = 0) -> str:
    return (
        f'<rect class="{name}" x="{left:.1f}" y="{inset}" width="{width:.1f}" '
        f'height="{_HEIGHT - 2 * inset}">{inner}</rect>'
    )
