"""Moderation asked of a provider: the embedded one, OpenAI's transport, and the layers around."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from lamella import (
    Audio,
    Handler,
    Image,
    InvalidRequestError,
    LamellaError,
    LimitedError,
    Moderation,
    ModerationRequest,
    ModerationResponse,
    Money,
    NotFoundError,
    Pipeline,
    ProtocolError,
    RateLimitError,
    Surface,
    Target,
    Text,
    UnsupportedError,
    Usage,
    map_texts,
)
from lamella.testing import MockServer, Scripted, transport_checks, virtual_ports
from lamella.transports import AzureOpenAI, Mock, OpenAI
from lamella.transports._dialect import DEFAULT_OPTIONS
from lamella.transports._openai_moderation import OpenAIModeration
from lamella_middlewares import Cost, Fallback, RateLimit, Retry, SingleFlight

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(
    lamella_virtual_backend: tuple[str, dict[str, Any]],
) -> tuple[str, dict[str, Any]]:
    """Both event loops, in virtual time: nothing here waits."""
    return lamella_virtual_backend


TEXTS = ["How are you?", "I will kill you, idiot."]
PICTURE = Image(data=b"PNG: gore", media_type="image/png")
DIALECT = OpenAIModeration()
RESULT: dict[str, Any] = {
    "flagged": True,
    "categories": {"violence": True, "hate": False},
    "category_scores": {"violence": 1, "hate": 0.0},
    "category_applied_input_types": {"violence": ["text", "image"], "hate": ["text"]},
}


def asked(inputs: Any = TEXTS, **fields: Any) -> ModerationRequest:
    """Whether something is harmful."""
    return ModerationRequest.of(inputs, **{"model": "mock-moderation", **fields})


# --- requests and answers ----------------------------------------------------------------------


def test_each_element_is_an_input() -> None:
    """A single text or part is one; a list within the list is one of several parts."""
    assert asked("a").inputs == ("a",)
    assert asked(Text("a")).inputs == ("a",)
    assert asked(PICTURE).inputs == ((PICTURE,),)
    assert asked(["a", PICTURE, ["b", PICTURE]]).inputs == (
        "a",
        (PICTURE,),
        (Text("b"), PICTURE),
    )
    marked = Text("a", extra={"x": 1})
    assert asked([marked]).inputs == ((marked,),)
    assert asked().evolve(inputs="b").inputs == ("b",)


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ([], ValueError, "at least one"),
        ([[]], ValueError, "is empty"),
        (5, TypeError, "int"),
        ([5], TypeError, "int"),
        ([["a", 5]], TypeError, "int"),
        ([Audio(data=b"x", format="wav")], TypeError, "Audio"),
        ([[Audio(data=b"x", format="wav")]], TypeError, "Audio"),
    ],
)
def test_what_cannot_be_judged_is_refused_at_once(
    given: Any, kind: type[Exception], said: str
) -> None:
    """Saying what can."""
    with pytest.raises(kind, match=said):
        asked(given)


def test_only_pictures_need_a_model_that_reads_them() -> None:
    """In the words of the cards."""
    assert asked().needs == frozenset()
    assert asked([["a"]]).needs == frozenset()
    assert asked(["a", ["b", PICTURE]]).needs == {"image_input"}


async def test_answers_to_pieces_are_one_answer() -> None:
    """In the order of the inputs; usage is the sum of what was not replayed."""
    request = asked(["a", ["b", PICTURE], "c"])
    pieces = request.split(2)
    assert [piece.inputs for piece in pieces] == [request.inputs[:2], request.inputs[2:]]
    answers = [
        ModerationResponse.of([{"hate": 0.1}, {"hate": 0.9}], usage=Usage(uncached_input=2)),
        ModerationResponse.of([{"hate": 0.5}], usage=Usage(uncached_input=3), model="m"),
    ]
    merged = request.merge(answers)
    assert [result.flagged for result in merged.results] == [False, True, True]
    assert [result.index for result in merged.results] == [0, 1, 2]
    assert merged.usage == Usage(uncached_input=5)
    assert request.merge([ModerationResponse.of([{}])]).usage == Usage()


def test_a_result_says_what_is_flagged() -> None:
    """Scores become verdicts at a threshold; a response is flagged if one of its results is."""
    result = Moderation.of({"violence": 0.5, "hate": 0.4, "abuse": 0.9})
    assert result.flagged
    assert result.flagged_categories == ("abuse", "violence")
    assert not Moderation.of({"violence": 0.5}, threshold=0.6).flagged
    assert ModerationResponse.of([{"x": 0.1}, result]).flagged
    assert not ModerationResponse.of([{"x": 0.1}]).flagged
    assert ModerationResponse.of([result]).result == result
    assert ModerationResponse.of([result]).usage == Usage()


def test_every_text_of_a_request_is_found() -> None:
    """What a layer changes in texts, it changes here too; pictures are named as unread."""
    unread: list[Surface] = []
    changed = map_texts(
        asked(["ada", ["ada", PICTURE]]), lambda text, _: text.upper(), unread.append
    )
    assert changed.inputs == ("ADA", (Text("ADA"), PICTURE))
    assert len(unread) == 1


# --- asking ------------------------------------------------------------------------------------


async def test_over_http_and_in_process_it_is_the_same() -> None:
    """Flags, scores, and what they apply to; it is free."""
    async with (
        MockServer() as server,
        Pipeline([], OpenAI("any", base_url=server.url)) as pipeline,
    ):
        found = await pipeline.run(asked())
        here = await Pipeline([], Mock()).run(asked())
    assert found.results == here.results
    assert [result.flagged_categories for result in found.results] == [
        (),
        ("harassment", "violence"),
    ]
    assert found.flagged
    assert found.results[1].scores["violence"] > 0.5 > found.results[0].scores["violence"]
    assert len(found.result.categories) == len(found.result.scores) == 13
    assert found.result.input_types["self-harm"] == ("text",)
    assert (found.usage, found.model, found.finish_reason) == (Usage(), "mock-moderation", "stop")
    assert found.head.id is not None
    assert found.head.request_id == "req_mock_000000"
    sent = server.requests[0]
    assert (sent.path, sent.json) == (
        "/v1/moderations",
        {"model": "mock-moderation", "input": TEXTS},
    )


async def test_a_picture_is_judged_with_its_words() -> None:
    """Text and picture are one input, and have one result."""
    async with (
        MockServer() as server,
        Pipeline([], OpenAI("any", base_url=server.url)) as pipeline,
    ):
        found = await pipeline.run(asked([["Look!", PICTURE]]))
    assert found.result.flagged_categories == ("violence", "violence/graphic")
    assert found.result.input_types["violence"] == ("text", "image")
    assert found.result.input_types["hate"] == ("text",)
    text, picture = server.requests[0].json["input"]
    assert text == {"type": "text", "text": "Look!"}
    assert picture["type"] == "image_url"
    assert picture["image_url"]["url"].startswith("data:image/png;base64,")


@pytest.mark.parametrize("own", [None, "mock-reasoning"])
async def test_moderation_has_a_model_of_its_own(own: str | None) -> None:
    """The transport's model is one for chat, and is not asked to judge."""
    request = ModerationRequest.of("hello")
    async with (
        MockServer() as server,
        Pipeline([], OpenAI("any", base_url=server.url, model=own)) as pipeline,
    ):
        found = await pipeline.run(request)
    assert found.model == "omni-moderation-latest"
    assert found.trace.attempts[0].model == "omni-moderation-latest"
    assert (await Pipeline([], Mock(model="mock-reasoning")).run(request)).model == (
        "mock-moderation"
    )


