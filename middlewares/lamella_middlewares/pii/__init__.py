"""PII: personal data is masked before the provider, and restored in the answer."""

from __future__ import annotations

from lamella_middlewares.pii._middleware import PII
from lamella_middlewares.pii._records import Inspection, Matching, Vault

__all__ = ("PII", "Inspection", "Matching", "Vault")
