"""Cache: the same request gets the same answer, for nothing, and nobody else's."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from caches import ANSWER, ASK, PRICE, by, called, names, notes, saying, stack, streamed

from lamella import (
    CacheMissError,
    ConfigurationError,
    Finish,
    MisuseError,
    Money,
    Opaque,
    Outcome,
    Pipeline,
    RefusalDelta,
    ServerError,
    ToolCall,
)
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares.cache import Cache, CacheControl, Keep

pytestmark = pytest.mark.anyio

GOOD = ["An answer.", Finish("stop")]


# --- hits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("first", [False, True])
async def test_the_same_is_answered_from_the_cache(first: bool, second: bool) -> None:
    """The second call makes no attempt, costs nothing, and says so; streamed or not."""
    pipeline, transport = stack()
    paid = await called(pipeline, first)
    free = await called(pipeline, second)
    assert (len(transport.requests), free.text) == (1, "It is up.")
    assert (paid.head.cached, free.head.cached) == (False, True)
    assert (paid.cost, free.cost, free.trace.attempts) == (PRICE, Money(0), ())
    assert (free.usage, free.finish_reason) == (paid.usage, "stop")
    assert (names(paid), names(free)) == (["miss", "stored"], ["hit"])


async def test_a_hit_says_what_it_saves() -> None:
    """Its age, the tokens and the money are in the trace."""
    pipeline, _ = stack()
    await pipeline.run(ASK)
    (hit,) = notes(await pipeline.run(ASK), "hit")
    assert (hit["stale"], hit["saved_tokens"]) == (False, 4)
    assert (hit["saved_nano"], hit["age"]) == ({"USD": PRICE.nano}, 0.0)


async def test_counts_are_kept() -> None:
    """`stats` tells what this process has counted."""
    cache = Cache()
    pipeline, _ = stack(cache=cache)
    for _ in range(3):
        await pipeline.run(ASK)
    stats = await cache.stats(pipeline)
    assert (stats.hits, stats.misses, stats.stored) == (2, 1, 1)


async def test_pipelines_made_for_each_request_share_what_is_kept() -> None:
    """What is kept is the stores', not the layer's."""
    ports, transport = virtual_ports(), Scripted([ANSWER], repeat=True)
    for _ in range(3):
        async with Pipeline([Cache()], transport, ports=ports) as pipeline:
            await pipeline.run(ASK)
            transport.closed = False
    assert len(transport.requests) == 1


# --- which requests ----------------------------------------------------------------------------


DIFFERENT: dict[str, Any] = {
    "temperature": 0.0,
    "seed": 3,
    "top_p": 0.5,
    "max_output_tokens": 9,
    "stop": ["x"],
    "n": 2,
    "extra": {"a": 1},
    "model": "other",
}


async def test_other_requests_are_not_the_same() -> None:
    """Any field makes another one; who asks, and how it is read, does not."""
    known = {name: value for name, value in DIFFERENT.items() if hasattr(ASK, name)}
    pipeline, transport = stack()
    requests = [
        ASK.evolve(**{name: value}) for name, value in known.items() if name != "temperature"
    ]
    for request in (*requests, *requests):
        await pipeline.run(request)
    assert len(transport.requests) == len(requests) >= 4
    same = by(user="u", session="s", tags={"a": "b"}, priority=3, idempotency_key="k")
    await pipeline.run(ASK)
    before = len(transport.requests)
    await pipeline.run(same)
    assert len(transport.requests) == before


async def test_more_of_the_context_can_separate() -> None:
    """`vary` names what."""
    pipeline, transport = stack(cache=Cache(vary=["user", "tags"]))
    asked = [by(user="u"), by(user="v"), by(tags={"a": "1"}), by(tags={"a": "2"}), ASK]
    for request in (*asked, *asked):
        await pipeline.run(request)
    assert len(transport.requests) == 5


async def test_what_is_required_of_targets_separates() -> None:
    """An answer from anywhere is none for who must have one from there."""
    pipeline, transport = stack()
    asked = [by(attributes={"require": {"region": region}}) for region in ("eu", "us")]
    for request in (ASK, *asked, *asked, ASK):
        await pipeline.run(request)
    assert len(transport.requests) == 3


async def test_what_stands_inside_separates() -> None:
    """Another transport, or another layer that changes answers, has answers of its own."""
    ports = virtual_ports()
    one, first = stack(ports=ports, name="one")
    other, second = stack(ports=ports, name="other")
    await one.run(ASK)
    await other.run(ASK)
    assert (len(first.requests), len(second.requests)) == (1, 1)


async def test_namespaces_see_nothing_of_each_other() -> None:
    """What is kept under one is not found under another."""
    ports = virtual_ports()
    for namespace in ("", "a", "b", "a"):
        await stack(cache=Cache(namespace=namespace), ports=ports)[0].run(ASK)
    pipeline, transport = stack(cache=Cache(namespace="c"), ports=ports)
    assert not (await pipeline.run(ASK)).head.cached
    pipeline, transport = stack(cache=Cache(namespace="b"), ports=ports)
    assert (await pipeline.run(ASK)).head.cached
    assert transport.requests == []


@pytest.mark.parametrize("fields", [{"temperature": None}, {"temperature": 0.7}])
async def test_only_what_is_to_be_the_same_is_cached_by_default(fields: dict[str, Any]) -> None:
    """What may come out differently passes, with a note."""
    pipeline, transport = stack()
    request = ASK.evolve(**fields)
    await pipeline.run(request)
    response = await pipeline.run(request)
    assert (len(transport.requests), names(response)) == (2, ["bypassed"])
    assert notes(response, "bypassed") == [{"why": "not deterministic"}]


async def test_a_seed_or_a_word_makes_it_cacheable() -> None:
    """A seed, `when`, or the request's own word."""
    loose = ASK.evolve(temperature=0.7)
    for cache, request in (
        (Cache(), loose.evolve(seed=1)),
        (Cache(), saying(True, loose)),
        (Cache(), saying(CacheControl(always=True), loose)),
        (Cache(when="all"), loose),
        (Cache(when=lambda request: request.model == "m"), loose),
    ):
        pipeline, _ = stack(cache=cache)
        await pipeline.run(request)
        assert (await pipeline.run(request)).head.cached
    pipeline, _ = stack(cache=Cache(when=lambda request: request.model == "other"))
    assert names(await pipeline.run(ASK)) == ["bypassed"]


