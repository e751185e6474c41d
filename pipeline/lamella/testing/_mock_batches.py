"""How the batches of the mock server go."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import attrs


@attrs.frozen(kw_only=True)
class MockBatches:
    """How the batches of a `MockServer` go, and what goes wrong with them.

    Lines count from 1, as OpenAI's do.

    Attributes:
        polls: How many times a batch is looked at until it has ended; 0 or more.
        unordered: Whether answers come in the reverse of the order of the requests.
        missing: Lines that neither file says anything about.
        expired: Lines that were not come to within the day; with any the batch is `expired`.
        invalid: Lines of the first batch for which all of it is refused, and the reason.
        refused: The code with which a batch is refused as a whole; None for none.
        max_lines: The most lines of a batch.
    """

    polls: int = 1
    unordered: bool = False
    missing: Collection[int] = ()
    expired: Collection[int] = ()
    invalid: Mapping[int, str] = attrs.field(factory=dict[int, str])
    refused: str | None = None
    max_lines: int = 50_000
