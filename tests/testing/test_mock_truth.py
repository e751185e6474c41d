"""The mock server tells the truth: the official SDK understands all that it says."""

import base64
import json
from typing import Any

import anyio
import openai
import pydantic
import pytest
from openai import AsyncOpenAI
from openai import OpenAI as SyncOpenAI
from openai.types.responses import Response
from openai_clients import QUESTION, client_of

from lamella.testing import MockServer

pytestmark = [
    pytest.mark.anyio,
    # The SDK leaves its own generators unfinished at `[DONE]`, which trio remarks on.
    pytest.mark.filterwarnings("ignore:Async generator .*:ResourceWarning"),
]
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "maximum": 7}},
            "required": ["city", "days"],
        },
    },
}
FLAT_TOOL: Any = {
    "type": "function",
    "name": "get_weather",
    "strict": True,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
PICTURE = f"data:image/png;base64,{base64.b64encode(bytes(8)).decode()}"
DOCUMENT = f"data:application/pdf;base64,{base64.b64encode(bytes(40)).decode()}"
TWO_CALLS = 'Use get_weather({"city": "Rome"}) and get_weather({"city": "Zürich"}).'


class Mood(pydantic.BaseModel):
    """What a structured answer is to be."""

    mood: str
    score: int


# --- chat --------------------------------------------------------------------------------------


async def test_a_chat_answer_is_read(client: AsyncOpenAI) -> None:
    """A whole answer has text, a finish reason, usage that adds up, and a request id."""
    answer = await client.chat.completions.create(
        model="mock", messages=[{"role": "user", "content": QUESTION}]
    )
    (choice,) = answer.choices
    assert QUESTION in (choice.message.content or "")
    assert choice.finish_reason == "stop"
    assert answer.model == "mock"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 6 + 3
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer._request_id == "req_mock_000000"


async def test_a_streamed_chat_answer_is_the_whole_one(client: AsyncOpenAI) -> None:
    """The pieces of a stream, role first and usage last, add up to the whole answer."""
    messages: Any = [{"role": "user", "content": QUESTION}]
    whole = await client.chat.completions.create(model="mock", messages=messages)
    stream = await client.chat.completions.create(
        model="mock", messages=messages, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])


async def test_parallel_tool_calls_are_put_together(client: AsyncOpenAI) -> None:
    """Two calls of one tool come as deltas with ids and indexes, and their arguments are exact."""
    # openai 2 puts the deltas of strict tools together, and refuses others.
    strict: Any = {"type": "function", "function": TOOL["function"] | {"strict": True}}
    async with client.chat.completions.stream(
        model="mock", messages=[{"role": "user", "content": TWO_CALLS}], tools=[strict]
    ) as stream:
        answer = await stream.get_final_completion()
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls"
    calls: list[Any] = list(choice.message.tool_calls or [])
    assert [call.function.arguments for call in calls] == ['{"city": "Rome"}', '{"city": "Zürich"}']
    assert len({call.id for call in calls}) == 2


