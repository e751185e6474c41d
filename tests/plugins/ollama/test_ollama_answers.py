"""Ollama's chat: what is read from answers, whole and in lines cut anywhere."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import ollama
import pytest
from conversations import PIXEL
from hypothesis import given, settings
from hypothesis import strategies as st
from ollama._types import ChatRequest as OfficialRequest
from ollama_wire import (
    CHAT,
    COUNTS,
    NAME,
    STREAM,
    TEXT,
    USAGE,
    WEATHER,
    answer,
    asked,
    decode,
    folded,
    last,
    line,
    read,
    written,
)

from lamella import (
    ChatRequest,
    EmbeddingRequest,
    Event,
    Finish,
    Image,
    LamellaError,
    MediaDelta,
    Message,
    Opaque,
    ProtocolError,
    Reasoning,
    ResponseTooLargeError,
    ServerError,
    Text,
    TextDelta,
    Tool,
    ToolCall,
    Usage,
    UsageReport,
    Vector,
)
from lamella.transports import DialectOptions
from lamella_ollama._embeddings import OllamaEmbeddings

REPORT = UsageReport(USAGE)
BARE = {"function": {"name": "now", "arguments": {}}}
EMBED = OllamaEmbeddings()
OPTIONS = DialectOptions()
RICH = [
    line(thinking="Let me "),
    line(thinking="see."),
    line("Well, "),
    line("it is"),
    line(tool_calls=[WEATHER]),
    line(tool_calls=[BARE]),
    last(),
]


def logprob(token: str) -> dict[str, Any]:
    """What the server says of one token."""
    return {"token": token, "logprob": -0.5, "top_logprobs": [{"token": "x", "logprob": -1.0}]}


# --- what is said ----------------------------------------------------------------------------


def test_text_as_it_comes() -> None:
    """One event for each line, then the usage and the end."""
    assert read(*STREAM) == [
        TextDelta("Héllo "),
        TextDelta("wörld "),
        TextDelta("😀"),
        REPORT,
        Finish("stop"),
    ]
    decoder = CHAT.decoder(asked())
    decoder.feed(None, written(STREAM[0]))
    assert (decoder.head.model, decoder.done) == ("tiny", False)


def test_thoughts_text_and_calls() -> None:
    """In their order; a call comes whole, and its reason is that there is one."""
    found = folded(read(*RICH))
    assert found.message == Message.assistant(
        [
            Reasoning("Let me see."),
            Text("Well, it is"),
            ToolCall("call_8ubc0w2p", "get_weather", '{"city":"Zürich"}'),
            ToolCall("call_20261121100000123456789_1", "now", "{}"),
        ]
    )
    assert found.finish_reason == "tool_calls"


def test_streamed_and_whole_are_alike() -> None:
    """The same answer amounts to the same message."""
    message = {"thinking": "Let me see.", "tool_calls": [WEATHER, BARE]}
    assert folded(decode(answer("Well, it is", **message))) == folded(read(*RICH))
    assert folded(decode(answer())) == folded(read(*STREAM))


def test_an_answer_goes_back_as_it_came() -> None:
    """Sent in the next turn, it is what the server said."""
    function = {**WEATHER["function"], "deep": 2}
    novel = {**WEATHER, "novel": 1, "function": function}
    found = folded(read(line(thinking="hm"), line("a"), line(tool_calls=[novel]), last()))
    request = asked([Message.user("hi"), found.message])
    made = CHAT.encode(request, stream=False, options=OPTIONS)["messages"][1]
    del function["index"]
    assert made == {
        "role": "assistant",
        "content": "a",
        "thinking": "hm",
        "tool_calls": [{**novel, "function": function}],
    }


def test_ids_that_are_made_differ_between_turns() -> None:
    """Even where a server's clock stands still."""
    (first,) = folded(read(line(tool_calls=[BARE]), last())).tool_calls
    conversation = [Message.user("hi"), Message.assistant([first]), Message.tool(first.id, "x")]
    events = read(line(tool_calls=[BARE]), last(), content=conversation)
    (second,) = folded(events).tool_calls
    assert first.id != second.id
    assert first == folded(read(line(tool_calls=[BARE]), last())).tool_calls[0]


