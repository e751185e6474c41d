"""Vectors that processes share: the commands of a server's search, and servers without one."""

from __future__ import annotations

import itertools
import math
import os
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis_peers import PATIENCE, Valkey, impatient
from search_peers import Dialect, SearchServer

from lamella import ConfigurationError, Secret, StoreUnavailableError
from lamella._guarded_vectors import GuardedVectors
from lamella._named_stores import layer_store
from lamella.testing import check_vector_index
from lamella_redis import RedisVectors, redis_vectors
from lamella_redis._scripts import Placing, Script, placing

pytestmark = pytest.mark.anyio

_numbers = itertools.count()
START = 1_700_000_000 * 1_000_000


class Timed(RedisVectors):
    """The store on a clock that the test moves; what ends with its key stays until it is told."""

    def _script(self, operation: Placing) -> Script:
        text = placing(operation).source.decode()
        assert text.count("redis.call('TIME')") == 1
        clock = f"redis.call('HMGET', '{self._prefix}clock', 's', 'us')"
        return Script.of(text.replace("redis.call('TIME')", clock))


async def command(store: RedisVectors, *words: str) -> Any:
    """What the server answers to a command."""
    link = store._links.get()
    return await link._tried(lambda to: link._ask(to, words[0].encode(), *words[1:]))


def at(port: int, **options: Any) -> RedisVectors:
    """A store of its own on a port of the loopback."""
    namespace = f"vectors{next(_numbers)}*[x]"
    return RedisVectors(f"redis://127.0.0.1:{port}", namespace=namespace, **options)


async def keys_of(store: RedisVectors) -> set[str]:
    """What it has on the server."""
    found = await command(store, "KEYS", "*")
    mine = [key.decode("utf-8", "surrogatepass") for key in found]
    return {key[len(store._prefix) :] for key in mine if key.startswith(store._prefix)}


@pytest.fixture(params=["redis", "valkey"])
async def server(request: pytest.FixtureRequest, valkey: Valkey) -> AsyncIterator[SearchServer]:
    """A server with a search, which answers as one of the two does."""
    dialect: Dialect = request.param
    async with SearchServer(valkey.port, dialect) as peer:
        yield peer


class Ageing(Timed):
    """Its keys end when the test's clock says so, not the server's."""

    now: ClassVar[int] = START

    async def pass_by(self, seconds: float) -> None:
        """Let time go on, for the scripts and for the keys."""
        before, Ageing.now = Ageing.now, Ageing.now + round(seconds * 1_000_000)
        await self.tell()
        for name in await keys_of(self):
            left = await command(self, "PTTL", self._prefix + name)
            if left > 0:
                less = left - (Ageing.now - before) // 1000
                await command(self, "PEXPIRE", self._prefix + name, str(less))

    async def tell(self) -> None:
        """Give the scripts the time."""
        whole, rest = divmod(Ageing.now, 1_000_000)
        await command(self, "HSET", f"{self._prefix}clock", "s", str(whole), "us", str(rest))


async def test_it_conforms(server: SearchServer) -> None:
    """Every rule of the port holds."""
    made: list[Ageing] = []

    async def make() -> Ageing:
        made.append(Ageing(f"redis://127.0.0.1:{server.port}", namespace=f"ages{next(_numbers)}"))
        await made[-1].tell()
        return made[-1]

    async def advance(seconds: float) -> None:
        await made[-1].pass_by(seconds)

    await check_vector_index(make, advance)
    for store in made:
        await store.purge()
        await store.aclose()


