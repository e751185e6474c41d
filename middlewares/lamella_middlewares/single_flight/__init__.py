"""SingleFlight: identical calls that run at the same time share one answer."""

from __future__ import annotations

from lamella_middlewares.single_flight._middleware import SingleFlight

__all__ = ("SingleFlight",)
