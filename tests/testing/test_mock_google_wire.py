"""The bytes and addresses of the mock server's Google API: streams in both forms, keys, models."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from lamella.testing import MockServer

pytestmark = pytest.mark.anyio

ASK: Any = {"contents": [{"parts": [{"text": "mock: say one two three"}]}]}
STREAM = "/v1beta/models/{}:streamGenerateContent"


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    """A plain client of a server that nothing goes wrong with."""
    async with MockServer() as server, httpx2.AsyncClient(base_url=server.endpoint) as client:
        yield client


async def stream(client: httpx2.AsyncClient, verbs: str = "ok", *, sse: bool = True) -> str:
    """The bytes of a streamed answer with what goes wrong, as text."""
    query = {"alt": "sse"} if sse else {}
    headers = {"x-mock-fault": verbs}
    path = STREAM.format("mock")
    reply = await client.post(path, json=ASK, params=query, headers=headers)
    kind = "text/event-stream" if sse else "application/json; charset=UTF-8"
    assert reply.headers["content-type"] == kind
    return reply.text


def texts(chunks: list[Any]) -> list[str]:
    """The text of each chunk that has some."""
    parts = [c["candidates"][0]["content"]["parts"][0] for c in chunks if "candidates" in c]
    return [part["text"] for part in parts if part.get("text")]


async def test_events_end_in_carriage_returns(client: httpx2.AsyncClient) -> None:
    """Events are lines of data and nothing else; there is no last event besides the reason."""
    events = (await stream(client)).split("\r\n\r\n")
    assert events.pop() == ""
    assert all(event.startswith("data: {") for event in events)
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    assert texts(chunks) == ["one", " two", " three"]
    assert chunks[-1]["candidates"][0]["finishReason"] == "STOP"


async def test_an_error_in_a_stream_is_bare(client: httpx2.AsyncClient) -> None:
    """It comes as indented JSON without `data:`, after the events."""
    *events, error = (await stream(client, "error=UNAVAILABLE; error_at=1")).split("\r\n\r\n")
    assert len(events) == 1
    assert json.loads(error)["error"]["status"] == "UNAVAILABLE"
    assert error.startswith("{\n")


async def test_a_stream_may_be_an_array(client: httpx2.AsyncClient) -> None:
    """Without `alt=sse` the chunks are the elements of one array."""
    chunks = json.loads(await stream(client, sse=False))
    assert texts(chunks) == ["one", " two", " three"]
    assert chunks[-1]["candidates"][0]["finishReason"] == "STOP"


@pytest.mark.parametrize("verb", ["truncate=2", "no_done"])
async def test_an_array_may_stay_open(client: httpx2.AsyncClient, verb: str) -> None:
    """What is cut off is no JSON until it is closed."""
    text = await stream(client, verb, sse=False)
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)
    assert texts(json.loads(text + "]"))[:2] == ["one", " two"]


async def test_an_array_ends_with_the_error(client: httpx2.AsyncClient) -> None:
    """An error in the middle is the last element."""
    chunks = json.loads(await stream(client, "error=server_error; error_at=1", sse=False))
    assert texts(chunks[:-1]) == ["one"]
    assert chunks[-1]["error"] == {
        "code": 500,
        "message": "An internal error has occurred.",
        "status": "INTERNAL",
    }


@pytest.mark.parametrize("sse", [True, False])
async def test_signs_of_life_are_chunks_without_candidates(
    client: httpx2.AsyncClient, sse: bool
) -> None:
    """As many come as there are events."""
    text = await stream(client, "pings", sse=sse)
    if sse:
        chunks = [json.loads(each.removeprefix("data: ")) for each in text.split("\r\n\r\n")[:-1]]
    else:
        chunks = json.loads(text)
    assert ["candidates" in chunk for chunk in chunks] == [False, True] * 4
    assert texts(chunks) == ["one", " two", " three"]


async def test_an_error_before_an_array_is_in_a_list(client: httpx2.AsyncClient) -> None:
    """Who asked for an array gets one; who asked for events gets an object."""
    for query, kind in (({}, list), ({"alt": "sse"}, dict)):
        path = STREAM.format("mock;status=503")
        reply = await client.post(path, json=ASK, params=query)
        assert (reply.status_code, type(reply.json())) == (503, kind)


async def test_usage_is_told_as_the_verbs_say(client: httpx2.AsyncClient) -> None:
    """In every chunk, in the last one only, or again after the reason."""

    async def told(verbs: str) -> list[bool]:
        chunks = json.loads(await stream(client, verbs, sse=False))
        return ["usageMetadata" in chunk for chunk in chunks]

    assert await told("ok") == [True] * 4
    assert await told("usage=with_finish") == [False] * 3 + [True]
    assert await told("usage=twice") == [True] * 5
    assert await told("usage=none") == [False] * 4


async def test_an_unknown_part_comes_back(client: httpx2.AsyncClient) -> None:
    """A part of an unknown kind is taken back as it was given, and no other is."""
    path = "/v1beta/models/mock;unknown:generateContent"
    content = (await client.post(path, json=ASK)).json()["candidates"][0]["content"]
    history = {"contents": [*ASK["contents"], content, *ASK["contents"]]}
    assert (await client.post(path, json=history)).status_code == 200
    content["parts"].append({"another": {}})
    assert (await client.post(path, json=history)).status_code == 400


@pytest.mark.parametrize("sse", [True, False])
@pytest.mark.parametrize("model", ["mock", "mock-reasoning"])
@pytest.mark.parametrize(
    "order",
    [
        "mock: say one two three",
        "mock: empty",
        "mock: refuse",
        'look_up({"a": [1.5, "é"], "b": null})',
        'look_up({"n": 1}) look_up({"n": 2})',
    ],
)
async def test_what_it_says_may_be_sent_back(
    client: httpx2.AsyncClient, order: str, model: str, sse: bool
) -> None:
    """Whatever it answers, whole or in chunks, is a lawful part of the next request."""
    thoughts = {"thinkingConfig": {"includeThoughts": True}}
    tools = {"tools": [{"functionDeclarations": [{"name": "look_up"}]}]}
    contents: list[Any] = [{"role": "user", "parts": [{"text": order}]}]
    body = {"contents": contents, "generationConfig": thoughts, **tools}
    if sse:
        chunks = (await client.post(STREAM.format(model), json=body)).json()
    else:
        chunks = [(await client.post(f"/v1beta/models/{model}:generateContent", json=body)).json()]
    said = [chunk["candidates"][0]["content"] for chunk in chunks]
    contents += [content for content in said if content.get("parts")]
    calls = [p["functionCall"] for c in said for p in c.get("parts", ()) if "functionCall" in p]
    results: list[Any] = [
        {"functionResponse": {"name": call["name"], "id": call["id"], "response": {"output": 1}}}
        for call in calls
    ]
    assert bool(results) == order.startswith("look_up")
    contents.append({"role": "user", "parts": results or [{"text": "And now?"}]})
    reply = await client.post(f"/v1beta/models/{model}:generateContent", json=body)
    assert reply.status_code == 200, reply.text


async def test_a_call_that_is_no_json_is_malformed() -> None:
    """Arguments that are no object end the answer with Google's reason for it."""
    from lamella import ChatResponse, ToolCall

    def answer(_: object) -> ChatResponse:
        return ChatResponse.of([ToolCall("c", "f", "{broken")])

    async with (
        MockServer(answer=answer) as server,
        httpx2.AsyncClient(base_url=server.endpoint) as client,
    ):
        reply = await client.post("/v1beta/models/mock:generateContent", json=ASK)
    (candidate,) = reply.json()["candidates"]
    assert candidate["finishReason"] == "MALFORMED_FUNCTION_CALL"
    assert candidate["content"] == {"role": "model"}


