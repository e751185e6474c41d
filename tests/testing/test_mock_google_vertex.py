"""The mock server speaks Vertex AI's form of Google's API, with projects and in express mode."""

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import pytest
from anyio import to_thread
from google import genai
from google.genai import errors, types
from google.oauth2.credentials import Credentials

from lamella.testing import MockServer

T = TypeVar("T")

pytestmark = pytest.mark.anyio

QUESTION = "Why is the sky blue?"
TOOL: Any = {"function_declarations": [{"name": "look_up", "parameters": {"type": "OBJECT"}}]}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the SDK would read from the environment is not there."""
    for name in ("GOOGLE_API_KEY", "GEMINI_API_KEY", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def server() -> AsyncIterator[MockServer]:
    """A server that nothing goes wrong with."""
    async with MockServer(keys=["token"]) as server:
        yield server


@pytest.fixture
def client(server: MockServer) -> Iterator[genai.Client]:
    """The official client of a project on that server."""
    with project_client(server, "token") as client:
        yield client


def project_client(server: MockServer, token: str) -> genai.Client:
    """A client of a project, with a token."""
    return genai.Client(
        vertexai=True,
        project="ours",
        location="europe-west1",
        credentials=Credentials(token=token),  # type: ignore[no-untyped-call]
        http_options=types.HttpOptions(base_url=server.endpoint),
    )


async def ask(call: Callable[..., T], **arguments: Any) -> T:
    """What the SDK, which knows asyncio only, says in a thread of its own."""
    return await to_thread.run_sync(partial(call, **arguments))


async def test_a_project_is_answered(server: MockServer, client: genai.Client) -> None:
    """An answer has what Vertex AI adds: the instant, how it is paid for; streamed or not."""
    answer = await ask(client.models.generate_content, model="mock", contents=QUESTION)
    assert QUESTION in (answer.text or "")
    assert answer.create_time is not None
    usage = answer.usage_metadata
    assert usage is not None
    assert usage.traffic_type is types.TrafficType.ON_DEMAND
    stream = client.models.generate_content_stream
    chunks = await to_thread.run_sync(lambda: list(stream(model="mock", contents=QUESTION)))
    assert "".join(chunk.text or "" for chunk in chunks) == answer.text
    path = "/v1beta1/projects/ours/locations/europe-west1/publishers/google/models/mock"
    assert server.requests[0].path == f"{path}:generateContent"


async def test_calls_have_no_ids(client: genai.Client) -> None:
    """Vertex AI's calls are known by their names and order alone; results are taken so too."""
    config: Any = {"tools": [TOOL], "automatic_function_calling": {"disable": True}}
    order = 'look_up({"n": 1}) and look_up({"n": 2})'
    answer = await ask(client.models.generate_content, model="mock", contents=order, config=config)
    calls = answer.function_calls or []
    assert [(call.id, call.args) for call in calls] == [(None, {"n": 1}), (None, {"n": 2})]
    results = [
        types.Part.from_function_response(name="look_up", response={"output": f"found {n}"})
        for n in (1, 2)
    ]
    history: Any = [order, (answer.candidates or [])[0].content, types.UserContent(results)]
    words = await ask(client.models.generate_content, model="mock", contents=history)
    assert "found 2" in (words.text or "")


async def test_tokens_are_counted_with_the_system_instruction(client: genai.Client) -> None:
    """Here `countTokens` takes the instruction and the tools too."""
    config: Any = {"system_instruction": "Be brief.", "tools": [TOOL]}
    plain = await ask(client.models.count_tokens, model="mock", contents=QUESTION)
    full = await ask(client.models.count_tokens, model="mock", contents=QUESTION, config=config)
    assert plain.total_tokens == 9
    assert (full.total_tokens or 0) > 9 + 3


async def test_texts_are_embedded_by_predict(client: genai.Client) -> None:
    """Each text has its vector and its count; what is too long is cut and says so."""
    config: Any = {"output_dimensionality": 32, "task_type": "RETRIEVAL_QUERY"}
    texts = ["The sky.", "sea " * 9_000]
    answer = await ask(
        client.models.embed_content, model="text-embedding", contents=texts, config=config
    )
    statistics = [each.statistics for each in answer.embeddings or []]
    assert [len(each.values or []) for each in answer.embeddings or []] == [32, 32]
    assert [each and (each.truncated, each.token_count) for each in statistics] == [
        (False, 3),
        (True, 8_192),
    ]
    assert answer.metadata is not None
    with pytest.raises(errors.ClientError) as caught:
        await ask(
            client.models.embed_content,
            model="text-embedding",
            contents=texts,
            config={"auto_truncate": False},
        )
    assert caught.value.code == 400


async def test_contents_are_embedded_by_embed_content(client: genai.Client) -> None:
    """The newer models take one content, or several in a batch."""
    config: Any = {"output_dimensionality": 32}
    embed, model = client.models.embed_content, "gemini-embedding-2"
    one = await ask(embed, model=model, contents="The sky.", config=config)
    two = await ask(
        embed,
        model=model,
        contents=[types.UserContent("The sky."), types.UserContent("The sea.")],
        config=config,
    )
    (single,) = one.embeddings or []
    both = two.embeddings or []
    assert single.values == both[0].values
    assert [len(each.values or []) for each in both] == [32, 32]
    assert single.statistics is not None
    assert single.statistics.token_count == 3


async def test_models_are_listed(client: genai.Client) -> None:
    """Google's own models are listed by their publisher."""
    pager = await ask(client.models.list)
    assert [model.name for model in pager][:2] == [
        "publishers/google/models/mock",
        "publishers/google/models/mock-small",
    ]


async def test_a_project_wants_a_token(server: MockServer) -> None:
    """A wrong token is a 401."""
    with project_client(server, "wrong") as client, pytest.raises(errors.ClientError) as caught:
        await ask(client.models.generate_content, model="mock", contents=QUESTION)
    assert (caught.value.code, caught.value.status) == (401, "UNAUTHENTICATED")


async def test_express_mode_wants_a_key(server: MockServer) -> None:
    """Without a project, a key is enough."""
    options = types.HttpOptions(base_url=server.endpoint)
    with genai.Client(vertexai=True, api_key="token", http_options=options) as client:
        answer = await ask(client.models.generate_content, model="mock", contents=QUESTION)
    assert QUESTION in (answer.text or "")
    assert server.requests[0].path == "/v1beta1/publishers/google/models/mock:generateContent"


async def test_a_blocked_prompt_says_why(client: genai.Client) -> None:
    """Vertex AI adds a sentence to the reason."""
    order = "mock: finish=prompt_jailbreak"
    answer = await ask(client.models.generate_content, model="mock", contents=order)
    assert answer.prompt_feedback is not None
    assert answer.prompt_feedback.block_reason is types.BlockedReason.JAILBREAK
    assert answer.prompt_feedback.block_reason_message