async def test_the_nearest_come_first(server: SearchServer) -> None:
    """With their similarity, none below the bound, and no more than are wanted."""
    store = at(server.port)
    for key, vector in (("east", (2.0, 0.0)), ("north", (0.0, 5.0)), ("west", (-1.0, 0.0))):
        await store.add("p", key, vector, ttl=60.0)
    near = await store.nearest("p", (3.0, 0.3), count=2)
    assert [each.key for each in near] == ["east", "north"]
    assert near[0].similarity == pytest.approx(3.0 / math.hypot(3.0, 0.3), abs=1e-6)
    assert [each.key for each in await store.nearest("p", (1.0, 0.0), count=9, at_least=0.5)] == [
        "east"
    ]
    assert await store.nearest("p", (1.0, 1.0), at_least=0.9) == []
    assert await store.nearest("empty", (1.0, 1.0)) == []
    assert await store.nearest("p", (1.0, 1.0), count=0) == []
    for scale in (1e-300, 1e300):
        (nearest,) = await store.nearest("p", (0.0, scale))
        assert nearest.key == "north"
        assert nearest.similarity == pytest.approx(1.0)
    await store.purge()
    await store.aclose()


async def test_the_index_is_made_once_for_each_length(server: SearchServer) -> None:
    """By whoever is first; those who come later find that it is there."""
    store = at(server.port)
    other = RedisVectors(store.url, namespace=store.namespace)
    for each in (store, store, other):
        await each.add("p", "key", (1.0, 0.0))
        await each.add("q", "key", (1.0, 0.0, 0.0))
    created = [words for words in server.commands if words[0] == b"FT.CREATE"]
    assert len(created) == 4
    assert len(server.indexes) == 2
    graph = RedisVectors(store.url, namespace=store.namespace, algorithm="hnsw")
    await graph.add("p", "other", (1.0, 0.0))
    assert b"HNSW" in server.commands[-1]
    assert [each.key for each in await graph.nearest("p", (1.0, 0.0), count=5)] == ["other"]
    assert [each.key for each in await store.nearest("p", (1.0, 0.0), count=5)] == ["key"]
    for each in (store, graph):
        await each.purge()
    for each in (store, other, graph):
        await each.aclose()


PARTITIONS = st.sampled_from(["", "a", "ab", "a*", "b"])
KEYS = st.sampled_from(["", "k", "k:1", "\ud800"])
VECTORS = st.sampled_from([(1.0, 0.0), (0.0, 3.0), (-2.0, 1.0), (1.0, 1.0), (1.0, 0.0, 2.0)])
STEPS = st.one_of(
    st.tuples(st.just("add"), PARTITIONS, KEYS, VECTORS, st.sampled_from([None, 60.0, 0.0])),
    st.tuples(st.just("nearest"), PARTITIONS, VECTORS),
    st.tuples(st.just("remove"), PARTITIONS, KEYS),
    st.tuples(st.just("purge"), PARTITIONS),
)


class Model:
    """What an index does, in a few lines."""

    def __init__(self) -> None:
        self.vectors: dict[str, dict[str, tuple[float, ...]]] = {}

    async def add(self, partition: str, key: str, vector: Any, *, ttl: float | None) -> None:
        there = self.vectors.setdefault(partition, {})
        self._fits(there, vector)
        there.pop(key, None)
        if ttl != 0.0:
            there[key] = vector

    async def nearest(self, partition: str, vector: Any, *, count: int) -> dict[str, float]:
        there = self.vectors.get(partition, {})
        self._fits(there, vector)
        assert count > len(there)
        return {
            key: sum(a * b for a, b in zip(each, vector, strict=True))
            / (math.hypot(*each) * math.hypot(*vector))
            for key, each in there.items()
        }

    async def remove(self, partition: str, key: str) -> bool:
        return self.vectors.get(partition, {}).pop(key, None) is not None

    async def purge(self, *, prefix: str) -> int:
        gone = [partition for partition in self.vectors if partition.startswith(prefix)]
        return sum(len(self.vectors.pop(partition)) for partition in gone)

    def _fits(self, there: dict[str, tuple[float, ...]], vector: Any) -> None:
        if any(len(each) != len(vector) for each in there.values()):
            raise ValueError("coordinates")


