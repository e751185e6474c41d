"""The mock server speaks Google's Gemini API: the official SDK understands all that it says."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import pytest
from anyio import to_thread
from google import genai
from google.genai import errors, types

from lamella.testing import MockServer

T = TypeVar("T")

pytestmark = pytest.mark.anyio

QUESTION = "Why is the sky blue?"
TWO_CALLS = 'Use get_weather({"city": "Rome"}) and get_weather({"city": "Zürich"}).'
WEATHER = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(
            name="get_weather",
            description="The weather of a city.",
            parameters=types.Schema(
                type=types.Type.OBJECT,
                properties={"city": types.Schema(type=types.Type.STRING)},
                required=["city"],
            ),
        )
    ]
)
BY_HAND: Any = {"automatic_function_calling": {"disable": True}}
DOT = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the SDK would read from the environment is not there."""
    for name in ("GOOGLE_API_KEY", "GEMINI_API_KEY", "GOOGLE_GENAI_USE_VERTEXAI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def server() -> AsyncIterator[MockServer]:
    """A server that nothing goes wrong with."""
    async with MockServer(keys=["right"]) as server:
        yield server


@pytest.fixture
def client(server: MockServer) -> Iterator[genai.Client]:
    """The official client of that server; its own retries are off unless they are asked for."""
    with client_of(server) as client:
        yield client


def client_of(server: MockServer, key: str = "right") -> genai.Client:
    """A client with this key."""
    return genai.Client(api_key=key, http_options=types.HttpOptions(base_url=server.endpoint))


async def ask(call: Callable[..., T], **arguments: Any) -> T:
    """What the SDK, which knows asyncio only, says in a thread of its own."""
    return await to_thread.run_sync(partial(call, **arguments))


async def streamed(client: genai.Client, **arguments: Any) -> list[types.GenerateContentResponse]:
    """All chunks of a streamed answer."""
    stream = client.models.generate_content_stream
    return await to_thread.run_sync(lambda: list(stream(**arguments)))


def parts_of(answer: types.GenerateContentResponse) -> list[types.Part]:
    """The parts of its first candidate."""
    candidate = (answer.candidates or [])[0]
    content = candidate.content
    return list((content and content.parts) or [])


def details_of(error: errors.APIError) -> list[Any]:
    """The details in the body of an error."""
    body: Any = error.details
    return list(body["error"]["details"])


# --- text --------------------------------------------------------------------------------------


async def test_an_answer_is_read(client: genai.Client) -> None:
    """A whole answer has text, a finish reason, usage that adds up, its model and its id."""
    answer = await ask(client.models.generate_content, model="mock", contents=QUESTION)
    assert QUESTION in (answer.text or "")
    assert (answer.candidates or [])[0].finish_reason is types.FinishReason.STOP
    assert (answer.model_version, bool(answer.response_id)) == ("mock", True)
    usage = answer.usage_metadata
    assert usage is not None
    assert usage.prompt_token_count == 6 + 3
    assert usage.total_token_count == 9 + (usage.candidates_token_count or 0)
    (detail,) = usage.prompt_tokens_details or []
    assert (detail.modality, detail.token_count) == (types.MediaModality.TEXT, 9)


async def test_a_streamed_answer_is_the_whole_one(client: genai.Client) -> None:
    """The chunks of a stream add up to the whole answer; only the last one says why it ends."""
    whole = await ask(client.models.generate_content, model="mock", contents=QUESTION)
    chunks = await streamed(client, model="mock", contents=QUESTION)
    assert "".join(chunk.text or "" for chunk in chunks) == whole.text
    reasons = [(chunk.candidates or [])[0].finish_reason for chunk in chunks]
    assert reasons == [*([None] * (len(chunks) - 1)), types.FinishReason.STOP]
    assert chunks[-1].usage_metadata == whole.usage_metadata
    totals = [chunk.usage_metadata and chunk.usage_metadata.total_token_count for chunk in chunks]
    assert totals == sorted(totals, key=lambda total: total or 0)


# The SDK derives from aiohttp's session, which aiohttp advises against.
@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_asynchronous_client_gets_the_same(server: MockServer) -> None:
    """The asynchronous client, whole and streamed, reads what the other one does."""
    client = client_of(server)
    async with client.aio as aio:
        whole = await aio.models.generate_content(model="mock", contents=QUESTION)
        stream = await aio.models.generate_content_stream(model="mock", contents=QUESTION)
        text = "".join([chunk.text or "" async for chunk in stream])
    client.close()
    assert text == whole.text


async def test_system_instructions_and_parameters_arrive(
    server: MockServer, client: genai.Client
) -> None:
    """The limit, the stops and the number of candidates mean what they say."""
    config = types.GenerateContentConfig(
        system_instruction="Be brief.",
        temperature=0.5,
        max_output_tokens=3,
        candidate_count=2,
        seed=7,
    )
    answer = await ask(
        client.models.generate_content, model="mock", contents=QUESTION, config=config
    )
    reasons = [each.finish_reason for each in answer.candidates or []]
    assert reasons == [types.FinishReason.MAX_TOKENS] * 2
    assert [each.index for each in answer.candidates or []] == [0, 1]
    stops = types.GenerateContentConfig(stop_sequences=["three"])
    order = "mock: say one two three"
    short = await ask(client.models.generate_content, model="mock", contents=order, config=stops)
    assert short.text == "one two "


async def test_log_probabilities_are_told(client: genai.Client) -> None:
    """There is one for each token, with as many alternatives as were asked for."""
    config = types.GenerateContentConfig(response_logprobs=True, logprobs=2)
    answer = await ask(
        client.models.generate_content, model="mock", contents="mock: say one two", config=config
    )
    candidate = (answer.candidates or [])[0]
    result = candidate.logprobs_result
    assert result is not None
    assert [each.token for each in result.chosen_candidates or []] == ["one", " two"]
    assert [len(each.candidates or []) for each in result.top_candidates or []] == [2, 2]
    assert candidate.avg_logprobs == pytest.approx((result.log_probability_sum or 0) / 2)


# --- tools -------------------------------------------------------------------------------------


async def test_parallel_calls_and_their_results(client: genai.Client) -> None:
    """Two calls come with ids; their results, named and numbered, are answered in words."""
    config = types.GenerateContentConfig(tools=[WEATHER], **BY_HAND)
    first = await ask(
        client.models.generate_content, model="mock", contents=TWO_CALLS, config=config
    )
    calls = first.function_calls or []
    assert [call.args for call in calls] == [{"city": "Rome"}, {"city": "Zürich"}]
    assert len({call.id for call in calls}) == 2
    assert (first.candidates or [])[0].finish_reason is types.FinishReason.STOP
    results = [
        types.Part(
            function_response=types.FunctionResponse(
                id=call.id, name=call.name, response={"output": f"sun in {call.args}"}
            )
        )
        for call in calls
    ]
    history: Any = [
        types.UserContent(TWO_CALLS),
        (first.candidates or [])[0].content,
        types.UserContent(results),
    ]
    answer = await ask(client.models.generate_content, model="mock", contents=history)
    assert "sun in" in (answer.text or "")


async def test_a_call_is_streamed_in_one_piece(client: genai.Client) -> None:
    """A function call is never spread over chunks."""
    config = types.GenerateContentConfig(tools=[WEATHER], **BY_HAND)
    chunks = await streamed(client, model="mock", contents=TWO_CALLS, config=config)
    calls = [call for chunk in chunks for call in chunk.function_calls or []]
    assert [call.args for call in calls] == [{"city": "Rome"}, {"city": "Zürich"}]


async def test_the_sdk_calls_functions_by_itself(client: genai.Client) -> None:
    """The SDK's own tool loop, of a thinking model too, runs to the end: seals come back right."""
    asked: list[str] = []

    def get_weather(city: str) -> str:
        """The weather of a city."""
        asked.append(city)
        return f"It rains in {city}."

    config = types.GenerateContentConfig(tools=[get_weather])
    answer = await ask(
        client.models.generate_content, model="mock-reasoning", contents=TWO_CALLS, config=config
    )
    assert asked == ["Rome", "Zürich"]
    assert "It rains in Rome." in (answer.text or "")


async def test_the_choice_of_tools_is_obeyed(client: genai.Client) -> None:
    """ANY forces a call, a list of names chooses among the functions, and NONE forbids calls."""

    async def calls(mode: str, names: list[str] | None = None) -> list[Any]:
        choice = {"mode": mode, **({"allowed_function_names": names} if names else {})}
        other = types.FunctionDeclaration(name="look_up", parameters_json_schema={"type": "object"})
        tools = [WEATHER, types.Tool(function_declarations=[other])]
        config: Any = {"tools": tools, "tool_config": {"function_calling_config": choice}}
        given = await ask(
            client.models.generate_content,
            model="mock",
            contents="Hello.",
            config={**config, **BY_HAND},
        )
        return [call.name for call in given.function_calls or []]

    assert await calls("AUTO") == []
    assert await calls("NONE") == []
    assert await calls("ANY") == ["get_weather"]
    assert await calls("ANY", ["look_up"]) == ["look_up"]
    assert await calls("ANY", ["look_up", "get_weather"]) == ["get_weather"]
    assert await calls("VALIDATED") == []


# --- thoughts ----------------------------------------------------------------------------------


async def test_thoughts_are_shown_to_who_asks(client: genai.Client) -> None:
    """Thoughts are counted always, and shown only where `includeThoughts` says so."""
    hidden = await ask(client.models.generate_content, model="mock-reasoning", contents=QUESTION)
    thinking = types.ThinkingConfig(include_thoughts=True, thinking_level=types.ThinkingLevel.LOW)
    config = types.GenerateContentConfig(thinking_config=thinking)
    shown = await ask(
        client.models.generate_content, model="mock", contents=QUESTION, config=config
    )
    assert [bool(part.thought) for part in parts_of(hidden)] == [False]
    assert [bool(part.thought) for part in parts_of(shown)] == [True, False]
    for answer in (hidden, shown):
        usage = answer.usage_metadata
        assert usage is not None
        assert (usage.thoughts_token_count or 0) > 0
        counts = [
            usage.prompt_token_count,
            usage.candidates_token_count,
            usage.thoughts_token_count,
        ]
        assert usage.total_token_count == sum(count or 0 for count in counts)


async def test_a_chat_gives_seals_back(client: genai.Client) -> None:
    """The SDK's chat, whole and streamed, returns what was sealed just as it was."""
    chat = client.chats.create(model="mock-reasoning")
    await ask(chat.send_message, message="mock: say one")
    await to_thread.run_sync(lambda: list(chat.send_message_stream("mock: say one two")))
    answer = await ask(chat.send_message, message="mock: say three")
    assert answer.text == "three"
    assert parts_of(answer)[0].thought_signature


async def test_a_wrong_seal_is_refused(client: genai.Client) -> None:
    """A seal that belongs to another text, or that the mock has never given, is an error."""
    first = await ask(
        client.models.generate_content, model="mock-reasoning", contents="mock: say one"
    )
    (part,) = parts_of(first)
    own, seal = part.text, part.thought_signature
    for text, given in (("other", seal), (own, b"of my own making")):
        said = types.Part(text=text, thought_signature=given)
        history: Any = [
            types.UserContent("mock: say one"),
            types.ModelContent(said),
            types.UserContent(QUESTION),
        ]
        with pytest.raises(errors.ClientError, match="Corrupted thought signature"):
            await ask(client.models.generate_content, model="mock-reasoning", contents=history)


async def test_a_call_without_its_seal_is_refused(client: genai.Client) -> None:
    """A thinking model demands the seal of the turn's calls, or one of the documented bypasses."""
    call = types.FunctionCall(name="get_weather", args={"city": "Bern"})
    result = types.Part.from_function_response(name="get_weather", response={"output": "sun"})

    def history(seal: bytes | None) -> Any:
        part = types.Part(function_call=call, thought_signature=seal)
        return [types.UserContent("?"), types.ModelContent(part), types.UserContent(result)]

    generate, model = client.models.generate_content, "mock-reasoning"
    with pytest.raises(errors.ClientError, match="missing a thought_signature") as caught:
        await ask(generate, model=model, contents=history(None))
    assert (caught.value.code, caught.value.status) == (400, "INVALID_ARGUMENT")
    await ask(generate, model=model, contents=history(b"skip_thought_signature_validator"))
    await ask(generate, model="mock", contents=history(None))
    later = [*history(None), types.ModelContent("Sun."), types.UserContent("And now?")]
    await ask(generate, model=model, contents=later)


# --- pictures, documents, formats --------------------------------------------------------------


async def test_pictures_and_documents_are_counted(client: genai.Client) -> None:
    """A picture costs picture tokens; documents and links cost text."""
    contents: Any = [
        types.Part.from_bytes(data=DOT, mime_type="image/png"),
        types.Part.from_bytes(data=b"%PDF-1.7", mime_type="application/pdf"),
        types.Part.from_uri(file_uri="gs://bucket/film.mp4", mime_type="video/mp4"),
        "What is this?",
    ]
    answer = await ask(client.models.generate_content, model="mock", contents=contents)
    usage = answer.usage_metadata
    assert usage is not None
    details = usage.prompt_tokens_details or []
    found = {each.modality: each.token_count for each in details}
    assert found[types.MediaModality.IMAGE] == 85
    assert sum(count or 0 for count in found.values()) == usage.prompt_token_count


@pytest.mark.parametrize("field", ["response_schema", "response_json_schema"])
async def test_answers_fit_the_schema(client: genai.Client, field: str) -> None:
    """A schema in either form is held to."""
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
    }
    config: Any = {"response_mime_type": "application/json", field: schema}
    answer = await ask(
        client.models.generate_content, model="mock", contents="city=Bern", config=config
    )
    made = json.loads(answer.text or "")
    assert made["city"] == "Bern"
    assert isinstance(made["days"], int)


