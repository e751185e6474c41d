"""Hedge: ask a second time where the first answer takes unusually long to begin."""

from __future__ import annotations

from lamella_middlewares.hedge._middleware import Hedge

__all__ = ("Hedge",)
