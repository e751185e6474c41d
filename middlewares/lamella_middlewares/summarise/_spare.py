"""What a process knows of summaries besides the store: what that would not take, what to leave."""

from __future__ import annotations

import math
from typing import Final, TypeVar

import attrs

from lamella import Ports
from lamella._fork_locks import fork_safe_lock
from lamella_middlewares.summarise._flights import Made
from lamella_middlewares.summarise._names import LAYER

T = TypeVar("T")

UNFIT_SECONDS: Final = 600.0
"""For how long a model is not asked again for what it has not been able to summarise."""

LATE_SECONDS: Final = 30.0
"""For how long it is not asked again for what it has not had the time for."""

_MORE_TIME: Final = 1.5
"""How many times as much time there has to be for asking it nevertheless."""

_SPARE: Final = 64
_LEFT: Final = 1_024


@attrs.frozen
class Left:
    """Something that is left alone for a while.

    Attributes:
        why: Why.
        until: Until when, on the process's clock.
        within: The seconds in which it came to nothing; infinite where time plays no part.
    """

    why: str
    until: float
    within: float = math.inf


class Spare:
    """What this process knows of summaries besides the store. Thread-safe.

    Those that the store would not take, meanwhile; and of which conversations the model has made
    nothing that could stand for them, so that not each turn waits and pays for the same again.
    """

    def __init__(self) -> None:
        self._lock = fork_safe_lock()
        self._made: dict[str, tuple[Made, float]] = {}
        self._left: dict[str, Left] = {}

    def get(self, digest: str, now: float, ttl: float | None) -> Made | None:
        """The one with that digest, if it is here and not too old."""
        made, since = self._made.get(digest, (None, now))
        age = now - since
        if made is None or (ttl is not None and age >= ttl):
            return None
        return attrs.evolve(made, age=age)

    def put(self, digest: str, made: Made, now: float) -> None:
        """Keep one; of many the oldest goes."""
        with self._lock:
            _keep(self._made, digest, (made, now), _SPARE)

    def left(self, digest: str, now: float, seconds: float) -> str:
        """Why that one is left alone; empty if the model may be asked for it.

        Args:
            digest: Which.
            now: The time, on the process's clock.
            seconds: How long the model would have.
        """
        found = self._left.get(digest)
        if found is None or now >= found.until or seconds >= _MORE_TIME * found.within:
            return ""
        return found.why

    def leave(self, digest: str, left: Left) -> None:
        """Do not ask the model again for that one for a while."""
        with self._lock:
            _keep(self._left, digest, left, _LEFT)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._made.clear()
            self._left.clear()


def _keep(kept: dict[str, T], digest: str, value: T, most: int) -> None:
    """Keep a value; of many the oldest goes."""
    kept.pop(digest, None)
    kept[digest] = value
    if len(kept) > most:
        del kept[next(iter(kept))]


def spare_of(ports: Ports, namespace: str) -> Spare:
    """What this process knows of the summaries of a namespace."""
    return ports.stores.local.get((namespace or "shared", LAYER, "spare"), Spare)