async def test_it_replays_as_a_stream() -> None:
    """One event for each input, usage, and the end."""
    async with (
        MockServer() as server,
        Pipeline([], OpenAI("any", base_url=server.url)) as pipeline,
        pipeline.stream(asked()) as response,
    ):
        events = [event async for event in response]
    assert [type(event).__name__ for event in events] == [
        "Moderation",
        "Moderation",
        "UsageReport",
        "Finish",
    ]


def test_one_request_holds_texts_or_one_input_of_parts() -> None:
    """As the API has it; several with pictures are to be asked for one by one."""

    def body(inputs: Any, **fields: Any) -> Any:
        request = asked(inputs, **fields)
        return DIALECT.encode(request, stream=False, options=DEFAULT_OPTIONS)["input"]

    assert body("a") == "a"
    assert body(["a", "b"]) == ["a", "b"]
    assert body(Image(url="https://example.com/a.png")) == [
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    ]
    with pytest.raises(UnsupportedError, match="2 inputs") as refused:
        body(["a", PICTURE])
    assert "split" in (refused.value.hint or "")
    with pytest.raises(UnsupportedError, match="media_type"):
        body(Image(data=b"x"))
    with pytest.raises(UnsupportedError, match="input"):
        body("a", extra={"input": "b"})


@pytest.mark.parametrize("networked", [False, True])
async def test_what_the_provider_refuses_is_told(*, networked: bool) -> None:
    """More than one picture in an input."""
    async with MockServer() as server:
        transport = OpenAI("any", base_url=server.url) if networked else Mock()
        async with Pipeline([], transport) as pipeline:
            with pytest.raises(InvalidRequestError) as refused:
                await pipeline.run(asked([[PICTURE, PICTURE]]))
    assert refused.value.code == "too_many_images"


