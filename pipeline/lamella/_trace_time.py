"""One time for all that a call is counted for: its own facts, and those of calls that it shared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, TypeAlias

import attrs

if TYPE_CHECKING:
    from lamella._attempts import Attempt
    from lamella._trace import Note, Span
    from lamella._trace_records import AdoptedTrace, TraceRecord

Pieces: TypeAlias = list[tuple[float, float]]
"""Times, each from an instant to another."""


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
    attempts = _joined(
        (attempt.start, record.seconds if attempt.end is None else attempt.end)
        for attempt in facts.attempts
    )
    found: list[LayerTime] = []
    inside: Pieces = []
    # From the innermost outwards: what stands inside of one depth is put together once for it.
    spans = sorted(facts.spans, key=lambda span: (-span.depth, span.layer))
    for depth, group in groupby(spans, key=lambda span: span.depth):
        here = list(group)
        found[:0] = [
            _layer_time(layer, depth, list(passes), inside, attempts)
            for layer, passes in groupby(here, key=lambda span: span.layer)
        ]
        inside = _joined([*inside, *[(span.start, span.end) for span in here]])
    return tuple(found)


def _layer_time(
    layer: str, depth: int, passes: Sequence[Span], inside: Pieces, attempts: Pieces
) -> LayerTime:
    had = _joined((span.start, span.end) for span in passes)
    # A layer of the wire is itself inside of its attempt.
    outside = _joined((span.start, span.end) for span in passes if span.attempt is None)
    others = _joined([*_common(had, inside), *_common(outside, attempts)])
    seconds = _length(had)
    return LayerTime(layer, depth, len(passes), seconds, max(0.0, seconds - _length(others)))


def _joined(pieces: Iterable[tuple[float, float]]) -> Pieces:
    """The times that they cover together, in order and apart from each other."""
    found: Pieces = []
    for start, end in sorted(pieces):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        elif end > start:
            found.append((start, end))
    return found


def _common(some: Pieces, others: Pieces) -> Pieces:
    """The times that are in both; each is in order and apart."""
    found: Pieces = []
    one = two = 0
    while one < len(some) and two < len(others):
        start, end = max(some[one][0], others[two][0]), min(some[one][1], others[two][1])
        if start < end:
            found.append((start, end))
        if some[one][1] < others[two][1]:
            one += 1
        else:
            two += 1
    return found


def _length(pieces: Pieces) -> float:
    return sum([end - start for start, end in pieces])
