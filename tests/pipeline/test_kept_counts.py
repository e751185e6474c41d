"""Kept answers are counted, with what they save, and belong to a store and a key."""

from __future__ import annotations

import gc
import threading
import weakref
import zlib
from typing import Any, TypeVar

import anyio
import attrs
import pytest
from kept_answers import sample
from kept_stores import ANSWER, KEY, OUT, Clock, Remote, kept, memory

import lamella
from lamella import (
    BlobStore,
    ClosedError,
    ConfigurationError,
    GuardedBlobs,
    Money,
    Packing,
    Ports,
    Secret,
    SecretError,
)
from lamella._answer_shelves import Counting, kept_answers
from lamella._background import Background
from lamella._kept_answers import CacheStats, KeptAnswers, Tally
from lamella._packing import Packer
from lamella._stores import Blob
from lamella.testing import virtual_backends, virtual_ports

pytestmark = pytest.mark.anyio


@pytest.fixture(params=virtual_backends(), ids=lambda backend: f"virtual-{backend[0]}")
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Both event loops, in virtual time."""
    return request.param


T = TypeVar("T")


# --- counting ------------------------------------------------------------------------------------


async def test_hits_are_counted_with_what_they_save() -> None:
    """Tokens, and money by currency; what nobody knew the price of saves no money."""
    tally = Tally()
    tally.hit(ANSWER)
    tally.hit(sample(cost=Money(5, "EUR")), stale=True)
    tally.hit(sample(cost=None))
    tally.miss("expired")
    tally.not_stored("length")
    stats = tally.stats
    assert stats == CacheStats(
        hits=3,
        stale_hits=1,
        missed={"expired": 1},
        not_stored={"length": 1},
        saved_input_tokens=30,
        saved_output_tokens=9,
        saved_money={"USD": 1200, "EUR": 5},
    )
    assert (stats.misses, stats.hit_rate, CacheStats().hit_rate) == (1, 0.75, None)
    assert stats.to_dict() == {**attrs.asdict(stats), "misses": 1, "hit_rate": 0.75}


async def test_counts_add_up() -> None:
    """Numbers and tables; nothing added changes nothing."""
    one = CacheStats(hits=1, missed={"a": 1}, saved_money={"USD": 5})
    other = CacheStats(hits=2, missed={"a": 1, "b": 2}, stored=1)
    both = CacheStats(hits=3, missed={"a": 2, "b": 2}, stored=1, saved_money={"USD": 5})
    assert one + other == other + one == both
    assert one + CacheStats() == one


async def test_the_words_that_are_counted_are_few() -> None:
    """However many a layer comes up with, a table has a bound."""
    tally = Tally()
    for number in range(1000):
        tally.miss(str(number))
    assert len(tally.stats.missed) <= 51
    assert tally.stats.misses == 1000


def test_threads_lose_no_count() -> None:
    """A tally is shared by every loop and thread of a process."""
    tally = Tally()

    def count() -> None:
        for _ in range(2000):
            tally.hit(ANSWER)
            tally.miss("absent")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tally.stats.hits, tally.stats.misses, tally.stats.saved_input_tokens) == (
        8000, 8000, 80_000,
    )  # fmt: skip


async def test_a_forked_child_counts_for_itself() -> None:
    """What was counted before the fork is told by its parent, under another name."""
    from lamella._tally import _begin_anew

    tally = Tally()
    tally.miss("absent")
    number = tally.number(lambda: "parent")
    _begin_anew()
    assert tally.stats == CacheStats()
    assert (number, tally.number(lambda: "child")) == ("parent", "child")


async def test_counts_of_all_processes_are_summed() -> None:
    """Each writes its own down; what this one has not written yet is among them."""
    assert lamella.CacheStats is CacheStats  # by its public address, as users import it
    store = memory()
    first, second, third = (kept(Remote(store), packing=Packing(key=KEY)) for _ in range(3))
    first.tally.hit(ANSWER)
    second.tally.miss("absent")
    await first.publish()
    await second.publish()
    second.tally.miss("absent")
    whole = CacheStats(1, missed={"absent": 1}) + CacheStats(
        saved_input_tokens=10, saved_output_tokens=3, saved_money={"USD": 1200}
    )
    assert await third.stats() == await first.stats() == whole
    assert (await second.stats()).missed == {"absent": 2}
    await second.publish()
    await second.publish()
    assert (await third.stats()).missed == {"absent": 2}
    assert await third.purge() == 0
    assert (await third.stats()).hits == 1


async def test_counts_that_somebody_else_wrote_count_nothing() -> None:
    """Unsigned ones, damaged ones, and those of a later version that are no counts here."""
    store = memory()
    one = kept(Remote(store), packing=Packing(key=KEY))
    place = one._stats
    for number, data in enumerate([
        b"", b"{}", Packer(Packing()).pack(place + "2", b'{"hits": 7}'),
        one._packer.pack(place + "3", b'{"hits": "many"}'),
        one._packer.pack(place + "4", b"{"),
    ]):  # fmt: skip
        await store.put(f"{place}{number}", data, tags=frozenset({place}))
    assert await one.stats() == CacheStats()
    later = one._packer.pack(place + "5", b'{"hits": 7, "dreams": 3}')
    await store.put(f"{place}5", later, tags=frozenset({place}))
    assert await one.stats() == CacheStats(hits=7)


async def test_counts_are_written_every_few_seconds_while_there_are_new_ones() -> None:
    """By detached work, which a store that is out delays and nothing more."""
    clock = Clock()
    ports = attrs.evolve(virtual_ports(), monotonic=clock)
    store: Any = Remote()
    background = Background()
    one = KeptAnswers("cache", "", store, Packer(Packing()), ports=ports)

    async def soon() -> int:
        before = len(store.asked)
        one.publish_soon(background)
        await anyio.wait_all_tasks_blocked()
        assert background.names == ()
        return len(store.asked) - before

    assert await soon() == 0
    one.tally.miss("absent")
    assert [await soon(), await soon()] == [1, 0]
    one.tally.miss("absent")
    assert await soon() == 0
    clock.now = 5.0
    store.error = OUT
    assert [await soon(), await soon()] == [1, 0]
    store.error = None
    clock.now = 10.0
    assert [await soon(), await soon()] == [1, 0]
    clock.now = 15.0
    assert await soon() == 0
    await background.aclose()


async def test_counting_while_the_pipeline_closes_fails_no_call() -> None:
    """Its last calls are answered; closing the layer writes down what they counted."""
    one = kept(Remote())
    background = Background()
    await background.aclose()
    one.tally.miss("absent")
    with pytest.raises(ClosedError):
        background.spawn(one.publish)
    one.publish_soon(background)
    assert one.tally.changed


async def test_counts_cut_off_while_they_are_written_are_written_later() -> None:
    """Cancelled or overtaken: what stands there is never taken for more than it is."""
    store: Any = Remote()
    one = kept(store)
    put, gates = store.inner.put, [anyio.Event(), anyio.Event()]
    waiting = iter(gates)

    async def slow(*given: Any, **named: Any) -> None:
        await next(waiting).wait()
        await put(*given, **named)

    store.inner.put = slow
    one.tally.miss("absent")
    with anyio.move_on_after(1):
        await one.publish()
    assert one.tally.changed
    gates.extend([anyio.Event(), anyio.Event()])
    waiting = iter(gates[2:])
    async with anyio.create_task_group() as group:
        group.start_soon(one.publish)
        await anyio.wait_all_tasks_blocked()
        one.tally.miss("absent")
        group.start_soon(one.publish)
        await anyio.wait_all_tasks_blocked()
        gates[3].set()  # the later one is there first, and then the earlier one over it
        await anyio.wait_all_tasks_blocked()
        assert not one.tally.changed
        gates[2].set()
    assert one.tally.changed
    store.inner.put = put
    await one.publish()
    assert (await kept(store).stats()).missed == {"absent": 2}


async def test_counts_are_written_however_little_an_answer_may_take() -> None:
    """The bound on answers is none on counts."""
    store = Remote()
    one = kept(store, packing=Packing(max_bytes=10))
    one.tally.miss("absent")
    await one.publish()
    assert not one.tally.changed
    assert (await kept(store).stats()).misses == 1


async def test_nothing_is_written_down_of_a_store_in_memory() -> None:
    """No other process could read it."""
    store = memory()
    one = kept(store)
    one.tally.miss("absent")
    background = Background()
    one.publish_soon(background)
    await one.publish()
    assert background.names == ()
    assert (await store.entries()).entries == []
    assert (await one.stats()).misses == 1


# --- one for each store and key ------------------------------------------------------------------


async def test_answers_and_counts_are_those_of_the_store() -> None:
    """However many pipelines use it; a namespace has counts of its own, and so has a layer."""
    ports = virtual_ports()
    one = await kept_answers("cache", "", None, Packing(), ports)
    again = await kept_answers("cache", "", ports.stores.blobs, Packing(max_bytes=10**6), ports)
    assert one.tally is again.tally
    await one.put(one.address("acme", "k"), ANSWER, ttl=None)
    assert (await again.get(again.address("acme", "k"))).answer == ANSWER
    for layer, namespace in (("cache", "n"), ("semantic_cache", "")):
        other = await kept_answers(layer, namespace, None, Packing(), ports)
        assert other.tally is not one.tally
    elsewhere = await kept_answers("cache", "", memory(), Packing(), ports)
    assert elsewhere.tally is not one.tally


async def test_a_store_is_not_kept_alive_by_what_is_known_of_it() -> None:
    """A program that drops one gets its memory back."""
    ports = virtual_ports()
    store = memory()
    await kept_answers("cache", "", store, Packing(key=KEY), ports)
    gone = weakref.ref(store)
    del store
    gc.collect()
    assert gone() is None


class Slotted:
    """A store to which nothing can refer weakly."""

    __slots__ = ("inner",)
    instant = True

    def __init__(self) -> None:
        self.inner = memory()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


async def test_a_store_of_any_class_will_do() -> None:
    """Also one that cannot be referred to weakly."""
    ports = virtual_ports()
    store: Any = Slotted()
    one = await kept_answers("cache", "", store, Packing(), ports)
    again = await kept_answers("cache", "", store, Packing(), ports)
    assert one.tally is again.tally


async def test_a_store_elsewhere_is_waited_for_no_longer_than_it_is_worth() -> None:
    """One that a layer is given is guarded as the pipeline's own is: 50 ms, and after five none."""
    ports = virtual_ports()

    class Frozen(Remote):
        async def get(self, key: str) -> Blob | None:
            self.asked.append(key)
            await anyio.sleep_forever()
            return None

    store: Any = Frozen()
    began = anyio.current_time()
    for _ in range(7):
        one = await kept_answers("cache", "", store, Packing(), ports)
        assert (await one.get(one.address("acme", "k"))).why == "unavailable"
    assert len(store.asked) == 5
    assert anyio.current_time() - began == pytest.approx(5 * 0.05)


