"""A call as text: the onion with each layer's time, and its attempts, waits and notes in it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs

from lamella._outcomes import Outcome

if TYPE_CHECKING:
    from lamella._attempts import Attempt
    from lamella._trace import Note, Span, Trace

Kind: TypeAlias = Literal["layer", "attempt", "wait", "note"]

BAR: Final = 24
"""How many characters stand for the whole call."""

_LABEL: Final = 40


@attrs.frozen
class Row:
    """One line of a drawing. Times are seconds since the call began.

    Attributes:
        kind: What it shows.
        depth: How far inside it stands, 0 outermost.
        label: What it is called.
        start: When it began.
        end: When it had its first event to pass on, or was over without one.
        tail: When the last event had passed; the same as `end` where nothing streamed.
        well: Whether it went well; None where that is no question.
        details: What else is known.
    """

    kind: Kind
    depth: int
    label: str
    start: float
    end: float
    tail: float
    well: bool | None = None
    details: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """How long it took in all."""
        return self.tail - self.start


def draw(trace: Trace) -> str:
    """Draw a trace; see `Trace.draw`."""
    total = length(trace)
    drawn = rows(trace)
    width = label_width(drawn)
    lines = [headline(trace)]
    for row in drawn:
        label = f"{'  ' * row.depth}{row.label}"[:width]
        bar = "".join(bar_of(row, total, BAR)).translate(_ASCII)
        details = "  ".join(row.details)
        lines.append(f"  {label:<{width}} {bar} {_time_of(row):>8}  {details}".rstrip())
    return "\n".join(lines)


_ASCII: Final = str.maketrans({"━": "=", "─": "-", "┄": "."})


def length(trace: Trace) -> float:
    """Seconds that the call took, or has taken so far."""
    return trace.duration if trace.duration is not None else trace.now()


def headline(trace: Trace) -> str:
    """The call in one line: how it ended, how long it took, what it consumed."""
    words = [f"call {trace.call_id[:8]}", str(trace.outcome or "under way"), time(length(trace))]
    usage = trace.usage
    if usage.total_tokens:
        about = "~" if usage.estimated else ""
        words.append(f"{about}{usage.input_tokens} tokens in, {usage.output_tokens} out")
    cost = trace.cost
    if cost is not None:
        words.append(str(cost))
    return "  ".join(words)


def label_width(drawn: Iterable[Row]) -> int:
    """How wide the column of labels has to be."""
    return min(_LABEL, max([2 * row.depth + len(row.label) for row in drawn], default=0))


def rows(trace: Trace) -> tuple[Row, ...]:
    """What happened, in the order in which it began."""
    total = length(trace)
    spans = sorted(trace.spans, key=lambda span: (span.start, span.depth))
    attempts = [(_inside(attempt.start, spans), attempt) for attempt in trace.attempts]
    found = [_span(span, attempts, total) for span in spans]
    found += [_attempt(depth, attempt, total) for depth, attempt in attempts]
    found += [_note(note, spans) for note in trace.notes]
    # Python's sort is stable: what began at the same instant stays outermost first.
    return tuple(sorted(found, key=lambda row: row.start))


def _inside(instant: float, spans: Iterable[Span]) -> int:
    """The depth just inside all layers that had the request in hand at an instant."""
    return max([span.depth for span in spans if span.start <= instant <= span.end], default=-1) + 1


def _span(span: Span, attempts: Iterable[tuple[int, Attempt]], total: float) -> Row:
    """A layer; one of the wire stands a step further in, below the attempt it belongs to."""
    tail, wire = span.end, 0
    for depth, attempt in attempts:
        end = attempt.end if attempt.end is not None else total
        if span.depth >= depth and attempt.start <= span.start <= end:
            wire = 1
        streamed = attempt.committed and span.error is None
        if streamed and attempt.start <= span.end <= end:
            tail = max(tail, end)
    return Row(
        kind="layer",
        depth=span.depth + wire,
        label=span.layer,
        start=span.start,
        end=span.end,
        tail=tail,
        well=span.error is None,
        details=(f"raised {span.error}",) if span.error else (),
    )


def _attempt(depth: int, attempt: Attempt, total: float) -> Row:
    tail = attempt.end if attempt.end is not None else total
    words = [str(attempt.outcome or "under way")]
    if attempt.status is not None:
        words.append(str(attempt.status))
    if attempt.cause is not None:
        words.append(attempt.cause)
    if attempt.time_to_first_event is not None:
        words.append(f"first event after {time(attempt.time_to_first_event)}")
    if attempt.cost is not None:
        words.append(str(attempt.cost))
    return Row(
        kind="attempt",
        depth=depth,
        label=f"-> {attempt.provider} {attempt.branch}".rstrip(),
        start=attempt.start,
        end=tail if attempt.first_event is None else attempt.first_event,
        tail=tail,
        well=None if attempt.outcome is None else attempt.outcome is Outcome.COMPLETE,
        details=(", ".join(words),),
    )


def _note(note: Note, spans: Iterable[Span]) -> Row:
    depths = [
        span.depth + 1
        for span in spans
        if span.layer == note.layer and span.start <= note.at <= span.end
    ]
    seconds = note.fields.get("seconds")
    waits = note.name.endswith(".wait") and isinstance(seconds, int | float)
    fields = {key: value for key, value in note.fields.items() if not waits or key != "seconds"}
    end = note.at + float(seconds) if waits and isinstance(seconds, int | float) else note.at
    return Row(
        kind="wait" if waits else "note",
        depth=max(depths, default=0),
        label="wait" if waits else f"@ {note.name}",
        start=note.at,
        end=end,
        tail=end,
        details=tuple(f"{key}={value}" for key, value in fields.items() if value is not None),
    )


def bar_of(row: Row, total: float, width: int) -> tuple[str, str, str, str]:
    """A row's place in the call: before it, until its first event, while it streamed, after it.

    Args:
        row: What to place.
        total: Seconds that stand for the whole width.
        width: Characters.
    """
    if total <= 0 or row.kind == "note":
        return " " * width, "", "", ""
    first = min(width - 1, max(0, int(row.start / total * width)))
    middle = min(width, max(first + 1, round(row.end / total * width)))
    last = min(width, max(middle, round(row.tail / total * width)))
    busy = "┄" if row.kind == "wait" else "━"
    after = " " * (width - last)
    return " " * first, busy * (middle - first), "─" * (last - middle), after


def _time_of(row: Row) -> str:
    return f"@{time(row.start)}" if row.kind == "note" else time(row.seconds)


def time(seconds: float) -> str:
    """Seconds in the unit that suits them."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} us"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
