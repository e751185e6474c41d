"""The end of a pipeline: its calls, its detached work, and what it holds open."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self

import anyio

from lamella._closing import Closing
from lamella._loops import Waiter
from lamella._ownership import release, use
from lamella._targets import transports_of

if TYPE_CHECKING:
    from lamella._background import Background
    from lamella._calls import Call

CLOSE_SECONDS = 5.0
"""How long closing one layer, transport or store may take."""


class Closable:
    """The part of a pipeline that ends what the other part runs and holds."""

    layers: tuple[Any, ...]
    transport: Any
    _stores: tuple[Any, ...]
    _background: Background
    _running: set[Call]
    _drained: list[Waiter]

    def _open(self) -> None:
        """It holds its parts from now on."""
        self._closed = False
        self._closing = Closing()
        for thing in self._parts():
            use(thing, self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self, *, drain: float = 0.0) -> None:
        """Close: refuse new calls, end running ones, release what is held open. Idempotent.

        Any task may call it, on any event loop; who comes later waits for the first. Layers close
        outermost first, then the transport, then stores of its own; what other pipelines still use
        stays open. Work that closing interrupts ends with `ClosedError`. A part that fails to close
        keeps no other from it; its error is raised once all have had their turn. Cancelling
        `aclose` ends the draining, not the closing.

        Args:
            drain: Seconds that running calls get to finish by themselves.
        """
        if not self._closing.begin():
            await self._closing.wait()
            return
        self._closed = True
        try:
            async with AsyncExitStack() as stack:
                for part in reversed(self._parts()):
                    stack.push_async_callback(self._let_go, part)
                stack.push_async_callback(self._background.aclose)
                stack.push_async_callback(self._interrupt)
                if drain > 0:
                    with anyio.move_on_after(drain):
                        await self._wait_until_drained()
        finally:
            self._closing.finish()

    def _parts(self) -> tuple[Any, ...]:
        """What it holds open and may share with others, in the order of closing."""
        aimed_at = [
            transport for layer in self.layers for transport in transports_of(layer).values()
        ]
        parts = (*self.layers, *aimed_at, self.transport, *self._stores)
        return tuple({id(part): part for part in parts}.values())

    async def _let_go(self, part: Any) -> None:
        if release(part, self):
            await _close(part)

    async def _interrupt(self) -> None:
        for call in list(self._running):
            if not call.interrupt():
                self._running.discard(call)
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            await self._wait_until_drained()

    async def _wait_until_drained(self) -> None:
        while self._running:
            waiter = Waiter()
            self._drained.append(waiter)
            if self._running:
                await waiter.wait()


async def _close(thing: Any) -> None:
    close = getattr(thing, "aclose", None)
    if close is None:
        return
    with anyio.move_on_after(CLOSE_SECONDS, shield=True):
        await close()
