"""Cache: embeddings and moderations are kept input by input, and only unknown ones are sent."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest
from caches import by, embed, names, notes, saying, stack, streamed, texts
from hypothesis import given
from hypothesis import strategies as st

from lamella import (
    CacheMissError,
    Context,
    EmbeddingRequest,
    EmbeddingResponse,
    Finish,
    Image,
    Moderation,
    ModerationRequest,
    ModerationResponse,
    Money,
    ProtocolError,
    ServerError,
    Text,
    Usage,
    Vector,
)
from lamella.testing import run_virtual
from lamella_middlewares.cache import Cache, CacheControl, Stale

pytestmark = pytest.mark.anyio


def sent(transport: Any) -> list[tuple[Any, ...]]:
    """The inputs of each request that was made."""
    return [request.inputs for request in transport.requests]


def judge(request: ModerationRequest) -> ModerationResponse:
    """Harmful is what has a 'bad' in it."""
    found = ["bad" in str(one) for one in request.inputs]
    return ModerationResponse.of([Moderation(bad, {"x": bad}, {"x": 0.5}) for bad in found])


async def test_a_batch_with_one_new_text_sends_one_text() -> None:
    """The others are known; the answer is in the order of the inputs."""
    pipeline, transport = stack(embed)
    await pipeline.run(texts("a", "bb"))
    mixed = await pipeline.run(texts("bb", "ccc", "a"))
    assert sent(transport) == [("a", "bb"), ("ccc",)]
    assert [vector[0] for vector in mixed.vectors] == [2.0, 3.0, 1.0]
    assert (mixed.usage, mixed.head.cached) == (Usage(uncached_input=10), False)
    assert names(mixed) == ["hit", "miss", "stored"]
    assert notes(mixed, "hit")[0]["inputs"] == 2
    assert mixed.head.model == "e-1"


async def test_a_text_that_comes_twice_is_sent_once() -> None:
    """In one request."""
    pipeline, transport = stack(embed)
    response = await pipeline.run(texts("a", "bb", "a", "a"))
    assert sent(transport) == [("a", "bb")]
    assert [vector[0] for vector in response.vectors] == [1.0, 2.0, 1.0, 1.0]
    assert response.usage == Usage(uncached_input=20)


async def test_only_an_answer_that_is_wholly_kept_is_flagged() -> None:
    """It costs nothing, and says what it took to make it."""
    pipeline, transport = stack(embed)
    await pipeline.run(texts("a", "bb"))
    free = await pipeline.run(texts("bb", "a"))
    assert (len(transport.requests), free.head.cached, free.cost) == (1, True, Money(0))
    assert free.usage == Usage(uncached_input=20)
    assert free.trace.attempts == ()


async def test_one_text_is_known_from_a_batch_and_the_other_way_round() -> None:
    """An input has one key, whatever it comes with."""
    pipeline, transport = stack(embed)
    await pipeline.run(texts("a"))
    await pipeline.run(texts("a", "bb"))
    assert (await pipeline.run(texts("bb"))).vector[0] == 2.0
    assert sent(transport) == [("a",), ("bb",)]


async def test_what_is_sent_as_it_came_comes_back_as_it_came() -> None:
    """Where nothing is known, request and answer are not touched."""
    pipeline, transport = stack(embed)
    request = texts("a", "bb")
    response = await pipeline.run(request)
    assert sent(transport) == [request.inputs]
    assert response.head.model == "e-1"
    assert response.usage == Usage(uncached_input=20)


async def test_the_shares_of_a_batch_add_up() -> None:
    """Each input has its share of what was used and paid, by length."""
    pipeline, _ = stack(
        EmbeddingResponse.of([[1.0], [2.0], [3.0]], usage=Usage(uncached_input=100))
    )
    paid = await pipeline.run(texts("a", "bb" * 40, "ccc"))
    found = [await pipeline.run(texts(one)) for one in ("a", "bb" * 40, "ccc")]
    usages = [response.usage for response in found]
    assert sum(usage.uncached_input for usage in usages if usage) == 100
    whole = await pipeline.run(texts("a", "bb" * 40, "ccc"))
    assert (whole.usage, whole.answer) == (paid.usage, paid.answer)
    nano = [notes(response, "hit")[0]["saved_nano"]["USD"] for response in found]
    assert paid.cost is not None
    assert sum(nano) == paid.cost.nano
    assert nano[1] > nano[0]


async def test_other_models_and_dimensions_are_others() -> None:
    """Everything but the inputs is in the key of each."""
    pipeline, transport = stack(embed)
    request = texts("a")
    for one in (
        request,
        request.evolve(dimensions=2),
        request.evolve(model="m"),
        by(request, tenant="b"),
    ):
        await pipeline.run(one)
    assert len(transport.requests) == 4


async def test_moderations_are_kept_by_input_too() -> None:
    """Texts, and pictures with the words under them."""
    pipeline, transport = stack(judge)
    picture = Image(data=b"\x89PNG", media_type="image/png")
    both: Any = (Text("bad words"), picture)
    context = Context(tenant="acme")
    await pipeline.run(ModerationRequest.of(["fine", both], model="m", context=context))
    response = await pipeline.run(
        ModerationRequest.of([both, "bad", "fine"], model="m", context=context)
    )
    assert [len(inputs) for inputs in sent(transport)] == [2, 1]
    assert [result.flagged for result in response.results] == [True, True, False]
    assert [result.index for result in response.results] == [0, 1, 2]


async def test_a_stream_of_embeddings_is_cached_too() -> None:
    """It is one answer at once, either way."""
    pipeline, transport = stack(embed)
    await streamed(pipeline, texts("a", "bb"))
    response = await streamed(pipeline, texts("bb", "ccc"))
    assert [vector[0] for vector in response.vectors] == [2.0, 3.0]
    assert sent(transport) == [("a", "bb"), ("ccc",)]


async def test_an_answer_that_lacks_results_is_no_answer() -> None:
    """It is not kept, and where it would have to be put together with others it is an error."""
    short = EmbeddingResponse.of([[1.0]])
    pipeline, transport = stack(short, embed, short)
    response = await pipeline.run(texts("a", "bb"))
    assert (len(response.vectors), names(response)) == (1, ["miss", "not_stored"])
    await pipeline.run(texts("a"))
    with pytest.raises(ProtocolError, match="2 inputs"):
        await pipeline.run(texts("a", "bb", "ccc"))
    assert len(transport.requests) == 3


async def test_an_answer_with_two_results_for_one_input_is_not_kept() -> None:
    """Which of them is the input's nobody can tell; each input is counted."""

    def twice(request: EmbeddingRequest) -> Any:
        vectors = [Vector(place, (1.0,)) for place in range(len(request.inputs))]
        return [*vectors, Vector(1, (2.0,)), Finish("stop")]

    cache = Cache()
    pipeline, transport = stack(twice, cache=cache)
    responses = [await pipeline.run(texts("a", "b")) for _ in range(2)]
    assert [names(response) for response in responses] == [["miss", "not_stored"]] * 2
    assert len(transport.requests) == 2
    assert sum((await cache.stats(pipeline)).not_stored.values()) == 4


