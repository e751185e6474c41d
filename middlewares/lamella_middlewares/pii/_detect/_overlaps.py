"""Findings of several detectors made into spans that do not overlap."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

import attrs

from lamella import Finding


def resolved(findings: Iterable[Finding]) -> list[Finding]:
    """The findings in the order of the text, no two on one character.

    Where some overlap, the longest holds, then the surest, then the one given first. What of a
    shorter one stands outside stays found, as its kind: something that was seen to be personal is
    not let through because something else began in the middle of it.
    """
    ordered = sorted(enumerate(findings), key=_first_choice)
    if len(ordered) < 2:
        return [finding for _, finding in ordered]
    starts: list[int] = []
    held: list[Finding] = []
    for _, finding in ordered:
        for piece in _outside(finding, starts, held):
            place = bisect_left(starts, piece.start)
            starts.insert(place, piece.start)
            held.insert(place, piece)
    return held


def _first_choice(numbered: tuple[int, Finding]) -> tuple[int, float, int]:
    number, finding = numbered
    return finding.start - finding.end, -finding.confidence, number


def _outside(finding: Finding, starts: list[int], held: list[Finding]) -> list[Finding]:
    """What is left of a finding between those that hold already."""
    place = bisect_left(starts, finding.start)
    if place and held[place - 1].end > finding.start:
        place -= 1
    if place == len(held) or held[place].start >= finding.end:
        return [finding]
    pieces: list[Finding] = []
    start = finding.start
    while place < len(held) and held[place].start < finding.end:
        if start < held[place].start:
            pieces.append(attrs.evolve(finding, start=start, end=held[place].start))
        start = held[place].end
        place += 1
    if start < finding.end:
        pieces.append(attrs.evolve(finding, start=start))
    return pieces