async def test_a_store_that_others_can_write_to_needs_a_key() -> None:
    """Otherwise whoever can write there could answer for the model."""
    ports = virtual_ports()
    store: Any = Remote(shared=True)
    for given in (store, GuardedBlobs(store)):
        with pytest.raises(ConfigurationError) as caught:
            await kept_answers("cache", "", given, Packing(), ports)
        assert "Packing(key='env:CACHE_KEY')" in (caught.value.hint or "")
        one = await kept_answers("cache", "", given, Packing(key=KEY), ports)
        assert await one.purge() == 0


@pytest.mark.parametrize("encrypt", [False, True])
async def test_a_rotated_key_is_taken_up(monkeypatch: pytest.MonkeyPatch, encrypt: bool) -> None:
    """What was kept with the earlier one is not found any more; there is nothing to restart."""
    ports = virtual_ports()
    packing = Packing(key=Secret("env:CACHE_KEY"), encrypt=encrypt)
    monkeypatch.setenv("CACHE_KEY", "the-first-key-0123")
    one = await kept_answers("cache", "", None, packing, ports)
    first = one.address("acme", "k")
    await one.put(first, ANSWER, ttl=None)
    monkeypatch.setenv("CACHE_KEY", "the-second-key-012")
    other = await kept_answers("cache", "", None, packing, ports)
    assert other.address("acme", "k") != first
    assert (await other.get(first)).why == "foreign"
    assert one.tally is other.tally
    monkeypatch.setenv("CACHE_KEY", "short")
    with pytest.raises(ConfigurationError, match="fewer than 16"):
        await kept_answers("cache", "", None, packing, ports)
    monkeypatch.delenv("CACHE_KEY")
    with pytest.raises(SecretError):
        await kept_answers("cache", "", None, packing, ports)


