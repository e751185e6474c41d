"""Every first layer keeps the contract, by the kit that anybody's layer can be run through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lamella.testing import check_middleware
from lamella_middlewares.cost import Cost
from lamella_middlewares.deadline import Deadline
from lamella_middlewares.log import Log
from lamella_middlewares.retry import Retry
from lamella_middlewares.timeout import Timeout
from lamella_middlewares.watch import Watch

pytestmark = pytest.mark.anyio


def ignore(what: object) -> None:
    """A sink, or a watcher, that does nothing."""


LAYERS: list[Callable[[], Any]] = [
    Deadline,
    Timeout,
    Retry,
    lambda: Retry(mint_idempotency_key=True, budget=None),
    Cost,
    lambda: Cost({"m": {"input": "1", "output": "4"}}),
    lambda: Log(sink=ignore),
    lambda: Watch(on_request=ignore, on_event=ignore, on_response=ignore, on_error=ignore),
    lambda: Watch(on_event=ignore, phase="wire"),
]


@pytest.mark.parametrize("make", LAYERS, ids=map(str, range(len(LAYERS))))
async def test_it_keeps_the_contract(make: Callable[[], Any]) -> None:
    """Streamed and not, cancelled at each step, left, dropped, with errors inside."""
    await check_middleware(make)
