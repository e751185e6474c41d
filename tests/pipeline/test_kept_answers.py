"""Kept answers: found by tenant and key, and never a reason for a call to fail."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
import zlib
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

import anyio
import attrs
import pytest
from kept_answers import sample

from lamella import (
    BlobStore,
    ClosedError,
    ConfigurationError,
    Finish,
    GuardedBlobs,
    Money,
    Packing,
    Ports,
    Secret,
    SecretError,
    StoreUnavailableError,
    TextDelta,
)
from lamella import _answer_wrapping as wrapping_module
from lamella import _kept_answers as kept_module
from lamella._answer_codec import KeptAnswer, encode_answer, merged
from lamella._answer_shelves import Counting, kept_answers
from lamella._background import Background
from lamella._kept_answers import CacheStats, Found, KeptAnswers, Tally
from lamella._memory_blobs import MemoryBlobs
from lamella._memory_stores import memory_stores
from lamella._packing import Packer
from lamella._stores import Blob, BlobPage
from lamella.testing import virtual_backends, virtual_ports

pytestmark = pytest.mark.anyio


@pytest.fixture(params=virtual_backends(), ids=lambda backend: f"virtual-{backend[0]}")
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Both event loops, in virtual time."""
    return request.param


T = TypeVar("T")

KEY = Secret.of_value("0123456789abcdef-of-the-tests")
ANSWER = sample()


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def memory(clock: Callable[[], float] | None = None, **bounds: Any) -> MemoryBlobs:
    """A store of one's own."""
    blobs = memory_stores(monotonic=clock or Clock(), **bounds).blobs
    assert isinstance(blobs, MemoryBlobs)
    return blobs


def kept(store: Any = None, namespace: str = "", packing: Packing | None = None) -> KeptAnswers:
    """What a layer keeps there."""
    packing = packing or Packing()
    secret = None if packing.key is None else packing.key.reveal().encode()
    return KeptAnswers("cache", namespace, store or memory(), Packer(packing, secret))


class Remote:
    """A store that others use too, and that fails or hangs when told to.

    Attributes:
        error: What every operation raises; None for none.
        asked: The operations so far.
    """

    def __init__(self, inner: MemoryBlobs | None = None, *, shared: bool = False) -> None:
        self.inner = inner or memory()
        self.shared = shared
        self.error: BaseException | None = None
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name == "instant":
            raise AttributeError(name)
        operation = getattr(self.inner, name)

        async def ask(*given: Any, **named: Any) -> Any:
            self.asked.append(name)
            if self.error is not None:
                raise self.error
            return await operation(*given, **named)

        return ask


OUT = StoreUnavailableError("The store is out.")


# --- keeping and finding -------------------------------------------------------------------------


async def test_what_was_kept_is_found() -> None:
    """With the seconds since it was kept; another key, tenant, namespace or layer finds nothing."""
    clock = Clock()
    store = memory(clock)
    one = kept(store)
    address = one.address("acme", "k")
    assert await one.get(address) == Found(None, "absent")
    assert await one.put(address, ANSWER, ttl=100) == ""
    clock.now = 7.0
    assert (await one.get(address)).answer == attrs.evolve(ANSWER, age=7.0)
    others = [
        one.address("acme", "l"),
        one.address("other", "k"),
        kept(store, "n").address("acme", "k"),
        KeptAnswers("semantic_cache", "", store, Packer(Packing())).address("acme", "k"),
    ]
    assert {found.why for found in (await one.get_many(others)).values()} == {"absent"}
    clock.now = 100.0
    assert (await one.get(address)).why == "absent"


async def test_several_are_one_question() -> None:
    """Each address has something found, asked for once or twice; the answers come by address."""
    store = Remote()
    one = kept(store)
    addresses = [one.address("acme", str(number)) for number in range(4)]
    answers = {address: sample(address) for address in addresses[:3]}
    assert await one.put_many(answers, ttl=None) == {}
    found = await one.get_many([*addresses, addresses[0]])
    assert {address: each.answer for address, each in found.items()} == {
        **answers,
        addresses[3]: None,
    }
    assert store.asked == ["put_many", "get_many"]
    assert await one.get_many([]) == {}
    stats = one.tally.stats
    assert (stats.stored, stats.missed) == (3, {"absent": 1})