def test_arguments_may_be_text() -> None:
    """Some servers write what they should read; a call without any has none."""
    for said, words in (('{"a": 1}', '{"a": 1}'), (None, "{}"), ({}, "{}")):
        call: dict[str, Any] = {"function": {"name": "f", "arguments": said}}
        assert folded(decode(answer("", tool_calls=[call]))).tool_calls[0].arguments == words


def test_log_probabilities_stay_with_their_text() -> None:
    """Those that come while the server waits go with the next text, or by themselves at the end."""
    a, b, c = (logprob(token) for token in "abc")
    events = read(
        line("x"),
        line("y", logprobs=[a]),
        line(logprobs=[b]),
        line("z"),
        line(logprobs=[c]),
        last(),
    )
    texts = [event for event in events if isinstance(event, TextDelta)]
    assert [event.logprobs for event in texts] == [None, (a,), (b,)]
    assert Opaque({"logprobs": [c]}, NAME, content=False) in events
    (whole,) = (e for e in decode(answer(logprobs=[a, b])) if isinstance(e, TextDelta))
    assert whole.logprobs == (a, b)


def test_pictures_in_an_answer() -> None:
    """Their kind is told by their first bytes."""
    data = [base64.b64encode(each).decode() for each in (PIXEL, b"?")]
    events = decode(answer("", images=data))
    assert events[:2] == [
        MediaDelta("image", PIXEL, "image/png", index=0),
        MediaDelta("image", b"?", None, index=1),
    ]


def test_what_nobody_knows_yet_is_passed_on_once() -> None:
    """Fields of a line and of a message, and lines of another kind."""
    novel = {**line("a", mood="good"), "novel": {"x": 1}}
    events = read(line("x"), novel, {**novel}, {"status": "loading"}, last())
    asides = [event.data for event in events if isinstance(event, Opaque)]
    assert asides == [{"novel": {"x": 1}}, {"mood": "good"}, {"status": "loading"}]
    assert all(not event.content for event in events if isinstance(event, Opaque))
    assert folded(events).text == "xaa"


# --- the end ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "finish"),
    [("stop", "stop"), ("length", "length"), (None, "stop"), ("load", "load"), ("Odd", "odd")],
)
def test_reasons(reason: str | None, finish: str) -> None:
    """In our words where we have them, else the server's own."""
    assert read(line("a"), last(reason))[-1] == Finish(finish)
    assert decode(answer(done_reason=reason))[-1] == Finish(finish)


def test_a_model_that_is_only_loaded_has_said_nothing() -> None:
    """Which costs nothing."""
    events = decode({**line(done=True), "done_reason": "load"})
    assert events == [UsageReport(Usage()), Finish("load")]


@pytest.mark.parametrize("upto", range(len(STREAM)))
def test_without_its_last_line_a_stream_is_truncated(upto: int) -> None:
    """The end of the bytes alone is no end."""
    assert not any(isinstance(event, Finish) for event in read(*STREAM[:upto]))
    assert not any(isinstance(event, Finish) for event in decode({**answer(), "done": False}))


# --- counts ----------------------------------------------------------------------------------


def counted(*texts: str, **counts: Any) -> Usage | None:
    """The usage of an answer with these counts."""
    events = read(*[line(text) for text in texts], last("stop", counts))
    return next((e.usage for e in events if isinstance(e, UsageReport)), None)


def test_counts() -> None:
    """As stated; a zero is not written, and what is lacking is estimated."""
    assert counted("a", prompt_eval_count=3, eval_count=1) == Usage(3, text_output=1)
    assert counted(prompt_eval_count=3) == Usage(3)
    assert counted("a", prompt_eval_count=0, eval_count=0) == Usage()
    cached = counted("a", eval_count=9)
    assert cached is not None
    assert (cached.text_output, cached.estimated) == (9, True)
    assert cached.uncached_input > 0
    silent, half = counted("some words"), counted("some words", prompt_eval_count=3)
    assert silent is not None
    assert half is not None
    assert (silent.estimated, half.estimated, half.uncached_input) == (True, True, 3)
    assert silent.text_output == half.text_output > 0


