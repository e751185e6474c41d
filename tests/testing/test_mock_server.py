"""The mock server: its addresses, its faults on the wire, and what it remembers."""

import json
from collections.abc import Mapping
from typing import Any

import anyio
import attrs
import pytest
from anyio import BrokenResourceError, EndOfStream

from lamella import ChatRequest, Message
from lamella.testing import Faults, MockFaults, MockServer, run_virtual
from lamella.testing._mock_faults import Script, split_steps

pytestmark = pytest.mark.anyio
CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {"model": "mock", "messages": [{"role": "user", "content": "Why?"}]}
SAY: dict[str, Any] = {
    "model": "mock",
    "messages": [{"role": "user", "content": "mock: say one two three"}],
}


@attrs.frozen
class Got:
    """What a client read until the connection ended."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cut: bool
    """Whether the body ended before its framing said so."""

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def data(self) -> list[str]:
        """The data of each event."""
        blocks = self.body.decode().split("\n\n")
        lines = [[line for line in block.split("\n") if line[:5] == "data:"] for block in blocks]
        return ["\n".join(line[5:].strip() for line in block) for block in lines if block]

    @property
    def text(self) -> str:
        """The text that the events of a chat answer add up to."""
        chunks = [json.loads(data) for data in self.data if data[0] == "{"]
        choices = [chunk["choices"][0] for chunk in chunks if chunk.get("choices")]
        return "".join(choice["delta"].get("content") or "" for choice in choices)


async def post(
    server: MockServer,
    body: object,
    path: str = CHAT,
    *,
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
) -> Got:
    """Send one request over a connection of its own."""
    content = b"" if body is None else json.dumps(body).encode()
    fields = {"Host": "x", "Connection": "close", "Content-Length": len(content), **(headers or {})}
    lines = [f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items()), "", ""]
    raw = b""
    async with await anyio.connect_tcp(server.host, server.port) as client:
        await client.send("\r\n".join(lines).encode() + content)
        try:
            while True:
                raw += await client.receive()
        except (EndOfStream, BrokenResourceError):
            pass
    return understood(raw)


def understood(raw: bytes) -> Got:
    """The parts of an HTTP answer."""
    if not raw:
        return Got(0, {}, b"", cut=True)
    head, _, rest = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    status = int(first.split()[1])
    if headers.get("transfer-encoding") != "chunked":
        return Got(status, headers, rest, cut=len(rest) != int(headers["content-length"]))
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return Got(status, headers, body, cut=False)
        body, rest = body + rest[:length], rest[length + 2 :]
    return Got(status, headers, body, cut=True)


async def stream(server: MockServer, faults: str = "", body: Mapping[str, Any] = SAY) -> Got:
    """Ask for a stream that goes wrong in a way."""
    asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
    return await post(server, asked, headers={"X-Mock-Fault": faults or "ok"})


# --- addresses and errors ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/v1/nothing", 404, "not_found"),
        ("GET", CHAT, 405, "method_not_supported"),
        ("POST", "/openai/deployments/x/chat/completions", 404, "404"),
        ("GET", "/v1/models/nobody", 404, "model_not_found"),
    ],
)
async def test_wrong_addresses_are_told(method: str, path: str, status: int, code: str) -> None:
    """What has no answer has an error in OpenAI's shape."""
    async with MockServer() as server:
        got = await post(server, ASK, path, method=method)
    assert got.status == status
    assert got.json()["error"]["code"] == code
    assert set(got.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "model"),
        ({"model": "mock"}, "messages"),
        ({**ASK, "messages": []}, "messages"),
        ({**ASK, "messages": [{"role": "nobody", "content": "x"}]}, None),
        ({**ASK, "n": "two"}, None),
        ({**ASK, "n": 1_000}, "n"),
        ({**ASK, "response_format": "json"}, "response_format"),
        ({**ASK, "tools": {"name": "x"}}, "tools"),
        (
            {**ASK, "tools": [{"type": "function", "function": {"name": "x", "parameters": 1}}]},
            "tools[0]",
        ),
        ({**ASK, "stream": True, "stream_options": 1}, "stream_options"),
        ({**ASK, "top_logprobs": 2}, "top_logprobs"),
        ({**ASK, "stream_options": {"include_usage": True}}, "stream_options"),
        ({**ASK, "model": "mock-reasoning", "temperature": 0}, "temperature"),
        ([], None),
        (None, None),
    ],
)
async def test_wrong_requests_are_told(body: object, param: str | None) -> None:
    """A body that a provider would not take is a 400 that names the field."""
    async with MockServer() as server:
        got = await post(server, body)
    assert got.status == 400
    assert got.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/responses", {"model": "mock"}, "input"),
        ("/v1/responses", {"model": "mock", "input": [{"type": "dance"}]}, "input[0]"),
        (
            "/v1/responses",
            {"model": "mock", "input": "x", "previous_response_id": "resp_x"},
            "previous_response_id",
        ),
        ("/v1/embeddings", {"model": "mock", "input": []}, "input"),
        ("/v1/embeddings", {"model": "mock", "input": "x", "dimensions": 0}, "dimensions"),
        (
            "/v1/embeddings",
            {"model": "mock", "input": "x", "encoding_format": "z"},
            "encoding_format",
        ),
    ],
)
async def test_wrong_requests_of_other_apis_are_told(path: str, body: object, param: str) -> None:
    """The other APIs name the field as well."""
    async with MockServer() as server:
        got = await post(server, body, path)
    assert (got.status, got.json()["error"]["param"]) == (400, param)


