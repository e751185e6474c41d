"""Who gets a connection of the fast client: an account of all places, in any order of events."""

from __future__ import annotations

import asyncio
from typing import Any

import attrs
import pytest
from fast_wire import Wire, connected, feed, reply_on
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import lamella
from lamella.transports._fast_connection import Connection
from lamella.transports._fast_dialing import Route
from lamella.transports._fast_pool import Pool
from lamella.transports._http import HTTPOptions

MOST, IDLE = 3, 2
ROUTES = [Route("http", name, 80, name, name, None, None) for name in ("a.test", "b.test")]
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@attrs.define(eq=False)
class Dialing:
    """In place of the network: connections that are made, or not, when the test says so.

    Attributes:
        pool: Whose they are.
        wires: The other ends of those that were made.
        gates: Dials under way, each with what it waits for: whether it succeeds.
    """

    pool: Pool
    wires: dict[Connection, Wire] = attrs.field(factory=dict[Connection, Wire])
    gates: list[asyncio.Future[bool]] = attrs.field(factory=list[asyncio.Future[bool]])

    async def dial(self, route: Route, who: str, where: str) -> Connection:
        """A connection in memory."""
        gate = self.pool.loop.create_future()
        self.gates.append(gate)
        try:
            fine = await gate
        finally:
            self.gates.remove(gate)
        if not fine:
            raise lamella.ConnectError("No.", provider=who)
        connection, wire = connected(self.pool.loop, self.pool.freed, self.pool.lost)
        self.wires[connection] = wire
        return connection


class PoolMachine(RuleBasedStateMachine):
    """Asks, answers, leaves and breaks in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        options = HTTPOptions(fast=True, max_connections=MOST, max_idle=IDLE, idle_expiry=None)
        pool: Any = Pool(self.loop, options)
        self.pool, self.dialing = pool, Dialing(pool)
        pool._dialer = self.dialing
        self.asking: list[tuple[Route, asyncio.Task[Connection]]] = []
        self.busy: list[tuple[Route, Connection]] = []

    def settle(self) -> None:
        """Let the loop run until nothing happens any more, and see who got something."""
        for _ in range(4):
            self.loop.run_until_complete(asyncio.sleep(0))
        for entry in [entry for entry in self.asking if entry[1].done()]:
            self.asking.remove(entry)
            route, task = entry
            if not task.cancelled() and task.exception() is None:
                connection = task.result()
                reply_on(self.loop, connection)
                self.busy.append((route, connection))

    @rule(route=st.sampled_from(ROUTES), fresh=st.sampled_from([False, False, True]))
    def ask(self, route: Route, *, fresh: bool) -> None:
        """A request comes: a kept connection is taken at once."""
        kept = None if fresh else self.pool.take(route)
        if kept is not None:
            reply_on(self.loop, kept)
            self.busy.append((route, kept))
            return
        wanted = self.pool.connect(route, "acme", route.host, None, fresh=fresh)
        self.asking.append((route, self.loop.create_task(wanted)))
        self.settle()

    @precondition(lambda self: self.dialing.gates)
    @rule(fine=st.sampled_from([True, True, False]), which=st.integers(0, 9))
    def dialled(self, *, fine: bool, which: int) -> None:
        """A connection is made, or cannot be."""
        self.dialing.gates[which % len(self.dialing.gates)].set_result(fine)
        self.settle()

    @precondition(lambda self: self.busy)
    @rule(which=st.integers(0, 9), how=st.sampled_from(["whole", "whole", "close", "leave", "cut"]))
    def ended(self, which: int, how: str) -> None:
        """An answer is complete, or is left, or its connection breaks."""
        _, connection = self.busy.pop(which % len(self.busy))
        if how == "leave":
            connection.abort()
        elif how == "cut":
            connection.eof_received()
        else:
            feed(connection, ANSWER)
            if how == "close":
                connection.eof_received()
        self.settle()

    @precondition(lambda self: self.asking)
    @rule(which=st.integers(0, 9), late=st.booleans())
    def cancelled(self, which: int, *, late: bool) -> None:
        """Somebody in the line goes away, even in the moment in which it is its turn."""
        if late and self.busy:
            feed(self.busy.pop()[1], ANSWER)
        self.asking[which % len(self.asking)][1].cancel()
        self.settle()

    @invariant()
    def places_are_accounted_for(self) -> None:
        """No more than there are; all of those taken are known; nobody waits for a free one."""
        pool = self.pool
        alive = [wire for wire in self.dialing.wires.values() if not wire.closed]
        assert pool._taken == len(alive) + len(self.dialing.gates) <= MOST
        idle = [each for kept in pool._idle.values() for each in kept]
        assert len(idle) == pool._idle_count <= IDLE
        assert len(alive) == len(idle) + len(self.busy)
        waiting = len(self.asking) - len(self.dialing.gates)
        assert waiting == 0 or (pool._taken == MOST and not idle)

    def teardown(self) -> None:
        """Closing ends everything that waits, and every connection."""
        self.loop.call_soon(self.pool.close)
        waiting = [task for _, task in self.asking]
        self.settle()
        for task in waiting:
            assert isinstance(task.exception(), lamella.ClosedError)
        assert all(wire.closed for wire in self.dialing.wires.values())
        self.loop.close()


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)


def test_places_of_those_who_left() -> None:
    """Who went away stands in no line: waiting takes no memory afterwards."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        pool: Any = Pool(loop, HTTPOptions(fast=True, max_connections=1))
        pool._dialer = Dialing(pool)
        for _ in range(5):
            with pytest.raises(lamella.ConnectTimeout):
                await pool.connect(ROUTES[0], "acme", "acme.test", 0.0)
        asked = [loop.create_task(pool.connect(ROUTES[0], "acme", "", None)) for _ in range(6)]
        for task in asked[1:]:
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.sleep(0)
        assert len(pool._waiters) == 0
        assert pool._taken == 1
        pool.close()
        with pytest.raises(lamella.ClosedError):
            await asked[0]

    asyncio.run(main())


