"""Targets: the forms that options take, sending to them, and whether they can take a request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lamella import (
    CardBook,
    ChatRequest,
    ChatResponse,
    ConfigurationError,
    Context,
    EmbeddingRequest,
    Image,
    Message,
    ModelCard,
    Pipeline,
    Preset,
    Request,
    ServerError,
    Target,
    Text,
    middleware,
)
from lamella._target_errors import targets_failed
from lamella._target_fitness import Fitness, unsuitable
from lamella._target_forms import as_targets
from lamella._targets import send
from lamella.testing import Scripted, virtual_ports
from lamella.transports import OpenAI
from lamella_middlewares.fallback import Fallback

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("hello", model="m")


def going(target: Target) -> Any:
    """A choose layer that sends every request to a target."""

    @middleware(phase="choose", name="going")
    async def go(request: ChatRequest, call_next: Any) -> ChatResponse:
        return await send(request, target, call_next)

    return go


# --- forms ------------------------------------------------------------------------------------


def test_text_is_another_model_on_the_same_transport() -> None:
    """It is named after the model, and changes nothing else."""
    [target] = as_targets("gpt-4o-mini")
    assert (target.name, target.transport, target.changes) == (
        "gpt-4o-mini",
        None,
        {"model": "gpt-4o-mini"},
    )


def test_a_table_without_use_changes_the_request() -> None:
    """Any field of a request may be changed."""
    [target] = as_targets({"model": "m2", "temperature": 0, "tags": {"region": "eu"}})
    assert target.changes == {"model": "m2", "temperature": 0}
    assert target.tags == {"region": "eu"}


def test_a_table_with_use_is_a_registered_transport() -> None:
    """Its options go to the transport; `model`, `changes` and `name` are the target's."""
    [target] = as_targets(
        {"use": "openai", "endpoint": "groq", "model": "llama", "name": "g", "changes": {"n": 2}}
    )
    assert isinstance(target.transport, OpenAI)
    assert (target.name, target.transport.name) == ("g", "groq")
    assert target.changes == {"n": 2, "model": "llama"}


def test_keys_make_a_pool_and_never_show() -> None:
    """One transport for each credential, counted apart; a key is in no repr."""
    [pool] = as_targets(
        {"use": "openai", "keys": ["env:A", "sk-secret"], "spread": True, "rest": 9}
    )
    assert [member.name for member in pool.credentials] == ["openai#1", "openai#2"]
    assert (pool.spread, pool.rest) == (True, 9)
    assert "sk-secret" not in repr(pool) + repr(pool.credentials)
    assert "sk-secret" not in str(Pipeline([Fallback([pool])], Scripted(["x"])).explain())


def test_a_transport_made_with_a_model_is_asked_for_it() -> None:
    """The request's model was meant for another one."""
    targets = as_targets([OpenAI(endpoint="groq", model="llama"), OpenAI(endpoint="groq")])
    assert [target.changes for target in targets] == [{"model": "llama"}, {}]


