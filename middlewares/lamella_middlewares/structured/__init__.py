"""Structured: the answer as a typed value."""

from __future__ import annotations

from lamella_middlewares.structured._middleware import Structured

__all__ = ("Structured",)
