"""Finding personal data: what a detector is. Layers bring detectors, plugins bring more."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol

import attrs


@attrs.frozen
class Finding:
    """Something found in a text.

    Attributes:
        start: The index of its first character.
        end: The index behind its last; above `start`.
        kind: What it is, in lower case with underscores: `"email"`, `"card"`.
        confidence: How sure that is, 0 to 1. Where findings overlap, the longest holds, then the
            surest.
    """

    start: int
    end: int
    kind: str
    confidence: float = 1.0


class Detector(Protocol):
    """Finds things of some kinds in texts. Thread-safe, and keeps nothing of what it saw.

    What it finds depends on the text alone, for who asks it remembers that: where a list of terms
    has changed, make another detector.

    Two more attributes may be there. `reach: int` is the most characters that it looks at around
    one finding, from the first character of context to the last of the finding; without it, a
    detector is taken to need whole texts. `blocking: bool` is whether it takes long (a model, a
    service): then it runs in a thread.
    """

    @property
    def kinds(self) -> Collection[str]:
        """What it may find; never empty."""
        ...

    def find(self, text: str, /) -> Iterable[Finding]:
        """What is in the text, in any order.

        The text is Unicode in its compatible form (NFKC), with digits of all scripts as ASCII
        digits, and without characters that take no place. What this raises means that the text was
        not inspected.
        """
        ...
