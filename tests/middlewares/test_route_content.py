"""Route's classifier and shadow: what a request says decides; and copies that nobody notices."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest

from lamella import (
    ChatRequest,
    ClosedError,
    ConfigurationError,
    Context,
    DeadlineExceeded,
    EmbeddingRequest,
    Finish,
    Message,
    Opaque,
    Outcome,
    Pipeline,
    ServerError,
    TextDelta,
    Trace,
    Usage,
    UsageReport,
)
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares.cost import Cost
from lamella_middlewares.deadline import Deadline
from lamella_middlewares.retry import Retry
from lamella_middlewares.route import Classifier, Route, Shadow
from lamella_middlewares.route._classifier import score_in, shortened

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("hello", model="m")


def fine(name: str, **options: Any) -> Scripted:
    """A target that always answers."""
    return Scripted([f"I am {name}"], repeat=True, name=name, **options)


def sizes(**options: Any) -> tuple[Pipeline, Route]:
    """A small and a large model, and what decides between them."""
    route = Route([fine("small"), fine("large")], **options)
    return Pipeline([route], "mock", ports=virtual_ports()), route


def note_of(response: Any, name: str) -> Any:
    """The one note of that name."""
    [found] = [note for note in response.trace.notes if note.name == name]
    return found.fields


# --- functions -------------------------------------------------------------------------------


def is_long(request: Any) -> str:
    """Decides by length."""
    return "large" if len(request.messages[-1].text) > 20 else "small"


async def is_long_slowly(request: Any) -> str:
    """The same after a look elsewhere."""
    await anyio.sleep(1)
    return is_long(request)


@pytest.mark.parametrize("function", [is_long, is_long_slowly])
async def test_a_function_names_the_target(function: Any) -> None:
    """Plain or async; the trace has what it said."""
    pipeline, _ = sizes(classifier=function)
    for text, expected in (("short", "small"), ("a question that is long", "large")):
        response = await pipeline.run(ChatRequest.of(text))
        assert response.served_by == expected
        assert note_of(response, "route.classified") == {"targets": (expected,)}
        assert note_of(response, "route.chosen")["by"] == "classifier"


@pytest.mark.parametrize(("score", "expected"), [(0, "small"), (0.69, "small"), (0.7, "large")])
async def test_a_score_is_compared_with_the_threshold(score: float, expected: str) -> None:
    """From the threshold on it goes above."""
    classifier = Classifier(lambda _: score, threshold=0.7, above="large", below="small")
    pipeline, _ = sizes(classifier=classifier)
    response = await pipeline.run(ASK)
    assert response.served_by == expected
    assert note_of(response, "route.classified")["score"] == score


async def test_several_targets_share_what_is_theirs() -> None:
    """A class of several deployments: the policy chooses among them."""
    targets = [fine(name) for name in ("large", "small1", "small2")]
    classifier = Classifier(lambda _: 0.1, above="large", below=["small1", "small2"])
    pipeline = Pipeline([Route(targets, classifier=classifier)], "mock", ports=virtual_ports())
    seen = {(await pipeline.run(ASK)).served_by for _ in range(30)}
    assert seen == {"small1", "small2"}


def _fails(_: Any) -> Any:
    raise KeyError("no such prompt in words")


async def _never(_: Any) -> Any:
    await anyio.sleep_forever()


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (_fails, "KeyError"),
        (_never, "not over in 5 s"),
        (lambda _: None, "no opinion"),
        (lambda _: 2, "the score is not from 0 to 1"),
        (lambda _: True, "it returned bool"),
        (lambda _: "medium", "it named no target"),
        pytest.param(lambda _: ("small", "medium"), "it named no target", id="one of two"),
        (lambda _: b"small", "it returned bytes"),
        (lambda _: [], "it returned list"),
    ],
)
async def test_a_failing_classifier_falls_to_the_default(function: Any, why: str) -> None:
    """The call goes on; the trace says why, without words of the error."""
    pipeline, _ = sizes(classifier=Classifier(function, default="large"))
    response = await pipeline.run(ASK)
    assert response.served_by == "large"
    assert note_of(response, "route.classified") == {"targets": ("large",), "why": why}


async def test_without_a_default_the_policy_decides() -> None:
    """Among all."""
    pipeline, _ = sizes(classifier=Classifier(_fails))
    assert len({(await pipeline.run(ASK)).served_by for _ in range(20)}) == 2


async def test_cancelling_a_classifier_cancels_the_call() -> None:
    """It is no failure of the classifier."""
    pipeline, route = sizes(classifier=Classifier(_never, default="large", seconds=60))
    with anyio.move_on_after(1) as scope:
        await pipeline.run(ASK)
    assert scope.cancelled_caught
    assert route.states(pipeline.ports) == () or route.states(pipeline.ports)[0].calls == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_the_calls_deadline_is_no_failure_of_the_classifier(stream: bool) -> None:
    """The call is over, with the error that says so; so it is when the pipeline closes."""
    route = Route([fine("a")], classifier=Classifier(_never, default="a", seconds=60))
    pipeline = Pipeline([Deadline(5), route], "mock", ports=virtual_ports())
    with pytest.raises(DeadlineExceeded):
        if stream:
            async with pipeline.stream(ASK):
                pass
        else:
            await pipeline.run(ASK)

    async def closed() -> None:
        with pytest.raises(ClosedError):
            await pipeline.run(ASK)

    async with anyio.create_task_group() as group:
        group.start_soon(closed)
        await anyio.sleep(1)
        await pipeline.aclose()


async def test_a_classified_target_that_is_away_is_replaced() -> None:
    """Better another one than none."""
    pipeline, route = sizes(classifier=lambda _: "large")
    route.isolate("large", ports=pipeline.ports)
    assert (await pipeline.run(ASK)).served_by == "small"


async def test_a_try_elsewhere_leaves_the_class_only_if_it_has_failed() -> None:
    """A hedge of a hard question stays with the large model; a retry after its failure does not."""
    large = Scripted([ServerError("x")], repeat=True, name="large")
    route = Route([fine("small"), large], classifier=lambda _: "large")
    pipeline = Pipeline([Retry(base=0.01), route], "mock", ports=virtual_ports())
    assert (await pipeline.run(ASK)).served_by == "small"


# --- models ----------------------------------------------------------------------------------


def judged(*answers: Any, **options: Any) -> tuple[Pipeline, Scripted]:
    """A pipeline whose classifier asks a model that gives these answers."""
    judge = Scripted(answers, name="judge")
    table = {"ask": judge, "above": "large", "below": "small", "default": "large", **options}
    return sizes(classifier=table)[0], judge


async def test_a_model_scores_in_a_child_call() -> None:
    """It sees instructions and the question; its attempt and its cost are the call's."""
    pipeline, judge = judged("0.2", "0.9")
    request = ChatRequest.of("What is the capital of France?", model="m", stop=("x",))
    response = await pipeline.run(request.evolve(context=Context(tenant="t")))
    assert response.served_by == "small"
    assert [one.branch for one in response.trace.attempts] == ["/route/judge", "/small"]
    [asked] = judge.requests
    assert isinstance(asked, ChatRequest)
    assert "capital of France" in asked.messages[1].text
    assert (asked.temperature, asked.stop, asked.context.tenant) == (0.0, (), "t")
    assert (await pipeline.run(request)).served_by == "large"


