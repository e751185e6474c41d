"""Every door to the world outside: time, randomness, ids, threads, names, stores.

Library code goes through these and nothing else, so that the real stack runs in virtual time and
the same seed gives the same trace.
"""

from __future__ import annotations

import math
import os
import random
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import anyio
import anyio.to_thread
import attrs

from lamella._stores import Stores

T = TypeVar("T")


class ThreadPort(Protocol):
    """Runs blocking work off the loop."""

    async def __call__(self, function: Callable[..., T], /, *args: Any) -> T:
        """Run `function(*args)` where it may block."""
        ...


async def run_in_thread(function: Callable[..., T], /, *args: Any) -> T:
    """In a worker thread, without a cap shared with anybody.

    A shared cap deadlocks as soon as such work waits for other such work (a tool that makes a
    synchronous call that runs a tool). A cancelled caller does not wait: the thread ends by itself.
    """
    return await anyio.to_thread.run_sync(
        function, *args, limiter=anyio.CapacityLimiter(math.inf), abandon_on_cancel=True
    )


async def resolve_host(host: str, port: int) -> list[str]:
    """The numeric addresses of a host, as the system's resolver gives them."""
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class Chance(random.SystemRandom):
    """Numbers that keys and nonces may be made of, from the system; others from a generator.

    What `random()` decides, jitter and samples, nobody gains by guessing, and asking the system for
    each takes longer than most of a call. A forked child starts anew, so that the processes of a
    fleet do not all wait for the same time.
    """

    getrandbits = random.SystemRandom.getrandbits

    def random(self) -> float:
        """A number from 0 to 1, 1 excluded."""
        return _draw()


_floats = random.Random()  # noqa: S311 - see Chance
_draw = _floats.random
if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_floats.seed)


def _process_stores() -> Stores:
    from lamella._memory_stores import process_stores

    return process_stores()


@attrs.frozen
class Ports:
    """The doors, each replaceable.

    Attributes:
        monotonic: Seconds that never go back.
        wall: Seconds since the epoch, which may jump.
        sleep: Waits for seconds.
        random: The source of chance: jitter, sampling. What it makes bytes of may be a key.
        new_id: A fresh, unguessable id.
        thread: Runs a blocking function off the loop.
        resolve: Numeric addresses of (host, port).
        stores: Where counted and kept things live.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    random: random.Random = attrs.field(factory=Chance, repr=False)
    new_id: Callable[[], str] = lambda: os.urandom(16).hex()
    thread: ThreadPort = run_in_thread
    resolve: Callable[[str, int], Awaitable[list[str]]] = resolve_host
    stores: Stores = attrs.field(factory=_process_stores)

    def __attrs_post_init__(self) -> None:
        """See to it that nobody waits long for a store that is elsewhere."""
        blobs = self.stores.blobs
        if not getattr(blobs, "instant", False):
            from lamella._guarded_blobs import guarded

            stores = attrs.evolve(self.stores, blobs=guarded(blobs, self.monotonic))
            object.__setattr__(self, "stores", stores)


_default: Ports | None = None


def default_ports() -> Ports:
    """The real world's ports, made on first use and shared by the process."""
    global _default  # noqa: PLW0603 - one set of ports a process is the point
    if _default is None:
        _default = Ports()
    return _default
