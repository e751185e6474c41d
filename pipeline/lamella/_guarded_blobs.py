"""What is kept across a network, while the store that keeps it does not answer."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import PurePath
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

import attrs

from lamella._errors import StoreUnavailableError
from lamella._fork_locks import fork_safe_lock
from lamella._health import PartHealth
from lamella._options import seconds, span
from lamella._store_asking import REST, TIMEOUT, Asking, NoAnswer
from lamella._stores import Blob, BlobPage, BlobStore

T = TypeVar("T")

PURGE_SECONDS: Final = 30.0
"""What a page of a listing and erasing may take: somebody waits for just that."""

_known: WeakKeyDictionary[Any, Asking] = WeakKeyDictionary()
_lock = fork_safe_lock()


@attrs.define(eq=False)
class GuardedBlobs:
    """A blob store that answers in time, or says at once that it does not.

    Every operation is bounded by `timeout`, those on many values by one for each hundred of them,
    listing and erasing by half a minute. After five that failed in a row, one after the other, the
    store is left alone for `rest` seconds; then one operation tries it, and so on until it answers.
    Meanwhile operations raise `StoreUnavailableError` at once. What that means is for each layer to
    say: a cache has a miss, a vault lets nothing pass.

    Every store that is not in memory is guarded so in `Ports`; make one yourself for other bounds.

    Args:
        store: The store.
        timeout: Seconds, or a timedelta, that an operation may take.
        rest: Seconds, or a timedelta, between the tries while the store is out.
        monotonic: The clock, in seconds.

    Raises:
        ConfigurationError: If an option is wrong.
    """

    store: BlobStore
    timeout: float | timedelta = attrs.field(
        default=TIMEOUT, kw_only=True, converter=seconds, validator=span
    )
    rest: float | timedelta = attrs.field(
        default=REST, kw_only=True, converter=seconds, validator=span
    )
    monotonic: Callable[[], float] = attrs.field(
        default=time.monotonic,  # noqa: TID251 - the real port's clock
        kw_only=True,
        repr=False,
    )
    _asking: Asking = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Make what an outage needs."""
        self._asking = Asking(
            self._named,
            "what it keeps is out of reach",
            timeout=seconds(self.timeout),
            rest=seconds(self.rest),
            monotonic=self.monotonic,
            quoting=False,
        )

    async def get(self, key: str) -> Blob | None:
        """The value under `key`; see `BlobStore.get`.

        Raises:
            StoreUnavailableError: If the store does not answer in time, as everywhere here.
        """
        return await self._answer(lambda: self.store.get(key))

    async def put(
        self, key: str, data: bytes, *, ttl: float | None = None, tags: frozenset[str] = frozenset()
    ) -> None:
        """Keep `data`; see `BlobStore.put`."""
        await self._answer(lambda: self.store.put(key, data, ttl=ttl, tags=tags))

    async def get_many(self, keys: Sequence[str]) -> Mapping[str, Blob]:
        """The values under these keys; see `BlobStore.get_many`."""
        return await self._answer(lambda: self.store.get_many(keys), self._for(len(keys)))

    async def put_many(
        self,
        values: Mapping[str, bytes],
        *,
        ttl: float | None = None,
        tags: frozenset[str] = frozenset(),
    ) -> None:
        """Keep the values; see `BlobStore.put_many`."""
        await self._answer(
            lambda: self.store.put_many(values, ttl=ttl, tags=tags), self._for(len(values))
        )

    async def delete(self, key: str) -> bool:
        """Forget `key`; see `BlobStore.delete`."""
        return await self._answer(lambda: self.store.delete(key))

    async def tagged(self, tag: str) -> Mapping[str, Blob]:
        """Every value with the tag; see `BlobStore.tagged`."""
        return await self._answer(lambda: self.store.tagged(tag))

    async def entries(
        self, *, prefix: str = "", tag: str | None = None, cursor: str = ""
    ) -> BlobPage:
        """A page of what is kept; see `BlobStore.entries`."""
        return await self._answer(
            lambda: self.store.entries(prefix=prefix, tag=tag, cursor=cursor), PURGE_SECONDS
        )

    async def purge(self, *, prefix: str = "", tag: str | None = None) -> int:
        """Forget what has the prefix and the tag; see `BlobStore.purge`."""
        return await self._answer(lambda: self.store.purge(prefix=prefix, tag=tag), PURGE_SECONDS)

    def health(self) -> PartHealth:
        """Whether the store answers."""
        return self._asking.health(store=type(self.store).__name__)

    async def aclose(self) -> None:
        """Close the store."""
        await self.store.aclose()

    @property
    def counting(self) -> Asking:
        """What counts the store's failures."""
        return self._asking

    def count_with(self, other: Asking) -> None:
        """Count failures together with another guard of the same store."""
        self._asking = other

    async def _answer(
        self, operation: Callable[[], Awaitable[T]], timeout: float | None = None
    ) -> T:
        try:
            return await self._asking.ask(operation, timeout=timeout)
        except NoAnswer:
            pass
        # Not inside the handler: what the store says may quote what it was given.
        hint = "Look why it is out."
        if "no answer in" in self._asking.error:
            hint += " GuardedBlobs(store, timeout=...) would wait longer for it."
        raise StoreUnavailableError(
            f"{self._named} does not answer ({self._asking.error}).",
            retry_after=self._asking.retry_after,
            hint=hint,
        )

    def _for(self, count: int) -> float:
        """Seconds that an operation on so many values may take: one timeout for each hundred."""
        return seconds(self.timeout) * (1 + count // 100)

    @property
    def shared(self) -> bool:
        """Whether others can write to the store."""
        return bool(getattr(self.store, "shared", False))

    @property
    def _named(self) -> str:
        return f"The blob store {type(self.store).__name__}"


def guarded(store: BlobStore, monotonic: Callable[[], float]) -> BlobStore:
    """The store, such that it answers in time.

    Those that are in memory (they say so by `instant`) and those that are guarded stay. However
    often one is guarded here, its failures are counted together.
    """
    if isinstance(store, GuardedBlobs) or getattr(store, "instant", False):
        return store
    made = GuardedBlobs(store, monotonic=monotonic)
    with suppress(TypeError), _lock:  # of what nothing can refer to weakly, each guard counts
        made.count_with(_known.setdefault(store, made.counting))
    return made


def shown(store: Any) -> str:
    """A layer's store in words: what it is, and the options that differ from the defaults."""
    from lamella._explain import options_of

    inner: Any = store.store if isinstance(store, GuardedBlobs) else store
    if inner is None:
        return "None"
    options = {
        name: str(value) if isinstance(value, PurePath) else value
        for name, value in options_of(inner).items()
    }
    said = ", ".join([f"{name}={value!r}" for name, value in options.items()])
    return f"{type(inner).__name__}({said})"