def test_names_are_told_apart() -> None:
    """A second of the same name is numbered, so that the trace says which one it was."""
    targets = as_targets(
        [Scripted(["x"]), Scripted(["y"]), Pipeline([], Scripted(["z"])), "m", "m"]
    )
    assert [target.name for target in targets] == ["scripted", "scripted#2", "pipeline", "m", "m#2"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (5, "targets: got 5, expected a list of targets"),
        ([], "give at least one target"),
        (["m", 5], r"targets\[1\]: got 5, expected a model's name"),
        ({"use": "opanai"}, "Did you mean 'openai'"),
        ({"use": "openai", "bogus": 1}, "targets.bogus: is no option"),
        ({"use": "openai", "preset": "test"}, "stands beside `use`"),
        ({"use": "openai", "keys": "sk-secret"}, "a list of references"),
        ({"use": "mock", "keys": ["sk-secret"]}, "it has no option `api_key`"),
        ({"keys": ["sk-secret"]}, "needs `use`"),
        ({"use": "openai", "api_key": "k", "keys": ["sk-secret"]}, "stands beside `keys`"),
        ({"temprature": 0}, "Did you mean 'temperature'"),
        ({"temperature": -1}, "temperature must be 0 or more"),
        ({"model": ""}, "targets.model: got '', expected a name"),
        ({"tags": 3, "model": "m"}, "expected a table"),
        ({"context": Context()}, "belongs to the call"),
        (Target("x", None, {"modle": "m"}), "Did you mean 'model'"),
        ([Scripted], "Make an instance of it"),
        (lambda request: request, "not asynchronous"),
        ({}, "expected a model's name"),
    ],
)
def test_what_is_no_target_is_refused_when_it_is_made(given: Any, words: str) -> None:
    """The message has the place, the value unless it may be a key, and what to give."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        as_targets(given)
    assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("transports", "words"),
    [
        ([], "has no transport"),
        ("openai", "takes a list of transports"),
        ([Pipeline([], Scripted(["x"]))], "whose credentials are its own"),
        ([5], "no transport"),
    ],
)
def test_what_is_no_pool_is_refused(transports: Any, words: str) -> None:
    """A pool has plain transports, at least one."""
    with pytest.raises(ConfigurationError, match=words):
        Target.pool("p", transports)


def test_all_mistakes_are_reported_at_once() -> None:
    """One for each target that is none."""
    with pytest.raises(ConfigurationError) as caught:
        as_targets([5, "m", ""])
    assert "targets[0]" in str(caught.value)
    assert "targets[2]" in str(caught.value)


# --- presets as targets -----------------------------------------------------------------------


def test_a_preset_is_a_target_with_a_stack_of_its_own(tmp_path: Path) -> None:
    """It is looked for in the file that the preset around it came from."""
    config = tmp_path / "lamella.toml"
    config.write_text(
        """
        [presets.main]
        transport = "mock"
        layers = [{ use = "fallback", targets = [{ preset = "cheap" }, "mini"] }]
        [presets.cheap]
        transport = { use = "mock", model = "small" }
        """
    )
    pipeline = Pipeline.preset("main", config=config)
    preset, mini = pipeline.layers[0].targets
    assert (preset.name, preset.nested, preset.model, mini.name) == ("cheap", True, "small", "mini")
    assert "cheap  model='small': outermost first" in str(pipeline.explain())


@pytest.mark.parametrize("begin", ["a", "b"])
def test_presets_that_are_each_others_targets_are_refused(tmp_path: Path, begin: str) -> None:
    """The chain is named."""
    config = tmp_path / "lamella.toml"
    config.write_text(
        "\n".join(
            f'[presets.{one}]\ntransport = "mock"\n'
            f'layers = [{{ use = "fallback", targets = [{{ preset = "{other}" }}] }}]'
            for one, other in ("ab", "bc", "ca")
        )
    )
    chain = {"a": "a -> b -> c -> a", "b": "b -> c -> a -> b"}[begin]
    with pytest.raises(ConfigurationError, match=chain):
        Pipeline.preset(begin, config=config)


def test_a_preset_may_be_used_twice() -> None:
    """Twice is no circle."""
    twice = [{"preset": "test"}, {"preset": "test"}]
    pipeline = Pipeline.preset(
        Preset(layers=[{"use": "fallback", "targets": twice}], transport="mock")
    )
    assert [target.name for target in pipeline.layers[0].targets] == ["test", "test#2"]


# --- sending ----------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_a_target_gets_the_request_as_it_changes_it(stream: bool) -> None:
    """Through the layers inside, on a branch of its own, with the target as provider."""
    seen: list[Request[Any]] = []

    async def inner(request: ChatRequest, call_next: Any) -> ChatResponse:
        seen.append(request)
        response: ChatResponse = await call_next(request)
        return response

    target = Target("b", Scripted(["from b"]), {"model": "m2"})
    pipeline = Pipeline([going(target), inner], Scripted(["never"]), ports=virtual_ports())
    request = ASK.evolve(context=Context(idempotency_key="key"))
    if stream:
        async with pipeline.stream(request) as opened:
            response = await opened.collect()
    else:
        response = await pipeline.run(request)
    assert (response.text, response.served_by) == ("from b", "b")
    [attempt] = response.trace.attempts
    assert (attempt.branch, attempt.provider, attempt.model) == ("/b", "b", "m2")
    assert (seen[0].context.provider, seen[0].context.idempotency_key) == ("b", "key/b")


async def test_another_model_stays_with_its_provider() -> None:
    """Its limits, breakers and prices are the provider's, and the model is the attempt's."""
    [target] = as_targets("m2")
    response = await Pipeline([going(target)], Scripted(["ok"], name="own")).run(ASK)
    [attempt] = response.trace.attempts
    assert (attempt.branch, attempt.provider, attempt.model) == ("/m2", "own", "m2")
    assert response.served_by == "own"


async def test_another_model_inside_a_target_stays_with_the_target() -> None:
    """What an outer choose layer has aimed at is where an inner one's models are asked."""
    outer, [inner] = Target("b", Scripted(["from b"])), as_targets("m2")
    response = await Pipeline([going(outer), going(inner)], Scripted(["never"])).run(ASK)
    [attempt] = response.trace.attempts
    assert (response.text, attempt.provider, attempt.model) == ("from b", "b", "m2")
    assert attempt.branch == "/b/m2"


