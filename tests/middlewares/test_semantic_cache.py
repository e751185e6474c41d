"""SemanticCache: the same question in other words has the same answer, and nothing else has."""

from __future__ import annotations

from typing import Any

import anyio
import attrs
import pytest
from semantic_caches import (
    AGAIN,
    OTHER,
    PRICE,
    RESET,
    USAGE,
    World,
    asked,
    noted,
    why,
)

from lamella import (
    ChatRequest,
    ConfigurationError,
    Finish,
    Image,
    Message,
    MisuseError,
    Money,
    OrderError,
    Pipeline,
    ServerError,
    Text,
    TextDelta,
    UsageReport,
    middleware,
)
from lamella.testing import Scripted, virtual_ports
from lamella.transports import Mock
from lamella_middlewares.cache import Cache, Stale
from lamella_middlewares.cost import Cost
from lamella_middlewares.fallback import Fallback
from lamella_middlewares.pii import PII
from lamella_middlewares.semantic_cache import Keep, SemanticCache, Similar
from lamella_middlewares.single_flight import SingleFlight

pytestmark = pytest.mark.anyio


# --- hits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", ["ask", "stream"])
@pytest.mark.parametrize("read", ["ask", "stream"])
async def test_other_words_have_the_same_answer(stored: str, read: str) -> None:
    """A similar question is answered with what was kept, streamed or not, and costs nothing."""
    world = World()
    first = await getattr(world, stored)(RESET)
    second = await getattr(world, read)(AGAIN)
    assert world.calls == 1
    assert (first.text, second.text) == ("Press the button.", "Press the button.")
    assert (second.usage, second.finish_reason, second.head.cached) == (USAGE, "stop", True)
    assert (first.cost, second.cost) == (PRICE, Money(0))
    [hit] = noted(second, "hit")
    assert hit["similarity"] == pytest.approx(0.9848, abs=1e-4)
    assert (hit["saved_tokens"], hit["saved_nano"]) == (9, {"USD": PRICE.nano})
    assert why(first) == "nothing similar"
    assert noted(first, "stored") != []


async def test_what_is_less_near_than_the_threshold_is_another_question() -> None:
    """At 10 degrees a threshold of 0.99 lets nothing pass."""
    world = World(threshold=0.99)
    await world.ask(RESET)
    assert why(await world.ask(AGAIN)) == "nothing similar"
    assert why(await world.ask(OTHER)) == "nothing similar"
    assert world.calls == 3


async def test_the_very_same_question_is_like_itself() -> None:
    """A threshold of 1 still finds the same text."""
    world = World(threshold=1)
    await world.ask(RESET)
    assert (await world.ask(RESET)).head.cached


async def test_the_embedding_is_a_child_call() -> None:
    """It is in the call's trace, on a branch of its own, and sees nothing but the text."""
    world = World()
    response = await world.ask(RESET, tenant="acme", said=True)
    [child] = world.embedder.requests
    assert child.inputs == (RESET,)
    assert (child.context.tenant, child.context.attributes) == ("acme", {})
    assert child.context.branch == "/embedding/angles"
    branches = [attempt.branch for attempt in response.trace.attempts]
    assert branches == ["/embedding/angles", ""]


async def test_a_transport_embeds_through_the_layers_inside() -> None:
    """Limits, retries and prices inside hold for the embedding too."""
    seen: list[str] = []

    @middleware(phase="attempt")
    async def watch(request: Any, call_next: Any) -> Any:
        seen.append(request.operation)
        return await call_next(request)

    layer = SemanticCache(Mock(), threshold=0.6, tenant="shared")
    pipeline = Pipeline([layer, watch], Mock(), ports=virtual_ports())
    await pipeline.run(asked("How do I reset my password?"))
    response = await pipeline.run(asked("How can I reset my password?"))
    assert (response.head.cached, seen) == (True, ["embeddings", "chat", "embeddings"])


# --- what has to be the same -------------------------------------------------------------------

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
LOOK = Image(url="https://example.com/a.png")


