"""Guard: a gate for what goes to the model and for what comes back."""

from __future__ import annotations

from lamella_middlewares.guard._addresses import addresses
from lamella_middlewares.guard._approvals import Approval
from lamella_middlewares.guard._consumption import consumption
from lamella_middlewares.guard._fetch import Fetching
from lamella_middlewares.guard._injection import injection_markers
from lamella_middlewares.guard._middleware import Guard
from lamella_middlewares.guard._moderation import moderation
from lamella_middlewares.guard._patterns import max_length, pattern
from lamella_middlewares.guard._rules import Inspection, Review, Rule, rule
from lamella_middlewares.guard._terms import blocked_terms
from lamella_middlewares.guard._verdicts import Edit, Verdict, allow, ask, block, change, edit

__all__ = (
    "Approval",
    "Edit",
    "Fetching",
    "Guard",
    "Inspection",
    "Review",
    "Rule",
    "Verdict",
    "addresses",
    "allow",
    "ask",
    "block",
    "blocked_terms",
    "change",
    "consumption",
    "edit",
    "injection_markers",
    "max_length",
    "moderation",
    "pattern",
    "rule",
)
