"""One shelf for each store and index, for as long as the store is there."""

from __future__ import annotations

from typing import Any, Final
from weakref import WeakKeyDictionary

import attrs

from lamella import GuardedBlobs, Ports
from lamella._fork_locks import fork_safe_lock
from lamella._guarded_vectors import guarded_vectors
from lamella._local_state import LocalObjects
from lamella_middlewares.semantic_cache._control import LAYER
from lamella_middlewares.semantic_cache._shelf import Shelf

_MOST: Final = 100  # indexes and clocks that one store is used with

_homes: WeakKeyDictionary[Any, LocalObjects] = WeakKeyDictionary()
_lock = fork_safe_lock()


def shelf_of(store: Any, index: Any, ports: Ports) -> Shelf:
    """The index of what is kept in a store, as this process has it.

    Args:
        store: The store.
        index: The index that was given; None for one in memory, made when it is first needed.
        ports: Whose clock and threads are used.
    """
    if isinstance(store, GuardedBlobs):  # of which each pipeline may have its own
        store = store.store

    def make() -> Shelf:
        made = index
        if made is None:
            from lamella._memory_vectors import MemoryVectors

            made = MemoryVectors(monotonic=ports.monotonic, thread=ports.thread)
        near = bool(getattr(store, "instant", False))
        guarded = guarded_vectors(made, ports.monotonic)
        return Shelf(guarded, given=index, near=near, monotonic=ports.monotonic)

    # A shelf holds its index, so that nothing else can have that one's number meanwhile.
    return _home(store, ports).get((f"{id(index):x}", ports.monotonic), make)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


@attrs.frozen
class _Held:
    """A store that nothing can refer to weakly: held, so that its number stays its own."""

    store: Any
    home: LocalObjects = attrs.field(factory=lambda: LocalObjects(max_objects=_MOST))


def _home(store: Any, ports: Ports) -> LocalObjects:
    try:
        with _lock:
            found = _homes.get(store)
        if found is None:
            new = LocalObjects(max_objects=_MOST)
            with _lock:
                found = _homes.setdefault(store, new)
    except TypeError:
        name = ("shared", LAYER, "shelves", f"{id(store):x}")
        return ports.stores.local.get(name, lambda: _Held(store)).home
    return found
