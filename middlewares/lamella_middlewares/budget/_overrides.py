"""Other amounts than the layer's, for single scopes: set at run time, for all of a fleet.

They are kept in the blob store, each under a key of its own, and found by one tag. A process reads
them anew every few seconds. What was spent stays as it is: only what there is changes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final, TypeAlias, cast

import attrs

from lamella import BlobStore, Context, Stores
from lamella._guarded_blobs import guarded
from lamella._scopes import Scope
from lamella_middlewares.budget._accounts import NAME
from lamella_middlewares.budget._allowances import MOST, Limit

logger = logging.getLogger("lamella")

_VERSION: Final = 1

Place: TypeAlias = tuple[tuple[str, ...], Scope]
"""Whose amount it is: the identity of the limit, and the scope."""


@attrs.frozen
class Override:
    """An amount that holds for one scope in place of the layer's.

    Attributes:
        identity: Which limit's.
        values: For whom.
        capacity: How much there is.
    """

    identity: tuple[str, ...]
    values: Scope
    capacity: int

    def to_bytes(self) -> bytes:
        """As it is kept."""
        form = {
            "version": _VERSION,
            "limit": self.identity,
            "scope": self.values,
            "capacity": self.capacity,
        }
        return json.dumps(form).encode()


class Overrides:
    """What this process knows of them, for one namespace. For any number of threads.

    Args:
        namespace: Of the budgets.
        blobs: Where they are kept.
    """

    __slots__ = ("_blobs", "_due", "_namespace", "_table", "_unread")

    def __init__(self, namespace: str, blobs: BlobStore) -> None:
        self._namespace = namespace
        self._blobs = blobs
        self._due = -math.inf
        self._unread = False
        self._table: Mapping[Place, int] = {}

    def due(self, now: float) -> bool:
        """Whether they are to be read anew, at this monotonic instant."""
        return now >= self._due

    def capacity(self, limit: Limit, values: Scope) -> int:
        """How much there is under a limit for a scope."""
        if not self._table:
            return limit.capacity
        return self._table.get((limit.identity, values), limit.capacity)

    def of(self, limit: Limit) -> Iterator[tuple[Scope, int]]:
        """Those of one limit."""
        for (identity, values), capacity in sorted(self._table.items()):
            if identity == limit.identity:
                yield values, capacity

    async def refresh(self, context: Context, seconds: float) -> None:
        """Read them, and again in so many seconds. If that fails, those last read hold."""
        ports = context.ports
        first = self._due == -math.inf
        if not first:  # one reads, and the others need not wait for it
            self._due = ports.monotonic() + seconds
        blobs = guarded(self._blobs, ports.monotonic)
        try:
            await context.wait(lambda: self._read(blobs), what="reading a budget's amounts")
            self._unread = False
        except Exception as error:  # noqa: BLE001 - a store that is out is told of, and gone without
            if not self._unread:  # not every few seconds anew
                logger.warning(
                    "Budget: amounts set at run time cannot be read, and hold: %s", error
                )
            self._unread = True
            context.note(NAME, f"{NAME}.overrides_unread", error=type(error).__name__)
        self._due = ports.monotonic() + seconds

    async def put(self, limit: Limit, values: Scope, capacity: int | None) -> bool:
        """Set what there is under a limit for a scope; None takes the layer's own amount again.

        Returns:
            Whether anything was changed.

        Raises:
            Exception: What the store raises.
        """
        key, place = key_of(self._namespace, limit, values), (limit.identity, values)
        if capacity is None:
            done = await self._blobs.delete(key)
            known = place in self._table
            self._table = {one: left for one, left in self._table.items() if one != place}
            return done or known
        made = Override(limit.identity, values, capacity)
        tags = frozenset([tag_of(self._namespace)])
        await self._blobs.put(key, made.to_bytes(), tags=tags)
        self._table = {**self._table, place: capacity}
        return True

    async def read(self) -> None:
        """Read them.

        Raises:
            Exception: What the store raises.
        """
        await self._read(self._blobs)

    async def _read(self, blobs: BlobStore) -> None:
        said = await blobs.tagged(tag_of(self._namespace))
        # The memory of this process may have thrown some away, to make room for what it caches.
        # Nobody else can have taken them back, so they hold.
        table: dict[Place, int] = dict(self._table) if getattr(blobs, "instant", False) else {}
        for key, blob in said.items():
            found = _read(blob.data)
            if found is None:
                logger.warning("Budget: %r in the blob store is no amount, and is left out.", key)
            else:
                table[found.identity, found.values] = found.capacity
        self._table = table


def tag_of(namespace: str) -> str:
    """What all overrides of a namespace are tagged with."""
    return f"{NAME}:{namespace}"


def key_of(namespace: str, limit: Limit, values: Scope) -> str:
    """Where an override is kept."""
    words = json.dumps([limit.identity, values]).encode()
    return f"{NAME}:{namespace}:{hashlib.sha256(words).hexdigest()[:32]}"


def overrides_of(stores: Stores, namespace: str) -> Overrides:
    """What this process knows of those that are kept in the blob store of a pipeline."""
    blobs = stores.blobs
    key = (namespace, NAME, "overrides", f"{id(blobs):x}")  # which lives as long as they do
    return stores.local.get(key, partial(Overrides, namespace, blobs))


def _read(data: bytes) -> Override | None:
    """What is kept; None if it is nothing that this version understands."""
    try:
        form: Any = json.loads(data)
    except ValueError:
        return None
    if not isinstance(form, dict):
        return None
    said = cast("dict[str, Any]", form)
    limit, scope, capacity = said.get("limit"), said.get("scope"), said.get("capacity")
    if said.get("version") != _VERSION or not _texts(limit) or not _texts(scope):
        return None
    if type(capacity) is not int or not 0 <= capacity <= MOST:
        return None
    return Override(tuple(cast("list[str]", limit)), tuple(cast("list[str]", scope)), capacity)


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(each, str) for each in cast("list[object]", value)
    )
