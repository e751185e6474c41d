"""Fallback: another target where one has failed in a way that may pass elsewhere."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from lamella import (
    AttemptLimitError,
    AuthenticationError,
    CardBook,
    ChatRequest,
    ChatResponse,
    CircuitOpenError,
    ClosedError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    ContentFilteredError,
    ContextLengthError,
    DeadlineExceeded,
    EmbeddingRequest,
    EmbeddingResponse,
    FirstEventTimeout,
    InvalidRequestError,
    LamellaError,
    LimitedError,
    ModelCard,
    Money,
    NoTargetError,
    NotFoundError,
    Outcome,
    OverloadedError,
    Pipeline,
    Ports,
    ProtocolError,
    QuotaError,
    RateLimitError,
    RefusedError,
    ServerError,
    StreamTruncated,
    Target,
    TargetsFailedError,
    Trace,
    UnsupportedError,
    Usage,
    middleware,
)
from lamella.testing import Scripted, ScriptedAnswer, each_step, virtual_ports
from lamella_middlewares.cost import Cost
from lamella_middlewares.deadline import Deadline
from lamella_middlewares.fallback import Fallback
from lamella_middlewares.timeout import Timeout

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("hello", model="m")
both = pytest.mark.parametrize("stream", [False, True])


def named(name: str, *script: Any, **options: Any) -> Scripted:
    """A transport of that name."""
    return Scripted(script, name=name, **options)


def down(name: str, error: Any = None) -> Scripted:
    """A transport that always fails."""
    return Scripted([error or ServerError("x", status=500)], repeat=True, name=name)


def pipeline(
    layers: list[Any], transport: Any, *, ports: Ports | None = None, **more: Any
) -> Pipeline:
    """A pipeline with a clock and stores of its own."""
    return Pipeline(layers, transport, ports=ports or virtual_ports(), **more)


async def ask(pipe: Pipeline, *, stream: bool = False, request: Any = ASK) -> Any:
    """The complete response, run or streamed."""
    if not stream:
        return await pipe.run(request)
    async with pipe.stream(request) as response:
        return await response.collect()


def noted(trace: Trace, name: str) -> list[dict[str, Any]]:
    """The fields of the notes of one name."""
    return [dict(note.fields) for note in trace.notes if note.name == name]


class Traced:
    """A layer that keeps the traces of calls, those that fail included."""

    def __init__(self) -> None:
        self.traces: list[Trace] = []

    async def __call__(self, request: Any, call_next: Any) -> Any:
        self.traces.append(request.context.trace)
        return await call_next(request)


# --- what leads to the next target ------------------------------------------------------------


@both
@pytest.mark.parametrize(
    "failure",
    [
        ServerError("x", status=500),
        OverloadedError("x", status=529),
        RateLimitError("x", status=429),
        QuotaError("x", status=402),
        AuthenticationError("x", status=401),
        NotFoundError("x", status=404),
        ConnectError("x"),
        ConnectionLostError("x"),
        FirstEventTimeout("x"),
        ProtocolError("x"),
        StreamTruncated("x"),
        CircuitOpenError("x"),
        LimitedError("x"),
        UnsupportedError("x"),
        pytest.param([], id="empty"),
        pytest.param([ServerError("in band", status=529)], id="in band"),
    ],
)
async def test_what_may_pass_elsewhere_goes_elsewhere(failure: Any, stream: bool) -> None:
    """The provider, the credential, the network, and what is held back here for that target."""
    backup = named("backup", "here you are")
    response = await ask(pipeline([Fallback([backup])], named("own", failure)), stream=stream)
    assert (response.text, response.served_by) == ("here you are", "backup")
    branches = [(one.provider, one.branch) for one in response.trace.attempts]
    assert branches == [("own", ""), ("backup", "/backup")]
    [note] = noted(response.trace, "fallback.next")
    assert (note["source"], note["target"]) == ("own", "backup")


@both
@pytest.mark.parametrize(
    "failure",
    [
        InvalidRequestError("x", status=400),
        InvalidRequestError("x", status=422),
        ContentFilteredError("x", status=400),
        RefusedError("over budget"),
        ConfigurationError("no key"),
        DeadlineExceeded("x"),
        TypeError("a bug"),
    ],
)
async def test_what_is_the_callers_stays_with_the_caller(failure: Exception, stream: bool) -> None:
    """The first target's word on the request, refusals of this process, and bugs, as they are."""
    backup = named("backup", "never")
    layers = [Deadline(60), Fallback([backup])]
    if isinstance(failure, DeadlineExceeded):

        async def late(request: Any, call_next: Any) -> Any:
            await request.context.ports.sleep(60)
            raise failure

        layers.append(late)
    with pytest.raises(type(failure)) as caught:
        await ask(pipeline(layers, named("own", failure)), stream=stream)
    assert not isinstance(caught.value, TargetsFailedError)
    assert backup.requests == []


