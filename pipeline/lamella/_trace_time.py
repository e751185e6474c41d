"""One time for all that a call is counted for: its own facts, and those of calls that it shared."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from lamella._attempts import Attempt
    from lamella._trace import Note, Span
    from lamella._trace_records import AdoptedTrace, TraceRecord


@attrs.frozen
class Facts:
    """What happened, in seconds since the call began. An attempt's index is its place."""

    attempts: tuple[Attempt, ...]
    spans: tuple[Span, ...]
    notes: tuple[Note, ...]


def facts_of(record: TraceRecord) -> Facts:
    """A call's facts, with those of the calls that it adopted, from when it did so."""
    own = len(record.attempts) - sum(len(each.call.attempts) for each in record.adopted)
    attempts = list(record.attempts[: max(0, own)])
    spans, notes = list(record.spans), list(record.notes)
    for adopted in record.adopted:
        offset = len(attempts)
        theirs = record.attempts[offset : offset + len(adopted.call.attempts)]
        attempts += [_not_before(attempt, adopted.at) for attempt in theirs]
        inner = facts_of(adopted.call)
        spans += _moved_spans(inner.spans, adopted, offset)
        notes += [
            attrs.evolve(note, at=note.at + adopted.began)
            for note in inner.notes
            if note.at + adopted.began >= adopted.at
        ]
    return Facts(tuple(attempts), tuple(spans), tuple(notes))


def _not_before(attempt: Attempt, at: float) -> Attempt:
    if attempt.start >= at:
        return attempt
    late = {
        name: max(at, instant)
        for name in ("start", "first_event", "end")
        if (instant := getattr(attempt, name)) is not None
    }
    return attrs.evolve(attempt, **late)


def _moved_spans(spans: Iterable[Span], adopted: AdoptedTrace, offset: int) -> list[Span]:
    return [
        attrs.evolve(
            span,
            start=max(adopted.at, span.start + adopted.began),
            end=span.end + adopted.began,
            attempt=None if span.attempt is None else span.attempt + offset,
        )
        for span in spans
        if span.end + adopted.began >= adopted.at
    ]


@attrs.frozen
class LayerTime:
    """What one layer of the stack took in a call.

    Attributes:
        layer: Its name.
        depth: How deep it stands, 0 outermost.
        passes: How often a request came through: once for each try of a layer outside.
        seconds: How long it had a request in hand, until the answer's first event.
        own: The part of that in which nothing inside of it had it: its own work and its waits.
    """

    layer: str
    depth: int
    passes: int
    seconds: float
    own: float


def layer_times(record: TraceRecord) -> tuple[LayerTime, ...]:
    """Each layer's time, outermost first; nothing of a call that was not timed."""
    facts = facts_of(record)
    spans = sorted(facts.spans, key=lambda span: (span.depth, span.layer))
    found: list[LayerTime] = []
    for (depth, layer), group in groupby(spans, key=lambda span: (span.depth, span.layer)):
        passes = list(group)
        seconds = _covered([(span.start, span.end) for span in passes])
        inside = _covered([piece for span in passes for piece in _inside(span, facts, record)])
        own = max(0.0, seconds - inside)
        found.append(LayerTime(layer, depth, len(passes), seconds, own))
    return tuple(found)


def _inside(span: Span, facts: Facts, record: TraceRecord) -> list[tuple[float, float]]:
    """The times within a layer's in which something inside of it had the request."""
    pieces = [
        (max(span.start, other.start), min(span.end, other.end))
        for other in facts.spans
        if other.depth > span.depth
    ]
    if span.attempt is None:  # a layer of the wire is itself inside of its attempt
        for attempt in facts.attempts:
            end = record.seconds if attempt.end is None else attempt.end
            pieces.append((max(span.start, attempt.start), min(span.end, end)))
    return [(start, end) for start, end in pieces if end > start]


def _covered(pieces: list[tuple[float, float]]) -> float:
    """How much time they cover together; what overlaps counts once."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(pieces):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total
