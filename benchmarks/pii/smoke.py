"""A short run that guards counts: what is found of our own texts, and what is found wrongly."""

from __future__ import annotations

import sys
from typing import Final

from benchmarks.pii import finders
from benchmarks.pii.chat import labelled
from benchmarks.pii.metrics import scores
from benchmarks.pii.values import VALUES

TEXTS: Final = 1_500
LEAST: Final = 0.97
"""The least share that is found of each kind; `FEWER` says for which it is less."""

FEWER: Final = {
    "driver_licence": 0.9,
    "phone": 0.9,
    "postal_address": 0.9,
    "us_ssn": 0.9,
}
"""Kinds with forms that are told by what stands around, which may be nothing."""

MOST_WRONG: Final = 20
"""Findings of whatever kind that are none, of 500 texts with look-alikes and 1,000 others."""


def broken() -> list[str]:
    """The bounds that do not hold, in words."""
    samples = labelled(TEXTS, 7)
    finder = finders.ours()
    table = scores(samples, [finder.find(sample.text) for sample in samples], sorted(VALUES))
    lines: list[str] = []
    for kind, score in table.items():
        assert score.gold > 10, f"{score.gold} values of {kind} say nothing"
        least = FEWER.get(kind, LEAST)
        if score.found < least * score.gold:
            lines.append(f"LEAK: {score.found} of {score.gold} {kind} found, below {least:.0%}")
    wrong = sum(score.wrong for score in table.values())
    if wrong > MOST_WRONG:
        lines.append(f"WRONG: {wrong} findings are none, over {MOST_WRONG}")
    sys.stdout.write(f"{sum(s.found for s in table.values())} found, {wrong} wrong\n")
    return lines