async def test_a_success_asks_nobody_else() -> None:
    """Nor does it leave a note."""
    backup = named("backup", "never")
    response = await ask(pipeline([Fallback([backup])], named("own", "fine")))
    assert (response.text, backup.requests, response.trace.notes) == ("fine", [], [])


async def test_attempts_say_whether_they_stand_in() -> None:
    """The first target is the one that was meant, tried again or not; every other one stands in."""
    nested = Pipeline([Fallback([named("spare", "fine")])], down("far"), ports=virtual_ports())
    response = await ask(pipeline([Fallback(["other", nested])], down("own")))
    assert [(attempt.model, attempt.substitute) for attempt in response.trace.attempts] == [
        ("m", False),
        ("other", True),
        ("m", True),
        ("m", True),
    ]
    whole = await ask(pipeline([Fallback(["other"])], named("own", "fine")))
    assert [attempt.substitute for attempt in whole.trace.attempts] == [False]


async def test_a_committed_stream_never_switches() -> None:
    """Once the caller has seen a word, the error is the caller's; `run` has shown nothing."""
    cut = ["one", ConnectionLostError("x")]
    backup = named("backup", "whole")
    pipe = pipeline([Fallback([backup])], named("own", cut, cut))
    with pytest.raises(ConnectionLostError) as caught:
        await ask(pipe, stream=True)
    assert caught.value.committed
    assert backup.requests == []
    assert (await ask(pipe)).text == "whole"


@both
async def test_other_operations_fall_back_too(stream: bool) -> None:
    """Embeddings, say."""

    async def vectors(request: EmbeddingRequest) -> EmbeddingResponse:
        return EmbeddingResponse.of([[1.0]])

    request = EmbeddingRequest.of("x", model="m")
    response = await ask(
        pipeline([Fallback([vectors])], down("own")), stream=stream, request=request
    )
    assert response.served_by == "vectors"


async def test_a_later_targets_refusal_is_not_the_last_word() -> None:
    """The request was written for the first target, which has not judged it."""
    picky = down("picky", InvalidRequestError("no prefill", status=400))
    response = await ask(pipeline([Fallback([picky, named("last", "fine")])], down("own")))
    assert response.served_by == "last"


async def test_what_a_stateful_request_may_have_done_is_not_done_again() -> None:
    """Stored, and cut after it was sent: nobody knows. What surely failed goes elsewhere."""
    backup = named("backup", "fine")
    stored = ASK.evolve(extra={"store": True})
    layers = [Fallback([backup])]
    with pytest.raises(ConnectionLostError):
        await ask(pipeline(layers, down("own", ConnectionLostError("x"))), request=stored)
    assert backup.requests == []
    assert (
        await ask(pipeline(layers, down("own", ConnectError("x"))), request=stored)
    ).text == "fine"


# --- on=... -----------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("failure", [ContentFilteredError("x", status=400), "finish"])
async def test_a_content_filter_only_by_consent(failure: Any, stream: bool) -> None:
    """Whether the provider says so with an error or with an empty answer."""
    answer = ChatResponse.of("", finish_reason="content_filter") if failure == "finish" else failure
    consenting = Fallback([named("b", "fine")], on="content_filter")
    response = await ask(pipeline([consenting], named("own", answer)), stream=stream)
    assert response.text == "fine"
    strict = pipeline([Fallback([named("b", "never")])], named("own", answer))
    if failure == "finish":
        assert (await ask(strict, stream=stream)).finish_reason == "content_filter"
    else:
        with pytest.raises(ContentFilteredError):
            await ask(strict, stream=stream)


