"""Hedge: an answer that takes unusually long to begin is asked for a second time, and no other."""

from __future__ import annotations

import math
import re
from contextvars import ContextVar
from datetime import timedelta
from functools import partial
from typing import Any

import anyio
import pytest

from lamella import (
    ChatRequest,
    ConfigurationError,
    ConnectionLostError,
    Context,
    DeadlineExceeded,
    File,
    Finish,
    IdleTimeout,
    InvalidRequestError,
    LamellaError,
    Message,
    Opaque,
    OrderError,
    Outcome,
    Pipeline,
    Ports,
    RateLimitError,
    Reasoning,
    Request,
    ServerError,
    middleware,
)
from lamella.testing import Scripted, ScriptedAnswer, virtual_ports
from lamella_middlewares.deadline import Deadline
from lamella_middlewares.hedge import Hedge
from lamella_middlewares.hold import Hold
from lamella_middlewares.retry import Retry
from lamella_middlewares.timeout import Timeout

pytestmark = pytest.mark.anyio


def plainly(value: object) -> str:
    """A parameter's name that is the same in every process: without addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))


ASK = ChatRequest.of("hello", model="m")


def takes(seconds: float, *items: Any) -> ScriptedAnswer:
    """An answer that begins after so many seconds."""
    return ScriptedAnswer(items or ("after ", f"{seconds:g}", Finish("stop")), delay=seconds)


SLOW, QUICK = takes(10), takes(0.2)


def hedge(*targets: Any, **options: Any) -> Hedge:
    """A layer that asks again after a second, as often as it likes."""
    return Hedge(list(targets) or None, **{"delay": 1, "max_extra": 1, **options})


def pipeline(
    layers: list[Any], transport: Any, *, ports: Ports | None = None, **more: Any
) -> Pipeline:
    """A pipeline with a clock and stores of its own."""
    return Pipeline(layers, transport, ports=ports or virtual_ports(), **more)


async def ask(pipe: Pipeline, request: Any = ASK, *, stream: bool = False) -> Any:
    """The complete response, run or streamed, or the error."""
    try:
        if not stream:
            return await pipe.run(request)
        async with pipe.stream(request) as response:
            return await response.collect()
    except LamellaError as error:
        return error


def branches(found: Any) -> list[Any]:
    """Each attempt's branch and outcome."""
    attempts = found.attempts if isinstance(found, LamellaError) else found.trace.attempts
    return [(attempt.branch, attempt.outcome) for attempt in attempts]


class Notes:
    """A layer outside that keeps the notes of all calls."""

    def __init__(self) -> None:
        self.all: list[Any] = []

    async def __call__(self, request: Request[Any], call_next: Any) -> Any:
        try:
            return await call_next(request)
        finally:
            self.all.extend(request.context.trace.notes)

    @property
    def skipped(self) -> list[str]:
        return [note.fields["why"] for note in self.all if note.name == "hedge.skipped"]


# --- the race --------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_the_second_copy_wins_where_the_first_is_slow(stream: bool) -> None:
    """The loser is cancelled at once and its source closed; both are in the ledger."""
    transport = Scripted([SLOW, QUICK])
    began = anyio.current_time()
    response = await ask(pipeline([hedge()], transport), stream=stream)
    assert response.text == "after 0.2"
    assert anyio.current_time() - began == pytest.approx(1.2)
    assert branches(response) == [("", Outcome.CANCELLED), ("/hedge2", Outcome.COMPLETE)]
    assert transport.open_sources == 0
    names = [(note.name, dict(note.fields)) for note in response.trace.notes]
    assert names == [
        ("hedge.sent", {"after": pytest.approx(1)}),
        ("hedge.over", {"winner": "second"}),
    ]


