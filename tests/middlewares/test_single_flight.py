"""SingleFlight: identical calls at the same time share one call upstream, and nothing else."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from single_flights import ANSWER, ASK, PRICE, PRICES, Callers, by, noted, stack

from lamella import (
    AttemptLimitError,
    ConfigurationError,
    Context,
    EmbeddingRequest,
    EmbeddingResponse,
    Handler,
    LamellaError,
    Money,
    OrderError,
    Outcome,
    Pipeline,
    Request,
    Response,
    ServerError,
    middleware,
)
from lamella.testing import Item, Scripted, virtual_backend, virtual_ports
from lamella_middlewares.cost import Cost
from lamella_middlewares.retry import Retry
from lamella_middlewares.single_flight import SingleFlight

pytestmark = pytest.mark.anyio


# --- sharing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_a_herd_makes_one_call(stream: bool) -> None:
    """1,000 identical calls are one call upstream, paid for once."""
    await one_call(1_000, stream=stream)


@pytest.mark.parametrize("anyio_backend", [virtual_backend("asyncio")], ids=["asyncio"])
async def test_a_herd_of_ten_thousand_makes_one_call() -> None:
    """As few as ever; on both loops with a cache around them, in `test_cache_together.py`."""
    await one_call(10_000, stream=False)


async def one_call(count: int, *, stream: bool) -> None:
    """So many identical calls have one answer between them, and one of them pays."""
    pipeline, transport = stack(ANSWER, delay=1)
    callers = Callers(pipeline)
    await callers.herd(count, callers.stream if stream else callers.run)
    assert len(transport.requests) == 1
    assert (len(callers.found), callers.texts()) == (count, {"It is up."})
    responses: list[Response] = list(callers.found.values())
    assert len({id(response) for response in responses}) == count
    costs = [response.cost for response in responses]
    assert (costs.count(PRICE), costs.count(Money(0))) == (1, count - 1)
    assert {anyio.current_time(), *callers.at.values()} == {3.0}
    assert pipeline.background.names == ()


async def test_nothing_is_kept() -> None:
    """A call that begins after the answer is there is a call of its own."""
    pipeline, transport = stack(ANSWER)
    await pipeline.run(ASK)
    response = await pipeline.run(ASK)
    assert (len(transport.requests), response.cost) == (2, PRICE)


async def test_the_first_pays_and_the_others_know_whom_they_joined() -> None:
    """The one's trace has the attempt, the others' a note with the id of the flight's call."""
    pipeline, transport = stack(ANSWER)
    callers = Callers(pipeline)
    async with anyio.create_task_group() as group:
        group.start_soon(callers.run, "first")
        await anyio.sleep(0.5)
        group.start_soon(callers.run, "second")
    first, second = callers.found["first"], callers.found["second"]
    flight = transport.requests[0].context
    assert noted(first, "single_flight.started") == [{"flight": flight.call_id}]
    assert noted(second, "single_flight.joined") == [{"flight": flight.call_id, "others": 1}]
    assert [attempt.branch for attempt in first.trace.attempts] == ["/flight"]
    assert (first.cost, first.trace.usage.text_output) == (PRICE, 4)
    assert (second.cost, second.trace.attempts, second.usage.text_output) == (Money(0), (), 4)
    assert flight.parent_id == first.context.call_id
    assert first.trace.adopted == (flight.trace,)
    assert (flight.trace.outcome, flight.trace.cost) == (Outcome.COMPLETE, PRICE)
    assert "-> scripted /flight" in first.trace.draw()


async def test_the_answers_are_each_callers_own() -> None:
    """What one of them does with its answer is not seen in the other's."""
    pipeline, _ = stack(ANSWER)
    callers = Callers(pipeline)
    async with anyio.create_task_group() as group:
        group.start_soon(callers.run, "one")
        group.start_soon(callers.run, "two")
    one, two = callers.found["one"], callers.found["two"]
    assert one.map_text(str.upper).text == "IT IS UP."
    assert (two.text, one.events, one.head) == ("It is up.", two.events, two.head)
    assert one.context.call_id != two.context.call_id
    assert one.served_by == "scripted"


async def test_other_operations_share_too() -> None:
    """Whatever the request, the same is the same."""
    pipeline, transport = stack(EmbeddingResponse.of([[1.0, 2.0]]), delay=1)
    callers = Callers(pipeline)
    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(callers.run, str(number), EmbeddingRequest.of("x", model="e"))
    assert len(transport.requests) == 1
    assert [found.vector for found in callers.found.values()] == [(1.0, 2.0)] * 3