# --- addresses and keys ------------------------------------------------------------------------


async def test_one_list_of_models_for_two_apis() -> None:
    """`GET /v1/models` is OpenAI's, unless Google's key or headers are there."""
    async with (
        MockServer(keys=["k"]) as server,
        httpx2.AsyncClient(base_url=server.endpoint) as client,
    ):
        openai = await client.get("/v1/models", headers={"authorization": "Bearer k"})
        by_header = await client.get("/v1/models", headers={"x-goog-api-key": "k"})
        by_query = await client.get("/v1/models", params={"key": "k"})
        beta = await client.get("/v1beta/models", params={"key": "k", "pageSize": "1"})
    assert "data" in openai.json()
    assert "models" in by_header.json()
    assert by_query.json() == by_header.json()
    assert beta.json()["nextPageToken"] == "1"


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("models/mock", {}, 403),
        ("models/mock", {"x-goog-api-key": "k"}, 200),
        ("models/mock", {"x-goog-api-key": "wrong"}, 400),
        ("models/mock", {"authorization": "Bearer k"}, 200),
        ("models/mock", {"authorization": "Bearer wrong"}, 401),
        ("publishers/google/models/mock", {"x-goog-api-key": "k"}, 200),
        ("projects/p/locations/l/publishers/google/models/mock", {"x-goog-api-key": "k"}, 401),
        (
            "projects/p/locations/l/publishers/google/models/mock",
            {"authorization": "Bearer k"},
            200,
        ),
        ("projects/p/locations/l/endpoints/7", {"authorization": "Bearer k"}, 200),
    ],
)
async def test_keys_and_tokens(path: str, headers: dict[str, str], status: int) -> None:
    """AI Studio takes keys and tokens, Vertex AI's projects take tokens only."""
    version = "v1beta" if path.startswith("models") else "v1beta1"
    async with (
        MockServer(keys=["k"]) as server,
        httpx2.AsyncClient(base_url=server.endpoint) as client,
    ):
        reply = await client.post(f"/{version}/{path}:generateContent", json=ASK, headers=headers)
    assert reply.status_code == status


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1beta/models/mock:nothing"),
        ("POST", "/v1beta/models/mock:predict"),
        ("GET", "/v1beta/models/mock:generateContent:generateContent"),
        ("POST", "/v1beta/models"),
        ("DELETE", "/v1beta/models/mock"),
        ("GET", "/v1beta/files"),
    ],
)
async def test_other_addresses_are_nothing(
    client: httpx2.AsyncClient, method: str, path: str
) -> None:
    """A wrong address is told in Google's words."""
    reply = await client.request(method, path)
    assert reply.status_code == 404
    assert reply.json()["error"]["status"] == "NOT_FOUND"


