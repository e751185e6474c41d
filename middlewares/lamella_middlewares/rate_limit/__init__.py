"""Rate limit: no more than a provider, or a tenant's contract, lets through."""

from __future__ import annotations

from lamella_middlewares.rate_limit._middleware import RateLimit

__all__ = ("RateLimit",)
