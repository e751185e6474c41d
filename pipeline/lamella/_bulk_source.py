"""Where rows come from: taken as there is room for more, without keeping the event loop."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, Callable, Collection, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import anyio

from lamella._errors import ConfigurationError, copy_of
from lamella._loops import current_loop

if TYPE_CHECKING:
    from lamella._ports import Ports


class Source:
    """Gives rows in their order.

    Attributes:
        total: How many there are; None if nobody knows.
    """

    total: int | None = None

    async def pull(self) -> None:
        """Collect rows as they are wanted; to be run beside those who take them."""

    async def take(self, most: int) -> list[Any]:
        """The next rows: at least one and `most` at most; none at the end."""
        raise NotImplementedError

    def stop(self) -> None:
        """No more are wanted: who waits for some gets none. Call on the event loop."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Let go of what gives them."""


def source_of(rows: Any, ports: Ports) -> Source:
    """What gives the rows of an iterable.

    A collection is read on the event loop. Any other iterable may block, so it is read in a thread,
    one at a time, though not always in the same; an asynchronous one by a task of its own.

    Raises:
        ConfigurationError: If it is no iterable of rows.
    """
    if isinstance(rows, Source):
        return rows
    given: Any = rows
    if isinstance(rows, AsyncIterable):
        return AsyncSource(given)
    if isinstance(rows, str | bytes | dict) or not isinstance(rows, Iterable):
        msg = f"map(...) was given something of the class {type(given).__name__!r}, and no rows."
        hint = "Give a list of requests or of rows, or whatever else can be iterated over."
        raise ConfigurationError(msg, hint=hint)
    each: Iterable[Any] = given
    if isinstance(each, Collection):
        return NearSource(iter(each), len(each))
    return ThreadSource(iter(each), ports)


class NearSource(Source):
    """Rows that are there already."""

    def __init__(self, rows: Iterator[Any], total: int | None) -> None:
        self._rows = rows
        self.total = total
        self._stopped = False

    async def take(self, most: int) -> list[Any]:
        return [] if self._stopped else list(islice(self._rows, most))

    def stop(self) -> None:
        self._stopped = True


class ThreadSource(Source):
    """Rows of an iterator that may block, collected ahead in threads.

    A row that is there is given while the thread waits for the next.
    """

    def __init__(self, rows: Iterator[Any], ports: Ports) -> None:
        self._rows = rows
        self._ports = ports
        self._ready: deque[Any] = deque()
        self._wanted = 0
        self._hungry = False  # whether the loop waits, and the thread is to tell it of a row
        self._more = anyio.Event()  # set when there are rows, or the end
        self._room = anyio.Event()  # set when rows are wanted
        self._over = False
        self._error: Exception | None = None
        self._scope: anyio.CancelScope | None = None

    async def pull(self) -> None:
        tell = partial(current_loop().call_soon, self._tell)
        try:
            # A thread that is left to itself ends with the row it waits for.
            with anyio.CancelScope() as self._scope:
                while not self._over:
                    while len(self._ready) >= self._wanted:
                        self._room = anyio.Event()
                        await self._room.wait()
                    if await self._ports.thread(self._collect, tell):
                        return
                    self._tell()
        except Exception as error:  # noqa: BLE001 - raised once the rows before it are given
            self._error = error
        finally:
            self._over = True
            self._tell()

    def _collect(self, tell: Callable[[], object]) -> bool:
        """In a thread: some rows; whether there are no more."""
        for row in self._rows:
            self._ready.append(row)
            if self._hungry:
                self._hungry = False
                tell()
            if self._over or len(self._ready) >= self._wanted:
                return False
        return True

    def _tell(self) -> None:
        self._more.set()

    async def take(self, most: int) -> list[Any]:
        ready = self._ready
        self._wanted = most
        self._room.set()
        while not ready:
            if self._over:
                if self._error is not None:
                    raise copy_of(self._error)
                return []
            self._more = anyio.Event()
            self._hungry = True
            if not ready:  # else it came before the thread could know
                await self._more.wait()
        self._hungry = False
        found = [ready.popleft() for _ in range(min(most, len(ready)))]
        self._wanted = most - len(found)
        return found

    def stop(self) -> None:
        self._over = True
        self._ready.clear()
        self._more.set()
        self._room.set()
        if self._scope is not None:
            self._scope.cancel()

    async def aclose(self) -> None:
        self.stop()
        close: Callable[[], None] | None = getattr(self._rows, "close", None)
        if close is not None:
            try:
                await self._ports.thread(close)
            except ValueError:  # a generator that a thread is still in ends when that does
                return


class AsyncSource(Source):
    """Rows of an asynchronous iterable, collected ahead by a task of its own."""

    def __init__(self, rows: AsyncIterable[Any]) -> None:
        self._rows = aiter(rows)
        self._ready: deque[Any] = deque()
        self._wanted = 0
        self._more = anyio.Event()  # set when there are rows, or the end
        self._room = anyio.Event()  # set when rows are wanted
        self._over = False
        self._scope: anyio.CancelScope | None = None

    async def pull(self) -> None:
        try:
            with anyio.CancelScope() as self._scope:
                while not self._over:
                    while len(self._ready) >= self._wanted:
                        self._room = anyio.Event()
                        await self._room.wait()
                    try:
                        row = await anext(self._rows)
                    except StopAsyncIteration:
                        return
                    self._ready.append(row)
                    self._more.set()
        finally:
            self._over = True
            self._more.set()

    async def take(self, most: int) -> list[Any]:
        self._wanted = most
        self._room.set()
        while not self._ready:
            if self._over:
                return []
            self._more = anyio.Event()
            await self._more.wait()
        ready = self._ready
        found = [ready.popleft() for _ in range(min(most, len(ready)))]
        self._wanted = most - len(found)
        return found

    def stop(self) -> None:
        self._over = True
        self._ready.clear()
        self._more.set()
        self._room.set()
        if self._scope is not None:
            self._scope.cancel()

    async def aclose(self) -> None:
        close = getattr(self._rows, "aclose", None)
        if close is not None:
            await close()