async def test_a_tool_loop_ends_in_words(client: AsyncOpenAI) -> None:
    """A forced call has arguments that fit the schema; the tool's result is answered in words."""
    messages: list[Any] = [{"role": "user", "content": "Weather for city=Bern, days=3?"}]
    asked = await client.chat.completions.create(
        model="mock", messages=messages, tools=[TOOL], tool_choice="required"
    )
    call: Any = (asked.choices[0].message.tool_calls or [])[0]
    assert json.loads(call.function.arguments) == {"city": "Bern", "days": 3}
    messages += [
        asked.choices[0].message,
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    told = await client.chat.completions.create(model="mock", messages=messages, tools=[TOOL])
    assert told.choices[0].finish_reason == "stop"
    assert "get_weather answered: “sunny”" in (told.choices[0].message.content or "")


async def test_several_choices_with_log_probabilities(client: AsyncOpenAI) -> None:
    """`n` gives different answers; each token has its log probability and the alternatives."""
    answer = await client.chat.completions.create(
        model="mock",
        messages=[{"role": "user", "content": QUESTION}],
        n=3,
        logprobs=True,
        top_logprobs=2,
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    for choice in answer.choices:
        content = (choice.logprobs.content if choice.logprobs else None) or []
        assert "".join(token.token for token in content) == choice.message.content
        assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in content)


async def test_an_answer_is_cut_at_its_limit(client: AsyncOpenAI) -> None:
    """`max_completion_tokens` ends the answer with `length` after exactly so many tokens."""
    answer = await client.chat.completions.create(
        model="mock", messages=[{"role": "user", "content": QUESTION}], max_completion_tokens=5
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 5


async def test_structured_output_fits_its_schema(client: AsyncOpenAI) -> None:
    """With a JSON schema the answer is JSON that fits it."""
    schema: Any = {
        "type": "object",
        "properties": {"mood": {"enum": ["good", "bad"]}, "at": {"$ref": "#/$defs/time"}},
        "required": ["mood", "at"],
        "$defs": {"time": {"type": "string", "format": "date-time"}},
    }
    answer = await client.chat.completions.create(
        model="mock",
        messages=[{"role": "user", "content": QUESTION}],
        response_format={"type": "json_schema", "json_schema": {"name": "m", "schema": schema}},
    )
    found = json.loads(answer.choices[0].message.content or "")
    assert found["mood"] in {"good", "bad"}
    assert found["at"] == "2025-01-01T12:00:00Z"


async def test_a_refusal_is_no_content(client: AsyncOpenAI) -> None:
    """A refusal comes in its own field, streamed or not."""
    messages: Any = [{"role": "user", "content": "mock: refuse"}]
    whole = await client.chat.completions.create(model="mock", messages=messages)
    async with client.chat.completions.stream(model="mock", messages=messages) as stream:
        streamed = await stream.get_final_completion()
    for answer in (whole, streamed):
        assert (answer.choices[0].message.refusal or "").startswith("I'm sorry")
        assert not answer.choices[0].message.content


async def test_pictures_sound_and_documents_are_taken(client: AsyncOpenAI) -> None:
    """They count as tokens of the prompt, the sound apart."""
    sound = {"data": base64.b64encode(bytes(2_000)).decode(), "format": "wav"}
    content: Any = [
        {"type": "text", "text": QUESTION},
        {"type": "image_url", "image_url": {"url": PICTURE}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": DOCUMENT}},
        {"type": "input_audio", "input_audio": sound},
    ]
    answer = await client.chat.completions.create(
        model="mock", messages=[{"role": "user", "content": content}]
    )
    assert QUESTION in (answer.choices[0].message.content or "")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 6 + 3 + 85 + 2 + 2
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.audio_tokens == 2


async def test_structured_output_is_parsed(client: AsyncOpenAI) -> None:
    """The SDK makes its own schema of a type, and the type of the answer, in both APIs."""
    messages: Any = [{"role": "user", "content": "How are you, with score=3?"}]
    chat = await client.chat.completions.parse(
        model="mock", messages=messages, response_format=Mood
    )
    responses = await client.responses.parse(model="mock", input=messages, text_format=Mood)
    for found in (chat.choices[0].message.parsed, responses.output_parsed):
        assert found is not None
        assert found.score == 3


async def test_the_synchronous_client_is_answered_from_a_thread(server: MockServer) -> None:
    """Whole and streamed."""

    def ask() -> tuple[str | None, str]:
        with SyncOpenAI(api_key="sk-right", base_url=server.url, max_retries=0) as client:
            messages: Any = [{"role": "user", "content": QUESTION}]
            whole = client.chat.completions.create(model="mock", messages=messages)
            stream = client.chat.completions.create(model="mock", messages=messages, stream=True)
            words = [chunk.choices[0].delta.content or "" for chunk in stream]
            return whole.choices[0].message.content, "".join(words)

    whole, streamed = await anyio.to_thread.run_sync(ask)
    assert whole == streamed


# --- responses ---------------------------------------------------------------------------------


async def test_a_response_is_read(client: AsyncOpenAI) -> None:
    """A whole response has text, a status and usage; it can be gone on from by its id."""
    first = await client.responses.create(model="mock", input=QUESTION, instructions="Be brief.")
    assert first.status == "completed"
    assert QUESTION in first.output_text
    assert first.usage is not None
    assert first.usage.total_tokens == first.usage.input_tokens + first.usage.output_tokens
    second = await client.responses.create(
        model="mock", input="And at night?", previous_response_id=first.id
    )
    assert second.usage is not None
    assert second.usage.input_tokens > first.usage.output_tokens


async def test_a_streamed_response_is_the_whole_one(client: AsyncOpenAI) -> None:
    """The events come in the order of the API, are numbered, and end with the whole response."""
    stream = await client.responses.create(model="mock-reasoning", input=QUESTION, stream=True)
    events: list[Any] = [event async for event in stream]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = list(dict.fromkeys(event.type for event in events))
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
        "response.output_item.done",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.completed",
    ]
    whole: Response = events[-1].response
    reasoning, message = whole.output
    assert reasoning.type == "reasoning"
    assert reasoning.encrypted_content
    assert message.type == "message"
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == whole.output_text
    assert whole.usage is not None
    assert whole.usage.output_tokens_details.reasoning_tokens > 0


async def test_functions_are_called_in_responses(client: AsyncOpenAI) -> None:
    """The SDK's own accumulator finds both calls; their outputs are answered in words."""
    async with client.responses.stream(model="mock", input=TWO_CALLS, tools=[FLAT_TOOL]) as stream:
        response = await stream.get_final_response()
    calls = [item for item in response.output if item.type == "function_call"]
    assert [json.loads(call.arguments)["city"] for call in calls] == ["Rome", "Zürich"]
    told: list[Any] = [{"role": "user", "content": TWO_CALLS}]
    told += [call.model_dump(include={"type", "call_id", "name", "arguments"}) for call in calls]
    told += [
        {"type": "function_call_output", "call_id": call.call_id, "output": "snow"}
        for call in calls
    ]
    answer = await client.responses.create(model="mock", input=told, tools=[FLAT_TOOL])
    assert answer.output_text.count("“snow”") == 2


async def test_a_response_is_incomplete_at_its_limit(client: AsyncOpenAI) -> None:
    """`max_output_tokens` ends it as incomplete, with the reason."""
    response = await client.responses.create(model="mock", input=QUESTION, max_output_tokens=16)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    stream = await client.responses.create(
        model="mock", input=QUESTION, max_output_tokens=16, stream=True
    )
    assert [event.type async for event in stream][-1] == "response.incomplete"


async def test_a_response_refuses(client: AsyncOpenAI) -> None:
    """A refusal is a part of the message."""
    response = await client.responses.create(model="mock", input="mock: refuse")
    (message,) = response.output
    assert message.type == "message"
    (part,) = message.content
    assert part.type == "refusal"


async def test_thoughts_go_back_as_they_came(client: AsyncOpenAI) -> None:
    """A conversation that is sent whole holds the sealed reasoning before the answer."""
    first = await client.responses.create(
        model="mock-reasoning",
        input=QUESTION,
        reasoning={"effort": "high"},
        include=["reasoning.encrypted_content"],
    )
    told: list[Any] = [{"role": "user", "content": QUESTION}]
    told += [item.model_dump(exclude_none=True) for item in first.output]
    told.append({"role": "user", "content": "And at night?"})
    second = await client.responses.create(model="mock-reasoning", input=told)
    assert "And at night?" in second.output_text


async def test_pictures_and_documents_are_taken_by_responses(client: AsyncOpenAI) -> None:
    """They count as tokens of the input."""
    content: Any = [
        {"type": "input_text", "text": QUESTION},
        {"type": "input_image", "image_url": PICTURE, "detail": "auto"},
        {"type": "input_file", "filename": "a.pdf", "file_data": DOCUMENT},
    ]
    answer = await client.responses.create(
        model="mock", input=[{"role": "user", "content": content}]
    )
    assert answer.usage is not None
    assert answer.usage.input_tokens == 6 + 3 + 85 + 2


# --- token counts ------------------------------------------------------------------------------


async def test_tokens_are_counted_before_they_are_billed(client: AsyncOpenAI) -> None:
    """The count is the input that an answer to the same request states."""
    same: Any = {"input": TWO_CALLS, "instructions": "Be brief.", "tools": [FLAT_TOOL]}
    counted = await client.responses.input_tokens.count(model="mock", **same)
    answer = await client.responses.create(model="mock", **same)
    assert answer.usage is not None
    assert counted.input_tokens == answer.usage.input_tokens
    assert counted.object == "response.input_tokens"
    more: Any = {"input": "And now?", "previous_response_id": answer.id}
    further = await client.responses.input_tokens.count(**more)
    later = await client.responses.create(model="mock", **more)
    assert later.usage is not None
    assert further.input_tokens == later.usage.input_tokens


async def test_a_count_takes_only_what_is_read(server: MockServer, client: AsyncOpenAI) -> None:
    """Limits and sampling are unknown to it; Azure has no such address."""
    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.input_tokens.count(
            model="mock", input=QUESTION, extra_body={"max_output_tokens": 5}
        )
    assert (refused.value.code, refused.value.param) == ("unknown_parameter", "max_output_tokens")
    with pytest.raises(openai.BadRequestError):
        await client.responses.input_tokens.count(model="mock")
    with pytest.raises(openai.RateLimitError):
        await client.responses.input_tokens.count(model="mock;status=429", input=QUESTION)
    azure = AsyncOpenAI(api_key="sk-right", base_url=f"{server.endpoint}/openai/v1", max_retries=0)
    async with azure, MockServer(models=["small"]) as small, client_of(small) as other:
        with pytest.raises(openai.NotFoundError):
            await azure.responses.input_tokens.count(model="my-gpt", input=QUESTION)
        with pytest.raises(openai.NotFoundError):
            await other.responses.input_tokens.count(model="large", input=QUESTION)
        assert (await other.responses.input_tokens.count(input=QUESTION)).input_tokens == 9


# --- moderation --------------------------------------------------------------------------------


async def test_moderation_is_read_by_the_sdk(client: AsyncOpenAI) -> None:
    """One result for each text, with all 13 categories, their scores and what they apply to."""
    found = await client.moderations.create(input=["How are you?", "I will kill you, idiot."])
    assert found.id.startswith("modr-")
    assert found.model == "omni-moderation-latest"
    calm, angry = found.results
    assert (calm.flagged, angry.flagged) == (False, True)
    assert (angry.categories.violence, angry.categories.harassment) == (True, True)
    assert angry.category_scores.violence > 0.5 > angry.category_scores.hate_threatening >= 0
    assert angry.category_applied_input_types.self_harm_intent == ["text"]
    for part in (calm.categories, calm.category_scores, calm.category_applied_input_types):
        names = type(part).model_fields
        assert len(names) == 13
        assert all(getattr(part, name) is not None for name in names)


async def test_texts_and_pictures_are_judged_as_one(client: AsyncOpenAI) -> None:
    """A list of parts has one result; words are found in a picture's bytes and in its address."""
    gore = base64.b64encode(b"PNG: gore").decode()
    for url in (f"data:image/png;base64,{gore}", "https://example.com/gore.png"):
        parts: Any = [
            {"type": "text", "text": "Look at this."},
            {"type": "image_url", "image_url": {"url": url}},
        ]
        (judged,) = (await client.moderations.create(input=parts)).results
        assert judged.categories.violence_graphic
        assert judged.category_applied_input_types.violence == ["text", "image"]
        assert judged.category_applied_input_types.hate == ["text"]


async def test_moderation_is_the_same_each_time(client: AsyncOpenAI) -> None:
    """The same text has the same scores, in whatever request; an order flags what it says."""
    (alone,) = (await client.moderations.create(input="mock: flag=hate, sexual/minors")).results
    texts = ["other", "mock: flag=hate, sexual/minors"]
    _, second = (await client.moderations.create(input=texts)).results
    assert alone == second
    found = alone.categories
    flagged = [name for name in type(found).model_fields if getattr(found, name)]
    assert flagged == ["hate", "sexual_minors"]


async def test_the_synchronous_client_moderates(server: MockServer) -> None:
    """The same result reaches the blocking client."""

    def ask() -> Any:
        with SyncOpenAI(api_key="sk-right", base_url=server.url, max_retries=0) as client:
            return client.moderations.create(input="vermin").results[0]

    assert (await anyio.to_thread.run_sync(ask)).categories.hate


async def test_what_cannot_be_judged_is_refused(client: AsyncOpenAI) -> None:
    """Several pictures, pictures for a model of texts, parts of other kinds, no input."""
    picture: Any = {"type": "image_url", "image_url": {"url": PICTURE}}
    wrong: list[tuple[Any, str, str]] = [
        ([picture, picture], "omni-moderation-latest", "too_many_images"),
        ([picture], "text-moderation-latest", "invalid_value"),
        ([{"type": "audio"}], "mock", "invalid_value"),
        ([{"type": "image_url", "image_url": {"url": "x.png"}}], "mock", "invalid_image_url"),
        ("mock: flag=rudeness", "mock", "invalid_value"),
        ([], "mock", "invalid_value"),
        (None, "mock", "missing_required_parameter"),
    ]
    for asked, model, code in wrong:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.moderations.create(input=asked, model=model)
        assert (refused.value.code, refused.value.param) == (code, "input")
    old = await client.moderations.create(input="shoplift", model="text-moderation-latest")
    assert not old.results[0].flagged  # it does not know the category
    assert old.results[0].categories.illicit is None


# --- embeddings and models ---------------------------------------------------------------------


async def test_embeddings_are_the_same_as_numbers_and_as_base64(client: AsyncOpenAI) -> None:
    """Both encodings carry the same vectors of the length that was asked for, of norm 1."""
    texts = ["the sky is blue", "a blue sky"]
    packed = await client.embeddings.create(model="mock-embedding", input=texts, dimensions=64)
    plain = await client.embeddings.create(
        model="mock-embedding", input=texts, dimensions=64, encoding_format="float"
    )
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
        assert sum(value * value for value in one.embedding) == pytest.approx(1, abs=1e-5)
    assert len(plain.data[0].embedding) == 64
    assert plain.usage.prompt_tokens == 4 + 3


async def test_tokens_are_embedded_by_their_numbers(client: AsyncOpenAI) -> None:
    """One list of numbers is one input, several are several."""
    one = await client.embeddings.create(model="mock-embedding", input=[1, 2, 3])
    two = await client.embeddings.create(model="mock-embedding", input=[[1, 2, 3], [4]])
    assert [len(answer.data) for answer in (one, two)] == [1, 2]
    assert one.data[0].embedding == two.data[0].embedding


async def test_models_are_listed(client: AsyncOpenAI) -> None:
    """The embedded models are listed, and one can be asked about."""
    assert [model.id async for model in client.models.list()] == [
        "mock",
        "mock-small",
        "mock-reasoning",
        "mock-embedding",
        "mock-moderation",
    ]
    assert (await client.models.retrieve("mock")).owned_by == "lamella"
