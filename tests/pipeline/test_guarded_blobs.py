"""What is kept across a network while the store that keeps it does not answer."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import anyio
import attrs
import pytest

from lamella import (
    Blob,
    BlobStore,
    ConfigurationError,
    GuardedBlobs,
    Pipeline,
    StoreUnavailableError,
)
from lamella._memory_blobs import MemoryBlobs
from lamella._stores import BlobPage
from lamella.testing import Scripted, check_blob_store, virtual_ports

pytestmark = pytest.mark.anyio

T = TypeVar("T")
SECRET = "what is kept of ada"


@pytest.fixture
def anyio_backend(lamella_virtual_backend: Any) -> Any:
    """Both event loops, in virtual time."""
    return lamella_virtual_backend


class Remote:
    """A store elsewhere, which can be out, or fail while quoting what it was given."""

    def __init__(self, monotonic: Callable[[], float] | None = None) -> None:
        self.monotonic = monotonic or virtual_ports().monotonic
        self.memory = MemoryBlobs(
            monotonic=self.monotonic, max_bytes=1 << 24, max_entry_bytes=1 << 20
        )
        self.state = "well"
        self.takes = 0.0
        self.asked = 0
        self.closed = False

    async def get(self, key: str) -> Blob | None:
        return await self._do(lambda: self.memory.get(key))

    async def put(
        self, key: str, data: bytes, *, ttl: float | None = None, tags: frozenset[str] = frozenset()
    ) -> None:
        await self._do(lambda: self.memory.put(key, data, ttl=ttl, tags=tags))

    async def get_many(self, keys: Sequence[str]) -> Mapping[str, Blob]:
        return await self._do(lambda: self.memory.get_many(keys))

    async def put_many(
        self,
        values: Mapping[str, bytes],
        *,
        ttl: float | None = None,
        tags: frozenset[str] = frozenset(),
    ) -> None:
        await self._do(lambda: self.memory.put_many(values, ttl=ttl, tags=tags))

    async def delete(self, key: str) -> bool:
        return await self._do(lambda: self.memory.delete(key))

    async def entries(
        self, *, prefix: str = "", tag: str | None = None, cursor: str = ""
    ) -> BlobPage:
        return await self._do(lambda: self.memory.entries(prefix=prefix, tag=tag, cursor=cursor))

    async def tagged(self, tag: str) -> Mapping[str, Blob]:
        return await self._do(lambda: self.memory.tagged(tag))

    async def purge(self, *, prefix: str = "", tag: str | None = None) -> int:
        return await self._do(lambda: self.memory.purge(prefix=prefix, tag=tag))

    async def aclose(self) -> None:
        self.closed = True

    async def _do(self, operation: Callable[[], Awaitable[T]]) -> T:
        self.asked += 1
        await anyio.sleep(self.takes)
        if self.state == "silent":
            await anyio.sleep_forever()
        if self.state == "broken":
            raise OSError(f"lost {SECRET}")
        return await operation()


OPERATIONS: dict[str, Callable[[BlobStore], Awaitable[Any]]] = {
    "get": lambda store: store.get("key"),
    "put": lambda store: store.put("key", SECRET.encode()),
    "delete": lambda store: store.delete("key"),
    "tagged": lambda store: store.tagged("tag"),
    "purge": lambda store: store.purge(),
}


def guarded(remote: Remote, **options: Any) -> GuardedBlobs:
    """The store with a guard, on the same clock."""
    return GuardedBlobs(remote, monotonic=remote.monotonic, **options)


async def test_while_the_store_answers_it_is_the_store() -> None:
    """A guard adds nothing: every rule of the port holds through it."""
    await check_blob_store(lambda: guarded(Remote()), anyio.sleep)


@pytest.mark.parametrize("name", OPERATIONS)
async def test_no_operation_waits_long(name: str) -> None:
    """Silence is an error in time: after `timeout`, and for what erases after half a minute."""
    remote = Remote()
    remote.state = "silent"
    with pytest.raises(StoreUnavailableError, match=r"Remote does not answer.*would wait longer"):
        await OPERATIONS[name](guarded(remote))
    assert anyio.current_time() == pytest.approx(30 if name == "purge" else 0.05)


@pytest.mark.parametrize("name", OPERATIONS)
async def test_what_the_store_says_is_not_repeated(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its errors may quote what is kept: neither ours, nor logs, nor health do."""
    remote = Remote()
    remote.state = "broken"
    store = guarded(remote)
    for _ in range(6):
        with pytest.raises(StoreUnavailableError, match="OSError") as caught:
            await OPERATIONS[name](store)
        error = caught.value
        assert (error.__cause__, error.__context__) == (None, None)
        assert SECRET not in f"{error}{caplog.text}{store.health()}"
        assert "would wait" not in str(error)  # it was not for want of time


