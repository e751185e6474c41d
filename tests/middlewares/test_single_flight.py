"""SingleFlight: identical calls at the same time share one call upstream, and nothing else."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from lamella import (
    AttemptLimitError,
    ChatRequest,
    ChatResponse,
    ClosedError,
    ConfigurationError,
    Context,
    DeadlineExceeded,
    EmbeddingRequest,
    EmbeddingResponse,
    Finish,
    Handler,
    LamellaError,
    Limits,
    Money,
    OrderError,
    Outcome,
    Pipeline,
    Request,
    Response,
    ServerError,
    TextDelta,
    Usage,
    UsageReport,
    ending,
    middleware,
)
from lamella.testing import Item, Scripted, ScriptedAnswer, virtual_ports
from lamella_middlewares.cost import Cost
from lamella_middlewares.deadline import Deadline
from lamella_middlewares.retry import Retry
from lamella_middlewares.single_flight import SingleFlight

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("Is it up?", model="m")
END: list[Item] = [UsageReport(Usage(text_output=4)), Finish("stop")]
ANSWER: list[Item] = ["It ", 1.0, "is ", 1.0, "up.", *END]
PRICES = {"m": {"input": "0", "output": "1000000"}}
PRICE = Money(4_000_000_000)


def stack(*script: Any, layers: Any = None, **more: Any) -> tuple[Pipeline, Scripted]:
    """A pipeline with the layer, and prices, around a script."""
    transport = Scripted(script, repeat=True, **more)
    layers = [SingleFlight(), Cost(PRICES)] if layers is None else layers
    return Pipeline(layers, transport, ports=virtual_ports()), transport


class Callers:
    """Calls that run at the same time, and how each of them ended."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.found: dict[str, Any] = {}
        self.at: dict[str, float] = {}
        self.contexts: dict[str, Context] = {}

    async def run(self, name: str, request: Request[Any] = ASK) -> None:
        """Run to the end."""
        await self._keep(name, self.pipeline.run(request))

    async def stream(self, name: str, request: Request[Any] = ASK, *, pace: float = 0.0) -> None:
        """Stream to the end, with a pause after each event."""

        async def read() -> Any:
            async with self.pipeline.stream(request) as response:
                async for _ in response:
                    await anyio.sleep(pace)
            return response

        await self._keep(name, read())

    async def _keep(self, name: str, call: Any) -> None:
        try:
            self.found[name] = await call
        except Exception as error:  # noqa: BLE001 - it is what is looked at
            self.found[name] = error
        self.at[name] = anyio.current_time()

    def texts(self) -> set[str]:
        """What the answers say."""
        return {found.text for found in self.found.values()}


def noted(response: Response, name: str) -> list[Any]:
    """The fields of the notes of that name."""
    return [dict(note.fields) for note in response.trace.notes if note.name == name]


# --- sharing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_a_herd_makes_one_call(stream: bool) -> None:
    """10,000 identical calls are one call upstream, paid for once."""
    pipeline, transport = stack(ANSWER, delay=1)
    callers = Callers(pipeline)
    async with anyio.create_task_group() as group:
        for number in range(10_000):
            group.start_soon(callers.stream if stream else callers.run, str(number))
    assert len(transport.requests) == 1
    assert (len(callers.found), callers.texts()) == (10_000, {"It is up."})
    responses: list[Response] = list(callers.found.values())
    assert len({id(response) for response in responses}) == 10_000
    costs = [response.cost for response in responses]
    assert (costs.count(PRICE), costs.count(Money(0))) == (1, 9_999)
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


def by(**fields: Any) -> ChatRequest:
    """The request with a context."""
    return ASK.evolve(context=Context(**fields))


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


# --- coming and going --------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_the_others_get_the_answer_when_the_first_is_cancelled(stream: bool) -> None:
    """The call upstream goes on, and another one pays."""
    pipeline, transport = stack(ANSWER, delay=1)
    callers = Callers(pipeline)

    async def first() -> None:
        with anyio.move_on_after(0.5):
            await (callers.stream if stream else callers.run)("first")

    async with anyio.create_task_group() as group:
        group.start_soon(first)
        await anyio.sleep(0.1)
        for name in ("second", "third"):
            group.start_soon(callers.stream if stream else callers.run, name)
            await anyio.sleep(0.1)
    assert (len(transport.requests), set(callers.found)) == (1, {"second", "third"})
    second, third = callers.found["second"], callers.found["third"]
    assert (second.cost, third.cost, second.text) == (PRICE, Money(0), "It is up.")
    flight = transport.requests[0].context
    assert noted(second, "single_flight.pays") == [{"flight": flight.call_id}]
    (attempt,) = second.trace.attempts
    assert attempt.start == pytest.approx(-0.1)  # before the call that pays for it now
    assert attempt.outcome is Outcome.COMPLETE


