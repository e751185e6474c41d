"""Which kept answers a layer has: one way into each store and key for all pipelines here."""

from __future__ import annotations

from typing import Any, Final
from weakref import WeakKeyDictionary

import anyio
import attrs

from lamella._errors import ConfigurationError
from lamella._fork_locks import fork_safe_lock
from lamella._guarded_blobs import guarded
from lamella._kept_answers import KeptAnswers
from lamella._local_state import LocalObjects
from lamella._packing import Packer, Packing, import_sealing
from lamella._ports import Ports
from lamella._stores import BlobStore
from lamella._tally import Tally


@attrs.frozen
class _Way:
    """How one store is used with one key."""

    packer: Packer
    guard: BlobStore | None  # None where the store needs none: what is known of it must not hold it


async def kept_answers(
    layer: str, namespace: str, store: BlobStore | None, packing: Packing, ports: Ports
) -> KeptAnswers:
    """The answers of a layer in the store (None: the pipeline's own).

    What is counted, and the keys made of the secret, are kept with the store. Without a key nothing
    is awaited; with one, its source is asked each time, so that a rotated key is taken up.

    Raises:
        ConfigurationError: If the store is shared and the packing has no key, or the key is short.
        SecretError: If the key cannot be had.
    """
    given = ports.stores.blobs if store is None else store
    secret = None if packing.key is None else await packing.key.fetch(ports=ports)
    shelf = _shelf(given, ports)
    if packing.encrypt and not _loaded:
        await ports.thread(import_sealing)
        _loaded.append(True)

    def make() -> _Way:
        return _way(layer, given, packing, secret, ports)

    way = shelf.get((packing, secret, ports.monotonic), make)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    tally = shelf.get((layer, namespace), Tally)
    return KeptAnswers(layer, namespace, way.guard or given, way.packer, tally=tally, ports=ports)


def _way(layer: str, store: BlobStore, packing: Packing, secret: str | None, ports: Ports) -> _Way:
    refuse_unsigned(layer, store, packing)
    data = None if secret is None else secret.encode("utf-8", "surrogatepass")
    guard = guarded(store, ports.monotonic)
    return _Way(Packer(packing, data), None if guard is store else guard)


async def check_key(packing: Packing) -> None:
    """See that the key can be had and is one: for what `lamella test-config` asks of layers.

    Raises:
        ConfigurationError: If it is too short.
        SecretError: If it cannot be had.
    """
    if packing.key is not None:
        Packer(packing, (await packing.key.fetch()).encode("utf-8", "surrogatepass"))


def refuse_unsigned(layer: str, store: BlobStore, packing: Packing) -> None:
    """Refuse a store that others can write to if what is kept there is not signed.

    For layers to call when they are made, if they are given a store then.

    Raises:
        ConfigurationError: With what to do.
    """
    if packing.key is None and getattr(store, "shared", False):
        raise ConfigurationError(
            f"The layer {layer!r} would keep answers where others can write, and has no key to "
            "tell its own by.",
            hint="Give one: packing=Packing(key='env:CACHE_KEY').",
            layer=layer,
        )


_loaded: list[bool] = []
_shelves: WeakKeyDictionary[Any, LocalObjects] = WeakKeyDictionary()
_lock = fork_safe_lock()
_MOST_WAYS: Final = 1000


def _shelf(store: BlobStore, ports: Ports) -> LocalObjects:
    """What is known of a store: kept no longer than the store is."""
    try:
        with _lock:
            found = _shelves.get(store)
        if found is None:
            new = LocalObjects(max_objects=_MOST_WAYS)
            with _lock:
                found = _shelves.setdefault(store, new)
    except TypeError:  # nothing can refer to it weakly
        name = ("shared", "kept answers", str(id(store)))
        return ports.stores.local.get(name, lambda: _Held(store)).shelf
    return found


class Counting:
    """Which counts a layer writes down when it is closed: those that it has added to. Thread-safe.

    At most 16, if one layer is used with many stores.
    """

    def __init__(self) -> None:
        self._lock = fork_safe_lock()
        self._used: dict[int, KeptAnswers] = {}

    def add(self, kept: KeptAnswers) -> None:
        """It counts there; the last that was given for the same counts is what writes them."""
        number, left = id(kept.tally), None
        with self._lock:
            left = self._used.pop(number, None)
            self._used[number] = kept
            if len(self._used) > _MOST_COUNTED:
                left = self._used.pop(next(iter(self._used)))
        del left  # outside the lock: its finaliser may come back here

    async def publish(self) -> None:
        """Write them down. What takes longer than half a second is left."""
        with self._lock:
            used, self._used = self._used, {}
        for kept in used.values():
            with anyio.move_on_after(_PUBLISH_SECONDS, shield=True):
                await kept.publish()


_MOST_COUNTED: Final = 16
_PUBLISH_SECONDS: Final = 0.5


class _Held:
    """What is known of a store, which is held so that its number stays its own."""

    def __init__(self, store: BlobStore) -> None:
        self.store = store
        self.shelf = LocalObjects(max_objects=_MOST_WAYS)