async def test_json_without_a_schema(client: genai.Client) -> None:
    """The MIME type alone asks for some JSON."""
    config: Any = {"response_mime_type": "application/json"}
    answer = await ask(
        client.models.generate_content, model="mock", contents=QUESTION, config=config
    )
    assert isinstance(json.loads(answer.text or ""), dict)


# --- tokens, vectors, models -------------------------------------------------------------------


async def test_tokens_are_counted_as_answers_count_them(client: genai.Client) -> None:
    """`countTokens` says what the answer's usage says of the prompt."""
    counted = await ask(client.models.count_tokens, model="mock", contents=QUESTION)
    assert counted.total_tokens == 9


async def test_texts_are_embedded(client: genai.Client) -> None:
    """Several texts have a vector each, of the length that was asked for."""
    config: Any = {"output_dimensionality": 64, "task_type": "RETRIEVAL_DOCUMENT", "title": "Sky"}
    answer = await ask(
        client.models.embed_content,
        model="mock-embedding",
        contents=["The sky.", "The sea."],
        config=config,
    )
    vectors = [each.values or [] for each in answer.embeddings or []]
    assert [len(vector) for vector in vectors] == [64, 64]
    assert sum(x * x for x in vectors[0]) == pytest.approx(1)
    assert answer.usage_metadata is not None
    assert answer.usage_metadata.prompt_token_count == 6