@pytest.mark.parametrize(
    "changed",
    [
        {"tenant": "other"},
        {"model": "n"},
        {"seed": 7},
        {"top_p": 0.5},
        {"max_output_tokens": 9},
        {"tools": [TOOL]},
        {"tool_choice": "none"},
        {"response_format": {"type": "json_object"}},
        {"extra": {"a": 1}},
        {"n": 2},
        {"text": [Message.system("Be brief."), Message.user(AGAIN)]},
        {"text": [Message.user("Hi"), Message.assistant("Yes?"), Message.user(AGAIN)]},
        {"text": Message.user([Text(AGAIN), LOOK])},
        {"text": Message.user([Text(AGAIN), Text(" ")])},
        {"text": Message("user", AGAIN, name="ann")},
        {"text": Message.user(Text(AGAIN, extra={"cache": 1}))},
    ],
)
async def test_all_else_has_to_be_the_same(changed: dict[str, Any]) -> None:
    """Whatever differs besides the last text makes another question, however similar."""
    world = World()
    await world.ask(RESET)
    response = await world.ask(**{"text": AGAIN, **changed})
    assert (world.calls, response.head.cached) == (2, False)
    assert (await world.ask(AGAIN)).head.cached


async def test_pictures_and_earlier_turns_that_are_the_same_do_not_hinder() -> None:
    """What stands beside the last text is compared exactly, and may be there."""
    world = World()
    before = [Message.system("Be brief."), Message.user("Hi"), Message.assistant("Yes?")]
    await world.ask([*before, Message.user([Text(RESET), LOOK])])
    assert (await world.ask([*before, Message.user([Text(AGAIN), LOOK])])).head.cached


async def test_another_namespace_sees_nothing() -> None:
    """Two layers with one store and two namespaces keep apart."""
    one = World(namespace="one")
    other = World(namespace="two", ports=one.pipeline.ports)
    await one.ask(RESET)
    assert not (await other.ask(AGAIN)).head.cached
    assert (await one.ask(AGAIN)).head.cached


