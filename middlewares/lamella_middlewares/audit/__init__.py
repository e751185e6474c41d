"""Who asked what of whom, and how it ended, in a log that shows whether it is what was written."""

from __future__ import annotations

from lamella_middlewares.audit._heads import Heads
from lamella_middlewares.audit._middleware import Audit

__all__ = ("Audit", "Heads")
