"""The mock server speaks Anthropic's API: the official SDK understands all that it says."""

import json
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import anyio.to_thread
import pytest
from anthropic import AsyncAnthropic

from lamella import Message, Opaque, ToolCall
from lamella.testing import MockServer
from lamella.testing._mock_anthropic._dialect import REDACT

pytestmark = [
    pytest.mark.anyio,
    # The SDK leaves its own generators unfinished, which trio remarks on.
    pytest.mark.filterwarnings("ignore:Async generator .*:ResourceWarning"),
]
QUESTION = "Why is the sky blue?"
ASKED: Any = [{"role": "user", "content": QUESTION}]
WEATHER: Any = {
    "name": "get_weather",
    "description": "Tells the weather.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
    },
}
SEARCH: Any = {"type": "web_search_20260318", "name": "web_search"}
TWO_CALLS = 'Use get_weather({"city": "Rome"}) and get_weather({"city": "Zürich"}).'
PICTURE = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
async def server() -> AsyncIterator[MockServer]:
    """A server that nothing goes wrong with."""
    async with MockServer(keys=["right"]) as server:
        yield server


@pytest.fixture
async def client(server: MockServer) -> AsyncIterator[AsyncAnthropic]:
    """The official client of that server."""
    async with client_of(server) as client:
        yield client


def client_of(server: MockServer, key: str = "right") -> AsyncAnthropic:
    """A client that does not try again by itself."""
    return AsyncAnthropic(api_key=key, base_url=server.endpoint, max_retries=0)


async def final(client: AsyncAnthropic, **asked: Any) -> Any:
    """What a stream amounts to, put together by the SDK."""
    async with client.messages.stream(**{"model": "mock", "max_tokens": 4000, **asked}) as stream:
        return await stream.get_final_message()


async def whole(client: AsyncAnthropic, **asked: Any) -> Any:
    """An answer that is not streamed."""
    return await client.messages.create(**{"model": "mock", "max_tokens": 4000, **asked})


# --- text --------------------------------------------------------------------------------------


async def test_an_answer_is_read(client: AsyncAnthropic) -> None:
    """A whole answer has text, a stop reason, usage, and a request id."""
    answer = await whole(client, messages=ASKED)
    (block,) = answer.content
    assert QUESTION in block.text
    assert answer.model == "mock"
    assert answer.stop_reason == "end_turn"
    assert answer.usage.input_tokens == 6 + 3
    assert answer.usage.cache_read_input_tokens == answer.usage.cache_creation_input_tokens == 0
    assert answer._request_id == "req_mock_000000"


async def test_a_stream_amounts_to_the_whole(client: AsyncAnthropic) -> None:
    """The SDK puts a stream together to what the whole answer is, usage included."""
    answer = await whole(client, messages=ASKED)
    streamed = await final(client, messages=ASKED)
    assert [block.text for block in streamed.content] == [block.text for block in answer.content]
    assert streamed.usage == answer.usage
    assert streamed.stop_reason == answer.stop_reason


async def test_the_events_of_a_stream(client: AsyncAnthropic) -> None:
    """A message begins, its block begins, grows and ends, and the message ends."""
    stream = await client.messages.create(
        model="mock",
        max_tokens=100,
        messages=[{"role": "user", "content": "mock: say a b"}],
        stream=True,
    )
    events = [event async for event in stream]
    assert [event.type for event in events] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    first, last = events[0], events[-2]
    assert first.type == "message_start"
    assert first.message.stop_reason is None
    assert (first.message.usage.input_tokens, first.message.usage.output_tokens) == (8, 1)
    assert last.type == "message_delta"
    assert (last.usage.input_tokens, last.usage.output_tokens) == (8, 2)


async def test_a_client_that_is_not_asynchronous() -> None:
    """The same holds for the SDK's other client, in a thread."""

    def ask(url: str) -> tuple[str, str]:
        with anthropic.Anthropic(api_key="any", base_url=url, max_retries=0) as client:
            asked: Any = {"model": "mock", "max_tokens": 100, "messages": ASKED}
            answer: Any = client.messages.create(**asked)
            with client.messages.stream(**asked) as stream:
                return answer.content[0].text, stream.get_final_text()

    async with MockServer() as server:
        whole, streamed = await anyio.to_thread.run_sync(ask, server.endpoint)
    assert whole == streamed


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"max_tokens": 3}, "max_tokens"),
        ({"stop_sequences": ["beta", "gamma"]}, "stop_sequence"),
        ({}, "end_turn"),
    ],
)
async def test_why_an_answer_stops(client: AsyncAnthropic, asked: Any, reason: str) -> None:
    """The stop reason is the API's word for it, with the sequence that was met."""
    said: Any = [{"role": "user", "content": "mock: say alpha beta gamma delta"}]
    answer = await final(client, messages=said, **asked)
    assert answer.stop_reason == reason
    assert answer.stop_sequence == ("beta" if reason == "stop_sequence" else None)