async def test_models_are_listed_page_by_page(client: genai.Client) -> None:
    """The list comes in pages, and each model tells what it can do."""
    pager = await ask(client.models.list, config={"page_size": 3})
    assert len(pager) == 3
    names = await to_thread.run_sync(lambda: [model.name for model in pager])
    assert names == [f"models/mock{end}" for end in ("", "-small", "-reasoning", "-embedding")]
    model = await ask(client.models.get, model="mock-reasoning")
    assert model.thinking
    assert model.supported_actions == ["generateContent", "countTokens"]
    with pytest.raises(errors.ClientError) as caught:
        await ask(client.models.get, model="nobody")
    assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")


# --- endings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("content_filter", types.FinishReason.SAFETY),
        ("recitation", types.FinishReason.RECITATION),
        ("length", types.FinishReason.MAX_TOKENS),
    ],
)
async def test_an_answer_ends_for_a_reason(
    client: genai.Client, given: str, reason: types.FinishReason
) -> None:
    """The order and the verb give any finish reason, streamed or not."""
    order = f"mock: say one two\nmock: finish={given}"
    whole = await ask(client.models.generate_content, model="mock", contents=order)
    chunks = await streamed(client, model=f"mock;finish={given}", contents="mock: say one two")
    assert (whole.candidates or [])[0].finish_reason is reason
    last = (chunks[-1].candidates or [])[0]
    assert last.finish_reason is reason
    blocked = [rating.blocked for rating in last.safety_ratings or []]
    assert blocked == ([True] if given == "content_filter" else [])