@pytest.mark.parametrize("stream", [False, True])
async def test_the_first_copy_may_still_win(stream: bool) -> None:
    """Then the second is the one that is cancelled."""
    transport = Scripted([takes(1.5), SLOW])
    response = await ask(pipeline([hedge()], transport), stream=stream)
    assert response.text == "after 1.5"
    assert branches(response) == [("", Outcome.COMPLETE), ("/hedge2", Outcome.CANCELLED)]
    assert transport.open_sources == 0


async def test_what_answers_in_time_is_sent_once() -> None:
    """Nothing is noted."""
    response = await ask(pipeline([hedge()], Scripted([QUICK])))
    assert branches(response) == [("", Outcome.COMPLETE)]
    assert not response.trace.notes


async def test_a_stream_that_has_begun_is_not_asked_for_again() -> None:
    """However slowly it goes on, and also where a layer inside still reads ahead."""
    answer = ScriptedAnswer(("a", 5.0, "b", 5.0, "c", Finish("stop")))
    for layers in ([hedge()], [hedge(), Hold(all=True)]):
        response = await ask(pipeline(layers, Scripted([answer])), stream=True)
        assert branches(response) == [("", Outcome.COMPLETE)]
    assert branches(await ask(pipeline([hedge()], Scripted([answer])))) == [("", Outcome.COMPLETE)]


async def test_a_loser_that_has_an_answer_closes_it() -> None:
    """Both streams begin in the same instant: one is handed on, the other is closed."""
    transport = Scripted([takes(2), takes(1)])
    response = await ask(pipeline([hedge()], transport), stream=True)
    assert response.text in {"after 2", "after 1"}
    assert transport.open_sources == 0
    assert not any(note.name == "leak" for note in response.trace.notes)


async def test_each_copy_has_a_context_of_its_own() -> None:
    """With the same trace and bound, and a key of its own where the caller gave one."""
    transport = Scripted([SLOW, QUICK])
    request = ASK.evolve(context=Context(idempotency_key="key"))
    await ask(pipeline([hedge()], transport), request)
    first, second = [request.context for request in transport.requests]
    assert first is not second
    assert (first.trace, first.bound) == (second.trace, second.bound)
    assert (first.idempotency_key, second.idempotency_key) == ("key", "key/hedge2")


async def test_the_second_copy_sees_the_callers_context_variables() -> None:
    """As the first does, on either event loop."""
    variable: ContextVar[str] = ContextVar("variable", default="unset")
    seen: list[str] = []

    def answer(request: Any) -> Any:
        seen.append(variable.get())
        return QUICK if len(seen) > 1 else SLOW

    token = variable.set("set")
    try:
        await ask(pipeline([hedge()], Scripted([answer, answer])))
    finally:
        variable.reset(token)
    assert seen == ["set", "set"]


# --- failures --------------------------------------------------------------------------------


async def test_a_second_copy_that_fails_harms_nobody() -> None:
    """The first goes on."""
    transport = Scripted([takes(3), ServerError("x", status=500)])
    response = await ask(pipeline([hedge()], transport))
    assert response.text == "after 3"
    assert branches(response) == [("", Outcome.COMPLETE), ("/hedge2", Outcome.FAILED)]


def failing(error: Exception, after: float) -> Any:
    """An answer that fails after so many seconds."""
    return ScriptedAnswer((float(after), error))


async def test_a_first_copy_that_fails_waits_for_the_second() -> None:
    """Where its error may pass elsewhere; the second's answer counts."""
    transport = Scripted([failing(ConnectionLostError("x"), 1.5), takes(2)])
    response = await ask(pipeline([hedge()], transport))
    assert response.text == "after 2"


async def test_a_mistake_of_the_callers_ends_both() -> None:
    """At once: the second would fail like the first."""
    transport = Scripted([failing(InvalidRequestError("x", status=400), 1.5), SLOW])
    began = anyio.current_time()
    error = await ask(pipeline([hedge()], transport))
    assert isinstance(error, InvalidRequestError)
    assert anyio.current_time() - began == pytest.approx(1.5)
    assert branches(error) == [("", Outcome.FAILED), ("/hedge2", Outcome.CANCELLED)]
    assert transport.open_sources == 0