@pytest.mark.parametrize(
    "on",
    [OSError, [ValueError, OSError], lambda error: isinstance(error, OSError), [lambda _: True]],
)
async def test_the_caller_may_name_other_failures(on: Any) -> None:
    """Exception types and functions of the exception; the failures of strangers are grouped too."""
    response = await ask(
        pipeline([Fallback([named("b", "fine")], on=on)], down("own", OSError("x")))
    )
    assert response.text == "fine"
    with pytest.raises(OSError, match="2 targets have failed") as caught:
        await ask(pipeline([Fallback([down("b")], on=on)], down("own", OSError("x"))))
    assert isinstance(caught.value, TargetsFailedError)
    assert [type(error) for error in caught.value.errors] == [OSError, ServerError]


async def test_a_predicate_that_raises_does_not_hide_the_failure() -> None:
    """The call's own error is what the caller gets; the trace says what went wrong."""

    def broken(error: Exception) -> bool:
        raise KeyError("oops")

    traced = Traced()
    with pytest.raises(InvalidRequestError):
        await ask(pipeline([traced, Fallback([named("b", "never")], on=broken)],
                           down("own", InvalidRequestError("x"))))  # fmt: skip
    assert noted(traced.traces[0], "fallback.gave_up") == [{"why": "on=... raised KeyError"}]


async def test_a_strangers_failure_after_ours_is_raised_as_it_is() -> None:
    """A bug in a target, or the control flow of a host framework, is not hidden in a group."""
    with pytest.raises(KeyError):
        await ask(pipeline([Fallback([down("b", KeyError("bug"))])], down("own")))


@pytest.mark.parametrize(
    "options",
    [
        {"on": "content"},
        {"on": 5},
        {"on": [BaseException]},
        {"require": ["eu"]},
        {"require": {"region": 5}},
        {"state": "drop"},
        {"min_useful": 0},
        {"budget": 0.2},
        {"book": {}},
        {"primary": ["a", "b"]},
        {"targets": []},
        {"targets": [5]},
    ],
)
def test_a_wrong_option_is_refused_when_it_is_made(options: dict[str, Any]) -> None:
    """Not at the first failure."""
    with pytest.raises(ConfigurationError):
        Fallback(**{"targets": ["m2"], **options})


# --- context windows --------------------------------------------------------------------------

BOOK = CardBook(builtin=False)
BOOK.register(
    ModelCard("m", "own", context_window=100),
    ModelCard("same", "own", context_window=100),
    ModelCard("large", "own", context_window=1000),
)


async def test_what_is_too_long_goes_to_a_larger_window_only() -> None:
    """A model of the same size, or that nobody knows, would refuse it as well."""
    asked: list[str | None] = []

    def answer(request: ChatRequest) -> Any:
        asked.append(request.model)
        return "fine" if request.model == "large" else ContextLengthError("x", status=400)

    own = Scripted([answer], repeat=True, name="own")
    fallback = Fallback(["same", "unknown", "large"], book=BOOK)
    response = await ask(pipeline([fallback], own))
    assert (response.text, asked) == ("fine", ["m", "large"])
    whys = {note["target"]: note["why"] for note in noted(response.trace, "fallback.skipped")}
    assert whys == {
        "same": "its context window of 100 is no larger",
        "unknown": "nobody knows that its context window is larger",
    }
    with pytest.raises(ContextLengthError) as caught:
        await ask(pipeline([Fallback(["same", "unknown"], book=BOOK)], own))
    assert not isinstance(caught.value, TargetsFailedError)


async def test_a_pipeline_that_shortens_takes_what_is_too_long() -> None:
    """Its own layers make it fit."""

    @middleware(phase="shape")
    async def trim(request: ChatRequest, call_next: Any) -> ChatResponse:
        response: ChatResponse = await call_next(request)
        return response

    nested = Pipeline([trim], named("n", "short"), name="short")
    own = down("own", ContextLengthError("x", status=400))
    assert (await ask(pipeline([Fallback([nested], book=BOOK)], own))).text == "short"