async def test_who_leaves_pays_nothing_while_others_wait() -> None:
    """Its trace says to whom it handed on what."""
    pipeline, _ = stack(ANSWER)
    callers = Callers(pipeline)
    async with anyio.create_task_group() as group, pipeline.stream(ASK) as left:
        await anext(aiter(left))
        group.start_soon(callers.stream, "second")
        await anyio.sleep(0.5)
    assert (left.outcome, left.cost, left.trace.attempts) == (Outcome.LEFT, Money(0), ())
    assert len(noted(left, "single_flight.handed_on")) == 1
    assert callers.found["second"].cost == PRICE


@pytest.mark.parametrize("stream", [False, True])
async def test_the_call_ends_with_the_last_who_waits(stream: bool) -> None:
    """The source is closed at once, and the last one's books have what was spent."""
    pipeline, transport = stack(ANSWER)
    callers = Callers(pipeline)
    seen: list[Any] = []

    async def keep(request: Any, call_next: Handler) -> Any:
        seen.append(request.context.trace)
        return await call_next(request)

    pipeline = Pipeline([keep, *pipeline.layers], transport, ports=virtual_ports())
    callers = Callers(pipeline)

    async def impatient(seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await (callers.stream if stream else callers.run)("it")

    async with anyio.create_task_group() as group:
        for seconds in (1.5, 0.5, 1.2):
            group.start_soon(impatient, seconds)
            await anyio.lowlevel.checkpoint()
    assert (anyio.current_time(), transport.open_sources, callers.found) == (1.5, 0, {})
    attempts = [trace.attempts for trace in seen]
    assert [len(each) for each in attempts] == [1, 0, 0]
    assert attempts[0][0].outcome in {Outcome.CANCELLED, Outcome.LEFT}
    assert attempts[0][0].cost is not None
    assert transport.requests[0].context.trace.finished
    assert pipeline.background.names == ()


async def test_what_was_left_is_left_and_what_was_cancelled_is_cancelled() -> None:
    """The attempt's outcome is that of the callers' leaving, as without the layer."""
    pipeline, transport = stack(ANSWER)
    async with pipeline.stream(ASK) as one, pipeline.stream(ASK) as two:
        assert one.open
        await anyio.sleep(0.5)
    (attempt,) = transport.requests[0].context.trace.attempts
    assert (attempt.outcome, one.outcome, two.outcome) == (Outcome.LEFT,) * 3
    with anyio.move_on_after(0.5):
        await pipeline.run(ASK)
    (attempt,) = transport.requests[1].context.trace.attempts
    assert attempt.outcome is Outcome.CANCELLED


async def test_nobody_joins_a_flight_that_is_being_abandoned() -> None:
    """Who comes while it is cleaned up starts one of its own."""
    asked: list[float] = []

    async def transport(request: ChatRequest) -> ChatResponse:
        asked.append(anyio.current_time())
        try:
            await anyio.sleep(1)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.5)
        return ChatResponse.of("It is up.")

    pipeline = Pipeline([SingleFlight()], transport, ports=virtual_ports())
    callers = Callers(pipeline)

    async def impatient() -> None:
        with anyio.move_on_after(0.5):
            await pipeline.run(ASK)

    async with anyio.create_task_group() as group:
        group.start_soon(impatient)
        await anyio.sleep(0.75)
        group.start_soon(callers.run, "late")
    assert (asked, callers.texts(), callers.at) == ([0, 0.75], {"It is up."}, {"late": 2.25})


async def test_one_reader_is_closed_while_others_read_on() -> None:
    """Its pending read ends at once; theirs do not."""
    pipeline, _ = stack(ANSWER)
    callers = Callers(pipeline)
    ended: list[float] = []

    async def read(response: Response) -> None:
        with pytest.raises(ClosedError):
            await response.collect()
        ended.append(anyio.current_time())

    async with anyio.create_task_group() as group:
        group.start_soon(callers.stream, "other")
        async with pipeline.stream(ASK) as response:
            group.start_soon(read, response)
            await anyio.sleep(0.5)
            await response.aclose()
        assert anyio.current_time() == 0.5
    assert (ended, callers.texts()) == ([0.5], {"It is up."})