async def test_a_prompt_is_blocked(client: genai.Client) -> None:
    """A finish reason that begins with `prompt_` blocks the prompt: nothing is made."""
    order = "mock: finish=prompt_prohibited_content"
    whole = await ask(client.models.generate_content, model="mock", contents=order)
    assert whole.candidates is None
    feedback = whole.prompt_feedback
    assert feedback is not None
    assert feedback.block_reason is types.BlockedReason.PROHIBITED_CONTENT
    usage = whole.usage_metadata
    assert usage is not None
    assert usage.total_token_count == usage.prompt_token_count
    (chunk,) = await streamed(client, model="mock;finish=prompt_safety", contents=QUESTION)
    assert chunk.prompt_feedback is not None
    assert chunk.prompt_feedback.block_reason is types.BlockedReason.SAFETY


async def test_nothing_may_be_said(client: genai.Client) -> None:
    """An answer without text has a content without parts."""
    answer = await ask(client.models.generate_content, model="mock", contents="mock: empty")
    content = (answer.candidates or [])[0].content
    assert content is not None
    assert (content.role, content.parts) == ("model", None)


# --- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "word", "kind"),
    [
        (400, "INVALID_ARGUMENT", errors.ClientError),
        (401, "UNAUTHENTICATED", errors.ClientError),
        (403, "PERMISSION_DENIED", errors.ClientError),
        (404, "NOT_FOUND", errors.ClientError),
        (429, "RESOURCE_EXHAUSTED", errors.ClientError),
        (500, "INTERNAL", errors.ServerError),
        (503, "UNAVAILABLE", errors.ServerError),
        (504, "DEADLINE_EXCEEDED", errors.ServerError),
    ],
)
async def test_errors_are_of_the_sdks_own_kinds(
    client: genai.Client, status: int, word: str, kind: type[errors.APIError]
) -> None:
    """Each status is an error with its word, whole and streamed."""
    model = f"mock;status={status}"
    with pytest.raises(kind) as caught:
        await ask(client.models.generate_content, model=model, contents=QUESTION)
    assert (caught.value.code, caught.value.status) == (status, word)
    with pytest.raises(kind) as caught:
        await streamed(client, model=model, contents=QUESTION)
    assert (caught.value.code, caught.value.status) == (status, word)


