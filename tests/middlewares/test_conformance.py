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


LAYERS: dict[str, Callable[[], Any]] = {
    "deadline": Deadline,
    "timeout": Timeout,
    "retry": Retry,
    "cost": lambda: Cost({"m": {"input": "1", "output": "4"}}),
    "log": lambda: Log(sink=ignore),
    "watch": lambda: Watch(on_request=ignore, on_event=ignore, on_response=ignore, on_error=ignore),
}


@pytest.mark.parametrize("name", LAYERS)
async def test_it_keeps_the_contract(name: str) -> None:
    """Streamed and not, cancelled at each step, left, dropped, with errors inside."""
    await check_middleware(LAYERS[name])