# --- what a target cannot take ----------------------------------------------------------------


async def test_unsuitable_targets_are_left_out() -> None:
    """By capability, by tag; with nobody left the error says why, and nothing was sent."""
    own = named("own", "never")
    fallback = Fallback(
        [{"use": "mock", "name": "us", "tags": {"region": "us"}}], require={"region": "eu"}
    )
    with pytest.raises(NoTargetError) as caught:
        await ask(pipeline([fallback], own))
    assert "own (its tag 'region' is None, required is 'eu')" in str(caught.value)
    assert "us (its tag 'region' is 'us', required is 'eu')" in str(caught.value)
    assert (own.requests, caught.value.attempts) == ([], ())
    there = Fallback(
        [{"use": "mock", "name": "eu", "tags": {"region": "eu"}}], require={"region": "eu"}
    )
    assert (await ask(pipeline([there], own))).served_by == "eu"


async def test_the_primary_can_be_said() -> None:
    """As any target: with tags, with another model, or elsewhere."""
    own = named("own", "fine", "fine")
    tagged = Fallback(["x"], primary={"tags": {"region": "eu"}}, require={"region": "eu"})
    response = await ask(pipeline([tagged], own))
    assert [one.branch for one in response.trace.attempts] == [""]
    other = Fallback(["x"], primary="m2")
    response = await ask(pipeline([other], own))
    assert [(one.branch, one.model) for one in response.trace.attempts] == [("/m2", "m2")]


# --- deadline, bound, closing -----------------------------------------------------------------


@both
async def test_targets_share_the_deadline(stream: bool) -> None:
    """Where less is left than is useful, the failure that there is comes at once."""
    slow = named("own", ScriptedAnswer([ServerError("x", status=500)], delay=4.95))
    backup = named("backup", "late")
    traced = Traced()
    with pytest.raises(ServerError):
        await ask(pipeline([traced, Deadline(5), Fallback([backup])], slow), stream=stream)
    assert backup.requests == []
    assert noted(traced.traces[0], "fallback.skipped") == [{"target": "backup", "why": "deadline"}]


async def test_a_nested_pipelines_deadline_is_its_own() -> None:
    """What it could not do in its time, another target may in what is left."""
    nested = Pipeline([Deadline(2)], named("n", ScriptedAnswer(["x"], delay=10)), name="hasty")
    pipe = pipeline([Deadline(60), Fallback([named("last", "fine")], primary=nested)], down("own"))
    response = await ask(pipe)
    assert response.text == "fine"
    assert pipe.ports.monotonic() == pytest.approx(2)


async def test_the_bound_on_attempts_ends_it() -> None:
    """With the failure that there is, not with the bound's own error."""
    traced = Traced()
    with pytest.raises(ServerError):
        await ask(pipeline([traced, Fallback([down("b")])], down("own"), max_attempts=1))
    assert noted(traced.traces[0], "fallback.skipped") == [{"target": "b", "why": "attempt bound"}]


async def test_a_nested_pipelines_bound_is_its_own() -> None:
    """It goes on elsewhere when a target has used up what it may."""

    async def twice(request: Any, call_next: Any) -> Any:
        try:
            return await call_next(request)
        except ServerError:
            return await call_next(request)

    nested = Pipeline([twice], down("n"), max_attempts=1, name="once")
    response = await ask(pipeline([Fallback([nested, named("b", "fine")])], down("own")))
    assert response.text == "fine"
    with pytest.raises(AttemptLimitError):
        await ask(pipeline([Fallback([nested])], nested, max_attempts=1))  # fmt: skip


async def test_closing_is_no_failure_of_a_target() -> None:
    """It ends the call, and asks nobody else."""
    backup = named("backup", "never")
    pipe = pipeline([Fallback([backup])], named("own", ScriptedAnswer(["x"], delay=10)))
    errors: list[Exception] = []

    async def call() -> None:
        try:
            await ask(pipe)
        except ClosedError as error:
            errors.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await anyio.sleep(1)
        await pipe.aclose()
    assert [type(error) for error in errors] == [ClosedError]
    assert backup.requests == []


