"""Cache: a request that was asked before gets the answer that was given then."""

from __future__ import annotations

from lamella import Packing
from lamella_middlewares.cache._control import CacheControl
from lamella_middlewares.cache._middleware import Cache
from lamella_middlewares.cache._records import Keep, Stale
from lamella_middlewares.cache._warmed import Warmed, WarmProblem, WarmProgress

__all__ = (
    "Cache",
    "CacheControl",
    "Keep",
    "Packing",
    "Stale",
    "WarmProblem",
    "WarmProgress",
    "Warmed",
)