async def test_a_refusal_is_a_stop_reason_with_details(client: AsyncAnthropic) -> None:
    """What declines has no content, and says why beside it."""
    for ask in (whole, final):
        answer = await ask(client, messages=[{"role": "user", "content": "mock: refuse"}])
        assert answer.stop_reason == "refusal"
        assert answer.content == []
        assert "can't help" in answer.stop_details.explanation


async def test_a_cache_is_filled_without_an_answer(client: AsyncAnthropic) -> None:
    """No tokens at all give an answer without content."""
    answer = await whole(client, messages=ASKED, max_tokens=0)
    assert (answer.content, answer.stop_reason) == ([], "max_tokens")
    assert answer.usage.output_tokens == 0


# --- tools -------------------------------------------------------------------------------------


async def test_a_tool_loop_ends_in_words(client: AsyncAnthropic) -> None:
    """A forced call has arguments that fit the schema; the tool's result is answered in words."""
    messages: list[Any] = [{"role": "user", "content": "Weather for city=Bern, days=3?"}]
    tools = {"tools": [WEATHER]}
    asked = await final(client, messages=messages, tool_choice={"type": "any"}, **tools)
    (call,) = asked.content
    assert asked.stop_reason == "tool_use"
    assert call.id.startswith("toolu_")
    assert call.input == {"city": "Bern", "days": 3}
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
    messages += [asked.to_param(), {"role": "user", "content": [result]}]
    told = await whole(client, messages=messages, **tools)
    assert told.stop_reason == "end_turn"
    assert "get_weather answered: “sunny”" in told.content[0].text


async def test_parallel_calls(client: AsyncAnthropic) -> None:
    """Two calls are two blocks; one alone comes where several are disabled."""
    said: Any = [{"role": "user", "content": TWO_CALLS}]
    answer = await final(client, messages=said, tools=[WEATHER])
    assert [block.input for block in answer.content] == [{"city": "Rome"}, {"city": "Zürich"}]
    alone = {"type": "auto", "disable_parallel_tool_use": True}
    answer = await whole(client, messages=said, tools=[WEATHER], tool_choice=alone)
    assert [block.input for block in answer.content] == [{"city": "Rome"}]


async def test_a_search_of_the_web(client: AsyncAnthropic) -> None:
    """A hosted tool is used by the provider, its result is cited, and all of it may go back."""
    messages: list[Any] = [{"role": "user", "content": "Please web_search for clouds"}]
    answers = [await ask(client, messages=messages, tools=[SEARCH]) for ask in (whole, final)]
    for answer in answers:
        used, found, said = answer.content
        assert (used.type, used.name, used.input) == (
            "server_tool_use",
            "web_search",
            {"query": "Please for clouds"},
        )
        assert found.tool_use_id == used.id
        assert said.citations[0].url == found.content[0].url
        assert answer.usage.server_tool_use.web_search_requests == 1
    more: Any = [*messages, answers[1].to_param(), {"role": "user", "content": "Thanks."}]
    assert (await whole(client, messages=more, tools=[SEARCH])).stop_reason == "end_turn"
    more[1]["content"][1].content[0].encrypted_content = "forged"
    with pytest.raises(anthropic.BadRequestError, match="encrypted_content"):
        await whole(client, messages=more, tools=[SEARCH])


async def test_a_paused_turn_goes_on(client: AsyncAnthropic) -> None:
    """An answer that pauses is sent back as it is, and continued."""
    paused = await whole(client, messages=[{"role": "user", "content": "mock: finish=pause_turn"}])
    assert paused.stop_reason == "pause_turn"
    more: Any = [*ASKED, paused.to_param()]
    assert (await final(client, messages=more)).stop_reason == "end_turn"


# --- pictures, documents, shapes ---------------------------------------------------------------


