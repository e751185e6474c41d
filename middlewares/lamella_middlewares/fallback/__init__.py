"""Fallback: another target where one has failed."""

from __future__ import annotations

from lamella_middlewares.fallback._middleware import Fallback

__all__ = ("Fallback",)