async def test_a_conversation_is_counted_whole(client: httpx2.AsyncClient) -> None:
    """AI Studio counts a whole request when it is given as `generateContentRequest`."""
    path = "/v1beta/models/mock:countTokens"
    system = {"parts": [{"text": "Be brief."}]}
    whole = {"model": "models/mock", "systemInstruction": system, **ASK}
    plain = (await client.post(path, json=ASK)).json()
    full = (await client.post(path, json={"generateContentRequest": whole})).json()
    assert full["totalTokens"] == plain["totalTokens"] + 6
    assert (await client.post(path, json={**ASK, "systemInstruction": system})).status_code == 400
    assert (await client.post(path, json={**ASK, "generateContentRequest": whole})).is_error


async def test_one_content_is_embedded(client: httpx2.AsyncClient) -> None:
    """`embedContent` takes one content, `batchEmbedContents` several of the same model."""
    content = {"content": {"parts": [{"text": "The sky."}]}}
    path = "/v1beta/models/mock-embedding"
    one = (await client.post(f"{path}:embedContent", json=content)).json()
    requests = [{"model": "models/mock-embedding", **content}]
    batch = (await client.post(f"{path}:batchEmbedContents", json={"requests": requests})).json()
    assert batch["embeddings"] == [one["embedding"]]
    requests[0]["model"] = "models/other"
    other = await client.post(f"{path}:batchEmbedContents", json={"requests": requests})
    assert other.status_code == 400
    chat = await client.post(f"{path}:generateContent", json=ASK)
    assert chat.status_code == 404