STATEFUL: list[dict[str, Any]] = [
    {"extra": {"store": True}},
    {"extra": {"background": True}},
    {"extra": {"previous_response_id": "r"}},
    {"extra": {"conversation": "c"}},
    {"tools": [Opaque({"type": "web_search"})]},
]


@pytest.mark.parametrize("fields", STATEFUL)
async def test_what_changes_something_is_never_cached(fields: dict[str, Any]) -> None:
    """Not even if it is asked for, or has an idempotency key."""
    pipeline, transport = stack(cache=Cache(when="all"))
    request = saying(True, by(ASK.evolve(**fields), idempotency_key="k"))
    await pipeline.run(request)
    response = await pipeline.run(request)
    assert (len(transport.requests), names(response)) == (2, ["bypassed"])


async def test_what_has_no_key_passes() -> None:
    """An object in `extra` has no canonical form; the note says which field."""
    pipeline, transport = stack()
    odd = ASK.evolve(extra={"an": object()})
    await pipeline.run(odd)
    response = await pipeline.run(odd)
    assert len(transport.requests) == 2
    (note,) = notes(response, "bypassed")
    assert "'extra'" in note["why"]
    assert "object" in note["why"]
    varied, _ = stack(cache=Cache(vary="tags"))
    odd = by(tags={"a": object()})
    assert names(await varied.run(odd)) == ["bypassed"]


# --- whose -------------------------------------------------------------------------------------