@pytest.mark.parametrize(
    "pair",
    [
        (("a:b", "c", "k"), ("a", "b:c", "k")),
        (("a", "b", "c:k"), ("a:b", "c", "k")),
        (("%3A", "", "k"), (":", "", "k")),
        (("", "a", "k"), ("a", "", "k")),
    ],
)
async def test_names_with_separators_never_meet(pair: Any) -> None:
    """Whatever namespaces, tenants and keys are called."""
    (one, tenant, key), (other, second, another) = pair
    assert kept(None, one).address(tenant, key) != kept(None, other).address(second, another)


def in_threads(used: list[str]) -> Ports:
    """Ports that write down what runs off the loop."""

    async def thread(function: Callable[..., T], /, *args: Any) -> T:
        used.append(function.__name__)
        return function(*args)

    return attrs.evolve(virtual_ports(), thread=thread)


def chosen(count: int) -> list[dict[str, Any]]:
    """What a model says of that many tokens' probabilities."""
    return [{"token": str(number), "logprob": -0.5} for number in range(count)]


@pytest.mark.parametrize(
    ("answer", "writing", "reading"),
    [
        (ANSWER, [], []),
        (sample("".join(map(str, range(100_000)))), ["_pack"], ["open"]),
        (sample("all the same " * 30_000), ["_pack"], ["open"]),
        (attrs.evolve(ANSWER, events=(*[TextDelta("a")] * 5000, Finish("stop"))), ["_wrap"], []),
        (
            attrs.evolve(ANSWER, events=(TextDelta("a", logprobs=chosen(5000)), Finish("stop"))),
            ["_wrap"],
            ["open"],
        ),
    ],
    ids=["small", "large", "large unfolded", "many pieces", "many probabilities"],
)
async def test_large_answers_are_packed_off_the_loop(
    answer: KeptAnswer, writing: list[str], reading: list[str]
) -> None:
    """And unpacked there, by what they unfold to; small ones are not worth a thread."""
    used: list[str] = []
    one = KeptAnswers("cache", "", memory(), Packer(Packing()), ports=in_threads(used))
    address = one.address("acme", "k")
    assert await one.put(address, answer, ttl=None) == ""
    assert used == writing
    used.clear()
    whole = attrs.evolve(answer, events=merged(answer.events))
    assert (await one.get(address)).answer == whole
    assert used == reading
    used.clear()
    assert [found async for _, found in one.listed()] == [whole]
    assert used == reading
    assert ((await one.get_many([address]))[address]).answer == whole


async def test_many_answers_are_packed_off_the_loop() -> None:
    """However small each of them is."""
    used: list[str] = []
    one = KeptAnswers("cache", "", memory(), Packer(Packing()), ports=in_threads(used))
    many = {one.address("acme", str(number)): ANSWER for number in range(300)}
    few = list(many)[:10]
    assert await one.put_many(dict.fromkeys(few, ANSWER), ttl=None) == {}
    assert len(await one.get_many(few)) == 10
    assert used == []
    assert await one.put_many(many, ttl=None) == {}
    assert len(await one.get_many(list(many))) == 300
    assert used == ["wrap_all", "open_all"]


# --- beside other versions -----------------------------------------------------------------------


def other_version(monkeypatch: pytest.MonkeyPatch, store: BlobStore) -> KeptAnswers:
    """What a version of the library keeps there that writes answers otherwise."""
    with monkeypatch.context() as changed:
        changed.setattr(wrapping_module, "VERSION", b"another")
        wrapping_module._form.cache_clear()
        made = kept(store)
    wrapping_module._form.cache_clear()
    return made


async def test_two_versions_on_one_store_leave_each_other_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each finds its own and deletes nothing; what is purged by tenant or tag is both's."""
    store = memory()
    one, other = kept(store), other_version(monkeypatch, store)
    tagged = sample(tags=frozenset({"doc"}))
    for holder in (one, other, one, other):
        address = holder.address("acme", "k")
        assert (await holder.get(address)).why in {"absent", ""}
        assert await holder.put(address, tagged, ttl=None) == ""
    assert one.tally.stats.missed == other.tally.stats.missed == {"absent": 1}
    assert [info.key async for info in one.infos(tenant="acme", tag="doc")] == [
        one.address("acme", "k")
    ]
    assert len([info async for info, _ in one.listed(tenant="acme")]) == 2
    assert await one.purge(tenant="acme", tag="doc") == 2
    await other.put(other.address("acme", "k"), ANSWER, ttl=None)
    assert await one.purge(tenant="acme") == 1