async def test_an_event_that_is_none_breaks_the_flight_and_leaks_nothing() -> None:
    """A bug inside is everybody's error, and the source is closed."""
    odd: Any = TextDelta(5)  # type: ignore[arg-type]
    pipeline, transport = stack(["It ", 1.0, odd, 1.0, "up.", Finish("stop")])
    callers = Callers(pipeline)
    async with anyio.create_task_group() as group:
        for number in range(2):
            group.start_soon(callers.stream, str(number))
    assert [type(found) for found in callers.found.values()] == [TypeError] * 2
    assert transport.open_sources == 0
    notes = transport.requests[0].context.trace.notes
    assert not any(note.name == "leak" for note in notes)


async def test_nothing_is_sent_if_all_have_left_before_it_began() -> None:
    """A call that a closing pipeline refuses to wait for costs nothing."""
    pipeline, transport = stack(ANSWER)

    async def close_first(request: Any, call_next: Handler) -> Any:
        async with anyio.create_task_group() as group:
            group.start_soon(pipeline.aclose)
            await anyio.sleep(0.1)
            with pytest.raises(ClosedError):
                await call_next(request)
            assert request.context.background.names == ()
        raise ClosedError("as it should be")

    pipeline = Pipeline([close_first, *pipeline.layers], transport, ports=virtual_ports())
    with pytest.raises(ClosedError, match="as it should be"):
        await pipeline.run(ASK)
    assert transport.requests == []


async def test_each_keeps_its_own_deadline() -> None:
    """One that cannot wait any longer fails alone, at its own time; a late one has all of its."""
    slow = ScriptedAnswer(("It is up.", Finish("stop")), delay=10)
    transport = Scripted([slow], repeat=True)
    ports = virtual_ports()

    async def patience(request: Any, call_next: Handler) -> Any:
        context = request.context
        seconds = context.attributes["seconds"]
        until = context.clock.now() + seconds
        return await call_next(request.evolve(context=context.evolve(deadline=until)))

    pipeline = Pipeline([patience, SingleFlight()], transport, ports=ports)
    callers = Callers(pipeline)
    async with anyio.create_task_group() as group:
        for seconds in (5.0, 8.0, 60.0):
            request = by(attributes={"seconds": seconds})
            group.start_soon(callers.run, str(seconds), request)
            group.start_soon(callers.stream, f"{seconds} streamed", request)
    assert callers.at["5.0"] == callers.at["5.0 streamed"] == 5
    assert callers.at["8.0"] == callers.at["8.0 streamed"] == 8
    for name in ("5.0", "5.0 streamed", "8.0", "8.0 streamed"):
        assert isinstance(callers.found[name], DeadlineExceeded)
    assert callers.found["60.0"].text == callers.found["60.0 streamed"].text == "It is up."
    assert callers.at["60.0"] == 10


async def test_a_deadline_ends_the_reading_of_a_stream() -> None:
    """After the first event too, with what had come."""
    pipeline, transport = stack(ANSWER, layers=[Deadline(1.5), SingleFlight()])
    callers = Callers(pipeline)
    await callers.stream("it")
    error = callers.found["it"]
    assert isinstance(error, DeadlineExceeded)
    assert error.partial is not None
    assert (error.partial.text, callers.at["it"]) == ("It is ", 1.5)
    await anyio.sleep(0.01)
    assert transport.open_sources == 0


async def test_closing_the_pipeline_ends_flights() -> None:
    """Everybody is told that it was closed, and nothing is left open."""
    pipeline, transport = stack(ANSWER)
    callers = Callers(pipeline)
    async with anyio.create_task_group() as group:
        group.start_soon(callers.run, "run")
        group.start_soon(callers.stream, "stream")
        await anyio.sleep(0.5)
        await pipeline.aclose()
    assert {type(found) for found in callers.found.values()} == {ClosedError}
    assert (transport.open_sources, pipeline.background.names) == (0, ())
    with pytest.raises(ClosedError):
        await pipeline.run(ASK)


async def test_a_draining_pipeline_lets_flights_finish() -> None:
    """Calls that are running get their answer."""
    pipeline, _ = stack(ANSWER)
    callers = Callers(pipeline)
    async with anyio.create_task_group() as group:
        group.start_soon(callers.run, "one")
        group.start_soon(callers.stream, "two")
        await anyio.sleep(0.5)
        await pipeline.aclose(drain=10)
    assert callers.texts() == {"It is up."}