async def test_tenants_never_share() -> None:
    """Each has what was answered to it, and nobody else's."""
    pipeline, transport = stack()
    for tenant in ("a", "b", " ", "a", "b", " "):
        await pipeline.run(by(tenant=tenant))
    assert len(transport.requests) == 3


async def test_a_request_has_to_say_whose_it_is() -> None:
    """Without a tenant it is refused, with both remedies; what is not cached passes."""
    pipeline, transport = stack()
    with pytest.raises(MisuseError) as refused:
        await pipeline.run(by(tenant=None))
    assert "Context(tenant=...)" in str(refused.value)
    assert 'Cache(tenant="shared")' in str(refused.value)
    assert transport.requests == []
    loose = by(ASK.evolve(temperature=1), tenant=None)
    assert (await pipeline.run(loose)).text == "It is up."


async def test_those_who_name_none_can_be_one_tenant() -> None:
    """It is the one that the layer names, as if they had named it."""
    pipeline, _transport = stack(cache=Cache(tenant="shared"))
    await pipeline.run(by(tenant=None))
    assert (await pipeline.run(by(tenant="shared"))).head.cached
    assert (await pipeline.run(by(tenant=None))).head.cached
    assert not (await pipeline.run(ASK)).head.cached


# --- what is kept ------------------------------------------------------------------------------

