"""Every first layer keeps the contract, by the kit that anybody's layer can be run through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lamella.testing import check_middleware
from lamella_middlewares.circuit_breaker import CircuitBreaker
from lamella_middlewares.concurrency import Concurrency
from lamella_middlewares.cost import Cost
from lamella_middlewares.deadline import Deadline
from lamella_middlewares.fallback import Fallback
from lamella_middlewares.hedge import Hedge
from lamella_middlewares.hold import Hold
from lamella_middlewares.load_shed import LoadShed
from lamella_middlewares.log import Log
from lamella_middlewares.rate_limit import RateLimit
from lamella_middlewares.retry import Retry
from lamella_middlewares.route import Route
from lamella_middlewares.single_flight import SingleFlight
from lamella_middlewares.timeout import Timeout
from lamella_middlewares.watch import Watch

pytestmark = pytest.mark.anyio


def ignore(what: object) -> None:
    """A sink, or a watcher, that does nothing."""


LAYERS: dict[str, Callable[[], Any]] = {
    "deadline": Deadline,
    "timeout": Timeout,
    "fallback": lambda: Fallback(["other"]),
    "retry": Retry,
    "route": lambda: Route([{"name": "one"}, {"name": "two"}]),
    "single_flight": SingleFlight,
    "load_shed": lambda: LoadShed(3),
    "concurrency": lambda: Concurrency(3),
    "concurrency, adaptive": lambda: Concurrency(3, adaptive="gradient"),
    "rate_limit": lambda: RateLimit(1000, 10**6, concurrency=20),
    "rate_limit, a quota": lambda: RateLimit(1000, 10**6, phase="govern"),
    "hedge": Hedge,
    "hedge, every call": lambda: Hedge(delay=0.005, max_extra=1),
    "circuit_breaker": CircuitBreaker,
    "circuit_breaker, with an eye on time": lambda: CircuitBreaker(slow_after=5),
    "hold": Hold,
    "hold, to the end": lambda: Hold(all=True),
    "cost": lambda: Cost({"m": {"input": "1", "output": "4"}}),
    "log": lambda: Log(sink=ignore),
    "watch": lambda: Watch(on_request=ignore, on_event=ignore, on_response=ignore, on_error=ignore),
}


@pytest.mark.parametrize("name", LAYERS)
async def test_it_keeps_the_contract(name: str) -> None:
    """Streamed and not, cancelled at each step, left, dropped, with errors inside."""
    await check_middleware(LAYERS[name])