# --- who shares --------------------------------------------------------------------------------


async def flights(*requests: Request[Any], layer: SingleFlight | None = None) -> int:
    """How many calls upstream these make, run at the same time."""
    pipeline, transport = stack(ANSWER, layers=[layer or SingleFlight()])
    callers = Callers(pipeline)
    async with anyio.create_task_group() as group:
        for number, request in enumerate(requests):
            group.start_soon(callers.run, str(number), request)
    assert callers.texts() == {"It is up."}
    return len(transport.requests)


async def test_tenants_never_share() -> None:
    """No tenant is one of its own, and not the empty one."""
    assert await flights(by(), by(tenant=""), by(tenant="a"), by(tenant="b"), by(tenant="a")) == 4


async def test_different_requests_do_not_share() -> None:
    """Any field makes another request; who asks does not."""
    assert await flights(ASK, ASK.evolve(temperature=0.5), ASK.evolve(extra={"a": 1})) == 3
    same = by(user="u", session="s", tags={"a": "b"}, priority=3)
    assert await flights(ASK, same) == 1


async def test_more_of_the_context_can_separate() -> None:
    """`vary` names what."""
    asked = [by(user="u"), by(user="v"), by(tags={"a": "1"}), by(tags={"a": "2"}), by()]
    assert await flights(*asked) == 1
    assert await flights(*asked, layer=SingleFlight(vary="user")) == 3
    assert await flights(*asked, layer=SingleFlight(vary=["user", "tags"])) == 5
    assert await flights(*asked, *asked, layer=SingleFlight(vary=["user", "tags"])) == 5


async def test_who_shares_is_an_option() -> None:
    """All, those that come out the same each time, or what a function says."""
    hot, cold, seeded = ASK, ASK.evolve(temperature=0.0), ASK.evolve(seed=1)
    assert await flights(hot, hot) == 1
    assert await flights(hot, hot, layer=SingleFlight(when="deterministic")) == 2
    assert await flights(cold, cold, layer=SingleFlight(when="deterministic")) == 1
    assert await flights(seeded, seeded, layer=SingleFlight(when="deterministic")) == 1
    never = SingleFlight(when=lambda request: request.model != "m")
    assert await flights(hot, hot, layer=never) == 2


async def test_a_request_decides_for_itself() -> None:
    """An attribute of its context goes before the option."""
    alone, shared = by(attributes={"single_flight": False}), by(attributes={"single_flight": True})
    assert await flights(ASK, ASK, alone, alone) == 3
    assert await flights(shared, shared, layer=SingleFlight(when="deterministic")) == 1


async def test_what_changes_something_is_never_shared() -> None:
    """Unless the idempotency keys say that it is one call."""
    stored = ASK.evolve(extra={"store": True})
    assert await flights(stored, stored) == 2
    context = Context(attributes={"single_flight": True})
    assert await flights(stored.evolve(context=context), stored.evolve(context=context)) == 2
    one, other = (Context(idempotency_key=key) for key in ("one", "other"))
    assert await flights(stored.evolve(context=one), stored.evolve(context=one)) == 1
    assert await flights(ASK.evolve(context=one), ASK.evolve(context=other)) == 2


async def test_the_idempotency_key_goes_upstream() -> None:
    """The provider is promised the same as without the layer."""
    pipeline, transport = stack(ANSWER)
    await pipeline.run(by(idempotency_key="k"))
    assert transport.requests[0].context.idempotency_key == "k"


async def test_what_has_no_key_flies_alone() -> None:
    """The trace says why, and shows no content."""
    odd = ASK.evolve(extra={"odd": object()})
    pipeline, transport = stack(ANSWER)
    response = await pipeline.run(odd)
    (note,) = noted(response, "single_flight.alone")
    assert "'extra'" in note["why"]
    assert len(transport.requests) == 1
    assert await flights(odd, odd) == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_who_asks_twice_in_one_call_wants_two_answers(stream: bool) -> None:
    """A vote is not one vote counted several times."""
    votes: list[str] = []

    async def vote(request: Any, call_next: Handler) -> Any:
        async def ask(number: int) -> None:
            votes.append((await (await call_next(request.branch(f"vote{number}"))).collect()).text)

        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(ask, number)
        return await call_next(request)

    pipeline, _ = stack("yes", "no", "yes", "so be it", layers=[vote, SingleFlight()], delay=1)
    callers = Callers(pipeline)
    await (callers.stream if stream else callers.run)("it")
    assert (sorted(votes), callers.texts()) == (["no", "yes", "yes"], {"so be it"})