async def _answer(index: Any, step: Any) -> Any:
    try:
        match step:
            case ("add", partition, key, vector, ttl):
                return await index.add(partition, key, vector, ttl=ttl)
            case ("nearest", partition, vector):
                found = await index.nearest(partition, vector, count=20)
                if isinstance(found, dict):
                    return {key: pytest.approx(each, abs=1e-6) for key, each in found.items()}
                far = [each.similarity for each in found]
                assert far == sorted(far, reverse=True)
                return {each.key: each.similarity for each in found}
            case ("remove", partition, key):
                return await index.remove(partition, key)
            case (_, prefix):
                return await index.purge(prefix=prefix)
    except ValueError as error:
        return "refused" if "coordinates" in str(error) else str(error)


@given(steps=st.lists(STEPS, max_size=20))
@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_it_does_what_a_model_does(server: SearchServer, steps: list[Any]) -> None:
    """Whatever the operations: the same answers, and nothing is left behind."""
    store, model = at(server.port), Model()
    for step in [*steps, ("purge", "")]:
        assert await _answer(store, step) == await _answer(model, step)
    assert await keys_of(store) == set()
    await store.aclose()


ODD = ("", " ", "a", "a:b", "a*", "a?[b]", "}{|", "@p:{x}", "ключ", "\x00", "\ud800", "a\\b")


async def test_partitions_and_keys_are_any_text(server: SearchServer) -> None:
    """No two partitions meet, no two keys are the same, and a prefix is literal."""
    store = at(server.port)
    for number, partition in enumerate(ODD):
        for key in ODD:
            await store.add(partition, f"{number} {key}", (1.0, float(number)))
    for number, partition in enumerate(ODD):
        near = await store.nearest(partition, (1.0, float(number)), count=100)
        assert {each.key for each in near} == {f"{number} {key}" for key in ODD}
        assert all(each.similarity == pytest.approx(1.0) for each in near)
    assert await store.remove("a*", f"{ODD.index('a*')} a")
    assert not await store.remove("a*", f"{ODD.index('a*')} a")
    assert await store.purge(prefix="a*") == len(ODD) - 1
    assert await store.nearest("a*", (1.0, 0.0)) == []
    begin = sum(partition.startswith("a") for partition in ODD) - 1
    assert await store.purge(prefix="a") == begin * len(ODD)
    assert await store.purge() == (len(ODD) - begin - 1) * len(ODD)
    assert await keys_of(store) == set()
    await store.aclose()