@pytest.mark.parametrize("strange", [-1, "7", True, 1.5])
def test_strange_counts_lose_no_answer(strange: Any) -> None:
    """They make the usage an estimate."""
    found = counted("a", prompt_eval_count=strange, eval_count=2)
    assert found is not None
    assert (found.text_output, found.estimated) == (2, True)
    assert counted("a", prompt_eval_count=5.0, eval_count=2) == Usage(5, text_output=2)


# --- lines cut anywhere ----------------------------------------------------------------------


def events_of(chunks: Sequence[bytes]) -> list[Event]:
    """The events of a stream that comes in these pieces."""
    reader, decoder = CHAT.reader(10_000), CHAT.decoder(asked())
    events: list[Event] = []
    for chunk in chunks:
        for event, data in reader.feed(chunk):
            events += decoder.feed(event, data)
    for event, data in reader.finish():
        events += decoder.feed(event, data)
    return [*events, *decoder.finish()]


def test_split_at_every_byte() -> None:
    """However the network cuts a stream, the events are the same."""
    data = written(*RICH)
    whole = events_of([data])
    assert whole[-1] == Finish("tool_calls")
    for cut in range(1, len(data)):
        assert events_of([data[:cut], data[cut:]]) == whole


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from(RICH[:-1]), max_size=6),
    st.lists(st.integers(1, 90), min_size=1),
    st.sampled_from([b"\n", b"\r\n", b"\n\n"]),
)
def test_random_answers_in_random_pieces(
    lines: list[Any], sizes: list[int], between: bytes
) -> None:
    """Any lines with any ends, cut anywhere, are read as they were written."""
    data = written(*lines, last()).replace(b"\n", between)
    chunks: list[bytes] = []
    while data:
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(data[:size])
        data = data[size:]
    assert events_of(chunks) == read(*lines, last())


def test_the_last_line_needs_no_newline_but_its_end() -> None:
    """Half a line is none."""
    data = written(*STREAM).rstrip(b"\n")
    assert events_of([data])[-1] == Finish("stop")
    for cut in range(1, len(written(STREAM[-1])) - 1):
        assert not any(isinstance(event, Finish) for event in events_of([data[:-cut]]))


def test_lines_are_bounded() -> None:
    """Those that end and those that do not."""
    for data in (b"x" * 11, b"x" * 11 + b"\n", b"{}\n" + b"x" * 11):
        with pytest.raises(ResponseTooLargeError):
            CHAT.reader(10).feed(data)
    reader = CHAT.reader(10)
    assert reader.feed(b"x" * 6) == []
    with pytest.raises(ResponseTooLargeError):
        reader.feed(b"x" * 6)


# --- faults ----------------------------------------------------------------------------------


def test_an_error_inside_a_stream() -> None:
    """Is an error of the server, with what it had stated; its sentence is not repeated."""
    with pytest.raises(ServerError) as caught:
        read(line("a", **COUNTS), {"error": "an error about the secret prompt"})
    assert caught.value.usage == USAGE
    assert "secret" not in str(caught.value)
    with pytest.raises(ServerError):
        decode({"error": "x"})


@pytest.mark.parametrize(
    "data",
    [b"", b"<html>", b"[", b"null", b"{}", b'{"message": null}', b'{"message": "x"}',
     b'{"message": {"content": 5}}', b'{"message": {"tool_calls": [{"function": {}}]}}',
     b'{"message": {"images": ["?"]}}'],
)  # fmt: skip
def test_nonsense_in_place_of_an_answer(data: bytes) -> None:
    """Is an error of its own kind, whatever it is."""
    with pytest.raises(ProtocolError):
        decode(data)


