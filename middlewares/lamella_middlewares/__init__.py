"""The standard layers. Each is imported when it is first asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from lamella_middlewares._plugin import LAYERS as _LAYERS

if TYPE_CHECKING:
    from typing import Any

    from lamella_middlewares.audit import Audit
    from lamella_middlewares.budget import Budget
    from lamella_middlewares.cache import Cache
    from lamella_middlewares.circuit_breaker import CircuitBreaker
    from lamella_middlewares.concurrency import Concurrency
    from lamella_middlewares.cost import Cost
    from lamella_middlewares.deadline import Deadline
    from lamella_middlewares.debug import Debug
    from lamella_middlewares.fallback import Fallback
    from lamella_middlewares.guard import Guard
    from lamella_middlewares.hedge import Hedge
    from lamella_middlewares.hold import Hold
    from lamella_middlewares.load_shed import LoadShed
    from lamella_middlewares.log import Log
    from lamella_middlewares.pii import PII
    from lamella_middlewares.prompt_cache import PromptCache
    from lamella_middlewares.rate_limit import RateLimit
    from lamella_middlewares.retry import Retry
    from lamella_middlewares.route import Route
    from lamella_middlewares.semantic_cache import SemanticCache
    from lamella_middlewares.single_flight import SingleFlight
    from lamella_middlewares.spend import Spend
    from lamella_middlewares.structured import Structured
    from lamella_middlewares.summarise import Summarise
    from lamella_middlewares.template import Template
    from lamella_middlewares.timeout import Timeout
    from lamella_middlewares.tools import Tools
    from lamella_middlewares.trim import Trim
    from lamella_middlewares.watch import Watch

__all__ = (
    "PII",
    "Audit",
    "Budget",
    "Cache",
    "CircuitBreaker",
    "Concurrency",
    "Cost",
    "Deadline",
    "Debug",
    "Fallback",
    "Guard",
    "Hedge",
    "Hold",
    "LoadShed",
    "Log",
    "PromptCache",
    "RateLimit",
    "Retry",
    "Route",
    "SemanticCache",
    "SingleFlight",
    "Spend",
    "Structured",
    "Summarise",
    "Template",
    "Timeout",
    "Tools",
    "Trim",
    "Watch",
)


def __getattr__(name: str) -> Any:
    module = _LAYERS.get(name)
    if module is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    layer = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    globals()[name] = layer  # so that the next time costs nothing
    return layer


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