async def test_endpoints_that_do_not_moderate_say_so() -> None:
    """Azure and named ones before the network; of another the first request finds out."""
    for transport in (
        OpenAI("any", endpoint="groq"),
        AzureOpenAI("any", endpoint="https://x.openai.azure.com", deployment="mock"),
    ):
        async with Pipeline([], transport) as pipeline:
            with pytest.raises(UnsupportedError, match="moderation") as refused:
                await pipeline.run(asked())
        assert not refused.value.retryable
    async with (
        MockServer(paths={"/moderations": "status=404"}) as server,
        Pipeline([], OpenAI("any", base_url=server.url)) as pipeline,
    ):
        with pytest.raises(NotFoundError):
            await pipeline.run(asked())


async def test_models_that_are_known_not_to_do_it_are_not_asked() -> None:
    """By their cards: a chat model judges nothing, an old one sees nothing."""
    async with Pipeline([], OpenAI("any", endpoint="openai")) as pipeline:
        for model, inputs in (("gpt-4o-mini", "a"), ("text-moderation-latest", PICTURE)):
            with pytest.raises(UnsupportedError):
                await pipeline.run(asked(inputs, model=model))


# --- answers that are none ---------------------------------------------------------------------


def answer(**changes: Any) -> bytes:
    """An answer with a result that is changed so."""
    return msgspec.json.encode({"id": "modr-1", "model": "m", "results": [{**RESULT, **changes}]})


def test_an_answer_is_read() -> None:
    """Whole numbers are scores too; what a model does not judge is null, and left out."""
    events, head = DIALECT.decode(
        answer(categories={"violence": True, "hate": False, "illicit": None}), asked("a")
    )
    assert events[0] == Moderation(
        flagged=True,
        categories={"violence": True, "hate": False},
        scores={"violence": 1.0, "hate": 0.0},
        input_types={"violence": ("text", "image"), "hate": ("text",)},
    )
    assert (head.id, head.model) == ("modr-1", "m")
    for absent in ({"category_applied_input_types": None}, {"more": 1}):
        assert DIALECT.decode(answer(**absent))[0]
    stated = b'{"usage": {"prompt_tokens": 3, "total_tokens": 3}, "results": ['
    billed, _ = DIALECT.decode(stated + msgspec.json.encode(RESULT) + b"]}")
    assert ModerationResponse(billed).usage == Usage(uncached_input=3)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"{}",
        b"[]",
        b'{"results": []}',
        b'{"results": {}}',
        b'{"results": [5]}',
        answer(flagged=None),
        answer(flagged=1),
        answer(categories=None),
        answer(categories={}),
        answer(categories={"violence": "yes"}),
        answer(category_scores=None),
        answer(category_scores={"violence": 1}),
        answer(category_scores={"violence": 1.01, "hate": 0}),
        answer(category_scores={"violence": -0.1, "hate": 0}),
        answer(category_scores={"violence": True, "hate": 0}),
        answer(category_scores={"violence": "1", "hate": 0}),
        answer(category_applied_input_types=["text"]),
        answer(category_applied_input_types={"hate": "text"}),
        answer(category_applied_input_types={"hate": [1]}),
        b'{"results": [{}, {}]}',
    ],
)
def test_what_is_no_moderation_is_a_protocol_error(body: bytes) -> None:
    """Nothing is taken for harmless because it could not be read."""
    with pytest.raises(ProtocolError):
        DIALECT.decode(body, asked("a"))


def test_a_result_that_is_missing_is_an_error() -> None:
    """Each input has one."""
    with pytest.raises(ProtocolError, match="1 results for 2 inputs"):
        DIALECT.decode(answer(), asked(["a", "b"]))


