"""Answers of Google's that are complete and odd: nothing of them may be lost."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from google_wire import (
    CHAT,
    SSE,
    TEXT,
    broken,
    chunk,
    decode,
    event,
    folded,
    read,
    serving,
    streamed,
)

import lamella
from lamella import ChatRequest, EmbeddingRequest, Finish, Opaque, Text, Usage
from lamella.testing import Pause, Reply
from lamella.transports import _stream_source
from lamella_google._embeddings import GeminiEmbeddings

pytestmark = pytest.mark.anyio

BARE = {"error": {"code": 503, "message": "secret words", "status": "UNAVAILABLE"}}
INDENTED = json.dumps(BARE, indent=2).replace("\n", "\r\n").encode()


def bare(content: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """A chunk with one candidate and nothing else."""
    return {"candidates": [{"content": content, **more}]}


def messages(*pieces: bytes) -> list[tuple[str | None, bytes]]:
    """What a reader makes of bytes."""
    reader = CHAT.reader(1 << 20)
    return [*itertools.chain.from_iterable(map(reader.feed, pieces)), *reader.finish()]


# --- errors without framing --------------------------------------------------------------------


@pytest.mark.parametrize("tail", [b"", b"\r\n", b"\r\n\r\n"])
def test_bare_errors_are_messages(tail: bytes) -> None:
    """JSON without `data:` is read as Google means it, wherever the bytes are cut."""
    data = event(chunk({"text": "a"})) + INDENTED + tail
    for cut in range(1, len(data)):
        first, second = messages(data[:cut], data[cut:])
        assert json.loads(first[1]) == chunk({"text": "a"})
        assert json.loads(second[1]) == BARE


def test_pieces_of_bare_errors_are_none() -> None:
    """A stream that is cut in the middle of one is cut, whatever stands there."""
    data = INDENTED + b"\r\n"
    for end in range(len(INDENTED)):
        assert messages(data[:end]) == []


@pytest.mark.parametrize("before", [0, 1])
async def test_errors_in_streams(before: int) -> None:
    """An error that Google sends bare into a stream is itself, and no cut; with usage so far."""
    body = [event(chunk({"text": "a"}))] * before + [INDENTED]
    async with serving(Reply(200, SSE, body=body)) as (_, pipeline):
        error = await broken(pipeline)
    assert isinstance(error, lamella.OverloadedError)
    assert (error.status, error.code) == (503, "UNAVAILABLE")
    assert error.usage == (Usage(uncached_input=3, text_output=2) if before else None)
    assert "secret" not in str(error)


# --- the end -----------------------------------------------------------------------------------


async def test_messages_that_never_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A complete answer is one, though the server leaves the HTTP message open for ever."""
    monkeypatch.setattr(_stream_source, "LATE_SECONDS", 0.02)
    last = chunk({"text": ""}, finish="STOP")
    body: list[bytes | Pause] = [event(chunk({"text": TEXT})), event(last), Pause(math.inf)]
    async with serving(Reply(200, SSE, body=body)) as (server, pipeline):
        response = await streamed(pipeline)
        assert (response.text, response.finish_reason) == (TEXT, "stop")
        assert response.usage == Usage(uncached_input=3, text_output=2)
        await server.until(lambda it: not it.open_connections)


def test_when_an_answer_needs_no_more() -> None:
    """With all reasons, something said, and usage; a chunk that still brings words denies it."""
    decoder = CHAT.decoder(ChatRequest.of("Hi"))
    steps = [
        (chunk(finish="STOP"), False),  # some proxies begin so
        (chunk({"text": "a"}), False),
        (chunk({"text": "b"}, finish="STOP"), True),
        (bare({}), True),
        (chunk({"text": "c"}), False),
        (chunk({"text": "d"}, finish="STOP"), False),
    ]
    for data, expected in steps:
        decoder.feed(None, msgspec.json.encode(data))
        assert decoder.complete is expected
    assert folded(list(decoder.finish())).finish_reason == "stop"


