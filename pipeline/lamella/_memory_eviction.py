"""What a memory store keeps, and which of it goes when there is no more room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, Literal, Protocol, TypeAlias, get_args

import attrs

from lamella._errors import ConfigurationError

EvictionName: TypeAlias = Literal["lru", "lfu", "fifo", "tinylfu"]
"""`"lru"`: what was not used for longest goes. `"lfu"`: what was used least often, of late.
`"fifo"`: what was put first. `"tinylfu"`: what was used least often of late, and what is new must
have been asked for more often than what it would displace."""

EVICTIONS: Final[tuple[EvictionName, ...]] = get_args(EvictionName)


class Lasting(Protocol):
    """An object that never changes and is kept as it is; its bytes are made for who wants them.

    Attributes:
        size: Bytes that it counts.
    """

    size: int

    def __bytes__(self) -> bytes:
        """The same in bytes."""
        ...


@attrs.define(eq=False)
class Entry:
    """A value that a memory store keeps.

    Attributes:
        key: Its key.
        data: The value.
        put_at: When it was put, in seconds of the store's clock.
        expires: When it expires; infinite if it does not.
        tags: Its tags.
        size: Bytes that it counts.
        number: Rises with every put of the store.
        mark: What the order of eviction notes of it: its uses, or where they are counted.
        place: Where the order of eviction has it.
    """

    key: str
    data: bytes | Lasting
    put_at: float
    expires: float
    tags: frozenset[str]
    size: int
    number: int
    mark: int = 0
    place: Any = None


@attrs.frozen
class Room:
    """What a store has room for.

    Attributes:
        size: Bytes, as entries count them.
        entries: How many; None for as many as the bytes allow.
        least: Bytes that the smallest entry counts.
    """

    size: int
    entries: int | None
    least: int

    @property
    def most(self) -> int:
        """No more entries than that can ever be there."""
        fit = self.size // self.least
        return fit if self.entries is None else min(fit, self.entries)


class Eviction(Protocol):
    """An order of eviction. Not thread-safe: its store's lock covers it.

    None looks at a clock or draws: the same operations leave the same entries, in any process.
    """

    def added(self, entry: Entry, old: Entry | None) -> None:
        """An entry has come, in place of an old one that was removed, or of none."""
        ...

    def used(self, entry: Entry) -> None:
        """An entry was read."""
        ...

    def removed(self, entry: Entry) -> None:
        """An entry has gone, for whatever reason."""
        ...

    def next_out(self, coming: Entry) -> Entry:
        """Who has to go so that another one can come. There is at least one; it is removed next."""
        ...


class FirstOut:
    """What was put first goes first, however often it is used."""

    __slots__ = ("_order",)

    def __init__(self) -> None:
        self._order: OrderedDict[str, Entry] = OrderedDict()

    def added(self, entry: Entry, old: Entry | None) -> None:
        """See `Eviction.added`."""
        self._order[entry.key] = entry

    def used(self, entry: Entry) -> None:
        """It makes no difference."""

    def removed(self, entry: Entry) -> None:
        """See `Eviction.removed`."""
        del self._order[entry.key]

    def next_out(self, coming: Entry) -> Entry:
        """The one at the head."""
        return next(iter(self._order.values()))


class LeastRecent(FirstOut):
    """What was neither read nor written for longest goes first."""

    __slots__ = ()

    def used(self, entry: Entry) -> None:
        """Send it to the end."""
        self._order.move_to_end(entry.key)


def _least_often(room: Room) -> Eviction:  # noqa: ARG001 - each is made with the room
    from lamella._eviction_lfu import LeastOften

    return LeastOften()


def _tiny(room: Room) -> Eviction:
    from lamella._eviction_tinylfu import TinyLfu

    return TinyLfu(room)


_MAKERS: Final[dict[str, Callable[[Room], Eviction]]] = {
    "lru": lambda _: LeastRecent(),
    "lfu": _least_often,
    "fifo": lambda _: FirstOut(),
    "tinylfu": _tiny,
}


def eviction_of(store: str, name: object, room: Room) -> Eviction:
    """The order of eviction of that name, for a store with such room.

    Raises:
        ConfigurationError: If there is none of that name.
    """
    if not isinstance(name, str) or name not in _MAKERS:
        words = ", ".join(map(repr, EVICTIONS))
        raise ConfigurationError(f"{store}(eviction={name!r}): give one of {words}.")
    return _MAKERS[name](room)