@pytest.mark.parametrize("first", [1.5, 2.5])
async def test_if_both_fail_the_first_ones_error_is_raised(first: float) -> None:
    """Whichever failed first; it is one error, and no group."""
    transport = Scripted(
        [failing(ServerError("first", status=500), first), failing(ServerError("second"), 1)]
    )
    error = await ask(pipeline([hedge()], transport))
    assert isinstance(error, ServerError)
    assert error.message == "first"
    assert len(error.attempts) == 2


async def test_a_first_copy_that_fails_says_more_than_the_deadline() -> None:
    """Which ends the second copy, so that both have failed."""
    transport = Scripted([failing(ServerError("first", status=500), 1.5), SLOW])
    error = await ask(pipeline([Deadline(3), hedge()], transport))
    assert isinstance(error, ServerError)
    assert error.message == "first"
    assert transport.open_sources == 0


async def test_a_second_copy_that_cannot_be_made_harms_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The first goes on, the log has the reason, and the limits in time of others hold."""
    notes = Notes()
    strange = ASK.evolve(context=Context(attributes={"require": "not a table"}))
    pipe = pipeline([notes, hedge("other")], Scripted([takes(3)]))
    other = pipeline([Timeout(idle=2)], Scripted([["a", 60.0, Finish("stop")]]))
    found: dict[str, Any] = {}

    async def call(name: str, pipe: Pipeline, request: Any, stream: bool) -> None:
        found[name] = (await ask(pipe, request, stream=stream), anyio.current_time())

    async with anyio.create_task_group() as group:
        group.start_soon(call, "strange", pipe, strange, False)
        group.start_soon(call, "silent", other, ASK, True)
    assert found["strange"][0].text == "after 3"
    assert isinstance(found["silent"][0], IdleTimeout)
    assert found["silent"][1] == pytest.approx(2)
    assert notes.skipped == ["ConfigurationError"]
    assert "second copy" in caplog.text


@pytest.mark.parametrize("stream", [False, True])
async def test_an_early_failure_is_left_to_others_unless_asked(stream: bool) -> None:
    """With on_failure the second copy goes out at once, in the first one's place."""
    script: list[Any] = [ServerError("x", status=500), QUICK]
    error = await ask(pipeline([hedge()], Scripted(script)), stream=stream)
    assert isinstance(error, ServerError)
    for layer in (hedge(on_failure=True), hedge(on_failure=True, delay=None)):
        response = await ask(pipeline([layer], Scripted(script)), stream=stream)
        assert branches(response) == [("", Outcome.FAILED), ("/hedge2", Outcome.COMPLETE)]
    fatal = Scripted([InvalidRequestError("x", status=400), QUICK])
    assert isinstance(await ask(pipeline([hedge(on_failure=True)], fatal)), InvalidRequestError)
    both = Scripted([ServerError("first"), ServerError("second")])
    assert (await ask(pipeline([hedge(on_failure=True)], both))).message == "first"


class HostStop(BaseException):
    """What a host framework steers with."""


async def test_what_is_no_error_passes_from_the_second_copy_too() -> None:
    """It is raised where the call runs, and the first copy ends."""
    transport = Scripted([SLOW, HostStop()])
    with pytest.raises(HostStop):
        await pipeline([hedge()], transport).run(ASK)
    assert transport.open_sources == 0


# --- when not --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        ASK.evolve(extra={"store": True}),
        ASK.evolve(extra={"background": True}, context=Context(idempotency_key="key")),
        ASK.evolve(tools=(Opaque({"type": "web_search"}),)),
    ],
    ids=["store", "background", "hosted tool"],
)
async def test_what_leaves_something_behind_is_sent_once(request_: Any) -> None:
    """A key of idempotency does not help: it asks for one answer. `when` may say otherwise."""
    response = await ask(pipeline([hedge()], Scripted([SLOW])), request_)
    assert len(response.trace.attempts) == 1
    allowed = hedge(when=lambda _: True)
    response = await ask(pipeline([allowed], Scripted([SLOW, QUICK])), request_)
    assert len(response.trace.attempts) == 2