async def test_after_five_failures_it_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Then nobody waits; one operation tries it after each rest, until it answers."""
    remote = Remote()
    store = guarded(remote, rest=3)
    remote.state = "silent"
    with caplog.at_level(logging.WARNING, logger="lamella"):
        for _ in range(50):
            with pytest.raises(StoreUnavailableError):
                await store.get("key")
        assert remote.asked == 5
        assert anyio.current_time() == pytest.approx(0.25)
        with pytest.raises(StoreUnavailableError) as caught:
            await store.get("key")
        assert caught.value.retry_after == pytest.approx(3)
        assert store.health().well is False
        remote.state = "well"
        await anyio.sleep(3.1)
        for _ in range(3):
            assert await store.get("key") is None
    assert store.health().well is True
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


async def test_a_mistake_is_no_outage() -> None:
    """What is wrong with what was asked is the caller's to mend, and does not count."""
    remote = Remote()
    store = guarded(remote)
    for _ in range(10):
        with pytest.raises(ValueError, match="max_entry_bytes"):
            await store.put("key", b"x" * (1 << 21))
    assert await store.get("key") is None


@pytest.mark.parametrize("option", [{"timeout": 0}, {"rest": -1}, {"timeout": "soon"}])
def test_a_wrong_option_is_refused_at_once(option: Any) -> None:
    """The message says which."""
    with pytest.raises(ConfigurationError, match=next(iter(option))):
        guarded(Remote(), **option)


class TestInPipelines:
    async def test_every_store_elsewhere_is_guarded(self) -> None:
        """However it gets into a pipeline; what is in memory needs no guard."""
        ports = virtual_ports()
        remote = Remote()
        given = attrs.evolve(ports.stores, blobs=remote)
        for made in (
            Pipeline([], Scripted(["ok"]), ports=attrs.evolve(ports, stores=given)),
            Pipeline([], Scripted(["ok"]), ports=ports, stores={"blobs": remote}),
            Pipeline([], Scripted(["ok"]), stores=given),
        ):
            assert isinstance(made.ports.stores.blobs, GuardedBlobs)
        assert isinstance(ports.stores.blobs, MemoryBlobs)
        own = guarded(remote, timeout=1)
        pipeline = Pipeline([], Scripted(["ok"]), stores={"blobs": own})
        assert pipeline.ports.stores.blobs is own
        await pipeline.aclose()
        assert remote.closed

    async def test_pipelines_made_for_each_request_count_together(self) -> None:
        """Failures belong to the store, not to the pipeline that met with them."""
        ports = virtual_ports()
        remote = Remote(ports.monotonic)
        remote.state = "silent"
        for _ in range(10):
            pipeline = Pipeline([], Scripted(["ok"]), ports=ports, stores={"blobs": remote})
            with pytest.raises(StoreUnavailableError):
                await pipeline.ports.stores.blobs.get("key")
        assert remote.asked == 5

    async def test_a_store_is_not_kept_alive(self) -> None:
        """Who lets go of a store that was guarded is rid of it."""
        ports = virtual_ports()
        remote = Remote()
        there = weakref.ref(remote)
        ports = attrs.evolve(ports, stores=attrs.evolve(ports.stores, blobs=remote))
        del remote, ports
        gc.collect()
        assert there() is None