async def test_only_known_models_are_served_if_asked_for() -> None:
    """With `models`, other names do not exist, and Azure's deployments neither."""
    async with MockServer(models=["gpt-x"]) as server:
        assert (await post(server, {**ASK, "model": "gpt-x"})).status == 200
        assert (await post(server, ASK)).json()["error"]["code"] == "model_not_found"
        azure = "/openai/deployments/none/chat/completions?api-version=1"
        assert (await post(server, ASK, azure)).json()["error"]["code"] == "DeploymentNotFound"
        listed = await post(server, None, "/v1/models", method="GET")
    assert [model["id"] for model in listed.json()["data"]] == ["gpt-x"]


async def test_a_key_is_asked_for() -> None:
    """With `keys`, nobody else is served; neither the server nor its records show a key."""
    async with MockServer(keys=["sk-secret"]) as server:
        assert (await post(server, ASK)).status == 401
        wrong = await post(server, ASK, headers={"Authorization": "Bearer sk-other"})
        right = await post(server, ASK, headers={"Authorization": "Bearer sk-secret"})
        azure = "/openai/deployments/x/chat/completions?api-version=1"
        key = await post(server, ASK, azure, headers={"api-key": "sk-secret"})
        assert (wrong.status, right.status, key.status) == (401, 200, 200)
        assert "sk-" not in repr(server)
        assert "sk-" not in repr(server.requests)


async def test_headers_are_those_of_the_provider() -> None:
    """Answers carry a request id and the state of the rate limits."""
    async with MockServer() as server:
        got = await post(server, ASK)
    assert got.headers["x-request-id"] == "req_mock_000000"
    assert got.headers["x-ratelimit-remaining-requests"] == "9999"


# --- what it remembers -------------------------------------------------------------------------


async def test_requests_are_remembered() -> None:
    """Each request can be looked at: method, path, headers, JSON, and what went wrong with it."""
    async with MockServer(script="status=503; retry-after=1 | ok") as server:
        await post(server, ASK, headers={"X-Extra": "yes"})
        await post(server, {**ASK, "temperature": 0.5})
        await server.until(lambda s: s.replies == 2)
        first, second = server.requests
    assert (first.method, first.path, first.model) == ("POST", CHAT, "mock")
    assert first.headers["x-extra"] == "yes"
    assert first.faults == "status=503; retry-after=1"
    assert second.json["temperature"] == 0.5
    assert second.faults == ""