async def test_another_stack_inside_sees_nothing() -> None:
    """A layer inside that changes requests makes other answers."""
    one = World()
    other = World(ports=one.pipeline.ports)
    await one.ask(RESET)
    assert (await other.ask(AGAIN)).head.cached

    @middleware(phase="shape", effects=["changes requests"])
    async def polite(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    third = World(inner=[polite], ports=one.pipeline.ports)
    assert not (await third.ask(AGAIN)).head.cached


async def test_more_of_the_context_can_separate() -> None:
    """`vary` names what."""
    world = World(vary="user")
    await world.ask(RESET, user="ann")
    assert not (await world.ask(AGAIN, user="bob")).head.cached
    assert (await world.ask(AGAIN, user="ann")).head.cached


# --- facts and verifying -----------------------------------------------------------------------

Y23, Y24 = "What was the revenue of 2023?", "What was the revenue of 2024?"


async def test_similar_questions_with_different_facts_are_different() -> None:
    """A number that differs is seen, and noted without the number."""
    world = World(degrees={Y23: 0, Y24: 1})
    await world.ask(Y23)
    response = await world.ask(Y24)
    assert why(response) == "different numbers"
    assert noted(response, "rejected") == [
        {"why": "different numbers", "similarity": pytest.approx(0.9998, abs=1e-4)}
    ]
    assert "2024" not in repr(response.trace.notes)
    blind = World(degrees={Y23: 0, Y24: 1}, facts=False)
    await blind.ask(Y23)
    assert (await blind.ask(Y24)).head.cached


async def test_the_next_nearest_may_have_the_same_facts() -> None:
    """The nearest differs in a fact; the one behind it does not, and answers."""
    asked_now = "What was 2023's revenue?"
    world = World(
        ["of 24", Finish("stop")], ["of 23", Finish("stop")],
        degrees={Y24: 0, Y23: 20, asked_now: 5},
    )  # fmt: skip
    await world.ask(Y24)
    await world.ask(Y23)
    assert (await world.ask(asked_now)).text == "of 23"


async def test_facts_are_looked_for_once_and_long_texts_off_the_event_loop() -> None:
    """The question's own facts serve for all candidates; a long text blocks nobody."""
    looked: list[int] = []

    async def thread(function: Any, /, *args: Any) -> Any:
        looked.extend(map(len, args))
        return function(*args)

    long = "x y " * 600
    kept = [f"{number} {long}" for number in range(3)]
    ports = attrs.evolve(virtual_ports(), thread=thread)
    world = World(ports=ports, degrees=dict.fromkeys([*kept, long], 0.0))
    for text in kept:
        await world.ask(text)
    looked.clear()
    assert why(await world.ask(long)) == "different numbers"
    assert looked == [2400, 2402, 2402, 2402]


async def test_a_hook_verifies() -> None:
    """It is shown both questions and the answer, and only True lets it pass."""
    shown: list[Similar] = []
    says: list[Any] = [True]

    def verify(request: Any, found: Similar) -> Any:
        assert isinstance(request, ChatRequest)
        shown.append(found)
        return says[-1]

    world = World(verify=verify)
    await world.ask(RESET)
    await anyio.sleep(3)
    assert (await world.ask(AGAIN)).head.cached
    [found] = shown
    assert (found.asked, found.question, found.answer) == (AGAIN, RESET, "Press the button.")
    assert [found.similarity, found.age] == pytest.approx([0.9848, 3.0], abs=1e-4)
    assert RESET not in repr(found)
    assert (await world.ask(RESET)).head.cached  # it is the same question: nothing to verify
    assert len(shown) == 1
    for said, reason in (
        (False, "verify"),
        (None, "verify gave NoneType"),
        ("yes", "verify gave str"),
    ):
        says.append(said)
        assert why(await world.ask(AGAIN, said="no_store")) == reason


async def test_a_hook_that_fails_or_hangs_lets_nothing_pass() -> None:
    """It fails closed, in time, and the call goes on."""

    async def hangs(request: Any, found: Similar) -> bool:
        await anyio.sleep(100)
        return True

    async def fails(request: Any, found: Similar) -> bool:
        raise ServerError("x", status=500)

    for verify, reason, seconds in (
        (hangs, "verify took too long", 2.0),
        (fails, "verify failed: ServerError", 0.0),
        (lambda *_: 1 / 0, "verify failed: ZeroDivisionError", 0.0),
    ):
        world = World(verify=verify)
        await world.ask(RESET)
        began = anyio.current_time()
        response = await world.ask(AGAIN)
        assert (why(response), response.text) == (reason, "Press the button.")
        assert anyio.current_time() - began == pytest.approx(seconds)


async def test_a_model_can_judge() -> None:
    """A hook asks a model in a child call, whose cost is the call's."""
    judge = Scripted(["yes"], name="judge")
    pipeline = Pipeline([], judge)

    async def same(request: ChatRequest, found: Similar) -> bool:
        text = f"Same question?\n{found.asked}\n{found.question}"
        answer = await pipeline(request.child(ChatRequest.of(text, model="j"), purpose="judge"))
        return answer.text.strip().lower() == "yes"

    world = World(verify=same)
    await world.ask(RESET)
    response = await world.ask(AGAIN)
    assert response.head.cached
    assert [attempt.branch for attempt in response.trace.attempts] == [
        "/embedding/angles", "/judge"
    ]  # fmt: skip


# --- what is kept ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (["Half", Finish("length")], "length"),
        (["No.", Finish("content_filter")], "content_filter"),
    ],
)
async def test_what_did_not_end_well_is_not_kept(script: list[Any], reason: str) -> None:
    """The trace says why."""
    world = World(script)
    assert why(await world.ask(RESET), "not_stored") == reason
    assert (await world.layer.stats(world.pipeline)).not_stored == {reason: 1}
    assert not (await world.ask(RESET)).head.cached


async def test_what_is_cut_off_is_kept_where_it_may_be() -> None:
    """`keep` says so."""
    world = World(["Half", Finish("length")], keep={"truncated": True})
    await world.ask(RESET)
    assert (await world.ask(AGAIN)).finish_reason == "length"