async def test_another_transport_of_the_same_name_is_counted_apart() -> None:
    """A breaker that is open for the one does not stop the other."""
    target = as_targets(Scripted(["other account"], name="openai"))[0]
    own = Scripted(["own account"], name="openai")
    response = await Pipeline([going(target)], own).run(ASK)
    assert response.trace.attempts[0].provider == "openai#1"
    assert response.served_by == "openai#1"
    [same] = as_targets(own)
    response = await Pipeline([going(same)], own).run(ASK)
    assert response.trace.attempts[0].provider == "openai"


async def test_a_child_call_inside_a_target_goes_to_the_own_transport() -> None:
    """And is counted there, not under the target."""
    seen: list[str] = []

    async def judge(request: ChatRequest, call_next: Any) -> ChatResponse:
        child = request.child(ChatRequest.of("judge"), purpose="judge")
        seen.append(child.context.provider)
        await call_next(child)
        response: ChatResponse = await call_next(request)
        return response

    target = Target("b", Scripted(["from b"]))
    response = await Pipeline([going(target), judge], Scripted(["judged"], name="own")).run(ASK)
    assert seen == ["own"]
    assert [attempt.provider for attempt in response.trace.attempts] == ["own", "b"]


async def test_a_pipeline_runs_on_its_own_stack() -> None:
    """Not through the layers inside the choose layer."""
    seen: list[str] = []

    async def inside(request: ChatRequest, call_next: Any) -> ChatResponse:
        seen.append("inside")
        response: ChatResponse = await call_next(request)
        return response

    async def nested(request: ChatRequest, call_next: Any) -> ChatResponse:
        seen.append(request.context.provider)
        response: ChatResponse = await call_next(request)
        return response

    pipeline = Pipeline([nested], Scripted(["nested"], name="n"), name="cheap")
    response = await Pipeline([going(as_targets(pipeline)[0]), inside], Scripted(["never"])).run(
        ASK
    )
    assert (response.text, seen) == ("nested", ["n"])
    [attempt] = response.trace.attempts
    assert (attempt.branch, attempt.provider) == ("/cheap", "n")


async def test_a_nested_pipelines_bound_holds_inside_it() -> None:
    """What it takes is taken from the bound around it as well."""

    async def thrice(request: ChatRequest, call_next: Any) -> ChatResponse:
        for number in (1, 2):
            try:
                tried: ChatResponse = await call_next(request.branch(f"try{number}"))
            except ServerError:
                continue
            return tried
        response: ChatResponse = await call_next(request.branch("try3"))
        return response

    transport = Scripted([ServerError("x")], repeat=True)
    inner = Pipeline([thrice], transport, max_attempts=2)
    used: list[int] = []

    async def look(request: ChatRequest, call_next: Any) -> ChatResponse:
        try:
            response: ChatResponse = await call_next(request)
        finally:
            used.append(request.context.bound.used)
        return response

    with pytest.raises(Exception, match="has made 2 attempts"):
        await Pipeline([look], inner).run(ASK)
    assert (len(transport.requests), used) == (2, [2])


# --- closing, health, explaining --------------------------------------------------------------


async def test_targets_close_with_the_pipeline_once() -> None:
    """Those of two layers too, and not while another pipeline uses them."""
    closed: list[str] = []

    class Plain:
        name = "plain"

        async def __call__(self, request: Any) -> Any:
            return ChatResponse.of("x")

        async def aclose(self) -> None:
            closed.append("plain")

    shared = Plain()
    first = Pipeline([Fallback([shared, shared]), Fallback([shared])], Scripted(["x"]))
    second = Pipeline([Fallback([shared])], Scripted(["x"]))
    await first.aclose()
    assert closed == []
    await second.aclose()
    assert closed == ["plain"]


async def test_a_pools_credentials_and_nested_pipelines_close_too() -> None:
    """Whatever a target holds open."""
    members, inner = [Scripted(["x"]), Scripted(["y"])], Scripted(["z"])
    fallback = Fallback([Pipeline([], inner)], primary=Target.pool("p", members))
    await Pipeline([fallback], Scripted(["x"])).aclose()
    assert [transport.closed for transport in (*members, inner)] == [True, True, True]