async def test_without_a_key_nothing_is_awaited() -> None:
    """What every call does is done at once."""
    ports: Ports = virtual_ports()
    work = kept_answers("cache", "", None, Packing(), ports)
    with pytest.raises(StopIteration) as done:
        work.send(None)
    assert isinstance(done.value.value, KeptAnswers)


async def test_a_checksum_is_no_signature() -> None:
    """Whoever forges an entry can make its checksum, and is still not believed."""
    store: BlobStore = memory()
    one = kept(store, packing=Packing(key=KEY))
    address = one.address("acme", "k")
    await one.put(address, ANSWER, ttl=None)
    blob = await store.get(address)
    assert blob is not None
    forged = blob.data[:-5] + bytes([blob.data[-5] ^ 1])
    await store.put(address, forged + zlib.crc32(forged).to_bytes(4, "big"))
    assert (await one.get(address)).why == "foreign"


async def test_closing_a_layer_writes_down_what_it_has_counted() -> None:
    """Once for each store and namespace that it was used with, and of no more than a few."""
    counting, store = Counting(), memory()
    layers = [kept(Remote(store), str(number)) for number in range(20)]
    for one in (*layers, *layers[10:]):
        counting.add(one)
        one.tally.miss("absent")
    await counting.publish()
    assert sum([not one.tally.changed for one in layers]) == 16
    assert (await kept(Remote(store), "15").stats()).missed == {"absent": 2}
    layers[15].tally.miss("absent")
    await counting.publish()
    assert layers[15].tally.changed


async def test_closing_waits_for_no_store_that_hangs() -> None:
    """Half a second, whatever closes the layer."""

    class Hanging(Remote):
        async def put(self, *_: Any, **__: Any) -> None:
            await anyio.sleep_forever()

    counting, one = Counting(), kept(Hanging())
    counting.add(one)
    one.tally.miss("absent")
    began = anyio.current_time()
    await counting.publish()
    assert anyio.current_time() - began == pytest.approx(0.5)
    assert one.tally.changed