async def test_what_is_encrypted_and_what_is_not_stand_beside_each_other() -> None:
    """So that encryption can be turned on process by process; one key finds both by tenant."""
    store = memory()
    signed = kept(store, packing=Packing(key=KEY))
    sealed = kept(store, packing=Packing(key=KEY, encrypt=True))
    for holder in (signed, sealed):
        await holder.put(holder.address("acme", "k"), ANSWER, ttl=None)
    for holder in (signed, sealed):
        assert (await holder.get(holder.address("acme", "k"))).answer == ANSWER
    assert await sealed.purge(tenant="acme") == 2


async def test_all_addresses_of_a_tenant_begin_alike() -> None:
    """And those of all tenants: by that a purge, and an index of vectors, finds them."""
    one = kept(None, "n")
    address = one.address("acme", "k")
    assert address.startswith(one.prefix("acme"))
    assert one.prefix("acme").startswith(one.prefix())
    assert not address.startswith(one.prefix("acm"))
    assert not address.startswith(kept(None).prefix())


# --- what cannot be read -------------------------------------------------------------------------


def _packed_for(one: KeptAnswers, address: str, data: bytes) -> bytes:
    return one._packer.pack(address, data)


async def _spoiled(one: KeptAnswers, address: str, how: str) -> bytes:
    """What is found there after somebody has been at it."""
    await one.put(address, ANSWER, ttl=None)
    blob = await one._store.get(address)
    assert blob is not None
    data = encode_answer(ANSWER)
    other = Packer(Packing(key=KEY), b"0123456789abcdef-of-another")
    moved = await _moved(one, address)
    forms = {
        "flipped": blob.data[:20] + bytes([blob.data[20] ^ 1]) + blob.data[21:],
        "truncated": blob.data[:-10],
        "empty": b"",
        "garbage": b"not ours",
        "another key": other.pack(address, data),
        "moved": moved,
        "another version": _packed_for(one, address, data[:2] + b"\0" * 8 + data[10:]),
        "nonsense": _packed_for(one, address, data[:11] + b"\x93\1\2\3"),
    }
    return forms[how]


async def _moved(one: KeptAnswers, address: str) -> bytes:
    elsewhere = one.address("other", "k")
    await one.put(elsewhere, ANSWER, ttl=None)
    blob = await one._store.get(elsewhere)
    assert blob is not None
    return blob.data


@pytest.mark.parametrize("packing", [Packing(), Packing(key=KEY)], ids=["plain", "signed"])
@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("flipped", "corrupt"),
        ("truncated", "corrupt"),
        ("empty", "corrupt"),
        ("garbage", "foreign"),
        ("another key", "foreign"),
        ("moved", "foreign"),
        ("another version", "outdated"),
        ("nonsense", "corrupt"),
    ],
)
async def test_what_cannot_be_read_is_a_counted_miss(packing: Packing, how: str, why: str) -> None:
    """And is deleted, so that the next one need not read it again."""
    store = memory()
    one = kept(store, packing=packing)
    address = one.address("acme", "k")
    await store.put(address, await _spoiled(one, address, how))
    assert await one.get(address) == Found(None, why)
    assert await store.get(address) is None
    await store.put(address, await _spoiled(one, address, how))
    assert (await one.get_many([address]))[address] == Found(None, why)
    assert await store.get(address) is None
    stats = one.tally.stats
    assert (stats.unreadable, stats.missed, stats.misses) == ({why: 2}, {why: 2}, 2)


async def test_a_store_that_fails_to_delete_is_asked_once() -> None:
    """However much of what was found cannot be read."""
    store = Remote()
    one = kept(store)
    addresses = [one.address("acme", str(number)) for number in range(5)]
    for address in addresses:
        await store.inner.put(address, b"not ours")
    get_many = store.inner.get_many

    async def get_and_fail(keys: Any) -> Any:
        store.error = OUT
        return await get_many(keys)

    store.inner.get_many = get_and_fail  # type: ignore[method-assign]
    found = await one.get_many(addresses)
    assert {each.why for each in found.values()} == {"foreign"}
    assert store.asked == ["get_many", "delete"]
    assert one.tally.stats.unreadable == {"foreign": 5}


async def test_what_cannot_be_deleted_either_is_a_miss() -> None:
    """The call goes on."""
    store = Remote()
    one = kept(store)
    address = one.address("acme", "k")
    await store.inner.put(address, b"not ours")
    get = store.inner.get

    async def get_and_fail(key: str) -> Blob | None:
        store.error = OUT
        return await get(key)

    store.inner.get = get_and_fail  # type: ignore[method-assign]
    assert await one.get(address) == Found(None, "foreign")
    assert store.asked == ["get", "delete"]