async def test_the_answer_can_be_given() -> None:
    """`answer=` gives what is said over HTTP too, from the request as the library sees it."""

    def answer(request: ChatRequest) -> str | Message:
        return f"{request.messages[-1].text} {request.temperature}"

    async with MockServer(answer=answer) as server:
        got = await post(server, {**ASK, "temperature": 0.25})
    assert got.json()["choices"][0]["message"]["content"] == "Why? 0.25"


# --- where faults are said ---------------------------------------------------------------------


async def test_the_nearest_word_about_faults_counts() -> None:
    """Model name, header, path, script, faults: the first that says something counts."""
    async with MockServer(
        script=["status=500"], faults="status=501", paths={"/embeddings": "status=502"}
    ) as server:
        text = {"model": "mock", "input": "x"}
        assert (await post(server, text, "/v1/embeddings")).status == 502
        assert (await post(server, ASK)).status == 500
        assert (await post(server, ASK)).status == 501
        named = {"X-Mock-Fault": "status=418"}
        assert (await post(server, ASK, headers=named)).status == 418
        assert (await post(server, ASK, headers={"X-Mock-Fault": "ok"})).status == 200
        inside = {**ASK, "model": "mock;status=419"}
        assert (await post(server, inside, headers=named)).status == 419
        deployment = "/openai/deployments/mock%3Bstatus=420/chat/completions?api-version=1"
        assert (await post(server, ASK, deployment)).status == 420


async def test_a_misspelt_fault_is_told_to_the_client() -> None:
    """A fault text in a request that cannot be read is a 400 that lists the verbs."""
    async with MockServer() as server:
        got = await post(server, ASK, headers={"X-Mock-Fault": "stauts=500"})
    assert got.status == 400
    assert "Did you mean 'status'?" in got.json()["error"]["message"]


async def test_several_faults_come_in_turn_and_one_for_ever() -> None:
    """One text is for every request; several are for one each, and then nothing goes wrong."""
    for given, statuses in (
        ("status=503", [503, 503, 503]),
        ("status=503 | status=504", [503, 504, 200]),
        (["status=503"], [503, 200, 200]),
    ):
        async with MockServer(faults=given) as server:
            assert [(await post(server, ASK)).status for _ in range(3)] == statuses


# --- faults of events --------------------------------------------------------------------------


async def test_a_good_stream_is_what_the_api_says() -> None:
    """Role first, then the text, the reason, the usage, and `[DONE]`."""
    async with MockServer() as server:
        got = await stream(server)
    first, *texts, reason, usage, done = got.data
    assert json.loads(first)["choices"][0]["delta"]["role"] == "assistant"
    assert [json.loads(text)["choices"][0]["delta"]["content"] for text in texts] == [
        "one",
        " two",
        " three",
    ]
    assert json.loads(reason)["choices"][0]["finish_reason"] == "stop"
    assert json.loads(usage)["usage"]["completion_tokens"] == 3
    assert done == "[DONE]"


@pytest.mark.parametrize("events", range(7))
async def test_a_stream_is_truncated_after_any_event(events: int) -> None:
    """`truncate=K` ends the message well after exactly K events."""
    async with MockServer() as server:
        got = await stream(server, f"truncate={events}")
    assert len(got.data) == events
    assert not got.cut


async def test_a_stream_is_reset_after_an_event() -> None:
    """`reset=K` cuts the connection after K events; the bare verb does so instead of answering."""
    async with MockServer() as server:
        got = await stream(server, "reset=2; gap=0.001; slice=4096")
        assert got.cut
        assert len(got.data) <= 2
        nothing = await stream(server, "reset")
    assert nothing.status == 0


