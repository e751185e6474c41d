"""What the short run of the gate holds the library to: about twice what is promised, or more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from benchmarks.figures import Figure

ONE, STREAM = "a call", "a stream"
EIGHT, EIGHT_FAST = "Lamella, eight layers", "Lamella, eight layers, fast"
PRODUCTION: Final = "Lamella, `production`"

BOUNDS: Final[Mapping[tuple[str, str], float]] = {
    (ONE, EIGHT): 1.2,
    (ONE, EIGHT_FAST): 0.7,
    (STREAM, EIGHT): 0.3,
    (STREAM, EIGHT_FAST): 0.25,
    (ONE, PRODUCTION): 2.5,
    (STREAM, "Lamella, Anthropic"): 0.7,
    (STREAM, "Lamella, Gemini"): 0.5,
    (STREAM, "Lamella, Bedrock"): 0.8,
}
"""The most CPU time, as a share of the bare SDK's in the same run."""

OWN: Final = 25.0
"""The most yardsticks that eight layers take of a call, besides the scan of its text."""
A_CHUNK: Final = 0.15
"""The most yardsticks that they take of a chunk."""
A_HIT: Final = 4.0
"""The most yardsticks that a cache hit takes."""


def broken(what: str, figures: Sequence[Figure]) -> list[str]:
    """The bounds that are broken; the first of the figures is the SDK's."""
    return [
        f"TOO SLOW: {one.name}, {what}: {one.cpu / figures[0].cpu:.2f} of the SDK, over {bound}"
        for one in figures
        if (bound := BOUNDS.get((what, one.name))) is not None and one.cpu > bound * figures[0].cpu
    ]