async def test_when_may_refuse() -> None:
    """A plain function of the request decides."""
    layer = hedge(when=lambda request: request.model != "m")
    assert len((await ask(pipeline([layer], Scripted([SLOW])))).trace.attempts) == 1


async def test_none_is_sent_without_time_for_it() -> None:
    """A deadline that leaves less than the wait: the first copy has all of it."""
    notes = Notes()
    slow = takes(0.5, 0.9, "late", Finish("stop"))
    pipe = pipeline([notes, Deadline(1.9), hedge()], Scripted([takes(3)], repeat=True))
    assert isinstance(await ask(pipe), DeadlineExceeded)
    assert notes.skipped == ["deadline"]
    pipe = pipeline([notes, Deadline(0.9), hedge()], Scripted([slow], repeat=True))
    assert len((await ask(pipe)).attempts) == 1


async def test_the_bound_on_attempts_holds() -> None:
    """The one attempt that may be made is the first copy's."""
    notes = Notes()
    pipe = pipeline([notes, hedge()], Scripted([SLOW]), max_attempts=1)
    assert (await ask(pipe)).text == "after 10"
    assert notes.skipped == ["attempt bound"]


async def test_a_copy_that_waits_for_its_turn_is_not_doubled() -> None:
    """A queue of our own is no slow provider; the wait begins with the attempt."""
    queued = 0.0

    @middleware(phase="attempt")
    async def queue(request: Any, call_next: Any) -> Any:
        nonlocal queued
        if not queued:
            queued = 5.0
            await request.context.sleep(queued)
        return await call_next(request)

    response = await ask(pipeline([hedge(), queue], Scripted([takes(0.5)])))
    assert len(response.trace.attempts) == 1
    queued = 0.0
    response = await ask(pipeline([hedge(), queue], Scripted([SLOW, QUICK])))
    assert response.trace.attempts[1].start == pytest.approx(6)


async def test_a_copy_between_two_tries_is_not_doubled() -> None:
    """Retry inside waits because the provider is unwell; a second copy would not."""
    transport = Scripted([ServerError("x", status=500), takes(0.5)])
    layers = [hedge(), Retry(base=5, jitter="none", budget=None)]
    response = await ask(pipeline(layers, transport))
    assert [branch for branch, _ in branches(response)] == ["", "/try2"]


@pytest.mark.parametrize("where", ["first", "second", "inside"])
async def test_a_throttle_ends_all_second_copies_for_a_while(where: str) -> None:
    """Whoever it meets; the provider's own time holds where it is longer than `pause`."""
    throttle = RateLimitError("x", status=429, retry_after=30)
    notes = Notes()
    layers: list[Any] = [notes, hedge(pause=5)]
    if where == "first":
        script: list[Any] = [throttle]
    elif where == "second":
        script = [takes(2), throttle]
    else:
        layers.append(Retry(base=0.1, budget=None, max_wait=60))
        script = [throttle, takes(2)]
    transport = Scripted([*script, takes(2), SLOW, QUICK])
    pipe = pipeline(layers, transport)
    await ask(pipe)
    if where == "inside":
        assert notes.skipped == ["pushback"]
        return
    assert len((await ask(pipe)).trace.attempts) == 1
    assert notes.skipped == ["pushback"]
    await anyio.sleep(30)
    assert len((await ask(pipe)).trace.attempts) == 2


