"""One event loop's connections: who gets one, in which order, and when they are closed.

Every operation takes the same time however many connections there are. Whoever finds all places
taken waits in line; a place or a connection that becomes free goes to the head of the line.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this client is for asyncio's loops alone, and says so
from collections import OrderedDict
from collections.abc import AsyncGenerator

import anyio
import attrs

from lamella._errors import LamellaError
from lamella.transports._fast_connection import Connection
from lamella.transports._fast_dialing import Dialer, Route
from lamella.transports._http import HTTPOptions
from lamella.transports._http_failures import client_closed, connect_timeout, no_connection

_READ_BYTES = 64 * 1024


@attrs.define(eq=False)
class _Waiter:
    """Somebody in the line.

    Attributes:
        route: Whom a connection is wanted to.
        turn: Ends the wait.
        connection: What came: a connection, or None for a place to make one in.
    """

    route: Route
    turn: asyncio.Future[None]
    connection: Connection | None = None


class Pool:
    """The connections of one event loop; to be used on it alone.

    Args:
        loop: The loop.
        options: Bounds and times.

    Attributes:
        loop: The loop.
        closed: Whether it was closed.
    """

    __slots__ = (
        "__weakref__",
        "_buffer",
        "_dialer",
        "_dialing",
        "_expiry",
        "_guard",
        "_idle",
        "_idle_count",
        "_max_connections",
        "_max_idle",
        "_open",
        "_options",
        "_routes",
        "_sweeping",
        "_taken",
        "_waiters",
        "closed",
        "loop",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, options: HTTPOptions) -> None:
        self.loop = loop
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self.closed = False
        self._options = options
        self._max_connections = options.max_connections
        self._max_idle = options.max_idle
        expiry = options.idle_expiry
        self._expiry = None if expiry is None else float(expiry)  # type: ignore[arg-type]
        self._idle: dict[Route, OrderedDict[Connection, None]] = {}
        self._idle_count = 0
        self._open: dict[Connection, Route] = {}
        self._taken = 0  # places: connections, and those that are being made
        self._waiters: OrderedDict[_Waiter, None] = OrderedDict()
        self._dialing: set[anyio.CancelScope] = set()
        self._sweeping: asyncio.TimerHandle | None = None
        self._guard: AsyncGenerator[None, None] | None = None
        self._dialer = Dialer(loop, options, self._new)

    def _new(self) -> Connection:
        limit = self._options.max_header_bytes
        return Connection(self.loop, self._buffer, limit, self.freed, self.lost)

    # --- getting a connection ----------------------------------------------------------------

    def take(self, route: Route) -> Connection | None:
        """A kept connection, if there is one."""
        idle = self._idle.get(route)
        while idle:
            connection, _ = idle.popitem()  # the one used last: the likeliest to be alive
            self._idle_count -= 1
            expiry = self._expiry
            now = connection.taken = self.loop.time()
            expired = expiry is not None and now >= connection.idle_since + expiry
            if not expired and not connection.stale():
                return connection
            connection.abort()
        return None

    async def connect(
        self, route: Route, who: str, where: str, seconds: float | None, *, fresh: bool = False
    ) -> Connection:
        """A connection for which somebody waits: one that becomes free, or a new one.

        Args:
            route: Whom it leads to.
            who: The provider, for messages.
            where: Its address, for messages.
            seconds: How long it may take, everything included; None for no limit.
            fresh: Whether it must be a new one.

        Raises:
            LamellaError: Why there is none.
        """
        if seconds is None:
            return await self._connect(route, who, where, fresh=fresh)
        with anyio.move_on_after(seconds):
            return await self._connect(route, who, where, fresh=fresh)
        raise connect_timeout(who, where, seconds)

    async def _connect(self, route: Route, who: str, where: str, *, fresh: bool) -> Connection:
        again = False
        while not self._place():
            connection = await self._wait(route, who, first=again)
            if connection is None:
                break  # a place
            if fresh and connection.open:
                del self._open[connection]  # its place is ours
                connection.abort()
                break
            if not connection.stale():
                connection.taken = self.loop.time()
                return connection
            connection.abort()
            again = True  # it broke before we woke up: its place was somebody else's
        return await self._dial(route, who, where)

    def _place(self) -> bool:
        """Take a place for a new connection, if there is one or can be."""
        if self._taken >= self._max_connections and not (self._idle_count and self._evict()):
            return False
        self._taken += 1
        return True

    async def _wait(self, route: Route, who: str, *, first: bool) -> Connection | None:
        """Stand in line; a connection, or None for a place to make one in."""
        waiter = _Waiter(route, self.loop.create_future())
        self._waiters[waiter] = None
        if first:
            self._waiters.move_to_end(waiter, last=False)
        try:
            await waiter.turn
        except BaseException:
            if waiter in self._waiters:
                del self._waiters[waiter]
            elif not waiter.turn.cancelled():  # it was our turn
                self._pass_on(waiter.connection)
            raise
        if self.closed:
            raise client_closed(who)
        return waiter.connection

    def _pass_on(self, connection: Connection | None) -> None:
        """Give back what somebody got who does not want it any more."""
        if connection is None:
            self._vacate()
        elif connection.open:
            self.freed(connection)

    async def _dial(self, route: Route, who: str, where: str) -> Connection:
        try:
            connection = await self._dialled(route, who, where)
            if connection is None or not connection.open:
                raise no_connection(who, where)
        except BaseException as error:
            self._vacate()
            if self.closed and isinstance(error, LamellaError):
                raise client_closed(who) from None
            raise
        self._open[connection] = route
        return connection

    async def _dialled(self, route: Route, who: str, where: str) -> Connection | None:
        """A new connection; None if the client was closed meanwhile."""
        connection = None
        with anyio.CancelScope() as scope:
            self._dialing.add(scope)
            try:
                connection = await self._dialer.dial(route, who, where)
            finally:
                self._dialing.discard(scope)
        if self.closed and connection is not None:
            connection.abort()
            return None
        return connection

    # --- giving it back ----------------------------------------------------------------------

    def freed(self, connection: Connection) -> None:
        """An answer is complete: the connection is for the head of the line, or kept."""
        route = self._open[connection]
        waiter = self._head() if self._waiters else None
        if waiter is None:
            self._keep(connection, route)
        elif waiter.route is route:
            waiter.connection = connection
            self._call(waiter)
        else:
            connection.abort()  # which vacates its place, for a connection to elsewhere

    def _head(self) -> _Waiter | None:
        """Whose turn is next. Who was cancelled but has not woken up yet stands in no line."""
        while self._waiters:
            waiter = next(iter(self._waiters))
            if not waiter.turn.done():
                return waiter
            del self._waiters[waiter]
        return None

    def _call(self, waiter: _Waiter) -> None:
        del self._waiters[waiter]
        waiter.turn.set_result(None)

    def _keep(self, connection: Connection, route: Route) -> None:
        if self._idle_count >= self._max_idle and not (self._idle_count and self._evict(route)):
            connection.abort()
            return
        idle = self._idle.get(route)
        if idle is None:
            idle = self._idle[route] = OrderedDict()
        connection.idle_since = self.loop.time()
        idle[connection] = None
        self._idle_count += 1
        if self._sweeping is None and self._expiry is not None:
            self._sweeping = self.loop.call_later(self._expiry, self._sweep)

    def _evict(self, route: Route | None = None) -> bool:
        """Close the kept connection that was idle longest, preferably of a route."""
        idle = self._idle.get(route) if route is not None else None
        if not idle:
            idle = next((each for each in self._idle.values() if each), None)
        if not idle:
            return False
        connection, _ = idle.popitem(last=False)
        self._idle_count -= 1
        connection.abort()
        return True

    def lost(self, connection: Connection) -> None:
        """A connection is of no use any more."""
        route = self._open.pop(connection, None)
        if route is None:
            return  # it never was one: who makes it hears of it
        idle = self._idle.get(route)
        if idle is not None and connection in idle:
            del idle[connection]
            self._idle_count -= 1
        self._vacate()

    def _vacate(self) -> None:
        """A place is free: the head of the line may have it."""
        self._taken -= 1
        waiter = self._head()
        if waiter is not None and self._taken < self._max_connections:
            self._taken += 1
            self._call(waiter)

    def _sweep(self) -> None:
        """Close what was idle for too long, and look again when the next one will have been."""
        self._sweeping = None
        expiry = self._expiry
        if expiry is None:
            return
        now, soonest = self.loop.time(), None
        for idle in self._idle.values():
            while idle:
                first = next(iter(idle))
                due = first.idle_since + expiry
                if due > now:
                    soonest = due if soonest is None else min(soonest, due)
                    break
                idle.popitem(last=False)
                self._idle_count -= 1
                first.abort()
        self._idle = {route: idle for route, idle in self._idle.items() if idle}
        if soonest is not None:
            self._sweeping = self.loop.call_at(soonest, self._sweep)

    # --- the end -----------------------------------------------------------------------------

    async def guard(self) -> None:
        """Have the connections closed when the loop ends, as nobody else would.

        The event loop closes the generators that are still open when it ends.
        """
        if self._guard is None:
            self._guard = self._open_until_closed()
            await anext(self._guard)

    async def _open_until_closed(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._guard = None  # it is at work: whoever closes meanwhile lets it be
            if not self.closed:
                await self.aclose()

    async def aclose(self) -> None:
        """Close, and wait until the sockets are closed."""
        self.close()
        await asyncio.sleep(0)  # in which they are
        guard, self._guard = self._guard, None
        if guard is not None:
            await guard.aclose()  # at once: nobody, the ending loop least, finds it at work

    def close(self) -> None:
        """Close all connections; who uses or awaits one hears that the client was closed."""
        self.closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        for scope in list(self._dialing):
            scope.cancel()
        while (waiter := self._head()) is not None:
            self._taken += 1
            self._call(waiter)
        for connection in list(self._open):
            connection.close()
