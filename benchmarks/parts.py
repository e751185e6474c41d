"""What every part of a run is given."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import attrs

from benchmarks.driver import Say, on_stderr
from benchmarks.harness import upstream


@attrs.frozen
class Setting:
    """How and where a part runs.

    Attributes:
        quick: Whether figures only have to be there, not to be good.
        keep: Writes down what a part, given by its name, has found so far.
        core: The core of the contenders; None where processes cannot be pinned.
        spare: The core of the provider.
        log: Where the contenders' own output goes; None for nowhere.
        say: Told of progress.
    """

    quick: bool
    keep: Callable[[str, Any], object]
    core: int | None = None
    spare: int | None = None
    log: Path | None = None
    say: Say = on_stderr

    def upstream(self) -> AbstractContextManager[str]:
        """The provider, for a block; its address."""
        return upstream(self.spare)
