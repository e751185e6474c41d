"""Options of `SemanticCache` that belong together, and what a verifier is shown."""

from __future__ import annotations

import attrs

from lamella._options import flag


@attrs.frozen
class Keep:
    """What is kept besides answers that ended well.

    Args:
        truncated: Whether answers are kept that ended because they were long enough (`"length"`).
        substitutes: Whether answers are kept that came from another target than the one meant.
    """

    truncated: bool = attrs.field(default=False, validator=flag)
    substitutes: bool = attrs.field(default=False, validator=flag)


@attrs.frozen
class Similar:
    """A kept answer that is about to be given, as `verify` is shown it.

    Attributes:
        asked: What is asked now: the text of the last message.
        question: What was asked when the answer was made.
        answer: The answer's text.
        similarity: How near the two questions are, up to 1.
        age: Seconds since the answer was made.
    """

    asked: str = attrs.field(repr=False)
    question: str = attrs.field(repr=False)
    answer: str = attrs.field(repr=False)
    similarity: float
    age: float
