"""Answers in a store in memory: as they are, where nobody can change them; else as bytes."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import anyio
import attrs
import pytest
from hypothesis import given, settings
from kept_answers import KEPT
from kept_stores import KEY, Clock, kept, memory

from lamella import Finish, Head, Packing, TextDelta, Usage, UsageReport
from lamella._answer_codec import KeptAnswer, decode_answer
from lamella._held_answers import HeldAnswer
from lamella._kept_answers import KeptAnswers
from lamella._memory_blobs import MemoryBlobs


def put(answer: KeptAnswer, **options: Any) -> tuple[MemoryBlobs, KeptAnswers, str]:
    """A store with that answer, as the end of a call keeps it."""
    clock = Clock()
    store = memory(clock, **options.pop("bounds", {}))
    one = kept(store, packing=Packing(**options) if options else None)
    address = one.address("acme", "k")
    assert one.put_now(address, answer, ttl=100) == ""
    clock.now = 7.0
    return store, one, address


def is_held(store: MemoryBlobs, address: str) -> bool:
    """Whether the answer is there as it is."""
    found = store.get_now(address)
    assert found is not None
    return isinstance(found[0], HeldAnswer)


def plain(text: str = "Hello", **changes: Any) -> KeptAnswer:
    """An answer as most are."""
    events = (TextDelta(text), UsageReport(Usage(3, text_output=2)), Finish("stop"))
    head = Head(model="m", provider="p", request_id="r", id="i", status=200)
    return KeptAnswer(**{"events": events, "head": head, "operation": "chat", **changes})


@given(KEPT)
@settings(max_examples=25)
def test_what_is_held_is_what_its_bytes_say(answer: KeptAnswer) -> None:
    """Who asks for the answer and who asks for bytes get the same."""
    clock = Clock()
    store = memory(clock)
    one = kept(store)
    address = one.address("acme", "k")
    why = one.put_now(address, answer, ttl=None)

    async def both() -> None:
        found = (await one.get(address)).answer
        there = await store.get(address)
        assert there is not None
        data = one._packer.unpack(address, there.data)  # pyright: ignore[reportPrivateUsage]
        assert found == decode_answer(data, 0.0)

    if why == "":
        anyio.run(both)


def test_a_plain_answer_is_held_as_it_is() -> None:
    """With its age, its tags and its time to live, and without what is not kept."""
    answer = plain(head=Head(model="m", raw=b"{}", headers={"x": "y"}), tags=frozenset({"news"}))
    store, one, address = put(answer)

    async def look() -> None:
        assert is_held(store, address)
        found = (await one.get(address)).answer
        assert found == attrs.evolve(answer, head=Head(model="m"), age=7.0)
        blob = await store.get(address)
        assert blob is not None
        assert (blob.age, len(blob.tags)) == (7.0, 1)
        [info] = (await store.entries()).entries
        assert (info.size, info.expires_in) == (one.tally.stats.stored_bytes, 93.0)
        assert await one.purge(tag="news") == 1
        assert store.size == 0

    anyio.run(look)


CHANGEABLE = (
    TextDelta("x", extra={"a": 1}),
    TextDelta("x", logprobs=[{}]),
    UsageReport(Usage(cache_write={"5m": 1})),
    Finish("stop", reasons=["stop"]),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
)


@pytest.mark.parametrize("event", CHANGEABLE, ids=["extra", "logprobs", "usage", "reasons"])
def test_what_others_could_change_is_kept_as_bytes(event: Any) -> None:
    """Whoever holds the event cannot change what is found."""
    store, _, address = put(plain(events=(event, Finish("stop"))))
    assert not is_held(store, address)


@pytest.mark.parametrize(
    "options",
    [
        {"key": KEY},
        {"compress_above": 4},
        {"max_bytes": 300},
        {"bounds": {"max_entry_bytes": 1500, "max_blob_bytes": 9000}},
    ],
    ids=["signed", "long", "bounded", "bounded store"],
)
def test_what_is_packed_on_purpose_is_kept_as_bytes(options: dict[str, Any]) -> None:
    """Signed, worth compressing, or too large as it is: its bytes may be small enough."""
    store, _, address = put(plain(), **options)
    assert not is_held(store, address)


def test_half_a_character_is_held_and_packed_alike() -> None:
    """A text that is no Unicode comes back as it was, held and from its bytes."""
    _, one, address = put(plain("half \ud800"))

    async def both() -> None:
        found = (await one.get(address)).answer
        listed = [answer async for _, answer in one.listed()]
        assert found is not None
        assert [answer and answer.events for answer in listed] == [found.events]

    anyio.run(both)


def test_pieces_are_joined() -> None:
    """A stream's thousand pieces are not held each."""
    store, one, address = put(plain(events=(*[TextDelta("ab")] * 200, Finish("stop"))))
    assert is_held(store, address)
    found = anyio.run(one.get, address).answer
    assert found is not None
    assert found.events == (TextDelta("ab" * 200), Finish("stop"))


def test_what_is_held_counts_no_less_than_it_takes() -> None:
    """The bound on a store's bytes holds for answers that are held, too."""
    store = memory(max_blob_bytes=1 << 30)
    one = kept(store)
    one.put_now(one.address("acme", "first"), plain(), ttl=100)
    gc.collect()
    size = store.size
    tracemalloc.start()
    try:
        for number in range(200):
            text, tenant = "é" * 40 + str(number), f"t{number}"
            one.put_now(one.address("acme", str(number)), plain(text, tenant=tenant), ttl=100)
        gc.collect()
        took = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert took <= store.size - size <= 4 * took
