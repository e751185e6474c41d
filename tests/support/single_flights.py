"""Calls that run at the same time, and a pipeline that lets them share."""

from __future__ import annotations

import gc
from typing import Any

import anyio

from lamella import (
    ChatRequest,
    Context,
    Finish,
    Money,
    Pipeline,
    Request,
    Response,
    Usage,
    UsageReport,
)
from lamella.testing import Item, Scripted, virtual_ports
from lamella_middlewares.cost import Cost
from lamella_middlewares.single_flight import SingleFlight

ASK = ChatRequest.of("Is it up?", model="m")
END: list[Item] = [UsageReport(Usage(text_output=4)), Finish("stop")]
ANSWER: list[Item] = ["It ", 1.0, "is ", 1.0, "up.", *END]
PRICES = {"m": {"input": "0", "output": "1000000"}}
PRICE = Money(4_000_000_000)


def stack(*script: Any, layers: Any = None, **more: Any) -> tuple[Pipeline, Scripted]:
    """A pipeline with the layer, and prices, around a script."""
    transport = Scripted(script, repeat=True, **more)
    layers = [SingleFlight(), Cost(PRICES, unknown="note")] if layers is None else layers
    return Pipeline(layers, transport, ports=virtual_ports()), transport


class Callers:
    """Calls that run at the same time, and how each of them ended."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.found: dict[str, Any] = {}
        self.at: dict[str, float] = {}
        self.contexts: dict[str, Context] = {}

    async def run(self, name: str, request: Request[Any] = ASK) -> None:
        """Run to the end."""
        await self._keep(name, self.pipeline.run(request))

    async def stream(self, name: str, request: Request[Any] = ASK, *, pace: float = 0.0) -> None:
        """Stream to the end, with a pause after each event."""

        async def read() -> Any:
            async with self.pipeline.stream(request) as response:
                async for _ in response:
                    await anyio.sleep(pace)
            return response

        await self._keep(name, read())

    async def herd(self, count: int, call: Any, request: Request[Any] = ASK) -> None:
        """So many calls at the same time.

        Meanwhile no garbage is looked for: that would be in all that they hold, again and again.
        """
        gc.disable()
        try:
            async with anyio.create_task_group() as group:
                for number in range(count):
                    group.start_soon(call, str(number), request)
        finally:
            gc.enable()

    async def _keep(self, name: str, call: Any) -> None:
        try:
            self.found[name] = await call
        except Exception as error:  # noqa: BLE001 - it is what is looked at
            self.found[name] = error
        self.at[name] = anyio.current_time()

    def texts(self) -> set[str]:
        """What the answers say."""
        return {found.text for found in self.found.values()}


def noted(response: Response, name: str) -> list[Any]:
    """The fields of the notes of that name."""
    return [dict(note.fields) for note in response.trace.notes if note.name == name]


def by(**fields: Any) -> ChatRequest:
    """The request with a context."""
    return ASK.evolve(context=Context(**fields))