BAD: dict[str, Any] = {
    "filtered": ["No.", Finish("content_filter")],
    "cut": ["An answer that", Finish("length")],
    "refused": [RefusalDelta("I would rather not."), Finish("stop")],
    "unknown": ["Hm.", Finish("something_new")],
    "one of two cut": ["One.", Finish("stop", reasons=("stop", "length"))],
    "one of two filtered": ["One.", Finish("stop", reasons=("content_filter", "stop"))],
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("bad", BAD)
async def test_only_good_answers_are_kept(bad: str, stream: bool) -> None:
    """Every other one is given, and asked for again."""
    pipeline, transport = stack(BAD[bad], GOOD)
    first = await called(pipeline, stream)
    assert names(first) == ["miss", "not_stored"]
    assert (await called(pipeline, stream)).text == "An answer."
    assert len(transport.requests) == 2
    assert (await called(pipeline, stream)).head.cached


async def test_what_is_not_kept_is_counted_by_why() -> None:
    """Like what the store does not take."""
    cache = Cache()
    pipeline, _ = stack(BAD["cut"], BAD["refused"], GOOD, cache=cache)
    for _ in range(3):
        await pipeline.run(ASK)
    assert (await cache.stats(pipeline)).not_stored == {"length": 1, "refusal": 1}


async def test_tool_calls_are_kept() -> None:
    """An answer that ends with them has ended well."""
    pipeline, _ = stack(ToolCall(id="c1", name="look", arguments='{"at": "it"}'))
    first = await pipeline.run(ASK)
    again = await pipeline.run(ASK)
    assert again.head.cached
    assert again.answer == first.answer
    assert [call.id for call in again.tool_calls] == ["c1"]


async def test_answers_that_are_cut_are_kept_on_request() -> None:
    """With `Keep(truncated=True)`."""
    pipeline, _ = stack(BAD["cut"], cache=Cache(keep=Keep(truncated=True)))
    await pipeline.run(ASK)
    assert (await pipeline.run(ASK)).head.cached


@pytest.mark.parametrize("stream", [False, True])
async def test_errors_are_never_kept(stream: bool) -> None:
    """Before and in the middle of an answer."""
    broken = ["An", ServerError("oops", status=500)]
    pipeline, transport = stack(ServerError("oops", status=500), broken, ["An"], GOOD)
    for _ in range(3):
        with pytest.raises(Exception, match=r"oops|terminal"):
            await called(pipeline, stream)
    assert (await called(pipeline, stream)).text == "An answer."
    assert len(transport.requests) == 4


async def test_an_answer_that_is_left_is_not_kept() -> None:
    """Who leaves a stream has not seen its end, and nobody has."""
    pipeline, transport = stack()
    async with pipeline.stream(ASK) as response:
        async for _ in response:
            break
    assert response.outcome is Outcome.LEFT
    assert not (await streamed(pipeline)).head.cached
    assert len(transport.requests) == 2


# --- what a request says -----------------------------------------------------------------------


@pytest.mark.parametrize("said", [False, "bypass", CacheControl("bypass"), {"mode": "bypass"}])
async def test_bypass_neither_looks_nor_keeps(said: Any) -> None:
    """It asks, and what was kept stays."""
    pipeline, _ = stack("one", "two", "three")
    assert (await pipeline.run(saying(said))).text == "one"
    assert (await pipeline.run(ASK)).text == "two"
    assert (await pipeline.run(saying(said))).text == "three"
    assert (await pipeline.run(ASK)).text == "two"


async def test_refresh_replaces() -> None:
    """It asks, and keeps what comes."""
    pipeline, _ = stack("one", "two")
    await pipeline.run(ASK)
    response = await pipeline.run(saying("refresh"))
    assert (response.text, names(response)) == ("two", ["miss", "stored"])
    assert (await pipeline.run(ASK)).text == "two"


async def test_no_store_only_looks() -> None:
    """It takes what is there, and leaves nothing."""
    pipeline, _ = stack("one", "two")
    assert (await pipeline.run(saying("no_store"))).text == "one"
    assert (await pipeline.run(ASK)).text == "two"
    assert (await pipeline.run(saying("no_store"))).text == "two"


async def test_only_if_cached_asks_nobody() -> None:
    """It has a kept answer or an error that says what to do."""
    pipeline, transport = stack()
    with pytest.raises(CacheMissError) as missed:
        await pipeline.run(saying("only_if_cached"))
    error = missed.value
    assert (error.retryable, error.outcome, error.phase) == (False, Outcome.NOT_SENT, "local")
    assert (error.layer, error.code, bool(error.hint)) == ("cache", "cache_miss", True)
    assert transport.requests == []
    await pipeline.run(ASK)
    assert (await pipeline.run(saying("only_if_cached"))).head.cached
    with pytest.raises(CacheMissError, match="not deterministic"):
        await pipeline.run(saying("only_if_cached", ASK.evolve(temperature=1)))


async def test_an_answer_can_be_given_with_the_request() -> None:
    """It is kept without a call, unless a fresh one is there already."""
    cache = Cache()
    pipeline, transport = stack(cache=cache)
    given = CacheControl(answer=ASK.answer(await _known()))
    assert (await pipeline.run(saying(given))).text == "Known."
    assert (await pipeline.run(ASK)).text == "Known."
    assert transport.requests == []
    other = CacheControl(answer=ASK.answer(await _known("Other.")))
    assert (await pipeline.run(saying(other))).text == "Known."
    replaced = CacheControl("refresh", answer=ASK.answer(await _known("Other.")))
    await pipeline.run(saying(replaced))
    assert (await pipeline.run(ASK)).text == "Other."


async def _known(text: str = "Known.") -> Any:
    response = await Pipeline([], Scripted([text]), ports=virtual_ports()).run(ASK)
    return response.events


WRONG: list[Any] = ["sometimes", 3, {"mode": "x"}, {"tll": 3}, {"ttl": -1}, ["bypass"]]


@pytest.mark.parametrize("said", WRONG)
async def test_what_makes_no_sense_is_refused(said: Any) -> None:
    """With what can be said instead."""
    pipeline, transport = stack()
    with pytest.raises(MisuseError, match="bypass") as refused:
        await pipeline.run(saying(said))
    assert refused.value.layer == "cache"
    assert transport.requests == []


# --- forgetting --------------------------------------------------------------------------------


async def test_answers_are_purged_by_tenant_and_by_tag() -> None:
    """The number says how many; what is of others stays."""
    cache = Cache(tags=lambda request: [f"doc-{request.seed}"])
    pipeline, transport = stack(cache=cache)
    asked = [by(ASK.evolve(seed=seed), tenant=tenant) for seed in (1, 2) for tenant in "ab"]
    for request in asked:
        await pipeline.run(request)
    assert await cache.purge(pipeline, tenant="a", tag="doc-1") == 1
    assert await cache.purge(pipeline, tenant="a", tag="doc-1") == 0
    assert [(await pipeline.run(one)).head.cached for one in asked] == [False, True, True, True]
    assert await cache.purge(pipeline, tag="doc-2") == 2
    assert await cache.purge(pipeline, tenant="b") == 1
    assert await cache.clear(pipeline) == 1
    assert await cache.clear(pipeline) == 0
    assert len(transport.requests) == 5
    with pytest.raises(MisuseError, match="clear"):
        await cache.purge(pipeline)


async def test_tags_of_layer_and_request_add_up() -> None:
    """Each of them finds the answer."""
    for tag in ("docs", "doc-17"):
        cache = Cache(tags="docs")
        pipeline, _ = stack(cache=cache)
        await pipeline.run(saying(CacheControl(tags="doc-17")))
        assert await cache.purge(pipeline, tag=tag) == 1


async def test_another_namespace_is_not_cleared() -> None:
    """`clear` forgets its own."""
    ports = virtual_ports()
    one, other = Cache(namespace="a", tags="t"), Cache(namespace="ab", tags="t")
    first, _ = stack(cache=one, ports=ports)
    second, _ = stack(cache=other, ports=ports)
    await first.run(ASK)
    await second.run(ASK)
    assert await one.purge(first, tenant="acme", tag="t") == 1
    assert await one.clear(first) == 0
    assert (await second.run(ASK)).head.cached


@pytest.mark.parametrize("wrong", [[3], ["a", ""], 3])
async def test_a_function_of_tags_must_give_words(wrong: Any) -> None:
    """Otherwise the call fails before anything is asked, and says why."""
    pipeline, transport = stack(cache=Cache(tags=lambda _: wrong))
    with pytest.raises(MisuseError, match="words"):
        await pipeline.run(ASK)
    assert transport.requests == []


# --- options -----------------------------------------------------------------------------------

OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"ttl": 0}, "ttl"),
    ({"ttl": "1h"}, "ttl"),
    ({"when": "sometimes"}, "when"),
    ({"tenant": ""}, "tenant"),
    ({"namespace": None}, "namespace"),
    ({"vary": ["colour"]}, "vary"),
    ({"vary": 3}, "vary"),
    ({"tags": [3]}, "tags"),
    ({"tags": [""]}, "tags"),
    ({"jitter": 1}, "jitter"),
    ({"piece": 0}, "piece"),
    ({"stale": 3}, "stale"),
    ({"stale": {"while_revalidate": -1}}, "while_revalidate"),
    ({"stale": {"if_err": 1}}, "if_err"),
    ({"keep": {"truncated": "yes"}}, "truncated"),
    ({"keep": {"refusals_for": 0}}, "refusals_for"),
    ({"packing": 3}, "packing"),
    ({"store": 3}, "store"),
    ({"store": {"path": "x"}}, "use"),
]


@pytest.mark.parametrize(("options", "word"), OPTIONS)
async def test_wrong_options_are_refused_at_once(options: dict[str, Any], word: str) -> None:
    """The message names the option."""
    with pytest.raises(ConfigurationError, match=word):
        Cache(**options)


async def test_options_may_be_what_a_file_can_say() -> None:
    """Tables for records, timedeltas for seconds, one word for a list of them."""
    cache = Cache(
        timedelta(minutes=1),
        vary="user",
        tags="docs",
        stale={"while_revalidate": timedelta(seconds=3)},
        keep={"truncated": True},
        packing={"compress_above": None},
    )
    assert (cache.ttl, cache.vary, cache.tags) == (60.0, ("user",), ("docs",))
    assert cache.stale.while_revalidate == 3.0
    assert cache.keep.truncated
    assert cache.packing.compress_above is None
