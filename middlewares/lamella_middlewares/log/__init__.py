"""Log: one record for each request, whatever becomes of it."""

from __future__ import annotations

from lamella_middlewares.log._middleware import Log

__all__ = ("Log",)
