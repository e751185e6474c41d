"""Spend: what every attempt has cost, kept, and what it adds up to."""

from __future__ import annotations

from lamella_middlewares.spend._export import export
from lamella_middlewares.spend._middleware import Spend

__all__ = ("Spend", "export")
