"""What goes wrong with the mock of Bedrock, as the official SDK sees it; and its framing."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest
from bedrock_clients import QUESTION, asked, blocks, call, client_of, put_together, streamed
from botocore.eventstream import ChecksumMismatch, EventStreamBuffer
from botocore.exceptions import ClientError, EventStreamError
from hypothesis import given
from hypothesis import strategies as st
from urllib3.exceptions import ProtocolError

from lamella.testing import MockServer
from lamella.testing._mock_bedrock._frames import message

pytestmark = pytest.mark.anyio


@pytest.fixture
async def server() -> AsyncIterator[MockServer]:
    """A server that knows two models."""
    async with MockServer(models=["mock", "mock-reasoning", "amazon.titan-embed-text-v1"]) as made:
        yield made


@pytest.fixture
def client(server: MockServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The official client of that server."""
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)
    with client_of(server) as client:
        yield client


# --- statuses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("faults", "status", "code"),
    [
        ("status=400", 400, "ValidationException"),
        ("status=401", 401, "UnrecognizedClientException"),
        ("status=403", 403, "AccessDeniedException"),
        ("status=403; error=ExpiredTokenException", 403, "ExpiredTokenException"),
        ("status=404", 404, "ResourceNotFoundException"),
        ("status=408", 408, "ModelTimeoutException"),
        ("status=424", 424, "ModelErrorException"),
        ("status=429", 429, "ThrottlingException"),
        ("status=429; error=ModelNotReadyException", 429, "ModelNotReadyException"),
        ("status=400; error=insufficient_quota", 400, "ServiceQuotaExceededException"),
        ("status=500", 500, "InternalServerException"),
        ("status=503", 503, "ServiceUnavailableException"),
        ("status=529", 529, "ServiceUnavailableException"),
    ],
)
async def test_each_status_has_an_exception(
    client: Any, faults: str, status: int, code: str
) -> None:
    """The SDK raises its own class for it, with the code, the status and the request's id."""
    kind = getattr(client.exceptions, code, ClientError)
    for ask in (asked, streamed):
        with pytest.raises(kind) as caught:
            await ask(client, f"mock;{faults}")
        told = caught.value.response
        assert told["Error"]["Code"] == code
        assert told["Error"]["Message"]
        assert told["ResponseMetadata"]["HTTPStatusCode"] == status
        assert told["ResponseMetadata"]["RequestId"].startswith("00000000-0000-4000-8000-")


@pytest.mark.parametrize(
    ("code", "words"),
    [("content_filter", "content filtering policy"), ("context_length_exceeded", "is too long")],
)
async def test_refusals_have_the_words_of_the_models(client: Any, code: str, words: str) -> None:
    """A filter and a window have no exception of their own: the sentence tells."""
    with pytest.raises(client.exceptions.ValidationException, match=words):
        await asked(client, f"mock;status=400; error={code}")


async def test_a_failure_of_the_model_tells_its_status(client: Any) -> None:
    """The exception has members of its own."""
    with pytest.raises(client.exceptions.ModelErrorException) as caught:
        await asked(client, "mock;status=424")
    assert caught.value.response["originalStatusCode"] == 500
    assert caught.value.response["resourceName"]


async def test_no_such_model_and_no_such_operation(client: Any, server: MockServer) -> None:
    """A name that is not known, an operation that is not there, a slash that is not escaped."""
    with pytest.raises(client.exceptions.ResourceNotFoundException, match="resolve"):
        await asked(client, "gone")
    with pytest.raises(ClientError, match="UnknownOperation"):
        await call(client.invoke_model_with_response_stream, modelId="mock", body="{}")
    long = "Why is the sky blue? " * 30_000
    with pytest.raises(client.exceptions.ValidationException, match="too long for requested"):
        await asked(client, messages=[{"role": "user", "content": [{"text": long}]}])


# --- in a stream -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("throttlingException", "throttlingException"),
        ("ModelStreamErrorException", "modelStreamErrorException"),
        ("rate_limit_error", "throttlingException"),
        ("overloaded_error", "serviceUnavailableException"),
        ("server_error", "internalServerException"),
        ("validationException", "validationException"),
        ("ModelTimeoutException", "ModelTimeoutException"),  # no member of this stream: an error
    ],
)
async def test_exceptions_in_a_stream(client: Any, word: str, code: str) -> None:
    """They come in the place of an event, and the SDK raises them there."""

    def read() -> tuple[int, str]:
        stream = client.converse_stream(
            modelId=f"mock;error={word}; error_at=3", messages=QUESTION
        )["stream"]
        seen = 0
        try:
            for _ in stream:
                seen += 1
        except EventStreamError as error:
            return seen, error.response["Error"]["Code"]
        finally:
            stream.close()
        return seen, "none"

    assert await call(read) == (3, code)