# --- stores that fail ----------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OUT, OSError("disk"), RuntimeError("a secret"), KeyError("x")])
async def test_a_store_that_fails_fails_no_call(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """What it was asked for is missed, what it was to keep is not kept, and both are counted."""
    kept_module._said.clear()
    store = Remote()
    one = kept(store)
    address = one.address("acme", "k")
    store.error = error
    with caplog.at_level(logging.WARNING, logger="lamella"):
        assert await one.get(address) == Found(None, "unavailable")
        assert (await one.get_many([address]))[address] == Found(None, "unavailable")
        assert await one.put(address, ANSWER, ttl=1) == "unavailable"
        two = {address: ANSWER, one.address("acme", "l"): ANSWER}
        assert set((await one.put_many(two, ttl=1)).values()) == {"unavailable"}
        assert await one.delete(address) is False
    stats = one.tally.stats
    assert (stats.missed, stats.not_stored) == ({"unavailable": 2}, {"unavailable": 3})
    said = [record.getMessage() for record in caplog.records]
    if error is OUT:  # whoever guards the store says so
        assert said == []
    else:
        assert len(said) == 1
        assert f"Remote failed ({type(error).__name__})" in said[0]
        assert "secret" not in said[0]
    with pytest.raises(type(error)):
        await one.purge()
    with pytest.raises(type(error)):
        [item async for item in one.listed()]


async def test_a_store_that_gives_no_bytes_fails_no_call() -> None:
    """One of somebody's own, that is not what it says to be."""
    store: Any = Remote()
    one = kept(store)
    address = one.address("acme", "k")

    async def get(_: object) -> Any:
        return Blob("text", None)  # type: ignore[arg-type]

    async def get_many(_: object) -> Any:
        return {address: Blob("text", None)}  # type: ignore[arg-type]

    store.inner.get, store.inner.get_many = get, get_many
    assert (await one.get(address)).why == "unavailable"
    assert (await one.get_many([address]))[address].why == "unavailable"


class Strange(Mapping[str, Any]):
    """A mapping of a program's own that cannot be read now."""

    def __getitem__(self, name: str) -> Any:
        raise RuntimeError("a secret")

    def __iter__(self) -> Any:
        raise RuntimeError("a secret")

    def __len__(self) -> int:
        return 1


async def test_an_answer_that_cannot_be_read_fails_no_call() -> None:
    """Whatever its own parts raise, it has been paid for and is given."""
    one = kept()
    events = (TextDelta("x", extra=Strange()), Finish("stop"))
    answer, address = attrs.evolve(ANSWER, events=events), one.address("acme", "k")
    assert await one.put(address, answer, ttl=None) == "formless"
    assert await one.put_many({address: answer}, ttl=None) == {address: "formless"}
    assert one.put_now(address, answer, ttl=None) == "formless"


async def test_a_cancelled_look_is_cancelled() -> None:
    """It counts as nothing."""

    class Frozen(Remote):
        def __getattr__(self, name: str) -> Any:
            if name == "instant":
                raise AttributeError(name)
            return lambda *_, **__: anyio.sleep_forever()

    one = kept(Frozen())
    address = one.address("acme", "k")
    for operation in (
        lambda: one.get(address),
        lambda: one.get_many([address]),
        lambda: one.put(address, ANSWER, ttl=None),
        lambda: one.put_many({address: ANSWER}, ttl=None),
        lambda: one.delete(address),
    ):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await operation()
        assert scope.cancelled_caught
    assert one.tally.stats == CacheStats()


async def test_what_is_too_large_or_formless_is_not_kept() -> None:
    """Of several, the others are kept: also where the store refuses them together."""
    store = memory(max_entry_bytes=3000)
    one = kept(store, packing=Packing(compress_above=None, max_bytes=5000))
    names = ["small", "for the store", "for the packing", "formless"]
    addresses = {name: one.address("acme", name) for name in names}
    strange = attrs.evolve(ANSWER, events=(TextDelta("x", extra={"a": object()}), *ANSWER.events))
    answers = [ANSWER, sample("x" * 4000), sample("x" * 6000), strange]
    why = dict(zip(names, ["", "too large", "too large", "formless"], strict=True))
    for name, answer in zip(names, answers, strict=True):
        assert await one.put(addresses[name], answer, ttl=None) == why[name]
    await store.purge()
    together = dict(zip(addresses.values(), answers, strict=True))
    other = one.address("acme", "other")
    found = await one.put_many({**together, other: ANSWER}, ttl=None)
    assert found == {addresses[name]: reason for name, reason in why.items() if reason}
    assert (await one.get(other)).answer == (await one.get(addresses["small"])).answer == ANSWER
    stats = one.tally.stats
    assert (stats.stored, stats.not_stored) == (3, {"too large": 4, "formless": 2})
    blob = await store.get(other)
    assert blob is not None
    assert stats.stored_bytes == 3 * len(blob.data)


# --- purging and listing -------------------------------------------------------------------------


async def _filled() -> tuple[MemoryBlobs, KeptAnswers, KeptAnswers]:
    store = memory()
    one, other = kept(store), kept(store, "other")
    for holder in (one, other):
        for tenant in ("acme", "bolt"):
            for key, tags in (("1", {"doc-17", "all"}), ("2", {"all"}), ("3", set[str]())):
                answer = sample(key, tenant=tenant, tags=frozenset(tags))
                await holder.put(holder.address(tenant, key), answer, ttl=None)
    return store, one, other


@pytest.mark.parametrize(
    ("what", "count"),
    [
        ({}, 6),
        ({"tenant": "acme"}, 3),
        ({"tag": "all"}, 4),
        ({"tag": "doc-17"}, 2),
        ({"tenant": "acme", "tag": "all"}, 2),
        ({"tenant": "nobody"}, 0),
        ({"tag": "acme"}, 0),
    ],
)
async def test_what_is_purged_is_what_was_listed(what: dict[str, str], count: int) -> None:
    """By tenant, by tag, by both, or all; in this namespace only."""
    _, one, other = await _filled()
    await one.publish()
    listed = [(info, answer) async for info, answer in one.listed(**what)]
    assert len(listed) == len({info.key for info, _ in listed}) == count
    for info, answer in listed:
        assert answer is not None
        assert answer.tenant == what.get("tenant", answer.tenant)
        assert what.get("tag", "all") in {*answer.tags, "all"}
        assert info.key == one.address(answer.tenant or "", answer.events[0].text)  # type: ignore[union-attr]
    infos = [info async for info in one.infos(**what)]
    assert {info.key for info in infos} == {info.key for info, _ in listed}
    assert await one.purge(**what) == count
    assert len([info async for info, _ in one.listed()]) == 6 - count
    assert len([info async for info, _ in other.listed()]) == 6


async def test_names_and_tags_do_not_stand_in_the_store() -> None:
    """Tenants and tags may be personal; under a key they cannot be guessed either."""
    store = memory()
    packing = Packing(key=KEY, encrypt=True)
    one = kept(store, packing=packing)
    answer = sample("Ada", tenant="ada@example.com", tags=frozenset({"ada-1815"}))
    await one.put(one.address("ada@example.com", "k"), answer, ttl=None)
    page = await store.entries()
    blobs = await store.get_many([info.key for info in page.entries])
    seen = repr(page) + repr(blobs)
    assert "ada" not in seen.lower()
    assert kept(store).address("ada@example.com", "k") not in blobs


async def test_what_cannot_be_read_is_listed_without_its_answer() -> None:
    """And is left where it is."""
    store = memory()
    one = kept(store)
    await store.put(one.address("acme", "k"), b"not ours")
    assert [answer async for _, answer in one.listed()] == [None]
    assert len((await store.entries()).entries) == 1


async def test_each_is_listed_once_however_a_store_pages() -> None:
    """A store may show one twice, or an empty page; one that goes meanwhile is not shown."""
    store, one, _ = await _filled()

    class Paging(Remote):
        async def entries(self, *, prefix: str = "", tag: str | None = None, cursor: str = "") -> (
            BlobPage
        ):  # fmt: skip
            found = (await self.inner.entries(prefix=prefix, tag=tag)).entries
            place = int(cursor or 0)
            pages = [found[:2], [], found[:4], found]
            if place == len(pages) - 1:
                await self.inner.delete(found[-1].key)
            following = "" if place == len(pages) - 1 else str(place + 1)
            return BlobPage(pages[place], following)

    paging = kept(Paging(store))
    assert len([info async for info, _ in paging.listed()]) == 5
    assert len([info async for info, _ in one.listed()]) == 5


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


async def test_a_listing_that_is_left_leaves_nothing_open() -> None:
    """Closing it closes what it reads from: trio warns of what is left to the garbage collector."""
    _, one, _ = await _filled()
    for listing in (one.listed(), one.infos()):
        async with aclosing(listing):
            async for _ in listing:
                break
    gc.collect()
    await anyio.lowlevel.checkpoint()


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
