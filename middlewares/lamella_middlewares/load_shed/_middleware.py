"""The layer: a place in the process for each call."""

from __future__ import annotations

from typing import Any, TypeVar

import attrs

from lamella import Handler, Ports, Reading, Request, Response, Stores, ending, middleware
from lamella._options import (
    name,
    optional_seconds,
    seconds,
    span,
    span_or_none,
    wait_or_none,
    whole,
)
from lamella_middlewares.load_shed._overload import Overload
from lamella_middlewares.load_shed._room import NAME, Room

R = TypeVar("R", bound=Response)


@attrs.frozen
class Load:
    """How much there is to do.

    Attributes:
        max_in_flight: How many calls may be worked on.
        in_flight: How many are.
        waiting: How many wait.
        overloaded: Whether calls have waited too long for a while.
    """

    max_in_flight: int
    in_flight: int
    waiting: int
    overloaded: bool


def _key_of(layer: Any) -> tuple[str, ...]:
    attrs.validate(layer)  # attrs itself does so only once all fields are there
    numbers = f"{layer.max_in_flight},{layer.max_waiting},{layer.target},{layer.interval}"
    return (layer.namespace, NAME, numbers)


@middleware(phase="govern", rank=0, effects=("short-circuits",))
@attrs.frozen
class LoadShed:
    """Bounds how many calls this process works on at once, and refuses early what is too much.

    Calls that find no room wait: the higher priority first, in turn between tenants, in order of
    arrival. When too many wait, the newest of the least important have to go, also those that wait
    already. When calls have waited too long for a while, those of the lowest priority go once they
    have waited `target`, and the newest go first, until it is over: a few are served in time, where
    otherwise all would be served too late. Whoever goes gets a `LimitedError` at once.

    A call counts once, whatever it asks on the way: turns, children and nested pipelines take part
    in its place.

    Args:
        max_in_flight: How many calls may be worked on at once; 1 or more.
        max_waiting: How many may wait; 0 or more. 0 refuses instead.
        max_wait: How many seconds a call may wait; 0 refuses instead, None leaves it to the
            deadline.
        target: How many seconds waiting may take without being a sign of overload; above 0. None
            never takes it for one.
        interval: For how many seconds everybody must have waited longer than that; above 0. About
            as long as a long call takes.
        namespace: Layers with the same numbers share their room by name; another name counts apart.
    """

    max_in_flight: int = attrs.field(default=1000, validator=whole(1, 10**9))
    max_waiting: int = attrs.field(default=1000, kw_only=True, validator=whole(0))
    max_wait: float | None = attrs.field(
        default=30.0, kw_only=True, converter=optional_seconds, validator=wait_or_none
    )
    target: float | None = attrs.field(
        default=2.0, kw_only=True, converter=optional_seconds, validator=span_or_none
    )
    interval: float = attrs.field(default=20.0, kw_only=True, converter=seconds, validator=span)
    namespace: str = attrs.field(default="shared", kw_only=True, validator=name)
    _key: tuple[str, ...] = attrs.field(
        init=False, eq=False, repr=False, default=attrs.Factory(_key_of, takes_self=True)
    )

    async def __call__(self, request: Request[R], call_next: Handler) -> R:
        """Pass the request on once there is room for its call.

        Raises:
            LimitedError: If there is none in time; nothing is sent. `code` is `"overloaded"`.
        """
        context = request.context
        ports = context.ports
        room = ports.stores.local.get(self._key, self._make)
        monotonic = ports.monotonic
        place = room.at_once(context, monotonic())
        if place is None:
            place = await room.wait(context, self.max_wait)
        return await ending(call_next, request, lambda _: room.leave(place, monotonic()))

    def load(self, stores: Stores) -> Load:
        """How much there is to do.

        Args:
            stores: Where it is counted: `pipeline.ports.stores`.
        """
        room = self._room(stores)
        return Load(room.size, room.in_flight, room.waiting, room.overload.on)

    def readings(self, ports: Ports) -> list[Reading]:
        """The same as numbers: see `lamella.Reading`."""
        load, source = self.load(ports.stores), (id(ports.stores.local), self._key)
        numbers = {
            "available": max(0, load.max_in_flight - load.in_flight),
            "limit": load.max_in_flight,
            "waiting": load.waiting,
        }
        return [
            Reading(NAME, name, number, "calls", source=source) for name, number in numbers.items()
        ]

    def _room(self, stores: Stores) -> Room:
        return stores.local.get(self._key, self._make)

    def _make(self) -> Room:
        overload = Overload(self.target, self.interval)
        return Room(self.max_in_flight, self.max_waiting, overload)