def test_lone_surrogates_are_replaced() -> None:
    """They are JSON, but no text."""
    decoder = CHAT.decoder(asked())
    wire = b'{"model":"tiny","message":{"content":"\\ud800"},"done":false}'
    assert decoder.feed(None, wire) == [TextDelta("\ufffd")]


JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["content", "thinking", "tool_calls", "function", "name", "arguments", "images"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(
                ["message", "done", "model", "created_at", "done_reason", "logprobs", "error",
                 "prompt_eval_count", "eval_count", "novel"]
            ),
            JUNK,
        ),
        max_size=4,
    )
)  # fmt: skip
def test_whatever_comes_is_read_or_refused(lines: list[dict[str, Any]]) -> None:
    """No line makes the decoder fail with an error of its own."""
    decoder = CHAT.decoder(asked())
    try:
        for each in lines:
            decoder.feed(None, json.dumps(each).encode())
        decoder.finish()
        decode(lines[0] if lines else {})
    except LamellaError:
        pass


# --- embeddings ------------------------------------------------------------------------------


def test_embeddings() -> None:
    """In the order of the inputs, with the count of what was read."""
    data = {"model": "e", "embeddings": [[1, 0.5], [0, -1]], "prompt_eval_count": 4}
    events, head = EMBED.decode(json.dumps(data).encode(), EmbeddingRequest.of(["a", "b"]))
    assert events == [
        Vector(0, (1.0, 0.5)),
        Vector(1, (0.0, -1.0)),
        UsageReport(Usage(4)),
        Finish("stop"),
    ]
    assert head.model == "e"
    bare = json.dumps({"embeddings": [[1]]}).encode()
    (_, report, _), _ = EMBED.decode(bare, EmbeddingRequest.of("a"))
    assert isinstance(report, UsageReport)
    assert report.usage.estimated
    assert len(EMBED.decode(bare)[0]) == 2
    with pytest.raises(ProtocolError):
        EMBED.decoder(EmbeddingRequest.of("a"))


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b'{"embeddings": 5}', b'{"embeddings": []}', b'{"embeddings": [[]]}',
     b'{"embeddings": [["x"]]}', b'{"embeddings": [[1], [2]]}'],
)  # fmt: skip
def test_nonsense_in_place_of_vectors(data: bytes) -> None:
    """Is an error of its own kind; the server's own is the server's."""
    with pytest.raises(ProtocolError):
        EMBED.decode(data, EmbeddingRequest.of("a"))
    with pytest.raises(ServerError):
        EMBED.decode(b'{"error": "no"}')


# --- the recorded shapes ---------------------------------------------------------------------


def test_the_official_client_reads_the_same_lines() -> None:
    """The shapes of these tests are what the official client takes for an answer."""
    found = ollama.ChatResponse(**answer(tool_calls=[WEATHER], thinking="hm"))
    assert (found.message.content, found.eval_count, found.done_reason) == (TEXT, 18, "stop")
    for each in [*STREAM, *RICH, line("a", logprobs=[logprob("a")])]:
        assert ollama.ChatResponse(**each).message.content == each["message"]["content"]


def test_the_official_client_writes_the_same_body() -> None:
    """Field by field, but for the ids, which it does not know."""
    function = {"name": "now", "parameters": {"type": "object", "properties": {}}}
    theirs = OfficialRequest(
        model="tiny",
        messages=[ollama.Message(role="user", content="hi", images=[ollama.Image(value=PIXEL)])],
        tools=[ollama.Tool.model_validate({"type": "function", "function": function})],
        options={"num_ctx": 64, "temperature": 0.5},
        think="low",
        format="json",
        keep_alive="5m",
        stream=False,
    ).model_dump(exclude_none=True)
    ours = CHAT.encode(_picture_request(), stream=False, options=OPTIONS)
    assert ours == theirs


def _picture_request() -> ChatRequest:
    return asked(
        [Message.user([Image(data=PIXEL, media_type="image/png"), "hi"])],
        tools=[Tool("now")],
        temperature=0.5,
        reasoning_effort="low",
        response_format={"type": "json_object"},
        extra={"options": {"num_ctx": 64}, "keep_alive": "5m"},
    )
