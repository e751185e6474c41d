"""A short run that guards counts: paraphrases that are found, and wrong answers that are given."""

from __future__ import annotations

import sys
from typing import Final

from benchmarks.semantic.quality import quality

THRESHOLD: Final = 0.9
LEAST_HITS: Final = 0.2
MOST_FALSE_HITS: Final = 0.01


def broken() -> list[str]:
    """The bounds that do not hold at the default threshold, in words."""
    [row] = quality(thresholds=[THRESHOLD])
    hits, wrong = row["hits, with it"], row["false hits, with it"]
    sys.stdout.write(f"semantic: {hits:.1%} of paraphrases found, {wrong:.1%} answered wrongly\n")
    lines: list[str] = []
    if hits < LEAST_HITS:
        lines.append(f"FEW HITS: {hits:.1%} of paraphrases, below {LEAST_HITS:.0%}")
    if wrong > MOST_FALSE_HITS:
        lines.append(f"WRONG: {wrong:.1%} answered wrongly, over {MOST_FALSE_HITS:.0%}")
    return lines