def test_an_error_with_a_good_status_is_the_providers_own() -> None:
    """With its class; and there is no reader of a stream."""
    with pytest.raises(LamellaError) as caught:
        DIALECT.decode(msgspec.json.encode({"error": {"code": 429}}))
    assert caught.value.status == 429
    with pytest.raises(ProtocolError):
        DIALECT.decoder(asked())


# --- layers ------------------------------------------------------------------------------------


async def test_it_costs_nothing() -> None:
    """By the models' cards, also where models without a price are refused."""
    response = await Pipeline([Cost(unknown="refuse")], Mock()).run(asked("word " * 1_000))
    assert response.cost == Money.of("0")
    async with (
        MockServer() as server,
        Pipeline([Cost({"omni-moderation-latest": {"input": "5"}})],
                 OpenAI("any", base_url=server.url)) as pipeline,
    ):  # fmt: skip
        assert (await pipeline.run(ModerationRequest.of("a"))).cost == Money.of("0")


async def test_it_is_tried_again() -> None:
    """Retry treats it as any request."""
    async with (
        MockServer(script=["status=503", "reset=0", "truncate=1", None]) as server,
        Pipeline(
            [Retry(attempts=4)], OpenAI("any", base_url=server.url), ports=virtual_ports()
        ) as pipeline,
    ):
        assert (await pipeline.run(asked())).flagged
    assert len(server.requests) == 4


@pytest.mark.parametrize("model", [None, "omni-moderation-latest"])
async def test_it_falls_back(model: str | None) -> None:
    """Another target judges where the first cannot, and not with its model for chat."""
    request = ModerationRequest.of("vermin", model=model)
    stack = Pipeline([], Mock(model="mock-small"))
    for second in (Mock(model="mock-small"), stack, Target.pool("pool", [Mock(), Mock()])):
        first = OpenAI("any", endpoint="groq", model="llama")
        async with Pipeline([Fallback([second])], first) as pipeline:
            found = await pipeline.run(request)
        assert (found.flagged, found.model) == (True, "mock-moderation")
    elsewhere = Target("elsewhere", Mock(), {"model": "mock-moderation;status=400"})
    async with Pipeline([Fallback([elsewhere])], OpenAI("any", endpoint="groq")) as pipeline:
        with pytest.raises(LamellaError):
            await pipeline.run(request)  # a model that the target itself names is asked for


async def test_equal_requests_at_one_time_are_one() -> None:
    """As their answers are to be the same."""
    scripted = Scripted([ModerationResponse.of([{"x": 1.0}])], delay=0.1)
    shared = Pipeline([SingleFlight(when="deterministic")], scripted, ports=virtual_ports())
    answers = await shared.run_many([asked("a"), asked("a")])
    assert len(scripted.requests) == 1
    assert len(answers) == 2


async def test_it_takes_a_request_of_a_limit_and_no_tokens() -> None:
    """Nobody bills its tokens, so that none are reserved."""
    pipeline = Pipeline(
        [RateLimit(requests=2, tokens=100, max_wait=0)], Mock(), ports=virtual_ports()
    )
    for _ in range(2):
        await pipeline.run(asked("word " * 1_000))
    with pytest.raises(LimitedError):
        await pipeline.run(asked())


async def test_a_function_moderates_and_a_layer_asks_for_it() -> None:
    """A transport is any function; the answer to a child is typed by its request."""

    async def transport(request: ModerationRequest) -> ModerationResponse:
        return ModerationResponse.of([{"x": float("bad" in str(one))} for one in request.inputs])

    async def layer(request: ModerationRequest, call_next: Handler) -> ModerationResponse:
        child = await call_next(request.child(asked("bad"), purpose="moderation"))
        assert child.flagged
        return await call_next(request)

    found = await Pipeline([layer], transport).run(asked(["good", "bad"]))
    assert [result.flagged for result in found.results] == [False, True]
    scripted = Scripted([ModerationResponse.of([{"x": 0.1}]), RateLimitError("Too many.")])
    assert not (await Pipeline([], scripted).run(asked("a"))).flagged


# --- the kit -----------------------------------------------------------------------------------


async def test_the_kit_of_transports_holds_for_moderation() -> None:
    """In process and over HTTP."""
    for check in transport_checks(Mock, asked()):
        await check()
    async with MockServer() as server:
        for check in transport_checks(lambda: OpenAI("any", base_url=server.url), asked()):
            await check()
        await server.until(lambda s: s.open_connections == 0)