async def test_a_failure_leaves_what_is_known() -> None:
    """The error is the caller's, and nothing is lost."""
    pipeline, transport = stack(embed, ServerError("oops", status=500), embed)
    await pipeline.run(texts("a"))
    with pytest.raises(ServerError):
        await pipeline.run(texts("a", "bb"))
    await pipeline.run(texts("a", "bb"))
    assert sent(transport) == [("a",), ("bb",), ("bb",)]


# --- what a request says -----------------------------------------------------------------------


async def test_modes_hold_for_batches() -> None:
    """Each of them, for each input."""
    pipeline, transport = stack(embed)
    await pipeline.run(texts("a"))
    with pytest.raises(CacheMissError, match="1 of 2 inputs"):
        await pipeline.run(saying("only_if_cached", texts("a", "bb")))
    assert (await pipeline.run(saying("only_if_cached", texts("a")))).head.cached
    await pipeline.run(saying("no_store", texts("a", "bb")))
    await pipeline.run(texts("bb"))
    await pipeline.run(saying("refresh", texts("a", "bb")))
    await pipeline.run(saying("bypass", texts("a")))
    assert sent(transport) == [("a",), ("bb",), ("bb",), ("a", "bb"), ("a",)]


async def test_an_answer_can_be_given_for_a_batch() -> None:
    """Each input is known from then on."""
    pipeline, transport = stack(embed)
    given_answer = EmbeddingResponse.of([[7.0], [8.0]])
    response = await pipeline.run(saying(CacheControl(answer=given_answer), texts("a", "bb")))
    assert response.vectors == ((7.0,), (8.0,))
    assert (await pipeline.run(texts("bb"))).vector == (8.0,)
    assert transport.requests == []


