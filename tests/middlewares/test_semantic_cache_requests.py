"""SemanticCache: which requests are compared, and what a request can say about it."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from semantic_caches import (
    AGAIN,
    OTHER,
    RESET,
    World,
    why,
)

from lamella import (
    CacheMissError,
    Context,
    EmbeddingRequest,
    Finish,
    Image,
    Message,
    MisuseError,
    Pipeline,
    ToolCall,
)
from lamella.transports import Mock
from lamella_middlewares.cache import CacheControl
from lamella_middlewares.semantic_cache import SemanticCache, SemanticControl

pytestmark = pytest.mark.anyio


LOOK = Image(url="https://example.com/a.png")


# --- which requests ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ([Message.user("Hi"), Message.assistant("Yes?")], "the last message is not a user's"),
        (
            [
                Message.user(RESET),
                Message.assistant([ToolCall("1", "f", "{}")]),
                Message.tool("1", "4"),
            ],
            "the last message is not a user's",
        ),
        (Message.user(LOOK), "no text"),
        (Message.user("  \n"), "no text"),
        ("x" * 8001, "longer than max_characters"),
    ],
)
async def test_what_has_no_question_passes(text: Any, reason: str) -> None:
    """Nothing is embedded, and the trace says why."""
    world = World()
    assert why(await world.ask(text), "bypassed") == reason
    assert (world.embedder.asked, world.calls) == ([], 1)


async def test_only_what_is_to_be_the_same_each_time_is_compared() -> None:
    """By default temperature 0 or a seed; `when` says otherwise."""
    world = World()
    assert why(await world.ask(RESET, temperature=0.7), "bypassed") == "not deterministic"
    await world.ask(RESET, temperature=0.7, seed=1)
    assert (await world.ask(AGAIN, temperature=0.7, seed=1)).head.cached
    every = World(when="all")
    await every.ask(RESET, temperature=None)
    assert (await every.ask(AGAIN, temperature=None)).head.cached
    some = World(when=lambda request: request.model == "m")
    assert why(await some.ask(RESET, model="n"), "bypassed") == "when"


async def test_what_leaves_something_behind_is_never_compared() -> None:
    """A stored answer is not the same as a replayed one."""
    world = World(when="all")
    assert "leaves something behind" in why(await world.ask(extra={"store": True}), "bypassed")


async def test_what_has_no_key_passes() -> None:
    """Text that is no Unicode, or an object in `extra`, is sent on and not compared."""
    world = World(vary="tags")
    assert "UnicodeEncodeError" in why(await world.ask("half \ud83d"), "bypassed")
    assert "'extra'" in why(await world.ask(extra={"a": object()}), "bypassed")
    context = Context(tags={"a": object()})  # type: ignore[dict-item]
    assert "TypeError" in why(await world.ask(context=context), "bypassed")
    assert (world.calls, world.embedder.asked) == (3, [])


async def test_other_operations_pass() -> None:
    """The layer is in the chain of chat only."""
    pipeline = Pipeline([SemanticCache(Mock())], Mock())
    response = await pipeline.run(EmbeddingRequest.of("x"))
    assert len(response.vectors) == 1


async def test_a_request_without_a_tenant_is_refused() -> None:
    """The error names both remedies; what would not be compared needs none."""
    world = World(tenant=None)
    with pytest.raises(MisuseError, match=r'Context\(tenant=...\).*tenant="shared"'):
        await world.ask(RESET)
    await world.ask(RESET, temperature=1)
    await world.ask(RESET, tenant="acme")
    assert (await world.ask(AGAIN, tenant="acme")).head.cached
    assert not (await world.ask(AGAIN, tenant="other")).head.cached


async def test_who_names_no_tenant_is_the_layers() -> None:
    """`tenant="shared"` is the tenant of requests that name none, and of those that name it."""
    world = World()
    await world.ask(RESET)
    assert (await world.ask(AGAIN, tenant="shared")).head.cached
    assert not (await world.ask(AGAIN, tenant="other")).head.cached


# --- what a request says -----------------------------------------------------------------------


async def test_a_request_can_bypass() -> None:
    """Nothing is embedded, found or kept."""
    world = World()
    await world.ask(RESET)
    for said in (False, "bypass", SemanticControl("bypass"), {"mode": "bypass"}):
        assert why(await world.ask(AGAIN, said=said), "bypassed") == "asked to"
    assert (world.calls, len(world.embedder.asked)) == (5, 1)


async def test_a_request_can_refresh() -> None:
    """It asks, and its answer stands for the very same question from then on."""
    world = World(["old", Finish("stop")], ["new", Finish("stop")])
    await world.ask(RESET)
    assert (await world.ask(RESET, said="refresh")).text == "new"
    assert (await world.ask(RESET)).text == "new"
    assert world.calls == 2


async def test_a_request_can_have_nothing_kept() -> None:
    """`no_store` takes what is there and keeps nothing."""
    world = World()
    await world.ask(RESET, said="no_store")
    assert not (await world.ask(AGAIN)).head.cached
    assert (await world.ask(RESET, said="no_store")).head.cached


async def test_a_request_can_want_only_what_is_kept() -> None:
    """`only_if_cached` fails where there is nothing, and asks no model."""
    world = World()
    with pytest.raises(CacheMissError, match="nothing similar"):
        await world.ask(AGAIN, said="only_if_cached")
    with pytest.raises(CacheMissError, match="not deterministic"):
        await world.ask(AGAIN, said="only_if_cached", temperature=1)
    assert world.calls == 0
    await world.ask(RESET)
    assert (await world.ask(AGAIN, said="only_if_cached")).head.cached


async def test_a_request_can_only_raise_the_threshold() -> None:
    """A lower one than the layer's does not count."""
    world = World(degrees={RESET: 0, AGAIN: 10, OTHER: 40})
    await world.ask(RESET)
    assert not (await world.ask(AGAIN, said={"threshold": 0.99, "mode": "no_store"})).head.cached
    assert not (await world.ask(OTHER, said={"threshold": 0.5, "mode": "no_store"})).head.cached
    assert (await world.ask(AGAIN, said={"threshold": 0.95})).head.cached