async def test_a_throttle_counts_whatever_call_meets_it() -> None:
    """One that Retry inside has made good, and one of a call that could not be sent twice."""
    throttle = RateLimitError("x", status=429)
    notes, race = Notes(), hedge(pause=5)
    ports = virtual_ports()
    retry = Retry(base=0.1, budget=None)
    made_good = pipeline([notes, race, retry], Scripted([throttle, QUICK, SLOW]), ports=ports)
    assert (await ask(made_good)).text == "after 0.2"
    assert len((await ask(made_good)).trace.attempts) == 1
    assert notes.skipped == ["pushback"]
    await anyio.sleep(10)
    hurried = pipeline([notes, Deadline(0.5), race], Scripted([throttle]), ports=ports)
    assert isinstance(await ask(hurried), RateLimitError)
    pipe = pipeline([notes, race], Scripted([SLOW]), ports=ports)
    assert len((await ask(pipe)).trace.attempts) == 1
    assert notes.skipped == ["pushback"] * 2


async def test_a_throttle_counts_from_when_it_was_met() -> None:
    """Not from the end of a long call in which Retry made it good."""
    throttle = RateLimitError("x", status=429)
    slow = ScriptedAnswer(("a", 20.0, "b", Finish("stop")))
    transport = Scripted([throttle, slow, SLOW, QUICK])
    pipe = pipeline([hedge(pause=5), Retry(base=0.1, budget=None), Timeout(attempt=60)], transport)
    assert (await ask(pipe)).text == "ab"
    assert len((await ask(pipe)).trace.attempts) == 2


# --- how often -------------------------------------------------------------------------------


async def test_the_wait_is_learnt_from_the_answers() -> None:
    """After twenty answers it is the time within which 95 % of them began; before, `delay`."""
    ports = virtual_ports()
    layer = hedge(delay=None)
    times = [0.1 * number for number in range(1, 21)]
    pipe = pipeline([layer], Scripted([takes(one) for one in times]), ports=ports)
    for _ in times:
        await ask(pipe, stream=True)
    pipe = pipeline([layer], Scripted([SLOW, QUICK]), ports=ports)
    response = await ask(pipe, stream=True)
    assert response.trace.attempts[1].start == pytest.approx(2.0)
    # Runs are another matter, and so is another model.
    pipe = pipeline([layer], Scripted([SLOW, SLOW]), ports=ports)
    assert len((await ask(pipe)).trace.attempts) == 1
    other = ASK.evolve(model="other")
    assert len((await ask(pipe, other, stream=True)).trace.attempts) == 1


async def test_the_shortest_wait_holds() -> None:
    """Where everything is quick, nothing is sent twice for a hair's breadth."""
    pipe = pipeline([hedge(min_samples=1, min_delay=0.7)], Scripted([takes(0.01), SLOW, QUICK]))
    await ask(pipe)
    response = await ask(pipe)
    assert response.trace.attempts[1].start == pytest.approx(0.7)


async def test_losers_count_for_the_wait() -> None:
    """A first copy that was cancelled took at least so long: the wait does not shrink."""
    pipe = pipeline(
        [hedge(delay=1, min_samples=2, quantile=0.5)],
        Scripted([SLOW, QUICK, SLOW, QUICK, SLOW, QUICK]),
    )
    starts = [(await ask(pipe)).trace.attempts[1].start for _ in range(3)]
    assert starts == pytest.approx([1, 1, 1.2])


async def test_second_copies_are_a_share_of_the_calls() -> None:
    """Of two hundred calls that are all slow one in twenty is sent twice, however many at once."""
    notes = Notes()
    transport = Scripted([takes(2)], repeat=True)
    pipe = pipeline([notes, hedge(max_extra=0.05)], transport)

    async def one() -> None:
        await ask(pipe)

    async with anyio.create_task_group() as group:
        for _ in range(200):
            group.start_soon(one)
    assert len(transport.requests) == 210
    assert set(notes.skipped) == {"load"}
    await anyio.sleep(120)
    assert len((await ask(pipe)).trace.attempts) == 1  # what was called then allows nothing now