def test_proxies_that_always_give_a_reason() -> None:
    """Whatever follows a reason is read as well, and the answer never counts as over for sure."""
    chunks = [chunk({"text": each}, finish="STOP") for each in "abc"]
    assert folded(read(*chunks)).text == "abc"


def test_last_words_of_other_dialects() -> None:
    """A proxy's `[DONE]` does not spoil a complete answer."""
    decoder = CHAT.decoder(ChatRequest.of("Hi"))
    events = [*decoder.feed(None, msgspec.json.encode(chunk({"text": "a"}, finish="STOP")))]
    events += [*decoder.feed(None, b"[DONE]"), *decoder.finish()]
    assert folded(events).text == "a"


def test_reasons_that_are_none() -> None:
    """An unspecified reason means that the model has not stopped."""
    assert not [each for each in read(chunk({"text": "a"}, finish="FINISH_REASON_UNSPECIFIED"))
                if isinstance(each, Finish)]  # fmt: skip
    assert folded(decode(chunk({"text": "a"}, finish="FINISH_REASON_UNSPECIFIED"))).text == "a"


def test_streams_that_begin_and_end_with_nothing() -> None:
    """Chunks without parts around plain text make no empty answer of it."""
    events = read(
        bare({"role": "model"}),
        chunk({"text": "Hi"}),
        bare({"role": "model"}, finishReason="STOP"),
    )
    assert folded(events).text == "Hi"


# --- fields that are there and say nothing -----------------------------------------------------


def test_nulls() -> None:
    """A null, or a part of nulls only, is as good as not there; streamed or not."""
    parts: list[dict[str, Any]] = [{"text": "a"}, {}, {"text": None, "functionCall": None}]
    odd = {**chunk(*parts, finish="STOP", index=None), "promptFeedback": None}
    for events in (decode(odd), read(odd), read(chunk({"text": "a"}), {**bare({}), "error": None},
                                                bare({}, finishReason="STOP"))):  # fmt: skip
        response = folded(events)
        assert response.message.parts == (Text("a"),)
        assert response.usage == Usage(uncached_input=3, text_output=2)


def test_usage_that_is_null_later() -> None:
    """A null does not take back what was stated."""
    later = {**bare({"parts": [{"text": "b"}]}), "usageMetadata": None}
    events = read(chunk({"text": "a"}), later, bare({}, finishReason="STOP"))
    assert folded(events).usage == Usage(uncached_input=3, text_output=2)


def test_searches_without_usage() -> None:
    """They are counted where tokens must be estimated, too."""
    grounding = {"webSearchQueries": ["a", "b"]}
    events = read(chunk({"text": "a"}, finish="STOP", usage=None, groundingMetadata=grounding))
    usage = folded(events).usage
    assert usage is not None
    assert usage.estimated
    assert usage.tool_units == {"web_search": 2}


def test_feedback_is_passed_on_once() -> None:
    """As everything else beside the content, for each value it takes."""
    rated = {"promptFeedback": {"safetyRatings": [{"category": "c"}]}}
    events = read(
        {**chunk({"text": "a"}), **rated}, {**chunk({"text": "b"}, finish="STOP"), **rated}
    )
    assert [each.data for each in events if isinstance(each, Opaque)] == [rated]


# --- other operations --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [b"NaN", b"Infinity", b'"1.5"', b"true", b"null", b"1" + b"0" * 400]
)
def test_vectors_of_something_else(value: bytes) -> None:
    """No number that cannot be compared gets into a vector; what it cost is said."""
    body = (
        b'{"embeddings": [{"values": [0.5, %s]}], "usageMetadata": {"promptTokenCount": 3}}' % value
    )
    with pytest.raises(lamella.ProtocolError, match="numbers") as caught:
        GeminiEmbeddings().decode(body, EmbeddingRequest.of("a"))
    assert caught.value.usage == Usage(uncached_input=3)


@pytest.mark.parametrize("model", ["a\ud800", "a\r\nb", "models/a\0"])
def test_models_that_no_address_can_hold(model: str) -> None:
    """A mistake of the caller's, said as one."""
    with pytest.raises(lamella.MisuseError, match="name of a model"):
        CHAT.path(model, stream=False)
