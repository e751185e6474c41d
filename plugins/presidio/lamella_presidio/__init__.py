"""Microsoft Presidio's recognisers as a detector of personal data, for Lamella."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella._lazy import lazily

if TYPE_CHECKING:
    from lamella_presidio._detector import PresidioDetector

_HOMES = {"PresidioDetector": "_detector"}

__all__ = ["PresidioDetector"]

__getattr__, __dir__ = lazily(__name__, _HOMES)