# --- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_goes_to_those_who_wait_and_is_not_kept(stream: bool) -> None:
    """Each gets a copy of its own; who comes next asks anew."""
    pipeline, transport = stack(ServerError("x", status=500), ANSWER, delay=1)
    callers = Callers(pipeline)
    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(callers.stream if stream else callers.run, str(number))
    errors = list(callers.found.values())
    assert [type(error) for error in errors] == [ServerError] * 3
    assert len({id(error) for error in errors}) == 3
    assert not any(error.committed for error in errors)
    assert sorted(len(error.attempts) for error in errors) == [0, 0, 1]
    assert (await pipeline.run(ASK)).text == "It is up."
    assert len(transport.requests) == 2


async def test_an_error_of_another_kind_is_copied_too() -> None:
    """Even where its class cannot be made from its arguments."""

    class Odd(Exception):
        def __init__(self, one: int, *, two: int) -> None:
            super().__init__(one)
            self.two = two

    odd = Odd(1, two=2)
    pipeline, _ = stack(odd, delay=1)
    callers = Callers(pipeline)
    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(callers.run, str(number))
    errors = list(callers.found.values())
    assert [(type(error), error.args, error.two) for error in errors] == [(Odd, (1,), 2)] * 3
    assert len({id(error) for error in errors}) == 3
    assert odd in errors


async def test_a_stream_that_breaks_breaks_for_each_with_what_it_had_seen() -> None:
    """The error is committed, and its partial answer is the reader's own."""
    pipeline, transport = stack([*ANSWER[:3], ServerError("x", status=500)], ANSWER)
    callers = Callers(pipeline)
    async with anyio.create_task_group() as group:
        group.start_soon(callers.stream, "one")
        await anyio.sleep(0.5)
        group.start_soon(callers.stream, "two")
    one, two = callers.found["one"], callers.found["two"]
    assert one is not two
    for error in (one, two):
        assert (type(error), error.committed, error.retryable) == (ServerError, True, False)
        assert error.partial.text == "It is "
    assert len(transport.requests) == 1


async def test_callbacks_that_fail_inside_reach_everybody() -> None:
    """As without the layer, where the answer otherwise ended well."""

    def fail(_: object) -> None:
        raise LookupError("callback")

    async def inside(request: Any, call_next: Handler) -> Any:
        return await ending(call_next, request, fail)

    pipeline, _ = stack(ANSWER, layers=[SingleFlight(), inside])
    callers = Callers(pipeline)
    async with anyio.create_task_group() as group:
        for number in range(2):
            group.start_soon(callers.run, f"run {number}")
            group.start_soon(callers.stream, f"stream {number}")
    assert [type(found) for found in callers.found.values()] == [LookupError] * 4


# --- streams -----------------------------------------------------------------------------------


async def read_with_times(pipeline: Pipeline, seen: list[tuple[float, Any]]) -> Response:
    """Stream to the end, and keep when each event came."""
    async with pipeline.stream(ASK) as response:
        assert response.open
        async for event in response:
            seen.append((anyio.current_time(), event))
    return response


async def test_a_late_reader_starts_from_the_first_event() -> None:
    """It catches up at once, and then goes with the others."""
    pipeline, transport = stack(ANSWER)
    seen: list[tuple[float, Any]] = []
    callers = Callers(pipeline)
    late: list[Response] = []
    async with anyio.create_task_group() as group:
        group.start_soon(callers.stream, "first")
        await anyio.sleep(1.5)
        late.append(await read_with_times(pipeline, seen))
    assert seen[:3] == [(1.5, TextDelta("It ")), (1.5, TextDelta("is ")), (2.0, TextDelta("up."))]
    assert (len(transport.requests), late[0].cost) == (1, Money(0))
    assert late[0].partial.text == "It is up."


async def test_a_slow_reader_holds_nobody_back() -> None:
    """Each reads at its own pace, from the same kept events."""
    pipeline, transport = stack(ANSWER)
    callers = Callers(pipeline)
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: callers.stream("slow", pace=10))
        await anyio.sleep(0.1)
        group.start_soon(callers.stream, "quick")
    assert (len(transport.requests), callers.texts()) == (1, {"It is up."})
    assert (callers.at["quick"], callers.at["slow"]) == (2, 50)