async def test_what_scoring_costs_is_paid_by_the_call() -> None:
    """Both attempts are in the sum."""
    usage = UsageReport(Usage(text_output=1_000))
    judge = Scripted([["0.2", usage, Finish("stop")]], name="judge")
    small = Scripted([["hi", usage, Finish("stop")]], name="small")
    table = {"ask": judge, "above": "large", "below": "small"}
    route = Route([small, fine("large")], classifier=table)
    prices = {"m": {"input": "0", "output": "1"}}
    pipeline = Pipeline([route, Cost(prices)], "mock", ports=virtual_ports())
    assert str((await pipeline.run(ASK)).cost) == "$0.002"


async def test_another_model_of_the_same_transport_scores() -> None:
    """A name is a model on the pipeline's own transport; streamed or not, it is not streamed."""
    own = Scripted(["0.1", "answer"], name="own")
    table = {"ask": "tiny", "above": "large", "below": "small"}
    route = Route(["small", "large"], classifier=table)
    pipeline = Pipeline([route], own, ports=virtual_ports())
    async with pipeline.stream(ASK) as response:
        assert (await response.collect()).text == "answer"
    assert [request.model for request in own.requests] == ["tiny", "small"]
    assert [request.stream for request in own.requests] == [False, True]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("No idea.", "no opinion"),
        ("between 0.2 and 0.4", "no opinion"),
        (ServerError("down"), "ServerError"),
        ([10.0, "0.1", Finish("stop")], "not over in 5 s"),
    ],
)
async def test_a_model_that_does_not_score_falls_to_the_default(answer: Any, why: str) -> None:
    """The call goes on."""
    pipeline, _ = judged(answer)
    response = await pipeline.run(ASK)
    assert response.served_by == "large"
    assert note_of(response, "route.classified")["why"] == why