@pytest.mark.parametrize(
    ("faults", "check"),
    [
        ("finish=odd", lambda got: '"finish_reason":"odd"' in got.data[4]),
        ("finish=none", lambda got: not any('_reason":"' in data for data in got.data)),
        ("usage=none", lambda got: len(got.data) == 6 and "usage" not in got.data[4]),
        ("usage=zero", lambda got: json.loads(got.data[5])["usage"]["total_tokens"] == 0),
        ("usage=twice", lambda got: got.data[5] == got.data[6]),
        ("usage=with_finish", lambda got: json.loads(got.data[4])["usage"]["total_tokens"] == 12),
        ("no_done", lambda got: got.data[-1] != "[DONE]"),
        ("unknown", lambda got: json.loads(got.data[1])["object"] == "mock.unknown"),
        ("malformed_at=2", lambda got: got.data[2] == '{"broken":'),
        ("error_at=2", lambda got: '"error"' in got.data[2] and len(got.data) == 3),
        ("error=insufficient_quota", lambda got: '"insufficient_quota"' in got.data[0]),
        ("pings", lambda got: got.body.count(b": ping\n\n") == 7),
        ("ids", lambda got: b"id: 3\nretry: 3000\n" in got.body),
        ("bom", lambda got: got.body.startswith("\ufeff".encode())),
        ("no_space", lambda got: b"data:{" in got.body and b"data: " not in got.body),
        ("multiline", lambda got: b"data: {\ndata: " in got.body),
        ('insert=1:": hi\\n\\n"', lambda got: got.body.count(b": hi\n\n") == 1),
        ("slice=1", lambda got: got.text == "one two three"),
    ],
)
async def test_verbs_of_events(faults: str, check: Any) -> None:
    """Each verb changes the stream as it says, and nothing else."""
    async with MockServer() as server:
        got = await stream(server, faults)
    assert check(got), got.body.decode()
    assert not got.cut


@pytest.mark.parametrize(("word", "end"), [("crlf", b"\r\n"), ("cr", b"\r")])
async def test_line_ends(word: str, end: bytes) -> None:
    """Lines end as asked."""
    async with MockServer() as server:
        got = await stream(server, f"line_end={word}")
    assert got.body.endswith(b"data: [DONE]" + end + end)
    assert got.body.replace(end, b"").count(b"\n") == 0


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("<html>", "text/html"),
        ("{}", "application/json"),
        ('"data: {}\\n\\n"', "text/event-stream; charset=utf-8"),
        ("Bad gateway", "text/plain"),
    ],
)
async def test_another_body_is_called_what_it_is(body: str, kind: str) -> None:
    """A body that replaces the answer has the content type that such a body has."""
    async with MockServer() as server:
        got = await stream(server, f"body={body}")
        named = await stream(server, f"body={body}; content-type=text/odd")
    assert (got.status, got.headers["content-type"]) == (200, kind)
    assert named.headers["content-type"] == "text/odd"


async def test_an_answer_that_is_not_streamed_is_cut_in_its_middle() -> None:
    """What cuts a stream cuts a whole answer too; an in-band error replaces it, with status 200."""
    async with MockServer() as server:
        for faults in ("truncate=3", "reset=3"):
            got = await post(server, ASK, headers={"X-Mock-Fault": faults})
            assert got.cut
        got = await post(server, ASK, headers={"X-Mock-Fault": "error=rate_limit_exceeded"})
    assert got.status == 200
    assert got.json()["error"]["code"] == "rate_limit_exceeded"


async def test_faults_of_the_responses_api() -> None:
    """The Responses API fails, ends incomplete or is truncated in its own words."""
    asked = {"model": "mock", "input": "mock: say one two", "stream": True}

    async def last(faults: str) -> Any:
        got = await post(server, asked, "/v1/responses", headers={"X-Mock-Fault": faults})
        return json.loads(got.data[-1])

    async with MockServer() as server:
        failed = await last("finish=failed")
        assert failed["type"] == "response.failed"
        assert failed["response"]["error"]["code"] == "server_error"
        assert (await last("finish=length"))["type"] == "response.incomplete"
        assert (await last("finish=none"))["type"] == "response.output_item.done"
        assert (await last("usage=none"))["response"]["usage"] is None
        assert (await last("truncate=3"))["sequence_number"] == 2