async def test_pipelines_do_not_share_with_each_other() -> None:
    """Closing one must not end the other's calls, and their transports may differ."""
    ports = virtual_ports()
    layer = SingleFlight()
    one, other = Scripted([ANSWER]), Scripted([ANSWER])
    async with anyio.create_task_group() as group:
        for transport in (one, other):
            group.start_soon(Pipeline([layer], transport, ports=ports).run, ASK)
    assert (len(one.requests), len(other.requests)) == (1, 1)


async def test_a_pipeline_inside_shares_for_its_parents() -> None:
    """The layer may stand in a pipeline that is another's transport, and in both."""
    transport = Scripted([ANSWER], repeat=True)
    inner = Pipeline([SingleFlight()], transport, ports=virtual_ports())
    for outer in (Pipeline([], inner), Pipeline([SingleFlight()], inner)):
        transport.requests.clear()
        callers = Callers(outer)
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(callers.run, str(number))
        assert (len(transport.requests), callers.texts()) == (1, {"It is up."})


# --- bounds, order, options --------------------------------------------------------------------


async def test_attempts_count_in_the_first_callers_turn() -> None:
    """A layer outside that tries again cannot get around the bound."""

    async def again(request: Any, call_next: Handler) -> Any:
        for number in range(9):
            try:
                return await call_next(request.branch(f"again{number}"))
            except ServerError:
                continue
        return await call_next(request)

    transport = Scripted([ServerError("x", status=500)], repeat=True)
    pipeline = Pipeline(
        [again, SingleFlight(), Retry()], transport, ports=virtual_ports(), max_attempts=4
    )
    with pytest.raises(AttemptLimitError) as caught:
        await pipeline.run(ASK)
    assert (len(transport.requests), len(caught.value.attempts)) == (4, 4)
    assert caught.value.attempts[3].branch == "/again1/flight"


async def test_refused_orders() -> None:
    """Inside Cost every waiter would be billed; outside Tools their effects would be shared."""
    with pytest.raises(OrderError, match="billed"):
        Pipeline([Cost(PRICES), SingleFlight()], Scripted(["x"]))

    @middleware(phase="compose", name="tools")
    async def tools(request: Any, call_next: Handler) -> Any:
        return await call_next(request)

    with pytest.raises(OrderError, match="effects"):
        Pipeline([SingleFlight(), tools], Scripted(["x"]))
    layers = Pipeline.arrange([Retry(), SingleFlight(), tools, Cost()], Scripted(["x"])).infos
    assert [info.name for info in layers] == ["tools", "single_flight", "retry", "cost"]


async def later(request: Any) -> bool:
    """A predicate of the wrong kind."""
    return True


@pytest.mark.parametrize(
    "options",
    [
        {"when": "sometimes"},
        {"when": 1},
        {"when": None},
        {"when": later},
        {"vary": "tenant"},
        {"vary": ["user", "call_id"]},
        {"vary": [["user"]]},
        {"vary": 5},
        {"vary": None},
        {"read_ahead": 0},
        {"read_ahead": 1.5},
    ],
)
async def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    """Where the layer is made, by name."""
    with pytest.raises(ConfigurationError, match=rf"SingleFlight\({next(iter(options))}="):
        SingleFlight(**options)


async def test_an_error_of_the_predicate_is_the_callers() -> None:
    """A bug in it is not hidden."""

    def broken(request: Any) -> bool:
        raise LookupError("bug")

    pipeline, transport = stack(ANSWER, layers=[SingleFlight(when=broken)])
    with pytest.raises(LookupError):
        await pipeline.run(ASK)
    assert transport.requests == []


async def test_layers_outside_change_each_callers_own_events() -> None:
    """What is unmasked for one is not seen by the other."""

    async def unmask(request: Any, call_next: Handler) -> Any:
        name = request.context.user
        return (await call_next(request)).map_text(lambda text: text.replace("NAME", name))

    broken: list[Item] = ["NAME ", 1.0, "is", 1.0, LamellaError("x")]
    pipeline, transport = stack(broken, layers=[unmask, SingleFlight()])
    callers = Callers(pipeline)
    async with anyio.create_task_group() as group:
        for user in ("Ada", "Bob"):
            group.start_soon(callers.stream, user, by(user=user))
    partials = {user: callers.found[user].partial.text for user in ("Ada", "Bob")}
    assert (partials, len(transport.requests)) == ({"Ada": "Ada is", "Bob": "Bob is"}, 1)
