"""Kept answers: found by tenant and key, and never a reason for a call to fail."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

import anyio
import attrs
import pytest
from kept_answers import sample
from kept_stores import ANSWER, KEY, OUT, Clock, Remote, kept, memory

from lamella import (
    BlobStore,
    Finish,
    Packing,
    Ports,
    TextDelta,
)
from lamella import _answer_wrapping as wrapping_module
from lamella import _kept_answers as kept_module
from lamella._answer_codec import KeptAnswer, encode_answer, merged
from lamella._kept_answers import CacheStats, Found, KeptAnswers
from lamella._memory_blobs import MemoryBlobs
from lamella._packing import Packer
from lamella._stores import Blob, BlobPage
from lamella.testing import virtual_backends, virtual_ports

pytestmark = pytest.mark.anyio


@pytest.fixture(params=virtual_backends(), ids=lambda backend: f"virtual-{backend[0]}")
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Both event loops, in virtual time."""
    return request.param


T = TypeVar("T")


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


async def test_a_listing_that_is_left_leaves_nothing_open() -> None:
    """Closing it closes what it reads from: trio warns of what is left to the garbage collector."""
    _, one, _ = await _filled()
    for listing in (one.listed(), one.infos()):
        async with aclosing(listing):
            async for _ in listing:
                break
    gc.collect()
    await anyio.lowlevel.checkpoint()