async def test_health_and_explain_show_targets() -> None:
    """By name; one transport that is well keeps the pipeline from being down."""

    class Sick:
        name = "sick"

        async def __call__(self, request: Any) -> Any:
            return ChatResponse.of("x")

        async def health(self) -> bool:
            return False

    pipeline = Pipeline([Fallback(["m2", Sick(), Scripted(["x"], name="b")])], Sick())
    health = await pipeline.health()
    assert (health.status, set(health.transports)) == ("degraded", {"sick", "sick#1", "b"})
    text = str(pipeline.explain())
    assert "     -> m2  model='m2'" in text
    assert "     -> b" in text


# --- what a target can take -------------------------------------------------------------------

BOOK = CardBook(builtin=False)
BOOK.register(
    ModelCard("small", "own", context_window=100, capabilities=frozenset({"json_object"})),
    ModelCard("large", "own", input=frozenset({"text", "image"}), context_window=10_000,
              max_output_tokens=500, capabilities=frozenset({"tools"})),
    ModelCard("vectors", "own", operations=frozenset({"embeddings"})),
)  # fmt: skip
SMALL, LARGE, VECTORS, UNKNOWN = as_targets(["small", "large", "vectors", "unknown"])
PICTURE = Message.user([Text("what is it?"), Image(url="https://a/b.png")])
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


def why(request: Any, target: Target | None, **options: Any) -> str | None:
    """Why a target is unsuitable, with `own` as the pipeline's transport."""
    context = request.context.evolve(transport=Scripted(["x"], name="own"))
    return unsuitable(request.evolve(context=context), target, BOOK, **options)


def test_what_a_model_lacks_is_named() -> None:
    """Tools, modalities, operations; what nobody describes stands in no way."""
    assert why(ASK, SMALL) is None
    assert why(ChatRequest.of(PICTURE), SMALL) == "the model cannot do input:image"
    assert why(ChatRequest.of(PICTURE), LARGE) is None
    assert why(ASK.evolve(tools=[TOOL]), SMALL) == "the model cannot do tools"
    assert why(ASK, VECTORS) == "the model does not do chat"
    assert why(EmbeddingRequest.of("x"), VECTORS) is None
    assert why(ChatRequest.of(PICTURE), UNKNOWN) is None


def test_what_clearly_does_not_fit_is_left_out() -> None:
    """An estimate is only half believed; a bound on the answer wholly."""
    assert why(ChatRequest.of("word " * 1_000), SMALL) is not None
    assert why(ChatRequest.of("word " * 120), SMALL) is None
    assert why(ChatRequest.of("word " * 1_000), LARGE) is None
    wanted = why(ASK.evolve(max_output_tokens=501), LARGE)
    assert wanted == "max_output_tokens=501, and the model writes 500"


def test_required_tags_fail_closed() -> None:
    """From the layer or the request; the own transport promises nothing unless it says so."""
    eu = Target("eu", Scripted(["x"]), tags={"region": "eu"})
    assert why(ASK, eu, require={"region": "eu"}) is None
    assert why(ASK, eu, require={"region": ["us", "eu"]}) is None
    assert why(ASK, None, require={"region": "eu"}) == (
        "its tag 'region' is None, required is 'eu'"
    )
    told = ASK.evolve(context=Context(attributes={"require": {"region": "us"}}))
    assert why(told, eu) == "its tag 'region' is 'eu', required is 'us'"


def test_changes_that_an_operation_has_no_field_for_are_named() -> None:
    """A target for chat does not silently lose its temperature."""
    [cool] = as_targets({"model": "unknown", "temperature": 0})
    assert why(EmbeddingRequest.of("x"), cool) == "requests of 'embeddings' have no temperature"


def test_a_window_is_that_of_the_model_that_would_answer() -> None:
    """The request's own, the target's, or that of a nested pipeline's transport."""
    own = Scripted(["x"], name="own")
    context = ASK.context.evolve(transport=own)
    fitness = Fitness(ChatRequest.of("x", model="small", context=context), BOOK)
    nested = Target("n", Pipeline([], own), {"model": "large"})
    assert [fitness.window(one) for one in (None, LARGE, nested, UNKNOWN)] == [
        100,
        10_000,
        10_000,
        None,
    ]


# --- the error of all -------------------------------------------------------------------------


def test_a_strangers_failure_can_be_the_first_one() -> None:
    """The error is of its class too, where that is possible."""
    error = targets_failed([ConnectionResetError("x"), ServerError("y", retry_after=3)], "all")
    assert isinstance(error, ConnectionResetError)
    assert (error.retry_after, error.retryable, str(error.errors[0])) == (3, True, "x")
