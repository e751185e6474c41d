"""Debug: each call drawn and described after it has ended, for who develops with it."""

from __future__ import annotations

from lamella_middlewares.debug._middleware import Debug

__all__ = ("Debug",)
