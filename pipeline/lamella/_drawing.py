"""A call as text: the onion with each layer's time, and its attempts, waits and notes in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import attrs

from lamella._options import is_number
from lamella._outcomes import Outcome
from lamella._spent import cost_words
from lamella._trace_forms import text_of
from lamella._trace_time import facts_of

if TYPE_CHECKING:
    from lamella._attempts import Attempt
    from lamella._trace import Note, Span
    from lamella._trace_records import TraceRecord
    from lamella._usage import Usage

Kind: TypeAlias = Literal["layer", "attempt", "wait", "note"]

BAR: Final = 24
"""How many characters stand for the whole call."""

_LABEL: Final = 40
_DEEP: Final = 12
"""So many layers leave labels room enough; those of deeper stacks stand closer, and go on."""
_DEEPEST: Final = 60


def _within_reason(depth: int) -> int:
    """A depth that can be drawn: a file may say anything."""
    return min(max(0, depth), _DEEPEST)


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
        layer: The layer that it is of, or that noted it.
    """

    kind: Kind
    depth: int = attrs.field(converter=_within_reason)
    label: str
    start: float
    end: float
    tail: float
    well: bool | None = None
    details: tuple[str, ...] = ()
    layer: str = ""

    @property
    def seconds(self) -> float:
        """How long it took in all."""
        return self.tail - self.start


def draw(record: TraceRecord) -> str:
    """Draw a call; see `Trace.draw`."""
    drawn = rows(record)
    lines = [headline(record)]
    for row, label in zip(drawn, labels(drawn), strict=True):
        bar = "".join(bar_of(row, record.seconds, BAR)).translate(_ASCII)
        details = "  ".join(row.details)
        lines.append(f"  {label} {bar} {time_of(row):>8}  {details}".rstrip())
    return "\n".join(lines)


_ASCII: Final = str.maketrans({"━": "=", "─": "-", "┄": "."})


def headline(record: TraceRecord) -> str:
    """The call in one line: how it ended, how long it took, what it consumed."""
    outcome = str(record.outcome or "under way")
    words = [f"call {legible(record.call_id[:8])}", outcome, time(record.seconds)]
    tokens = tokens_of(record.usage)
    if tokens:
        words.append(tokens)
    cost = cost_words(record.attempts)
    if cost:
        words.append(legible(cost))
    return "  ".join(words)


def tokens_of(usage: Usage | None) -> str:
    """How many tokens went in and came out; empty if nobody knows of any."""
    if usage is None or not usage.total_tokens:
        return ""
    about = "~" if usage.estimated else ""
    return f"{about}{usage.input_tokens} tokens in, {usage.output_tokens} out"


def labels(drawn: Sequence[Row]) -> list[str]:
    """What each row is called, as far to the right as it stands inside, all of the same width."""
    deepest = max([row.depth for row in drawn], default=0)
    step = 2 if deepest <= _DEEP else 1
    found = [
        " " * (step * row.depth) + row.label[: _LABEL - step * min(row.depth, _DEEP)]
        for row in drawn
    ]
    width = max(map(len, found), default=0)
    return [f"{label:<{width}}" for label in found]


def rows(record: TraceRecord) -> tuple[Row, ...]:
    """What happened, in the order in which it began, adopted calls included."""
    facts = facts_of(record)
    spans = sorted(facts.spans, key=lambda span: (span.start, span.depth))
    depths = [_inside(attempt.start, spans) for attempt in facts.attempts]
    layers = [(span, _span(span, facts.attempts, depths, record.seconds)) for span in spans]
    # Python's sort is stable: what began at the same instant stays outermost first.
    found = [row for span, row in layers if span.attempt is None]
    found += [
        _attempt(depth, attempt, record.seconds)
        for depth, attempt in zip(depths, facts.attempts, strict=True)
    ]
    found += [row for span, row in layers if span.attempt is not None]
    found += [_note(note, spans) for note in facts.notes]
    return tuple(sorted(found, key=lambda row: row.start))


def _inside(instant: float, spans: Iterable[Span]) -> int:
    """The depth just inside all layers, but those of the wire, that had a request in hand then."""
    depths = [
        span.depth for span in spans if span.attempt is None and span.start <= instant <= span.end
    ]
    return max(depths, default=-1) + 1


def _span(span: Span, attempts: Sequence[Attempt], depths: Sequence[int], total: float) -> Row:
    """A layer; one of the wire stands below the attempt that it belongs to."""
    tail, depth = span.end, span.depth
    if span.attempt is not None and 0 <= span.attempt < len(depths):
        depth = max(depth, depths[span.attempt]) + 1
    for attempt in attempts:
        end = attempt.end if attempt.end is not None else total
        streamed = attempt.committed and span.error is None
        if streamed and attempt.start <= span.end <= end:
            tail = max(tail, end)
    return Row(
        kind="layer",
        depth=depth,
        label=legible(span.layer),
        start=span.start,
        end=span.end,
        tail=tail,
        well=span.error is None,
        details=(f"raised {legible(span.error)}",) if span.error else (),
        layer=span.layer,
    )


def _attempt(depth: int, attempt: Attempt, total: float) -> Row:
    tail = attempt.end if attempt.end is not None else total
    words = [str(attempt.outcome or "under way")]
    if attempt.status is not None:
        words.append(str(attempt.status))
    if attempt.cause is not None:
        words.append(legible(attempt.cause))
    if attempt.time_to_first_event is not None:
        words.append(f"first event after {time(attempt.time_to_first_event)}")
    if attempt.cost is not None:
        words.append(legible(str(attempt.cost)))
    return Row(
        kind="attempt",
        depth=depth,
        label=legible(f"-> {attempt.provider} {attempt.branch}").rstrip(),
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
    seconds: Any = note.fields.get("seconds")
    waited: Any = seconds if note.name.endswith(".wait") and is_number(seconds) else None
    fields = {key: each for key, each in note.fields.items() if waited is None or key != "seconds"}
    end = note.at + max(0.0, waited or 0.0)
    return Row(
        kind="note" if waited is None else "wait",
        depth=max(depths, default=0),
        label=f"@ {legible(note.name)}" if waited is None else "wait",
        start=note.at,
        end=end,
        tail=end,
        details=tuple(
            legible(f"{key}={text_of(value)}") for key, value in fields.items() if value is not None
        ),
        layer=note.layer,
    )


def legible(text: str) -> str:
    """Text of others on one line: what would steer a terminal, or turn the writing, is replaced."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)


def bar_of(row: Row, total: float, width: int) -> tuple[str, str, str, str]:
    """A row's place in the call: before it, until its first event, while it streamed, after it.

    Args:
        row: What to place.
        total: Seconds that stand for the whole width.
        width: Characters.
    """
    if total <= 0 or row.kind == "note":
        return " " * width, "", "", ""
    first = min(width - 1, int(share(row.start, total) * width))
    middle = max(first + 1, round(share(row.end, total) * width))
    last = max(middle, round(share(row.tail, total) * width))
    busy = "┄" if row.kind == "wait" else "━"
    after = " " * (width - last)
    return " " * first, busy * (middle - first), "─" * (last - middle), after


def share(instant: float, total: float) -> float:
    """Which part of the whole has passed at an instant, from 0 to 1."""
    return min(1.0, max(0.0, instant / total))


def time_of(row: Row) -> str:
    """How long it took, or when it happened."""
    return f"@{time(row.start)}" if row.kind == "note" else time(row.seconds)


def time(seconds: float) -> str:
    """Seconds in the unit that suits them."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} us"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
