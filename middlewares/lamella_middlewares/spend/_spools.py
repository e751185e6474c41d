"""The spools of this process: layers that write to one store, at one pace, share one."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from lamella._fork_locks import fork_safe_lock
from lamella_middlewares.spend._spool import Pace, Spool

if TYPE_CHECKING:
    from lamella import SpendStore

# By identity: a spool keeps its store, so that the number is no other's as long as it is here.
_spools: WeakValueDictionary[tuple[int, Pace], Spool] = WeakValueDictionary()
_lock = fork_safe_lock()


def spool_for(store: SpendStore, pace: Pace) -> Spool:
    """The spool of a store; pipelines that are made for each request thus share it."""
    made = Spool(store, pace)  # it makes a lock, which must not happen with another one held
    with _lock:
        return _spools.setdefault((id(store), pace), made)


def spools_of(store: SpendStore) -> list[Spool]:
    """All that write to a store."""
    with _lock:
        return [spool for spool in _spools.values() if spool.store is store]


async def flush(store: SpendStore) -> None:
    """Wait until what waits for a store in this process is there.

    Raises:
        StoreUnavailableError: If the store does not answer. Nothing is lost: it is tried again.
    """
    for spool in spools_of(store):
        await spool.flush()