async def test_an_error_with_a_status_that_is_a_success(client: Any) -> None:
    """A whole answer then is the exception's document."""
    answer = await asked(client, "mock;error=throttlingException")
    assert "output" not in answer
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200


async def test_a_stream_that_ends_early(client: Any) -> None:
    """The SDK sees no error: only the end that is missing tells."""
    events = await streamed(client, "mock;truncate=4")
    assert len(events) == 4
    assert not any("messageStop" in event for event in events)
    events = await streamed(client, "mock;no_done")
    assert [next(iter(event)) for event in events[-2:]] == ["contentBlockStop", "messageStop"]


async def test_broken_streams(client: Any) -> None:
    """A reset and a broken frame are errors of the connection and of a checksum."""
    with pytest.raises(ProtocolError):
        await streamed(client, "mock;reset=3")
    with pytest.raises(ChecksumMismatch):
        await streamed(client, "mock;malformed_at=3")


@pytest.mark.parametrize("faults", ["slice=1", "slice=7; variation=5", "pings", "usage=zero"])
async def test_streams_in_pieces(client: Any, faults: str) -> None:
    """However the bytes come, the answer is the same."""
    plain = put_together(await streamed(client, "mock-reasoning"))
    assert put_together(await streamed(client, f"mock-reasoning;{faults}")) == plain


async def test_unknown_things_are_mixed_in(client: Any) -> None:
    """The SDK passes over the event, and shows the block as one that it does not know."""
    plain = await streamed(client)
    events = await streamed(client, "mock;unknown")
    starts = [e["contentBlockStart"]["start"] for e in events if "contentBlockStart" in e]
    assert starts == [{"SDK_UNKNOWN_MEMBER": {"name": "mockUnknown"}}]
    assert put_together(events)[0] == put_together(plain)[0]
    whole = await asked(client, "mock;unknown")
    assert blocks(whole)[1] == {"SDK_UNKNOWN_MEMBER": {"name": "mockUnknown"}}


async def test_usage(client: Any) -> None:
    """It can be left out, be nothing, or come twice."""
    assert "usage" not in await asked(client, "mock;usage=none")
    assert not any("metadata" in event for event in await streamed(client, "mock;usage=none"))
    assert (await asked(client, "mock;usage=zero"))["usage"]["totalTokens"] == 0
    twice = await streamed(client, "mock;usage=twice")
    assert [next(iter(event)) for event in twice[-2:]] == ["metadata", "metadata"]


@pytest.mark.parametrize(
    ("finish", "word"), [("odd", "odd"), ("length", "max_tokens"), ("none", "")]
)
async def test_reasons_that_are_odd(client: Any, finish: str, word: str) -> None:
    """Another word, the library's own put into this API's, or none at all."""
    wanted = {"stopReason": word} if word else {}
    answer = await asked(client, f"mock;finish={finish}")
    assert answer.get("stopReason") == wanted.get("stopReason")
    events = await streamed(client, f"mock;finish={finish}")
    assert events[-2]["messageStop"] == wanted


@pytest.mark.parametrize("verb", ["bom", "ids", "line_end=cr", "multiline", "usage=with_finish"])
async def test_verbs_without_sense(client: Any, verb: str) -> None:
    """What only server-sent events can do is refused, and says so."""
    with pytest.raises(client.exceptions.ValidationException, match="Bedrock"):
        await streamed(client, f"mock;{verb}")


async def test_time_per_token_passes() -> None:
    """Each token after the first takes its time."""
    async with MockServer(latency_per_token=0.001) as server:
        with client_of(server) as client:
            begun = anyio.current_time()
            events = await streamed(client)
    assert anyio.current_time() - begun >= 0.001 * (len(events) - 10)


# --- the framing -------------------------------------------------------------------------------


@given(
    messages=st.lists(
        st.tuples(
            st.dictionaries(st.text(min_size=1, max_size=20), st.text(max_size=60), max_size=4),
            st.binary(max_size=200),
        ),
        max_size=5,
    ),
    size=st.integers(1, 50),
)
def test_the_sdk_reads_every_message(
    messages: list[tuple[dict[str, str], bytes]], size: int
) -> None:
    """Whatever headers and payload, and wherever the bytes are cut."""
    data = b"".join([message(headers, payload) for headers, payload in messages])
    buffer = EventStreamBuffer()
    found: list[tuple[dict[str, Any], bytes]] = []
    for start in range(0, len(data), size):
        buffer.add_data(data[start : start + size])
        found += [(each.headers, each.payload) for each in buffer]
    assert found == messages
