"""CircuitBreaker: leave a provider alone that keeps failing."""

from __future__ import annotations

from lamella_middlewares.circuit_breaker._circuit import CircuitChange
from lamella_middlewares.circuit_breaker._circuits import CircuitState
from lamella_middlewares.circuit_breaker._middleware import CircuitBreaker

__all__ = ("CircuitBreaker", "CircuitChange", "CircuitState")