async def test_what_is_no_conversation_is_not_scored() -> None:
    """Embeddings have no question."""

    async def embed(request: EmbeddingRequest) -> Any:
        return request.answer([Finish("stop")])

    table = {"ask": fine("judge"), "above": "embed", "below": "embed"}
    pipeline = Pipeline([Route([embed], classifier=table)], "mock", ports=virtual_ports())
    response = await pipeline.run(EmbeddingRequest(inputs=("x",)))
    assert [note.name for note in response.trace.notes] == ["route.chosen"]


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("0.3", 0.3),
        (".5", 0.5),
        ("1", 1.0),
        ("Score: 0.75.", 0.75),
        ("0", 0.0),
        ("1.0", 1.0),
        ("", None),
        ("7", None),
        ("10", None),
        ("1.5", None),
        ("-0.5", None),
        ("0.3 0.4", None),
        ("1.2.3", None),
    ],
)
def test_a_score_is_the_one_number_in_an_answer(text: str, score: float | None) -> None:
    """From 0 to 1; of several nobody knows which."""
    assert score_in(text) == score


def test_of_a_long_question_beginning_and_end_are_shown() -> None:
    """A classifier reads a bounded text."""
    assert shortened("short", 10) == "short"
    assert shortened("a" * 50 + "b" * 50, 10) == "aaaaa […] bbbbb"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"function": is_long, "ask": "x", "above": "a", "below": "b"},
        {"ask": "x"},
        {"function": "x"},
        {"function": is_long, "threshold": 2},
        {"function": is_long, "above": [1]},
        {"function": is_long, "seconds": 0},
        {"function": is_long, "characters": 0},
    ],
)
def test_wrong_options_of_a_classifier_are_refused(options: dict[str, Any]) -> None:
    """When it is made."""
    with pytest.raises(ConfigurationError, match="Classifier"):
        Classifier(**options)


# --- shadow ----------------------------------------------------------------------------------


class Copied:
    """A pipeline whose requests are copied to a shadow, and the copies' traces."""

    def __init__(self, shadow: Scripted, *layers: Any, **options: Any) -> None:
        self.traces: list[Trace] = []
        self.main = fine("main")
        self.copies = shadow
        self.shadow = Shadow(shadow, on_end=self.traces.append, **options)
        self.route = Route([self.main], shadow=self.shadow)
        self.pipeline = Pipeline([self.route, *layers], "mock", ports=virtual_ports())


@pytest.mark.parametrize("stream", [False, True])
async def test_a_copy_goes_to_the_shadow_and_its_answer_is_thrown_away(stream: bool) -> None:
    """After the caller has the answer; in a call of its own, named in the caller's trace."""
    usage = UsageReport(Usage(text_output=1_000))
    shadow = Scripted([["x", usage, Finish("stop")]], delay=3.0, name="shadow")
    town = Copied(shadow, Cost({"m": {"output": "1", "input": "0"}}))
    if stream:
        async with town.pipeline.stream(ASK) as response:
            await response.collect()
    else:
        response = await town.pipeline.run(ASK)
    assert (response.text, town.traces) == ("I am main", [])
    await anyio.sleep(4)
    [trace] = town.traces
    assert (trace.parent_id, trace.outcome) == (response.context.call_id, Outcome.COMPLETE)
    noted = note_of(response, "route.shadow")
    assert noted == {"target": "shadow", "call_id": trace.call_id}
    assert str(trace.cost) == "$0.001"
    assert [attempt.provider for attempt in response.trace.attempts] == ["main"]
    assert [attempt.branch for attempt in trace.attempts] == ["/shadow/shadow"]
    assert shadow.requests[0].stream is False


@pytest.mark.parametrize(
    "answer", [ServerError("down"), ["half"], TypeError("bug"), [TextDelta("x"), ServerError("x")]]
)
async def test_a_failing_copy_is_noticed_by_nobody_but_its_own_trace(answer: Any) -> None:
    """Neither the caller nor the target's standing suffers."""
    town = Copied(Scripted([answer], name="shadow"))
    response = await town.pipeline.run(ASK)
    await anyio.sleep(1)
    assert response.trace.outcome is Outcome.COMPLETE
    [trace] = town.traces
    assert trace.outcome in {Outcome.FAILED, Outcome.TRUNCATED}
    assert [note.name for note in trace.notes][-1] == "route.shadow_failed"
    assert [state.failures for state in town.route.states(town.pipeline.ports)] == [0]


async def test_a_failed_call_is_not_copied() -> None:
    """There is nothing to compare it with."""
    shadow = fine("shadow")
    route = Route([Scripted([ServerError("x")])], shadow=Shadow(shadow))
    with pytest.raises(ServerError):
        await Pipeline([route], "mock", ports=virtual_ports()).run(ASK)
    await anyio.sleep(1)
    assert shadow.requests == []


