"""PII: personal data is masked before the provider, and restored in the answer."""

from __future__ import annotations

from lamella_middlewares.pii._detect._custom import (
    callable_detector,
    dictionary_detector,
    regex_detector,
)
from lamella_middlewares.pii._middleware import PII
from lamella_middlewares.pii._records import Matching, Scan, Vault

__all__ = (
    "PII",
    "Matching",
    "Scan",
    "Vault",
    "callable_detector",
    "dictionary_detector",
    "regex_detector",
)