# --- time and life -----------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_latency_passes_in_virtual_time(backend: str) -> None:
    """Latency, time per token, delays and stalls pass on the loop's clock, streamed or not."""

    async def main() -> list[float]:
        async with MockServer(latency=30, latency_per_token=10) as server:
            found: list[float] = []
            for faults, streamed in (
                ("", True),
                ("", False),
                ("delay=60", True),
                ("stall_at=1; stall=60", True),
            ):
                start = anyio.current_time()
                got = await post(
                    server, {**SAY, "stream": streamed}, headers={"X-Mock-Fault": faults}
                )
                assert got.status == 200
                found.append(anyio.current_time() - start)
            return found

    assert run_virtual(main, backend=backend) == pytest.approx([50, 50, 110, 110], abs=1)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_client_that_leaves_is_noticed(backend: str) -> None:
    """A client that goes away in the middle of an answer is counted as such."""

    async def main() -> None:
        async with MockServer(latency_per_token=1_000) as server:
            with anyio.move_on_after(500):
                await stream(server)
            await server.until(lambda s: s.disconnects)
            await server.until(lambda s: s.open_connections == 0)
            assert server.disconnects[0].phase == "reply"

    run_virtual(main, backend=backend)


async def test_it_serves_for_ever_until_closed() -> None:
    """`serve_forever` tells when it listens and ends when the server is closed."""
    server = MockServer()
    async with anyio.create_task_group() as group:
        started = await group.start(server.serve_forever)
        assert started is server
        assert server.url == f"http://127.0.0.1:{server.port}/v1"
        assert (await post(server, ASK)).status == 200
        await server.aclose()


def test_it_runs_in_a_thread() -> None:
    """Code that is not asynchronous gets a server in a thread, and stops it."""
    with MockServer().start_in_thread() as running:
        got = anyio.run(post, running.server, ASK)
        assert got.status == 200
        assert running.requests[0].model == "mock"
    running.stop()
    with pytest.raises(OSError, match=r"."):
        anyio.run(post, running.server, ASK)


def test_mistakes_are_told_when_it_is_made() -> None:
    """A misspelt verb, a negative latency and a lone key are refused at once."""
    with pytest.raises(ValueError, match="Did you mean 'status'"):
        MockServer(faults="statsu=500")
    with pytest.raises(ValueError, match="latency"):
        MockServer(latency=-1)
    with pytest.raises(TypeError, match="list"):
        MockServer(keys="sk-secret")


# --- the texts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "status=429; retry-after=2",
        "truncate=5",
        "delay=1; error_at=2; error=overloaded_error; pings",
        "reset=3; usage=twice; line_end=crlf",
    ],
)
def test_faults_read_back(text: str) -> None:
    """What is written is what was read."""
    assert str(MockFaults.parse(text)) == text
    assert MockFaults.parse(str(MockFaults.parse(text))) == MockFaults.parse(text)


@pytest.mark.parametrize(
    "text",
    ["nonsense", "truncate=x", "truncate=-1", "usage=some", "pings; pings", "a | b", "truncate"],
)
def test_wrong_faults_are_refused(text: str) -> None:
    """What makes no sense is a ValueError."""
    with pytest.raises(ValueError, match=r"\w"):
        MockFaults.parse(text)


def test_scripts_are_split_at_bars() -> None:
    """Bars separate steps, except inside quotes; `ok` is a step without faults."""
    steps = split_steps('status=500; body="a|b" | ok | truncate=2')
    assert [str(step or "ok") for step in steps] == ['status=500; body="a|b"', "ok", "truncate=2"]
    script = Script([Faults(status=500), "ok"], "truncate=1")
    assert [str(script.next() or "ok") for _ in range(3)] == ["status=500", "ok", "truncate=1"]
