"""Who asked what of whom, and how it ended, in a log that shows whether it is what was written."""

from __future__ import annotations

from lamella_middlewares.audit._given import read_heads
from lamella_middlewares.audit._heads import Heads
from lamella_middlewares.audit._keys import DigestKey
from lamella_middlewares.audit._middleware import Audit
from lamella_middlewares.audit._prove import check_proof, consistency, prove
from lamella_middlewares.audit._scan import Problem
from lamella_middlewares.audit._verify import Report, verify

__all__ = (
    "Audit",
    "DigestKey",
    "Heads",
    "Problem",
    "Report",
    "check_proof",
    "consistency",
    "prove",
    "read_heads",
    "verify",
)