async def test_a_timeout_of_an_attempt_goes_elsewhere() -> None:
    """It is the attempt's, not the call's."""
    slow = named("own", ScriptedAnswer(["x"], delay=30))
    layers = [Deadline(60), Fallback([named("b", "fine")]), Timeout(attempt=5)]
    response = await ask(pipeline(layers, slow))
    assert response.text == "fine"
    assert [one.outcome for one in response.trace.attempts] == [Outcome.TIMED_OUT, Outcome.COMPLETE]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@both
def test_cancelled_at_any_step_it_leaves_nothing(backend: str, stream: bool) -> None:
    """Every source is closed and no call runs on, wherever the cancellation strikes."""

    def make() -> tuple[Callable[[], Any], Callable[[], Any]]:
        own = named("own", [RateLimitError("x")])
        targets = [named("b", []), named("c", "so be it")]
        pipe = pipeline([Deadline(60), Fallback(targets)], own)

        async def check() -> None:
            assert own.open_sources == sum(target.open_sources for target in targets) == 0
            assert (await pipe.health()).running == 0

        return (lambda: ask(pipe, stream=stream)), check

    assert each_step(make, backend=backend, again=(1, 2)) > 3


# --- the error of all -------------------------------------------------------------------------


@both
async def test_when_all_fail_the_error_is_of_the_first_ones_class(stream: bool) -> None:
    """With each target's error in order, every attempt, and what makes sense for all of them."""
    own = down("own", QuotaError("x", status=429, code="insufficient_quota"))
    others = [down("b", RateLimitError("y", status=429, retry_after=7)),
              down("c", OverloadedError("z", status=503, retry_after=3))]  # fmt: skip
    with pytest.raises(QuotaError) as caught:
        await ask(pipeline([Fallback(others)], own), stream=stream)
    error = caught.value
    assert isinstance(error, TargetsFailedError)
    assert [type(one) for one in error.errors] == [QuotaError, RateLimitError, OverloadedError]
    assert [one.provider for one in error.attempts] == ["own", "b", "c"]
    assert (error.status, error.code) == (429, "insufficient_quota")
    assert (error.retry_after, error.retryable, error.elsewhere) == (3, True, True)
    assert error.layer == "fallback"
    assert "own with QuotaError 429, b with RateLimitError 429, c with OverloadedError" in str(
        error
    )


async def test_the_error_of_all_survives_pickling_and_copying() -> None:
    """As those of workers do, with its class."""
    with pytest.raises(ServerError) as caught:
        await ask(
            pipeline([Fallback([down("b", AuthenticationError("y", status=401))])], down("own"))
        )
    for again in (pickle.loads(pickle.dumps(caught.value)), caught.value.copy(layer="x")):
        assert isinstance(again, TargetsFailedError)
        assert isinstance(again, ServerError)
        assert [type(one) for one in again.errors] == [ServerError, AuthenticationError]
        assert str(again) == str(caught.value)


async def test_what_was_never_sent_anywhere_is_not_sent() -> None:
    """One that may have been billed makes the whole uncertain."""
    for errors, outcome in (
        ((ConnectError("x"), ConnectError("x")), Outcome.NOT_SENT),
        ((ConnectError("x"), ConnectionLostError("x")), Outcome.UNKNOWN),
        ((ServerError("x"), ConnectError("x")), Outcome.FAILED),
    ):
        with pytest.raises(LamellaError) as caught:
            await ask(pipeline([Fallback([down("b", errors[1])])], down("own", errors[0])))
        assert caught.value.outcome is outcome


async def test_a_target_is_priced_as_what_serves_it() -> None:
    """By its transport's name and its own model, whatever the target is called."""
    own = Scripted([ServerError("x", status=500)], name="own")
    usage = Usage(uncached_input=1_000_000, text_output=0)
    answer = ChatResponse.of("fine", usage=usage)
    backup = Target("frankfurt", named("acme", answer), {"model": "large"})
    cost = Cost(
        {"acme/large": {"input": "2", "output": "4"}, "own/m": {"input": "9", "output": "9"}}
    )
    response = await ask(pipeline([Fallback([backup]), cost], own))
    assert response.served_by == "frankfurt"
    assert response.cost == Money.of("2", "USD")