async def test_a_failed_or_abandoned_answer_is_not_kept() -> None:
    """Neither an error nor a stream that was left leaves anything."""
    slow = ["one ", 1.0, "two", 1.0, Finish("stop")]
    world = World([ServerError("x", status=500)], slow, slow)
    with pytest.raises(ServerError):
        await world.ask(RESET)
    async with world.pipeline.stream(asked(RESET)) as response:
        await anext(aiter(response))
    assert not (await world.pipeline.run(asked(AGAIN, said="no_store"))).head.cached


async def test_an_answer_of_a_substitute_is_not_kept() -> None:
    """What another model had to answer is no answer of this one, unless it may be."""
    for keep, cached in ((Keep(), False), (Keep(substitutes=True), True)):

        def fails_once(request: Any) -> Any:
            return ServerError("x", status=500) if request.model == "m" else "from the other"

        world = World(fails_once, inner=[Fallback(["n"])], keep=keep)
        await world.ask(RESET)
        assert (await world.ask(AGAIN)).head.cached is cached


async def test_answers_expire() -> None:
    """After the time to live, give or take a tenth, an answer is not given."""
    world = World(ttl=100)
    await world.ask(RESET)
    await anyio.sleep(89)
    assert (await world.ask(AGAIN)).head.cached
    await anyio.sleep(22)
    assert why(await world.ask(AGAIN)) == "nothing similar"


async def test_a_shorter_time_to_live_holds_for_what_was_kept_before() -> None:
    """A layer that was made anew with a lower `ttl` does not give old answers."""
    world = World(ttl=1000)
    await world.ask(RESET)
    await anyio.sleep(20)
    shorter = World(ttl=10, ports=world.pipeline.ports)
    assert why(await shorter.ask(RESET, said="no_store")) == "expired"
    endless = World(ttl=None, ports=world.pipeline.ports)
    assert (await endless.ask(AGAIN)).head.cached


async def test_what_was_kept_can_be_purged() -> None:
    """By tag, by tenant, or all."""
    world = World(tags=lambda request: ["doc-17"] if request.seed == 1 else [])
    for tenant in ("acme", "other"):
        await world.ask(RESET, tenant=tenant, seed=1)
        await world.ask(RESET, tenant=tenant)
        await world.ask(RESET, tenant=tenant, seed=2, said={"tags": ["mine"]})
    layer, pipeline = world.layer, world.pipeline
    assert await layer.purge(pipeline, tag="mine", tenant="other") == 1
    assert await layer.purge(pipeline, tag="doc-17") == 2
    assert not (await world.ask(AGAIN, tenant="acme", seed=1, said="no_store")).head.cached
    assert (await world.ask(AGAIN, tenant="acme", seed=2)).head.cached
    assert await layer.purge(pipeline, tenant="acme") == 2
    assert not (await world.ask(AGAIN, tenant="acme", said="no_store")).head.cached
    assert (await world.ask(AGAIN, tenant="other")).head.cached
    assert await layer.clear(pipeline) == 1
    assert not (await world.ask(AGAIN, tenant="other")).head.cached
    with pytest.raises(MisuseError, match="clear"):
        await layer.purge(pipeline)


async def test_it_counts() -> None:
    """Hits, misses by reason, what was kept, and what it saved."""
    world = World()
    await world.ask(RESET)
    await world.ask(AGAIN)
    await world.ask(AGAIN)
    stats = await world.layer.stats(world.pipeline)
    assert (stats.hits, stats.misses, stats.stored) == (2, 1, 1)
    assert (stats.saved_input_tokens, stats.saved_output_tokens) == (10, 8)
    assert stats.saved_money == {"USD": 2 * PRICE.nano}
    assert stats.hit_rate == pytest.approx(2 / 3)


# --- in a stack --------------------------------------------------------------------------------


async def test_personal_data_is_neither_kept_nor_embedded() -> None:
    """Inside PII the placeholders are compared: the same person hits, another does not."""
    mine, again = "What did ann@example.com buy?", "What has ann@example.com bought?"
    hers = "What did eve@example.com buy?"
    world = World(outer=[PII()], threshold=0.01, degrees={})
    await world.ask(mine)
    [text] = world.embedder.asked
    assert "ann@" not in text
    assert (await world.ask(again)).head.cached
    assert why(await world.ask(hers)) == "different placeholders"
    blobs: Any = world.pipeline.ports.stores.blobs
    page = await blobs.entries()
    for entry in page.entries:
        kept = await blobs.get(entry.key)
        assert b"ann@example.com" not in kept.data