async def test_a_limit_says_when_to_come_back(client: genai.Client) -> None:
    """`retry-after` is told as Google does, in the details of the error."""
    model = "mock;status=429; retry-after=7; error=insufficient_quota"
    with pytest.raises(errors.ClientError) as caught:
        await ask(client.models.generate_content, model=model, contents=QUESTION)
    details = details_of(caught.value)
    kinds = {each["@type"].rpartition(".")[2]: each for each in details}
    assert kinds["RetryInfo"]["retryDelay"] == "7s"
    assert "PerDay" in kinds["QuotaFailure"]["violations"][0]["quotaId"]


async def test_a_wrong_key_is_a_bad_request(server: MockServer) -> None:
    """A key that is none is a 400 whose reason tells it from other mistakes; no key is a 403."""
    with client_of(server, "wrong") as client, pytest.raises(errors.ClientError) as caught:
        await ask(client.models.generate_content, model="mock", contents=QUESTION)
    assert (caught.value.code, caught.value.status) == (400, "INVALID_ARGUMENT")
    (detail,) = details_of(caught.value)
    assert detail["reason"] == "API_KEY_INVALID"


async def test_an_unknown_model_is_not_found() -> None:
    """A model that the server does not have is a 404 that names it."""
    async with MockServer(models=["mock"]) as server:
        with client_of(server) as client, pytest.raises(errors.ClientError) as caught:
            await ask(client.models.generate_content, model="nobody", contents=QUESTION)
    assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")
    assert "models/nobody is not found for API version v1" in (caught.value.message or "")


