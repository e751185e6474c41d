"""What goes wrong with the mock server's Anthropic API, as the official SDK sees it."""

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic import AsyncAnthropic

from lamella.testing import MockServer

pytestmark = [
    pytest.mark.anyio,
    # The SDK leaves its own generators unfinished, which trio remarks on.
    pytest.mark.filterwarnings("ignore:Async generator .*:ResourceWarning"),
]
SAID: Any = [{"role": "user", "content": "mock: say one two three"}]
ENDS = ["content_block_stop", "message_delta", "message_stop"]


@pytest.fixture
async def client() -> AsyncIterator[AsyncAnthropic]:
    """The official client of a server; what goes wrong stands in the model's name."""
    async with (
        MockServer() as server,
        AsyncAnthropic(api_key="any", base_url=server.endpoint, max_retries=0) as client,
    ):
        yield client


async def whole(client: AsyncAnthropic, fault: str = "ok") -> Any:
    """An answer that is not streamed."""
    return await client.messages.create(model=f"mock;{fault}", max_tokens=100, messages=SAID)


async def events(client: AsyncAnthropic, fault: str) -> list[Any]:
    """The events of a stream, as far as they come."""
    stream = await client.messages.create(
        model=f"mock;{fault}", max_tokens=100, messages=SAID, stream=True
    )
    return [event async for event in stream]


async def final(client: AsyncAnthropic, fault: str) -> Any:
    """What a stream amounts to."""
    asked: Any = {"model": f"mock;{fault}", "max_tokens": 100, "messages": SAID}
    async with client.messages.stream(**asked) as stream:
        return await stream.get_final_message()


@pytest.mark.parametrize(
    ("fault", "error", "kind"),
    [
        ("status=400", anthropic.BadRequestError, "invalid_request_error"),
        ("status=401", anthropic.AuthenticationError, "authentication_error"),
        ("status=402", anthropic.PaymentRequiredError, "billing_error"),
        ("status=403", anthropic.PermissionDeniedError, "permission_error"),
        ("status=404", anthropic.NotFoundError, "not_found_error"),
        ("status=409", anthropic.ConflictError, "conflict_error"),
        ("status=413", anthropic.ContentTooLargeError, "request_too_large"),
        ("status=422", anthropic.UnprocessableEntityError, "invalid_request_error"),
        ("status=429", anthropic.RateLimitError, "rate_limit_error"),
        ("status=500", anthropic.InternalServerError, "api_error"),
        ("status=503", anthropic.ServiceUnavailableError, "api_error"),
        ("status=504", anthropic.GatewayTimeoutError, "timeout_error"),
        ("status=529", anthropic.OverloadedError, "overloaded_error"),
        ("status=429; error=overloaded_error", anthropic.RateLimitError, "overloaded_error"),
        ("status=400; error=insufficient_quota", anthropic.BadRequestError, "billing_error"),
    ],
)
async def test_each_status_is_an_error_of_the_sdk(
    client: AsyncAnthropic, fault: str, error: type[anthropic.APIStatusError], kind: str
) -> None:
    """A status brings the SDK's class for it, with the API's word and the request's id."""
    with pytest.raises(error) as caught:
        await whole(client, fault)
    assert caught.value.type == kind
    assert caught.value.request_id == "req_mock_000000"
    assert caught.value.error_code is None


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("status=400; error=context_length_exceeded", "prompt is too long: "),
        ("status=400; error=content_filter", "Output blocked by content filtering policy"),
    ],
)
async def test_what_only_words_tell_is_said_in_the_apis_words(
    client: AsyncAnthropic, fault: str, words: str
) -> None:
    """Where the API has no type or code of its own for an error, its sentence is what counts."""
    with pytest.raises(anthropic.BadRequestError) as caught:
        await whole(client, fault)
    assert caught.value.type == "invalid_request_error"
    assert caught.value.error_code is None
    assert words in caught.value.message


async def test_a_code_of_the_apis_own_stands_in_the_details(client: AsyncAnthropic) -> None:
    """What is no type of error is the code of its cause."""
    with pytest.raises(anthropic.RampLimitExceededError) as caught:
        await whole(client, "status=429; error=ramp_limit_exceeded; retry-after=7")
    assert caught.value.error_code == "ramp_limit_exceeded"
    assert caught.value.response.headers["retry-after"] == "7"


async def test_the_limits_stand_in_the_headers(client: AsyncAnthropic) -> None:
    """Every answer says what is left of each limit, and until when."""
    raw: Any = client.messages.with_raw_response
    answer = await raw.create(model="mock", max_tokens=9, messages=SAID)
    for name in ("requests", "tokens", "input-tokens", "output-tokens"):
        start = f"anthropic-ratelimit-{name}"
        assert int(answer.headers[f"{start}-limit"]) > int(answer.headers[f"{start}-remaining"]) > 0
        assert answer.headers[f"{start}-reset"].endswith("Z")