async def test_no_more_is_read_ahead_than_allowed() -> None:
    """While nobody reads, the provider waits; whoever reads first lets it go on."""
    words: list[Item] = [f"word{number:04} " * 10 for number in range(200)]
    transport = Scripted([[*words, Finish("stop")]])
    layers = [SingleFlight(read_ahead=5_000)]
    pipeline = Pipeline(layers, transport, ports=virtual_ports())
    async with pipeline.stream(ASK) as one, pipeline.stream(ASK) as two:
        first, second = aiter(one), aiter(two)
        await anyio.sleep(1)
        (source,) = transport.sources
        assert source.given < 30
        for _ in range(100):
            await anext(first)
        await anyio.sleep(1)
        assert 100 < source.given < 130
        assert [event async for event in first][-1] == Finish("stop")
        assert len([event async for event in second]) == 201
    assert one.text == two.text


async def test_readers_time_is_not_the_providers() -> None:
    """An attempt's limit does not run while its readers hold it up."""
    words: list[Item] = ["word " * 100] * 50
    transport = Scripted([[*words, Finish("stop")]], gap=0.01)
    pipeline = Pipeline([SingleFlight(read_ahead=1_000)], transport, ports=virtual_ports())
    async with pipeline.stream(by(limits=Limits(attempt=5, idle=1))) as response:
        async for _ in response:
            await anyio.sleep(1)
    assert response.complete
    assert anyio.current_time() == pytest.approx(51, abs=0.1)


async def test_a_whole_answer_does_not_wait_for_a_slow_reader() -> None:
    """Whoever wants all of it keeps it going."""
    words: list[Item] = ["word " * 100] * 50
    transport = Scripted([[*words, Finish("stop")]])
    pipeline = Pipeline([SingleFlight(read_ahead=1_000)], transport, ports=virtual_ports())
    async with pipeline.stream(ASK) as slow:
        await anyio.sleep(1)
        assert (await pipeline.run(ASK)).text == "word " * 5_000
        assert anyio.current_time() == 1
        await slow.collect()
    assert (len(transport.requests), slow.complete) == (1, True)


async def test_once_it_has_left_a_whole_answer_keeps_nothing_going() -> None:
    """Then the provider waits for the readers again."""
    words: list[Item] = [item for _ in range(50) for item in ("word " * 100, 0.1)]
    transport = Scripted([[*words, Finish("stop")]])
    pipeline = Pipeline([SingleFlight(read_ahead=1_000)], transport, ports=virtual_ports())
    async with pipeline.stream(ASK) as slow:
        with anyio.move_on_after(1):
            await pipeline.run(ASK)
        await anyio.sleep(9)
        assert transport.sources[0].given < 15
        await slow.collect()
    assert slow.complete


async def test_a_whole_answer_may_come_from_a_stream_but_not_the_reverse() -> None:
    """Who wants to read along is not made to wait for another's whole answer."""
    pipeline, transport = stack(ANSWER)
    callers = Callers(pipeline)
    async with anyio.create_task_group() as group:
        group.start_soon(callers.stream, "stream")
        await anyio.sleep(0.5)
        group.start_soon(callers.run, "run")
    assert (len(transport.requests), callers.at["run"]) == (1, 2)
    async with anyio.create_task_group() as group:
        group.start_soon(callers.run, "run")
        await anyio.sleep(0.5)
        group.start_soon(callers.stream, "stream")
    assert [request.stream for request in transport.requests] == [True, False, True]
    assert callers.texts() == {"It is up."}


async def test_who_wanted_a_whole_answer_outlives_a_broken_stream() -> None:
    """It has seen nothing, so it is tried again inside as it would be without the layer."""
    broken = [*ANSWER[:3], ServerError("x", status=500)]
    layers = [SingleFlight(), Retry(), Cost(PRICES)]
    pipeline, transport = stack(broken, broken, ANSWER, layers=layers)
    callers = Callers(pipeline)
    async with anyio.create_task_group() as group:
        group.start_soon(callers.stream, "stream")
        await anyio.sleep(0.5)
        for name in ("one", "two"):
            group.start_soon(callers.run, name)
    assert isinstance(callers.found["stream"], ServerError)
    assert callers.found["one"].text == callers.found["two"].text == "It is up."
    assert [request.stream for request in transport.requests] == [True, False, False]


async def test_a_stream_answered_at_once_is_complete_for_all() -> None:
    """An answer that ends before it says anything is handed on whole."""
    pipeline, transport = stack([1.0, Finish("content_filter")])
    callers = Callers(pipeline)
    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(callers.stream, str(number))
    assert {found.finish_reason for found in callers.found.values()} == {"content_filter"}
    assert len(transport.requests) == 1


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