@pytest.mark.parametrize(
    ("code", "number", "word"),
    [
        ("overloaded_error", 503, "UNAVAILABLE"),
        ("RESOURCE_EXHAUSTED", 429, "RESOURCE_EXHAUSTED"),
        ("server_error", 500, "INTERNAL"),
    ],
)
async def test_an_error_in_the_middle_of_a_stream(
    client: genai.Client, code: str, number: int, word: str
) -> None:
    """The error comes after what was said, with its own number though the status was 200."""
    model = f"mock;error={code}; error_at=2"
    texts: list[str | None] = []

    def read() -> None:
        contents = "mock: say one two three"
        for chunk in client.models.generate_content_stream(model=model, contents=contents):
            texts.append(chunk.text)

    with pytest.raises(errors.APIError) as caught:
        await to_thread.run_sync(read)
    assert (caught.value.code, caught.value.status) == (number, word)
    assert texts == ["one", " two"]


async def test_a_stream_that_breaks_off_has_no_reason(client: genai.Client) -> None:
    """The SDK ends such a stream quietly: what is missing is the finish reason."""
    for verbs in ("truncate=2", "finish=none"):
        chunks = await streamed(client, model=f"mock;{verbs}", contents="mock: say one two three")
        assert all((chunk.candidates or [])[0].finish_reason is None for chunk in chunks)


@pytest.mark.parametrize("verbs", ["pings", "unknown", "pings; unknown", "usage=twice", "gzip"])
async def test_what_is_strange_is_survived(client: genai.Client, verbs: str) -> None:
    """Signs of life, unknown events, parts and fields, and usage told late do no harm."""
    order = "mock: say one two three"
    chunks = await streamed(client, model=f"mock;{verbs}", contents=order)
    assert "".join(chunk.text or "" for chunk in chunks) == "one two three"
    whole = await ask(client.models.generate_content, model=f"mock;{verbs}", contents=order)
    assert whole.text == "one two three"


@pytest.mark.parametrize(("verb", "total"), [("usage=none", None), ("usage=zero", 0)])
async def test_usage_may_lack(client: genai.Client, verb: str, total: int | None) -> None:
    """No usage is none at all, and zero is zero."""
    chunks = await streamed(client, model=f"mock;{verb}", contents=QUESTION)
    answer = await ask(client.models.generate_content, model=f"mock;{verb}", contents=QUESTION)
    for each in (*chunks, answer):
        usage = each.usage_metadata
        assert (usage and usage.total_token_count) == total
