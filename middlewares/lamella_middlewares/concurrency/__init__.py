"""Concurrency: how many attempts may be in flight at a time."""

from __future__ import annotations

from lamella_middlewares.concurrency._middleware import Concurrency, Gauge

__all__ = ("Concurrency", "Gauge")