async def test_pictures_and_documents_are_read(client: AsyncAnthropic) -> None:
    """Content by bytes, address and id is taken; what may be cited is."""
    data = b64encode(PICTURE).decode()
    text = {"type": "text", "media_type": "text/plain", "data": "Clouds are white. Skies are blue."}
    pdf = {"type": "base64", "media_type": "application/pdf", "data": data}
    content: Any = [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        *[
            {"type": "document", "source": source, "title": "Sky", "citations": {"enabled": True}}
            for source in (
                text,
                pdf,
                {"type": "url", "url": "https://example.com/a.pdf"},
                {"type": "file", "file_id": "file_2"},
                {"type": "content", "content": [{"type": "text", "text": "A block."}]},
            )
        ],
        {"type": "text", "text": QUESTION},
    ]
    answer = await final(client, messages=[{"role": "user", "content": content}])
    (block,) = answer.content
    (citation,) = block.citations
    assert citation.type == "char_location"
    assert text["data"][citation.start_char_index : citation.end_char_index] == citation.cited_text
    assert citation.document_title == "Sky"


@pytest.mark.parametrize(
    ("block", "kind"),
    [
        (
            {"type": "document", "source": {"type": "url", "url": "https://e.com/a.pdf"}},
            "page_location",
        ),
        (
            {"type": "document", "source": {"type": "content", "content": "A text."}},
            "content_block_location",
        ),
        (
            {
                "type": "search_result",
                "source": "https://e.com",
                "title": "T",
                "content": [{"type": "text", "text": "Found."}],
            },
            "search_result_location",
        ),
    ],
)
async def test_each_kind_of_citation(client: AsyncAnthropic, block: Any, kind: str) -> None:
    """What is cited says where its words stand, in the way of its kind."""
    content = [{**block, "citations": {"enabled": True}}, {"type": "text", "text": QUESTION}]
    answer = await whole(client, messages=[{"role": "user", "content": content}])
    assert [each.type for each in answer.content[0].citations] == [kind]


async def test_structured_output_has_its_shape(client: AsyncAnthropic) -> None:
    """A schema is kept to."""
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
        "additionalProperties": False,
    }
    shape: Any = {"format": {"type": "json_schema", "schema": schema}}
    answer = await whole(client, messages=ASKED, output_config=shape)
    assert json.loads(answer.content[0].text).keys() == {"city", "days"}


# --- thinking ----------------------------------------------------------------------------------


async def test_thoughts_come_sealed_and_go_back(client: AsyncAnthropic) -> None:
    """A thought has a signature, is counted, and goes back with it before its tool's result."""
    messages: list[Any] = [{"role": "user", "content": TWO_CALLS}]
    thinking = {"type": "enabled", "budget_tokens": 1024}
    asked: dict[str, Any] = {"tools": [WEATHER], "thinking": thinking}
    answers = [await ask(client, messages=messages, **asked) for ask in (whole, final)]
    for answer in answers:
        thought = answer.content[0]
        assert thought.thinking
        assert thought.signature
        assert answer.usage.output_tokens_details.thinking_tokens > 0
    results = [
        {"type": "tool_result", "tool_use_id": call.id, "content": "rain", "is_error": True}
        for call in answers[1].content[1:]
    ]
    messages += [answers[1].to_param(), {"role": "user", "content": results}]
    assert (await final(client, messages=messages, **asked)).stop_reason == "end_turn"


@pytest.mark.parametrize("change", ["thinking", "signature"])
async def test_changed_thoughts_are_refused(client: AsyncAnthropic, change: str) -> None:
    """A thought that is not what was given is not taken back."""
    answer = await whole(client, model="mock-reasoning", messages=ASKED)
    block = {**answer.content[0].to_dict(), change: "other"}
    more: Any = [*ASKED, {"role": "assistant", "content": [block]}, *ASKED]
    with pytest.raises(anthropic.BadRequestError, match="Invalid `signature`"):
        await whole(client, messages=more)


async def test_thoughts_that_are_not_shown(client: AsyncAnthropic) -> None:
    """Omitted thoughts are signed and empty, redacted ones are data; both may go back."""
    hidden = {"type": "adaptive", "display": "omitted"}
    omitted = await final(client, messages=ASKED, thinking=hidden)
    assert omitted.content[0].thinking == ""
    assert omitted.content[0].signature
    secret: Any = [{"role": "user", "content": f"{REDACT}_46C9 Why?"}]
    withheld = await final(client, messages=secret, model="mock-reasoning")
    assert withheld.content[0].type == "redacted_thinking"
    for answer in (omitted, withheld):
        more: Any = [*ASKED, answer.to_param(), *ASKED]
        assert (await whole(client, messages=more)).stop_reason == "end_turn"
    withheld.content[0].data = "forged"
    with pytest.raises(anthropic.BadRequestError, match="redacted_thinking"):
        await whole(client, messages=[*ASKED, withheld.to_param(), *ASKED])