@pytest.mark.parametrize("fault", ["error=overloaded_error", "error=overloaded_error; error_at=4"])
async def test_an_error_in_the_middle_of_a_stream(client: AsyncAnthropic, fault: str) -> None:
    """An event `error` is raised by the SDK, with the type that says what a status would."""
    with pytest.raises(anthropic.APIStatusError) as caught:
        await events(client, fault)
    assert (caught.value.status_code, caught.value.type) == (200, "overloaded_error")


async def test_a_stream_that_stops_short(client: AsyncAnthropic) -> None:
    """A stream that was cut has no end: the SDK takes it as it is, without a stop reason."""
    found = await events(client, "truncate=4")
    assert [event.type for event in found] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
    ]  # the fourth was a ping
    answer = await final(client, "truncate=4")
    assert (answer.content[0].text, answer.stop_reason) == ("one", None)


async def test_a_stream_that_is_reset(client: AsyncAnthropic) -> None:
    """A connection that is reset ends with an error of the network."""
    with pytest.raises(httpx2.ReadError):
        await events(client, "reset=4")


async def test_an_answer_that_is_cut_off(client: AsyncAnthropic) -> None:
    """A whole answer that was cut is an error of the connection."""
    with pytest.raises(anthropic.APIConnectionError):
        await whole(client, "truncate=1")


async def test_the_last_event_may_be_missing(client: AsyncAnthropic) -> None:
    """`no_done` leaves out `message_stop` and nothing else."""
    found = await events(client, "no_done")
    assert [event.type for event in found][-2:] == ENDS[:-1]


async def test_signs_of_life_are_events(client: AsyncAnthropic) -> None:
    """`pings` puts a ping before each event, which the SDK passes over; one comes anyway."""
    plain, pinged = await _bytes(client, "ok"), await _bytes(client, "pings")
    assert plain.count(b"event: ping\n") == 1
    assert pinged.count(b"event: ping\n") == plain.count(b"event: ") + 1
    assert b"\n: ping" not in pinged  # comments are OpenAI's way


async def _bytes(client: AsyncAnthropic, fault: str) -> bytes:
    body = {"model": f"mock;{fault}", "max_tokens": 9, "messages": SAID, "stream": True}
    headers = {"anthropic-version": "2023-06-01"}
    async with httpx2.AsyncClient() as other:
        url = f"{str(client.base_url).rstrip('/')}/v1/messages"
        return (await other.post(url, json=body, headers=headers)).content


@pytest.mark.parametrize(
    "fault",
    ["pings", "ids", "no_space", "multiline", "line_end=crlf", "line_end=cr", "slice=1", "gzip"],
)
async def test_a_stream_may_be_written_in_many_ways(client: AsyncAnthropic, fault: str) -> None:
    """However the events are written, the SDK reads the same answer."""
    assert (await final(client, fault)).content == (await final(client, "ok")).content


async def test_unknown_things_are_survived_and_sent_back(client: AsyncAnthropic) -> None:
    """An event, a block and fields that nobody knows are mixed in; the block may go back."""
    answers = [await whole(client, "unknown"), await final(client, "unknown")]
    for answer in answers:
        text, odd = answer.content
        assert (text.text, odd.type, odd.known) == ("one two three", "mock_unknown", False)
        assert answer.mock_unknown == {"known": False}
    assert "mock_unknown" in [event.type for event in await events(client, "unknown")]
    more: Any = [*SAID, answers[1].to_param(), *SAID]
    again = await client.messages.create(model="mock", max_tokens=9, messages=more)
    assert again.stop_reason == "end_turn"


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("length", "max_tokens"),
        ("tool_calls", "tool_use"),
        ("content_filter", "refusal"),
        ("pause_turn", "pause_turn"),
        ("odd", "odd"),
        ("none", None),
    ],
)
async def test_other_reasons(client: AsyncAnthropic, word: str, reason: str | None) -> None:
    """`finish` gives the library's words in the API's, others as they are, and none as null."""
    for ask in (whole, final):
        answer = await ask(client, f"finish={word}")
        assert answer.stop_reason == reason
        assert (answer.stop_details is not None) == (reason == "refusal")


async def test_usage_that_is_strange(client: AsyncAnthropic) -> None:
    """Usage may be missing, zero, or told twice; it comes with the reason anyway."""
    start, *_, delta, _ = await events(client, "usage=none")
    assert start.message.usage is None
    assert delta.usage is None
    zero = (await final(client, "usage=zero")).usage
    assert (zero.input_tokens, zero.output_tokens) == (0, 0)
    found = await events(client, "usage=twice")
    assert [event.type for event in found].count("message_delta") == 2
    plain = await final(client, "usage=with_finish")
    assert plain.usage == (await final(client, "ok")).usage


async def test_a_fault_that_is_none(client: AsyncAnthropic) -> None:
    """A verb that nobody knows is refused in the API's own words."""
    with pytest.raises(anthropic.BadRequestError, match="explode"):
        await whole(client, "explode")
