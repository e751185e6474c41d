"""Summarise: the oldest turns of a long conversation become a summary."""

from __future__ import annotations

from lamella_middlewares.summarise._middleware import Summarise
from lamella_middlewares.summarise._texts import PROMPT

__all__ = ("PROMPT", "Summarise")