@pytest.mark.parametrize(
    ("asked", "thinks"),
    [
        ({"model": "mock"}, False),
        ({"model": "mock-reasoning"}, True),
        ({"model": "mock-reasoning", "thinking": {"type": "disabled"}}, False),
        ({"thinking": {"type": "adaptive"}}, True),
        ({"output_config": {"effort": "xhigh"}}, True),
    ],
)
async def test_when_the_model_thinks(client: AsyncAnthropic, asked: Any, thinks: bool) -> None:
    """Thinking, effort and the model's name decide whether there are thoughts."""
    answer = await whole(client, messages=ASKED, **asked)
    assert (answer.content[0].type == "thinking") is thinks


# --- the prompt cache --------------------------------------------------------------------------


def _marked(text: str, **mark: str) -> Any:
    return {"type": "text", "text": text, "cache_control": {"type": "ephemeral", **mark}}


async def test_a_marked_prefix_is_written_and_then_read(client: AsyncAnthropic) -> None:
    """What was marked is read next time, marks of an hour apart; all parts add up to the count."""
    asked: dict[str, Any] = {
        "system": [_marked("Be brief and kind.", ttl="1h")],
        "messages": [{"role": "user", "content": [_marked(QUESTION)]}],
    }
    counted = await client.messages.count_tokens(model="mock", **asked)
    first = (await whole(client, **asked)).usage
    assert first.cache_creation.ephemeral_1h_input_tokens == 5 + 3
    assert first.cache_creation.ephemeral_5m_input_tokens == 6 + 3
    assert (first.cache_read_input_tokens, first.input_tokens) == (0, 0)
    assert first.cache_creation_input_tokens == counted.input_tokens
    asked["messages"][0]["content"].append({"type": "text", "text": "Well?"})
    second = (await final(client, **asked)).usage
    assert second.cache_read_input_tokens == counted.input_tokens
    assert (second.cache_creation_input_tokens, second.input_tokens) == (0, 2)
    asked["system"] = "Other."
    assert (await whole(client, **asked)).usage.cache_read_input_tokens == 0


async def test_a_conversation_that_grows_is_read_up_to_its_last_mark(
    client: AsyncAnthropic,
) -> None:
    """One mark for the whole request reads what the turn before has written."""
    messages: list[Any] = list(ASKED)
    mark: Any = {"type": "ephemeral"}
    first = await whole(client, messages=messages, cache_control=mark)
    written = first.usage.cache_creation_input_tokens
    messages += [first.to_param(), {"role": "user", "content": "And green?"}]
    second = await whole(client, messages=messages, cache_control=mark)
    assert second.usage.cache_read_input_tokens == written > 0
    assert second.usage.cache_creation_input_tokens > 0


# --- counts and models -------------------------------------------------------------------------


async def test_tokens_are_counted_as_they_are_charged(client: AsyncAnthropic) -> None:
    """The count of a conversation is what an answer to it states."""
    asked: dict[str, Any] = {"system": "Be brief.", "messages": ASKED, "tools": [WEATHER]}
    counted = await client.messages.count_tokens(model="mock", **asked)
    assert counted.input_tokens == (await whole(client, **asked)).usage.input_tokens


async def test_the_models_are_listed_in_pages(client: AsyncAnthropic) -> None:
    """The list goes on from page to page; one model is found by its name, another is not."""
    names = [model.id async for model in client.models.list(limit=1)]
    assert names == ["mock", "mock-small", "mock-reasoning"]
    model = await client.models.retrieve("mock-reasoning")
    assert model.capabilities is not None
    assert model.capabilities.thinking.types.adaptive.supported
    assert model.lifecycle == "active"
    with pytest.raises(anthropic.NotFoundError, match="model: none"):
        await client.models.retrieve("none")


async def test_openai_keeps_its_list_of_models(server: MockServer) -> None:
    """Who asks for models without a word of this API gets OpenAI's list."""
    import openai

    async with openai.AsyncOpenAI(api_key="right", base_url=server.url, max_retries=0) as client:
        names = [model.id async for model in client.models.list()]
    assert "mock-embedding" in names


# --- answers that are given --------------------------------------------------------------------


async def test_answers_may_be_given() -> None:
    """A message of a function's is sent, with blocks that only this API knows."""
    odd = {"type": "container_upload", "file_id": "file_1"}
    said = Message(
        "assistant", ["Here.", Opaque(odd, "anthropic"), ToolCall("mine", "f", '{"a": 1}')]
    )
    async with MockServer(answer=lambda _: said) as server, client_of(server) as client:
        answer = await final(client, messages=ASKED)
    text, block, call = answer.content
    assert (text.text, block.file_id) == ("Here.", "file_1")
    assert (call.id, call.input, answer.stop_reason) == ("mine", {"a": 1}, "tool_use")