async def test_a_request_can_say_how_old_an_answer_may_be() -> None:
    """`max_age` and `ttl` of a request hold for it."""
    world = World()
    await world.ask(RESET)
    await anyio.sleep(10)
    assert why(await world.ask(RESET, said=SemanticControl("no_store", max_age=9))) == (
        "too old for the request"
    )
    assert (await world.ask(RESET, said=SemanticControl(max_age=11))).head.cached
    fresh = World()
    await fresh.ask(RESET)
    assert why(await fresh.ask(RESET, said={"max_age": 0})) == "too old for the request"
    assert why(await world.ask(RESET, said=SemanticControl("no_store", ttl=5))) == "expired"


async def test_a_request_can_be_compared_although_it_varies() -> None:
    """True compares what `when` would let pass."""
    world = World()
    await world.ask(RESET, temperature=1, said=True)
    assert (await world.ask(AGAIN, temperature=1, said=True)).head.cached


@pytest.mark.parametrize(
    "said",
    ["refreshed", 3, {"modes": "bypass"}, {"threshold": 2}, {"threshold": "high"}, {"ttl": 0}],
)
async def test_what_makes_no_sense_is_refused(said: Any) -> None:
    """The error shows what was said and what can be."""
    with pytest.raises(MisuseError, match="SemanticControl"):
        await World().ask(RESET, said=said)


@pytest.mark.parametrize("said", ["bypass", False, CacheControl("bypass"), {"mode": "bypass"}])
async def test_who_wants_no_exact_answer_wants_no_similar_one(said: Any) -> None:
    """What a request says to an exact cache restricts this one, unless it says otherwise here."""
    world = World()
    await world.ask(RESET)
    context = Context(attributes={"cache": said})
    assert not (await world.ask(AGAIN, context=context)).head.cached
    context = Context(attributes={"cache": said, "semantic_cache": "use"})
    assert (await world.ask(AGAIN, context=context)).head.cached


@pytest.mark.parametrize("said", [True, CacheControl(always=True), "nonsense", 7, {"x": 1}])
async def test_what_allows_an_exact_answer_allows_no_similar_one(said: Any) -> None:
    """That a request is cached exactly does not say that it is compared."""
    world = World()
    context = Context(attributes={"cache": said})
    response = await world.ask(RESET, temperature=1, context=context)
    assert why(response, "bypassed") == "not deterministic"
