"""A call as text: the onion with each layer's time, then attempts and notes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella._outcomes import Outcome

if TYPE_CHECKING:
    from lamella._attempts import Attempt
    from lamella._trace import Note, Span, Trace

_BAR = 24


def draw(trace: Trace) -> str:
    """Draw a trace; see `Trace.draw`."""
    total = trace.duration if trace.duration is not None else trace.now()
    lines = [_headline(trace, total)]
    spans = sorted(trace.spans, key=lambda span: (span.start, span.depth))
    lines += [_span(span, total) for span in spans]
    depth = max([span.depth for span in trace.spans], default=-1) + 1
    lines += [_attempt(attempt, depth, total) for attempt in trace.attempts]
    lines += [_note(note) for note in trace.notes]
    return "\n".join(lines)


def _headline(trace: Trace, total: float) -> str:
    words = [f"call {trace.call_id[:8]}", str(trace.outcome or "under way"), _time(total)]
    usage = trace.usage
    if usage.total_tokens:
        about = "~" if usage.estimated else ""
        words.append(f"{about}{usage.input_tokens} tokens in, {usage.output_tokens} out")
    cost = trace.cost
    if cost is not None:
        words.append(str(cost))
    return "  ".join(words)


def _span(span: Span, total: float) -> str:
    name = f"{'  ' * span.depth}{span.layer}"
    ending = f"  raised {span.error}" if span.error else ""
    return (
        f"  {name:<26} {_bar(span.start, span.end, total)} {_time(span.end - span.start)}{ending}"
    )


def _attempt(attempt: Attempt, depth: int, total: float) -> str:
    end = attempt.end if attempt.end is not None else total
    name = f"{'  ' * depth}-> {attempt.provider}"
    words = [str(attempt.outcome or Outcome.UNKNOWN)]
    if attempt.status is not None:
        words.append(str(attempt.status))
    if attempt.cause is not None:
        words.append(attempt.cause)
    if attempt.time_to_first_event is not None:
        words.append(f"first event after {_time(attempt.time_to_first_event)}")
    if attempt.cost is not None:
        words.append(str(attempt.cost))
    where = attempt.branch or "/"
    bar = _bar(attempt.start, end, total)
    return f"  {name:<26} {bar} {_time(end - attempt.start)}  {where}  {', '.join(words)}"


def _note(note: Note) -> str:
    fields = "  ".join(f"{key}={value}" for key, value in note.fields.items())
    return f"  @ {_time(note.at):>8}  {note.name}  {fields}".rstrip()


def _bar(start: float, end: float, total: float) -> str:
    if total <= 0:
        return " " * _BAR
    first = min(_BAR - 1, int(start / total * _BAR))
    last = max(first + 1, min(_BAR, round(end / total * _BAR)))
    return " " * first + "=" * (last - first) + " " * (_BAR - last)


def _time(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} us"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