async def test_it_stands_between_exact_cache_and_flights() -> None:
    """What an exact cache has is not embedded, and who asks at the same time shares a call."""
    world = World(outer=[Cache(tenant="shared")], inner=[SingleFlight()], delay=1)
    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(world.ask, RESET)
    assert world.calls == 1
    embedded = len(world.embedder.asked)
    await world.ask(RESET)
    assert len(world.embedder.asked) == embedded
    assert (await world.ask(AGAIN)).head.cached


async def test_what_an_exact_cache_refreshes_is_asked_anew() -> None:
    """Its refresh in the background is not answered with the old answer kept here."""
    outer = Cache(10, jitter=0, tenant="shared", stale=Stale(while_revalidate=100))
    world = World(["old", Finish("stop")], ["new", Finish("stop")], outer=[outer], ttl=1000)
    await world.ask(RESET)
    await anyio.sleep(15)
    assert (await world.ask(RESET)).text == "old"
    await anyio.sleep(1)
    assert (await world.ask(RESET)).text == "new"
    assert (await world.ask(AGAIN)).text == "new"
    assert world.calls == 2


@pytest.mark.parametrize(
    "layers",
    [
        lambda layer: [layer, Cache()],
        lambda layer: [layer, PII()],
        lambda layer: [Cost(unknown="note"), layer],
    ],
    ids=["cache", "pii", "cost"],
)
async def test_a_wrong_order_is_refused(layers: Any) -> None:
    """What would leak data or cost money is an error with the reason."""
    with pytest.raises(OrderError, match="semantic_cache"):
        Pipeline(layers(SemanticCache("e")), Mock())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0}, "threshold=0"),
        ({"threshold": 1.5}, "threshold=1.5"),
        ({"ttl": 0}, "ttl=0"),
        ({"when": "sometimes"}, "when='sometimes'"),
        ({"tenant": ""}, "tenant=''"),
        ({"verify": 3}, "verify=3"),
        ({"facts": "no"}, "facts='no'"),
        ({"timeout": 0}, "timeout=0"),
        ({"max_characters": 0}, "max_characters=0"),
        ({"piece": 0}, "piece=0"),
        ({"vary": "shoe"}, "vary="),
        ({"tags": [""]}, "tags="),
        ({"keep": {"shoes": True}}, "shoes"),
        ({"packing": 3}, "packing=3"),
        ({"namespace": None}, "namespace=None"),
        ({"index": "nowhere"}, "nowhere"),
        ({"store": 3}, "store"),
        ({"embed": 3}, "embed"),
        ({"embed": ["a", "b"]}, "one embedder"),
    ],
)
async def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    """At construction, naming the option and what was given."""
    with pytest.raises(ConfigurationError, match=message):
        SemanticCache(**{"embed": "e", **options})


async def test_wrong_tags_are_refused_before_anybody_is_asked() -> None:
    """A function that gives no words is the program's mistake."""
    world = World(tags=lambda _: [3])
    with pytest.raises(MisuseError, match="the function returned items of int"):
        await world.ask(RESET)
    assert world.calls == 0


async def test_without_numpy_it_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing else compares vectors, what is missing is said at construction."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'lamella\[semantic\]'"):
        SemanticCache("e")


async def test_usage_reports_and_pieces_are_replayed() -> None:
    """A stream of a kept answer comes in pieces of the length that was asked for."""
    world = World(["abcdefgh", UsageReport(USAGE), Finish("stop")], piece=3)
    await world.ask(RESET)
    async with world.pipeline.stream(asked(AGAIN)) as response:
        pieces = [event.text async for event in response if isinstance(event, TextDelta)]
    assert pieces == ["abc", "def", "gh"]
    assert (await world.ask(RESET)).usage == USAGE
