"""Virtual time: hours pass in milliseconds, and the same seed gives the same trace.

On both event loops the clock stands still while something can run, and jumps to the next timer when
nothing can. Loopback sockets work. Worker threads do not: the clock would jump while they work, so
`virtual_ports` runs blocking functions inline.
"""

from __future__ import annotations

import itertools
import math
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.util import find_spec
from ipaddress import ip_address
from random import Random
from typing import Any, TypeVar, TypeVarTuple, Unpack

import anyio
import anyio.lowlevel

from lamella._loops import current_loop
from lamella._memory_stores import memory_stores
from lamella._ports import Ports

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

EPOCH = 1_735_689_600.0
"""The wall time at virtual instant 0: the beginning of 2025, UTC."""

GRACE = 0.001
"""Real seconds that bytes on their way over the loopback get before time jumps."""

TEN_YEARS = 10 * 365 * 86_400.0


def virtual_backend(
    name: str, *, seed: int = 0, grace: float = GRACE
) -> tuple[str, dict[str, Any]]:
    """An event loop in virtual time, as anyio takes it: `anyio.run(..., backend_options=...)`.

    Args:
        name: `"asyncio"` or `"trio"`.
        seed: On trio, decides in which order tasks run that can run at once; asyncio's order is
            fixed.
        grace: Real seconds that bytes on their way get before each jump while sockets are open;
            0 or more.

    Returns:
        The name and the backend options. Each run with them starts at instant 0.

    Raises:
        ModuleNotFoundError: If trio is asked for and not installed.
        ValueError: If there is no such event loop.
    """
    if not grace >= 0:
        raise ValueError(f"virtual_backend: grace={grace!r} must be 0 or more seconds.")
    if name == "asyncio":
        from lamella.testing._virtual_asyncio import VirtualLoop

        return name, {"loop_factory": partial(VirtualLoop, grace)}
    if name != "trio":
        raise ValueError(f"virtual_backend: {name!r} is no event loop: use 'asyncio' or 'trio'.")
    if find_spec("trio") is None:
        raise ModuleNotFoundError(
            "Virtual time on trio needs trio, which is not installed. Run `pip install trio`, "
            "or use the asyncio backend.",
            name="trio",
        )
    from lamella.testing._virtual_trio import VirtualClock

    return name, {"clock": VirtualClock(seed, grace)}


def virtual_backends(*, seed: int = 0, grace: float = GRACE) -> list[tuple[str, dict[str, Any]]]:
    """Every installed event loop in virtual time, for a parametrised `anyio_backend` fixture.

    Args:
        seed: As for `virtual_backend`.
        grace: As for `virtual_backend`.
    """
    names = ["asyncio", "trio"] if find_spec("trio") is not None else ["asyncio"]
    return [virtual_backend(name, seed=seed, grace=grace) for name in names]


def run_virtual(
    function: Callable[[Unpack[Ts]], Awaitable[T]],
    *args: *Ts,
    backend: str = "asyncio",
    seed: int = 0,
    limit: float = TEN_YEARS,
) -> T:
    """Run `function(*args)` on a new event loop in virtual time; what it returns.

    Args:
        function: An async function.
        *args: Its arguments.
        backend: `"asyncio"` or `"trio"`.
        seed: As for `virtual_backend`.
        limit: Virtual seconds after which it is cancelled: a deadlock ends here instead of
            hanging. Above 0.

    Raises:
        TimeoutError: If it is not over within `limit`.
        Exception: What the function raises.
    """
    name, options = virtual_backend(backend, seed=seed)
    bound = partial(function, *args)
    return anyio.run(_within, limit, bound, backend=name, backend_options=options)


async def _within(limit: float, function: Callable[[], Awaitable[T]]) -> T:
    with anyio.move_on_after(limit):
        return await function()
    raise TimeoutError(
        f"run_virtual: {limit:g} s of virtual time have passed and it is not over: what it waits "
        "for never comes, or comes later than limit=."
    )


class _Monotonic:
    """The loop's clock; outside any loop the last instant that was seen."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self) -> float:
        try:
            self._last = current_loop().now()  # works in timer callbacks too, unlike anyio's
        except RuntimeError:  # no loop runs; `suppress` costs more than the rest, at each reading
            return self._last
        return self._last


async def _inline(function: Callable[..., T], /, *args: Any) -> T:
    """Run a blocking function where it stands, after everybody else had a turn."""
    await anyio.lowlevel.checkpoint()
    return function(*args)


async def _resolve(host: str, _port: int) -> list[str]:
    """Numeric addresses as they are, and the loopback by name; nothing else exists."""
    await anyio.lowlevel.checkpoint()
    if host == "localhost":
        return ["127.0.0.1"]
    try:
        return [str(ip_address(host))]
    except ValueError:
        raise socket.gaierror(
            socket.EAI_NONAME,
            f"virtual_ports resolve no names, and {host!r} is one: give Ports(resolve=...).",
        ) from None


def virtual_ports(seed: int = 0, *, epoch: float = EPOCH) -> Ports:
    """Ports that follow the running loop's clock, draw chance from a seed, and share no store.

    Meant for loops in virtual time (`run_virtual`, `virtual_backends`), where the same seed gives
    the same trace; on an ordinary loop they work in real time. Blocking functions run inline, names
    other than `localhost` do not resolve.

    Args:
        seed: Of chance and of ids.
        epoch: Wall time at the loop's instant 0, in seconds since 1970.

    Raises:
        ValueError: If `epoch` is not a finite number.
    """
    if not math.isfinite(epoch):
        raise ValueError(f"virtual_ports: epoch={epoch!r} is no instant in seconds since 1970.")
    monotonic = _Monotonic()
    random = Random(seed)  # noqa: S311 - chance that can be repeated, not secrecy
    numbers = itertools.count(1)

    def wall() -> float:
        return epoch + monotonic()

    return Ports(
        monotonic=monotonic,
        wall=wall,
        sleep=anyio.sleep,
        random=random,
        new_id=lambda: f"{seed & 0xFFFF_FFFF:08x}{next(numbers):024x}",
        thread=_inline,
        resolve=_resolve,
        stores=memory_stores(monotonic=monotonic, wall=wall),
    )
