"""Recall, precision and F2 of findings against what is known to be there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import attrs

from benchmarks.pii.gold import Sample, Span

ALSO: Final[Mapping[str, frozenset[str]]] = {
    # An address of a page with a password in it is an address of a page.
    "url": frozenset({"url_credentials"}),
    # The parts of these are said to be one or the other by taste.
    "api_key": frozenset({"jwt", "url_credentials"}),
    "jwt": frozenset({"api_key", "url_credentials"}),
    "url_credentials": frozenset({"api_key", "jwt"}),
    # A town or state in an address is one in the templates' words, and a part of it in ours.
    "postal_address": frozenset({"place"}),
}
"""What else a finding of a kind may lie on without being wrong. It is not counted as right then."""

STRICT: Final = 0.9
"""The least intersection over union, in characters, of two spans that are the same."""


@attrs.define
class Score:
    """What became of one kind.

    Attributes:
        gold: How many there are.
        found: How many of them were found.
        right: How many findings are right.
        wrong: How many are not.
        covered: How many of `gold` are wholly inside of findings of whatever kind.
    """

    gold: int = 0
    found: int = 0
    right: int = 0
    wrong: int = 0
    covered: int = 0

    @property
    def recall(self) -> float | None:
        """The share that was found; None where there is nothing."""
        return self.found / self.gold if self.gold else None

    @property
    def precision(self) -> float | None:
        """The share of the findings that is right; None where nothing was found."""
        found = self.right + self.wrong
        return self.right / found if found else None

    @property
    def f2(self) -> float | None:
        """Both in one, recall counting twice: a leak is worse than a mask too many."""
        if self.recall is None:
            return None
        precision = self.precision or 0.0
        below = 4 * precision + self.recall
        return 5 * precision * self.recall / below if below else 0.0


def overlap(one: Span, other: Span) -> float:
    """Intersection over union, in characters: 0 if they do not touch, 1 if they are the same."""
    both = min(one.end, other.end) - max(one.start, other.start)
    if both <= 0:
        return 0.0
    return both / (max(one.end, other.end) - min(one.start, other.start))


def scores(
    samples: Iterable[Sample],
    found: Iterable[Sequence[Span]],
    kinds: Iterable[str],
    *,
    strict: bool = False,
) -> dict[str, Score]:
    """What became of each of these kinds.

    A span of the text is found if a finding of its kind overlaps it; with `strict`, if they are the
    same but for a tenth of the characters. A finding is right if that holds for one of the spans.
    It is wrong if not, unless it overlaps something of a kind in `ALSO`.

    Args:
        samples: What is there.
        found: What was found in each of them.
        kinds: Which count. Findings of others do for `covered` only.
        strict: Whether places have to be the same.
    """
    table = {kind: Score() for kind in kinds}
    least = STRICT if strict else 1e-12
    for sample, findings in zip(samples, found, strict=True):
        for span in sample.spans:
            score = table.get(span.kind)
            if score is None:
                continue
            same = [one for one in findings if one.kind == span.kind]
            score.gold += 1
            score.found += any(overlap(span, one) >= least for one in same)
            score.covered += _inside(span, findings)
        for one in findings:
            score = table.get(one.kind)
            if score is None:
                continue
            if any(one.kind == s.kind and overlap(one, s) >= least for s in sample.spans):
                score.right += 1
            elif not _excused(one, sample.spans):
                score.wrong += 1
    return table


def _excused(one: Span, spans: Iterable[Span]) -> bool:
    also = ALSO.get(one.kind, frozenset())
    return any(span.kind in also and overlap(one, span) > 0 for span in spans)


def _inside(span: Span, findings: Iterable[Span]) -> bool:
    """Whether every character of it is in a finding."""
    place = span.start
    for one in sorted(findings, key=lambda finding: finding.start):
        if one.start > place:
            break
        place = max(place, one.end)
    return place >= span.end