async def test_a_partition_has_one_length(server: SearchServer) -> None:
    """Another one is refused, until nothing is left there."""
    store = at(server.port)
    await store.add("p", "key", (1.0, 0.0))
    with pytest.raises(ValueError, match="3 coordinates, and those of its partition have 2"):
        await store.add("p", "other", (1.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="have 2"):
        await store.nearest("p", (1.0, 0.0, 0.0))
    await store.add("q", "other", (1.0, 0.0, 0.0))
    assert await store.remove("p", "key")
    await store.add("p", "other", (1.0, 0.0, 0.0))
    assert [each.key for each in await store.nearest("p", (1.0, 0.0, 0.0))] == ["other"]
    await store.purge()
    await store.aclose()


@pytest.mark.parametrize(
    ("vector", "words"),
    [
        ((), "0 coordinates"),
        ((0.0, 0.0), "points nowhere"),
        ((1.0, math.inf), "points nowhere"),
        ((math.nan, 1.0), "points nowhere"),
    ],
)
async def test_a_vector_has_to_point_somewhere(valkey: Valkey, vector: Any, words: str) -> None:
    """Without asking the server."""
    store = RedisVectors("redis://nowhere.invalid")
    with pytest.raises(ValueError, match=words):
        await store.add("p", "key", vector)
    with pytest.raises(ValueError, match=words):
        await store.nearest("p", vector)


async def test_wrong_numbers_are_refused() -> None:
    """A time to live that is none, and a count of too many."""
    store = RedisVectors("redis://nowhere.invalid")
    with pytest.raises(ValueError, match="ttl is nan"):
        await store.add("p", "key", (1.0,), ttl=math.nan)
    with pytest.raises(ValueError, match="above 1000"):
        await store.nearest("p", (1.0,), count=1001)
    for option in ("timeout", "rest"):
        for wrong in (0, -1.0, math.nan, math.inf, "1", None):
            options: dict[str, Any] = {option: wrong}
            with pytest.raises(ConfigurationError, match=option):
                redis_vectors("redis://h", **options)


async def test_a_vector_is_replaced(server: SearchServer) -> None:
    """With its time to live; at 0 or less nothing is left."""
    store = at(server.port)
    await store.add("p", "key", (1.0, 0.0), ttl=60.0)
    await store.add("p", "key", (0.0, 1.0))
    (near,) = await store.nearest("p", (0.0, 1.0), count=5)
    assert near.similarity == pytest.approx(1.0)
    ends = {key: await command(store, "PTTL", store._prefix + key) for key in await keys_of(store)}
    assert set(ends.values()) == {-1}
    await store.add("p", "key", (0.0, 1.0), ttl=0.0)
    assert await store.nearest("p", (0.0, 1.0)) == []
    assert await keys_of(store) == set()
    await store.aclose()


async def test_every_key_with_an_end_goes_by_itself(server: SearchServer) -> None:
    """A vector when its time is over; its partition no later than a second after the last."""
    store = at(server.port)
    await store.add("p", "a", (1.0, 0.0), ttl=10.0)
    await store.add("p", "b", (1.0, 0.0), ttl=20.0)
    for key in await keys_of(store):
        lives = await command(store, "PTTL", store._prefix + key)
        longest = 10_000 if key.endswith(":a") else 20_000 if key.endswith(":b") else 21_000
        assert longest - 1500 < lives <= longest
    await store.add("p", "now", (1.0, 0.0), ttl=0.05)
    await anyio.sleep(0.1)
    assert {each.key for each in await store.nearest("p", (1.0, 0.0), count=5)} == {"a", "b"}
    assert not await store.remove("p", "now")
    assert await store.purge() == 2
    await store.aclose()


async def test_a_partition_does_not_collect_the_dead(valkey: Valkey) -> None:
    """What has ended or was evicted leaves it, though nobody asks for it."""
    async with SearchServer(valkey.port) as server:
        store = Timed(f"redis://127.0.0.1:{server.port}", namespace=f"timed{next(_numbers)}")
        now = START // 1_000_000
        for number in range(300):
            await command(store, "HSET", f"{store._prefix}clock", "s", str(now), "us", "0")
            await store.add("p", str(number), (1.0, 0.0), ttl=5.0)
            now += 1
        assert await command(store, "ZCARD", f"{store._prefix}of:p") <= 6
        await command(store, "HSET", f"{store._prefix}clock", "s", str(now + 5), "us", "0")
        await store.add("p", "wider", (1.0, 0.0, 0.0))
        assert await command(store, "ZCARD", f"{store._prefix}of:p") == 1
        (name,) = [key for key in await keys_of(store) if key.endswith(":wider")]
        await command(store, "DEL", store._prefix + name)
        await store.add("p", "again", (1.0, 0.0))
        assert await command(store, "ZCARD", f"{store._prefix}of:p") == 1
        await store.purge()
        await store.aclose()


async def test_what_the_server_has_evicted_is_not_there(server: SearchServer) -> None:
    """Of a vector, or of its partition, without the other: nothing is left behind."""
    store = at(server.port)
    for key in ("gone", "kept", "other"):
        await store.add("p", key, (1.0, 0.0))
    (gone,) = [key for key in await keys_of(store) if key.endswith(":gone")]
    await command(store, "DEL", store._prefix + gone)
    assert not await store.remove("p", "gone")
    assert {each.key for each in await store.nearest("p", (1.0, 0.0), count=5)} == {"kept", "other"}
    await command(store, "DEL", f"{store._prefix}of:p")
    assert await store.remove("p", "kept")
    assert await store.purge(prefix="q") == 0
    assert await store.purge(prefix="p") == 1
    assert await keys_of(store) == set()
    await store.aclose()


@pytest.mark.parametrize("gone", [1, 8, 9, 500])
async def test_what_has_just_ended_hides_nothing(server: SearchServer, gone: int) -> None:
    """A search that has found it, and cannot show it, finds the others too."""
    store = at(server.port)
    await store.add("p", "here", (1.0, 0.0))
    await store.add("p", "there", (0.0, 1.0))
    server.gone = gone
    assert [each.key for each in await store.nearest("p", (1.0, 0.0), count=1)] == ["here"]
    assert len([words for words in server.commands if words[0] == b"FT.SEARCH"]) <= 2
    assert await store.nearest("empty", (1.0, 0.0)) == []
    await store.purge()
    await store.aclose()


async def test_an_index_that_was_dropped_is_made_again(server: SearchServer) -> None:
    """And one that nobody needs is not made."""
    store = at(server.port)
    await store.add("p", "key", (1.0, 0.0))
    server.indexes.clear()
    assert [each.key for each in await store.nearest("p", (1.0, 0.0))] == ["key"]
    await store.purge()
    server.indexes.clear()
    assert await store.nearest("p", (1.0, 0.0)) == []
    assert server.indexes == {}
    await store.aclose()


async def test_many_are_purged(server: SearchServer) -> None:
    """More than one script forgets at once."""
    store = at(server.port)
    for number in range(1100):
        await store.add("many", str(number), (1.0, float(number)))
    await store.add("mine", "key", (1.0, 0.0))
    assert await store.purge(prefix="many") == 1100
    assert len(await store.nearest("mine", (1.0, 0.0))) == 1
    await store.purge()
    await store.aclose()


async def test_a_user_with_few_rights(own_valkey: Valkey) -> None:
    """The commands and keys that the documentation names are enough."""
    page = (Path(__file__).parents[3] / "docs" / "shared-state.md").read_text("utf-8")
    names = page.partition("For vectors it needs")[2].partition("- **")[0]
    known = [name for name in re.findall(r"`([A-Z.]+)`", names) if not name.startswith("FT.")]
    admin = RedisVectors(own_valkey.url)
    rights = ["-@all", *[f"+{name.lower()}" for name in known], "~{few}:*"]
    await command(admin, "ACL SETUSER", "few", "on", ">pw", *rights)
    async with SearchServer(own_valkey.port) as server:
        url = Secret.of_value(f"redis://few:pw@127.0.0.1:{server.port}")
        store = RedisVectors(url, namespace="few")
        await store.add("p", "short", (1.0, 0.0), ttl=0.01)
        await anyio.sleep(0.05)
        for number in range(10):
            await store.add("p", str(number), (1.0, number / 10), ttl=60.0)
        await store.add("p", "stays", (1.0, 0.0))
        assert [each.key for each in await store.nearest("p", (1.0, 0.2))] == ["2"]
        assert await store.remove("p", "1")
        assert await store.purge(prefix="p") == 10
        assert (await store.health()).well
        await store.aclose()
    await admin.aclose()


# --- servers without a search -----------------------------------------------------------------


async def test_a_server_without_a_search(valkey: Valkey) -> None:
    """It is said what to install, and what to use instead; nothing is left on it."""
    store = at(valkey.port)
    for operation in (
        lambda: store.add("p", "key", (1.0, 0.0)),
        lambda: store.nearest("p", (1.0, 0.0)),
    ):
        with pytest.raises(ConfigurationError, match="has no vector search") as caught:
            await operation()
        for words in ("Redis 8", "valkey-search", "index='memory'"):
            assert words in str(caught.value)
    assert await keys_of(store) == set()
    assert await store.purge() == 0
    assert not await store.remove("p", "key")
    await store.aclose()


async def test_its_guard_does_not_take_that_for_an_outage(valkey: Valkey) -> None:
    """Each call says so again."""
    store = redis_vectors(valkey.tcp, namespace=f"vectors{next(_numbers)}", timeout=5.0)
    for _ in range(7):
        with pytest.raises(ConfigurationError, match="has no vector search"):
            await store.nearest("p", (1.0, 0.0))
    assert store.health().well
    await store.aclose()


async def test_a_frozen_server_holds_nobody_up(own_valkey: Valkey) -> None:
    """Five operations wait, the others do not; then it is there again."""
    async with SearchServer(own_valkey.port) as server:
        store = redis_vectors(f"redis://127.0.0.1:{server.port}", timeout=PATIENCE, rest=0.2)
        await until_well(store)
        await store.add("p", "key", (1.0, 0.0))
        own_valkey.freeze()
        try:
            began = time.monotonic()
            for _ in range(200):
                with (
                    impatient(store),
                    pytest.raises(StoreUnavailableError, match="does not answer"),
                ):
                    await store.nearest("p", (1.0, 0.0))
                with (
                    impatient(store),
                    pytest.raises(StoreUnavailableError, match="does not answer"),
                ):
                    await store.add("p", "key", (1.0, 0.0))
            assert time.monotonic() - began < 20.0  # if each waited, it would be 40
            assert store.health().well is False
        finally:
            own_valkey.thaw()
        await until_well(store)
        assert [each.key for each in await store.nearest("p", (1.0, 0.0))] == ["key"]
        await store.aclose()


async def until_well(store: GuardedVectors) -> None:
    """Wait until the index answers again."""
    with anyio.fail_after(PATIENCE):
        while True:
            try:
                await store.nearest("p", (1.0, 0.0))
            except StoreUnavailableError:
                await anyio.sleep(0.02)
            else:
                return


# --- by name ----------------------------------------------------------------------------------


async def test_a_name_gives_the_index(valkey: Valkey) -> None:
    """`redis` where vectors are wanted; the same one for the same options."""
    async with SearchServer(valkey.port) as server:
        url = f"redis://127.0.0.1:{server.port}"
        table = {"use": "redis", "url": url, "namespace": "named", "timeout": PATIENCE}
        one = layer_store("SemanticCache", "vectors", table)
        other = layer_store("SemanticCache", "vectors", dict(table))
        assert one is other
        assert isinstance(one, GuardedVectors)
        await one.add("p", "key", (1.0, 0.0))
        assert len(await other.nearest("p", (1.0, 0.0))) == 1
        assert await one.purge() == 1
        await one.aclose()


def test_mistakes_are_named() -> None:
    """Each option with what it may be."""
    table = {"use": "redis", "url": "redis://h", "algorithm": "tree", "max_entry_bytes": 1}
    with pytest.raises(ConfigurationError) as caught:
        layer_store("SemanticCache", "vectors", table)
    assert "max_entry_bytes" in str(caught.value)
    wrong: list[dict[str, Any]] = [{"algorithm": "tree"}, {"timeout": -1}, {"namespace": "{x}"}]
    for options in wrong:
        with pytest.raises(ConfigurationError, match=next(iter(options))):
            RedisVectors("redis://h", **options)
    with pytest.raises(ConfigurationError, match="give a url"):
        RedisVectors()


SEARCHING = os.environ.get("LAMELLA_SEARCH_URL", "")


@pytest.mark.skipif(not SEARCHING, reason="LAMELLA_SEARCH_URL names no server with vector search")
@pytest.mark.parametrize("algorithm", ["flat", "hnsw"])
async def test_a_real_search_conforms(algorithm: Any) -> None:
    """On a server that has one, whose clock nobody moves."""
    made: list[RedisVectors] = []

    def make() -> RedisVectors:
        name = f"real{os.getpid()}.{next(_numbers)}"
        made.append(RedisVectors(SEARCHING, namespace=name, algorithm=algorithm))
        return made[-1]

    await check_vector_index(make, anyio.sleep)
    for store in made:
        await store.purge()
        for length in store._made:
            await command(store, "FT.DROPINDEX", store._index(length).decode())
        await store.aclose()