def test_what_broke_while_it_was_handed_over() -> None:
    """A connection that says something nobody asked for is not taken by who waited for it."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        pool: Any = Pool(loop, HTTPOptions(fast=True, max_connections=1))
        dialing = pool._dialer = Dialing(pool)

        async def dialled() -> Connection:
            task = loop.create_task(pool.connect(ROUTES[0], "acme", "", None))
            await asyncio.sleep(0)
            while not task.done():
                for gate in dialing.gates:
                    if not gate.done():
                        gate.set_result(True)
                await asyncio.sleep(0)
            connection: Connection = task.result()
            reply_on(loop, connection)
            return connection

        first = await dialled()
        waiting = loop.create_task(dialled())
        for _ in range(3):
            await asyncio.sleep(0)
        feed(first, ANSWER)
        first._poll = lambda _: [("readable", 1)]  # more has come than the answer
        second = await waiting
        assert second is not first
        assert not first.open
        pool.close()
        await asyncio.sleep(0)

    asyncio.run(main())


def test_first_come_first_served() -> None:
    """What becomes free goes to who has waited longest, wherever the connection must lead."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        options = HTTPOptions(fast=True, max_connections=1)
        pool: Any = Pool(loop, options)
        dialing = pool._dialer = Dialing(pool)
        served: list[int] = []

        async def ask(number: int, route: Route) -> None:
            connection = await pool.connect(route, "acme", "acme.test", None)
            served.append(number)
            reply_on(loop, connection)
            feed(connection, ANSWER)

        tasks = [loop.create_task(ask(number, ROUTES[number % 3 == 1])) for number in range(6)]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            for gate in dialing.gates:
                if not gate.done():
                    gate.set_result(True)
        assert served == [0, 1, 2, 3, 4, 5]
        pool.close()
        await asyncio.sleep(0)

    asyncio.run(main())