async def test_a_share_of_the_requests_is_copied() -> None:
    """About a quarter; and none from the moment on that it is set to 0."""
    town = Copied(fine("shadow"), percent=25)
    for _ in range(400):
        await town.pipeline.run(ASK)
        await anyio.sleep(0.1)
    assert 65 < len(town.copies.requests) < 140
    town.shadow.percent = 0
    before = len(town.copies.requests)
    for _ in range(50):
        await town.pipeline.run(ASK)
    assert len(town.copies.requests) == before


async def test_copies_under_way_are_bounded() -> None:
    """Beyond the bound no copy is made, and the trace says so; later there are some again."""
    town = Copied(fine("shadow", delay=10.0), concurrency=3)
    for _ in range(10):
        await town.pipeline.run(ASK)
    await anyio.sleep(1)
    assert len(town.copies.requests) == 3
    later = await town.pipeline.run(ASK)
    assert note_of(later, "route.shadow_skipped") == {"target": "shadow", "why": "concurrency"}
    await anyio.sleep(11)
    assert len(town.traces) == 3
    await town.pipeline.run(ASK)
    await anyio.sleep(1)
    assert len(town.copies.requests) == 4


async def test_what_would_be_done_twice_is_not_copied() -> None:
    """A stored answer, a hosted tool: even with an idempotency key, which a copy does not have."""
    town = Copied(fine("shadow"))
    keyed = Context(idempotency_key="k")
    tool = Opaque({"type": "web_search"})
    for request in (ASK.evolve(extra={"store": True}), ASK.evolve(tools=[tool])):
        response = await town.pipeline.run(request.evolve(context=keyed))
        assert note_of(response, "route.shadow_skipped")["why"] == "a copy would do it twice"
    await anyio.sleep(1)
    assert town.copies.requests == []


async def test_a_copy_has_time_of_its_own() -> None:
    """Not the caller's deadline, but a limit: it ends as timed out."""
    shadow = fine("shadow", delay=60.0)
    town = Copied(shadow, seconds=20)
    pipeline = Pipeline([Deadline(5), town.route], "mock", ports=town.pipeline.ports)
    await pipeline.run(ASK)
    await anyio.sleep(19)
    assert town.traces == []
    await anyio.sleep(2)
    assert town.traces[0].outcome is Outcome.TIMED_OUT


async def test_closing_ends_the_copies() -> None:
    """At once; nothing stays counted, and a later call does not copy."""
    town = Copied(fine("shadow", delay=60.0))
    await town.pipeline.run(ASK)
    await anyio.sleep(1)
    with anyio.fail_after(5):
        await town.pipeline.aclose()
    assert town.traces[0].outcome is Outcome.CANCELLED
    assert town.copies.open_sources == 0
    assert town.route._board(town.pipeline.ports).shadows == 0


async def test_a_failing_listener_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """It is the program's own mistake, and nobody else can hear of it."""

    def fails(_: Trace) -> None:
        raise ZeroDivisionError

    route = Route([fine("main")], shadow=Shadow(fine("shadow"), on_end=fails))
    with caplog.at_level(logging.ERROR, "lamella"):
        await Pipeline([route], "mock", ports=virtual_ports()).run(ASK)
        await anyio.sleep(1)
    assert "'shadow' failed" in caplog.text


async def test_a_conversation_is_copied_whole() -> None:
    """Messages, options and tenant; not the branch, nor the deadline."""
    town = Copied(fine("shadow"))
    messages = [Message.system("Be brief."), Message.user("Hi")]
    request = ChatRequest(messages=messages, temperature=0.5, context=Context(tenant="t"))
    await town.pipeline.run(request)
    await anyio.sleep(1)
    [copy] = town.copies.requests
    assert isinstance(copy, ChatRequest)
    assert (copy.messages, copy.temperature, copy.context.tenant) == (tuple(messages), 0.5, "t")


@pytest.mark.parametrize(
    "options",
    [
        {"percent": 101},
        {"concurrency": 0},
        {"seconds": 0},
        {"on_end": 3},
        {"on_end": is_long_slowly},
    ],
)
def test_wrong_options_of_a_shadow_are_refused(options: dict[str, Any]) -> None:
    """By name; the percentage also when it is set later."""
    [name] = options
    with pytest.raises(ConfigurationError, match=rf"Shadow\({name}="):
        Shadow("x", **options)
    shadow = Shadow("x")
    with pytest.raises(ConfigurationError, match="percent"):
        shadow.percent = -1