# --- targets ---------------------------------------------------------------------------------


async def test_the_second_copy_may_go_elsewhere() -> None:
    """To the first target that can take it; the answer says who served it."""
    other = Scripted([QUICK], name="other")
    response = await ask(pipeline([hedge(other)], Scripted([SLOW])))
    assert response.served_by == "other"
    assert branches(response)[1][0] == "/hedge2/other"
    pipe = pipeline([hedge("bigger")], Scripted([SLOW, QUICK]))
    assert [one.model for one in (await ask(pipe)).trace.attempts] == ["m", "bigger"]


async def test_a_target_that_cannot_take_it_is_left_out() -> None:
    """One that was asked already, and one that does not have what an id stands for."""
    notes = Notes()
    other = Scripted([QUICK], name="other")
    uploaded = ASK.evolve(messages=(*ASK.messages, Message("user", (File(id="file-1"),))))
    pipe = pipeline([notes, hedge(other)], Scripted([SLOW]))
    assert len((await ask(pipe, uploaded)).trace.attempts) == 1
    pipe = pipeline([notes, hedge("m")], Scripted([SLOW]))
    assert len((await ask(pipe)).trace.attempts) == 1
    assert len(notes.skipped) == 2
    assert "an id stands for" in notes.skipped[0]
    assert "already" in notes.skipped[1]


async def test_what_another_provider_has_sealed_is_not_sent_to_the_target() -> None:
    """The rest of the conversation is, and the trace says how many parts it concerned."""
    other = Scripted([QUICK], name="other")
    thought = Message("assistant", (Reasoning("hm", signature="sealed"),))
    sealed = ASK.evolve(messages=(*ASK.messages, thought))
    first = Scripted([SLOW])
    response = await ask(pipeline([hedge(other)], first), sealed)
    elsewhere: Any = other.requests[0]
    here: Any = first.requests[0]
    assert elsewhere.messages[-1].parts == (Reasoning("hm"),)
    assert here.messages[-1] == thought
    stripped = [note.fields for note in response.trace.notes if note.name == "hedge.stripped"]
    assert [(one["target"], one["parts"]) for one in stripped] == [("other", 1)]


# --- order and options -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"quantile": 1.0}, "quantile"),
        ({"quantile": 0.1}, "quantile"),
        ({"min_samples": 0}, "min_samples"),
        ({"min_samples": 201}, "min_samples"),
        ({"delay": 0}, "delay"),
        ({"delay": math.inf}, "delay"),
        ({"min_delay": timedelta(0)}, "min_delay"),
        ({"max_extra": 1.5}, "max_extra"),
        ({"window": 0}, "window"),
        ({"pause": -1}, "pause"),
        ({"on_failure": 1}, "on_failure"),
        ({"when": True}, "when"),
        ({"when": anyio.sleep}, "when"),
        ({"when": partial(anyio.sleep, 1)}, "when"),
        ({"namespace": None}, "namespace"),
        ({"targets": [3]}, "targets"),
    ],
    ids=plainly,
)
def test_wrong_options_are_refused_when_it_is_made(options: dict[str, Any], word: str) -> None:
    """The message names the option."""
    with pytest.raises(ConfigurationError, match=word):
        Hedge(**options)


@pytest.mark.parametrize(("outer", "inner"), [("route", "hedge"), ("hedge", "fallback")])
def test_an_order_that_pays_for_nothing_is_refused(outer: str, inner: str) -> None:
    """Outside Route it asks another deployment, inside Fallback it asks only one more."""

    def layer(name: str) -> Any:
        if name == "hedge":
            return hedge()

        @middleware(phase="choose", name=name)
        async def other(request: Any, call_next: Any) -> Any:
            return await call_next(request)

        return other

    with pytest.raises(OrderError):
        Pipeline([layer(outer), layer(inner)], Scripted(["x"]))
    Pipeline([layer(inner), layer(outer)], Scripted(["x"]))
