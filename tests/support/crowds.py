"""A thousand calls and more at the same time."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def crowd() -> Generator[None, None, None]:
    """No garbage is looked for meanwhile: that would be in all that they hold, again and again."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