async def test_tags_purge_inputs() -> None:
    """Each input has the tags of the request it came with."""
    cache = Cache(tags="docs")
    pipeline, _ = stack(embed, cache=cache)
    await pipeline.run(texts("a", "bb"))
    assert await cache.purge(pipeline, tag="docs") == 2


# --- stale -------------------------------------------------------------------------------------


async def test_stale_inputs_are_refreshed_together() -> None:
    """They are given at once, and asked for in one request."""
    cache = Cache(10, stale=Stale(while_revalidate=100), jitter=0)
    pipeline, transport = stack(embed, cache=cache)
    await pipeline.run(texts("a", "bb"))
    await anyio.sleep(5)
    await pipeline.run(texts("ccc"))
    await anyio.sleep(7)
    response = await pipeline.run(texts("a", "bb", "ccc", "dddd"))
    await anyio.sleep(1)
    assert [vector[0] for vector in response.vectors] == [1.0, 2.0, 3.0, 4.0]
    assert sorted(sent(transport)[2:]) == [("a", "bb"), ("dddd",)]
    response = await pipeline.run(texts("a", "bb", "ccc", "dddd"))
    assert response.head.cached
    assert not notes(response, "hit")[0]["stale"]


async def test_stale_inputs_stand_in_for_an_outage() -> None:
    """If all that could not be had are there, and not otherwise."""
    cache = Cache(10, stale=Stale(if_error=100), jitter=0)
    down = ServerError("down", status=503, retryable=True)
    pipeline, transport = stack(embed, down, down, cache=cache)
    await pipeline.run(texts("a", "bb"))
    await anyio.sleep(20)
    response = await pipeline.run(texts("bb", "a"))
    assert [vector[0] for vector in response.vectors] == [2.0, 1.0]
    assert notes(response, "hit")[0]["error"] == "ServerError"
    with pytest.raises(ServerError):
        await pipeline.run(texts("a", "ccc"))
    assert len(transport.requests) == 3
    stats = await cache.stats(pipeline)
    assert (stats.hits, stats.missed) == (2, {"absent": 3, "expired": 1})


# --- any order of any texts --------------------------------------------------------------------

WORDS = st.lists(st.sampled_from(["", "a", "bb", "ccc", "dd", "é"]), min_size=1, max_size=6)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(batches=st.lists(WORDS, min_size=1, max_size=6))
def test_it_makes_no_difference_to_answers(backend: str, batches: list[list[str]]) -> None:
    """Every batch has what it would have without a cache, and nothing is sent twice."""

    async def run_all() -> None:
        pipeline, transport = stack(embed)
        used = 0
        for inputs in batches:
            response = await pipeline.run(texts(*inputs))
            assert response.vectors == embed(EmbeddingRequest.of(inputs)).vectors
            assert response.usage is not None
            used += 0 if response.head.cached else response.usage.uncached_input
        all_sent = [one for inputs in sent(transport) for one in inputs]
        assert len(all_sent) == len(set(all_sent))
        assert set(all_sent) == {one for inputs in batches for one in inputs}
        assert used == 10 * len(all_sent)

    run_virtual(run_all, backend=backend)


async def test_a_thousand_inputs_leave_the_loop_to_others() -> None:
    """Between some of them others have their turn."""
    pipeline, _ = stack(embed)
    many = texts(*map(str, range(1_000)))
    await pipeline.run(many)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        assert (await pipeline.run(many)).head.cached
        group.cancel_scope.cancel()
    assert turns >= 10
