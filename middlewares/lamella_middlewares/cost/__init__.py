"""Cost: what each attempt consumed, and what it costs."""

from __future__ import annotations

from lamella_middlewares.cost._middleware import Cost

__all__ = ("Cost",)
