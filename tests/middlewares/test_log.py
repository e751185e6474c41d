"""Log: one record a request, no content, and never in the way."""

from __future__ import annotations

import asyncio
import datetime as dt
import io
import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest
import structlog
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lamella import (
    ChatRequest,
    ChatResponse,
    ConfigurationError,
    ConnectionLostError,
    Context,
    Finish,
    Pipeline,
    RateLimitError,
    RefusedError,
    Request,
    Shown,
    Usage,
)
from lamella._writers import Writer, _begin_anew
from lamella.testing import Scripted, each_step, virtual_ports
from lamella_middlewares.cost import Cost
from lamella_middlewares.log import Log
from lamella_middlewares.log._lines import Lines
from lamella_middlewares.retry import Retry

pytestmark = pytest.mark.anyio

SECRET = "sk-proj-abcdefghijklmnopqrstuvwxyz012345"
ASK = ChatRequest.of("my name is Ada Lovelace", model="m", context=Context(tenant="acme"))
USED = Usage(uncached_input=1000, text_output=200)


class Kept:
    """A sink that keeps records, and a layer that writes to it."""

    def __init__(self, **options: Any) -> None:
        self._records: list[dict[str, Any]] = []
        self.log = Log(sink=self._records.append, **options)

    @property
    def records(self) -> list[dict[str, Any]]:
        """All records so far."""
        assert self.log.flush(30)
        return self._records


class Terminal(io.StringIO):
    """A stream that somebody looks at."""

    def isatty(self) -> bool:
        """It is one."""
        return True


def pipeline(layers: list[Any], transport: Any) -> Pipeline:
    """A pipeline with a clock and stores of its own."""
    return Pipeline(layers, transport, ports=virtual_ports())


async def ask(pipe: Pipeline, *, stream: bool = False, request: Any = ASK) -> Any:
    """The complete response, run or streamed."""
    if not stream:
        return await pipe.run(request)
    async with pipe.stream(request) as response:
        return await response.collect()


# --- the record -------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_a_record_has_the_facts_of_the_call(stream: bool) -> None:
    """Who, what, how it ended, how long, how many tries, tokens and cost."""
    kept = Kept()
    steps: list[Any] = [
        RateLimitError("busy", retry_after=2),
        ChatResponse.of("ok", usage=USED, model="m-1"),
    ]
    prices = {"m": {"input": "1", "output": "4"}}
    layers = [kept.log, Retry(jitter="none"), Cost(prices)]
    response = await ask(pipeline(layers, Scripted(steps, gap=0.5)), stream=stream)
    (record,) = kept.records
    began = record.pop("at")
    assert began == pytest.approx(1_735_689_600 + record["duration"], abs=60)
    assert 2 <= record.pop("time_to_first_event") < record.pop("duration") <= 5
    assert record == {
        "level": "info",
        "event": "call",
        "call_id": response.context.call_id,
        "tenant": "acme",
        "operation": "chat",
        "stream": stream,
        "model": "m",
        "served_model": "m-1",
        "provider": "scripted",
        "outcome": "complete",
        "finish_reason": "stop",
        "attempts": 2,
        "input_tokens": 1000,
        "output_tokens": 200,
        "cost": "0.0018",
        "currency": "USD",
    }


async def test_a_failure_has_its_class_and_status_and_no_message() -> None:
    """A message may quote the prompt or a key."""
    kept = Kept()
    error = RateLimitError(f"{SECRET} said: Ada", status=429, code="tokens", retry_after=3)
    with pytest.raises(RateLimitError):
        await ask(pipeline([kept.log], Scripted([error])))
    (record,) = kept.records
    expected = {"error": "RateLimitError", "status": 429, "code": "tokens", "retry_after": 3}
    assert expected.items() <= record.items()
    assert (record["level"], record["outcome"]) == ("error", "failed")
    assert SECRET not in str(record)
    assert "Ada" not in str(record)


@pytest.mark.parametrize("stream", [False, True])
async def test_content_is_never_in_a_record_by_default(stream: bool) -> None:
    """Neither the prompt nor the answer."""
    kept = Kept(level="debug")
    await ask(pipeline([kept.log], Scripted(["the answer is Babbage"])), stream=stream)
    assert "Ada" not in str(kept.records)
    assert "Babbage" not in str(kept.records)


async def test_content_is_what_the_redacting_layer_lets_observers_see() -> None:
    """With `content=True`, and then only that."""

    async def redact(request: Request[Any], call_next: Any) -> Any:
        masked = ChatRequest.of("my name is [PERSON]", model="m")
        shown = request.context.trace.content["0"] = Shown(masked)
        response = await call_next(request)
        shown.answer = ChatResponse.of("[PERSON]").answer
        return response

    for content in (False, True):
        kept = Kept(content=content)
        await ask(pipeline([kept.log, redact], Scripted(["ok"])))
        (record,) = kept.records
        found = record.get("content")
        assert (found is not None) is content
        if found is not None:
            assert list(found) == ["0"]
            (message,), (answer,) = found["0"]["messages"], found["0"]["answer"]
            assert (message["content"], answer["content"]) == ("my name is [PERSON]", "[PERSON]")
    kept = Kept(content=True)
    await ask(pipeline([kept.log], Scripted(["ok"])))
    assert "content" not in kept.records[0]


async def test_notes_are_there_at_debug() -> None:
    """What layers noted, with seconds since the call began."""
    for level, expected in (("debug", ["retry.wait"]), ("info", None)):
        kept = Kept(level=level)
        transport = Scripted([ConnectionLostError("x"), "ok"])
        await ask(pipeline([kept.log, Retry()], transport))
        notes = kept.records[0].get("notes")
        assert (notes and [note["note"] for note in notes]) == expected


# --- exactly one ------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("script", "outcome", "level"),
    [
        (["ok"], "complete", "info"),
        ([[]], "truncated", "error"),
        ([["one"]], "truncated", "error"),
        ([ConnectionLostError("x")], "unknown", "error"),
        ([RefusedError("no")], "not_sent", "warning"),
        ([ZeroDivisionError()], "failed", "error"),
        ([["one", math.inf]], "cancelled", "info"),
        ([[math.inf]], "cancelled", "info"),
    ],
)
async def test_every_ending_has_exactly_one_record(
    script: Any, outcome: str, level: str, stream: bool
) -> None:
    """Completed, failed, refused or cancelled, before and after the first event."""
    kept = Kept()
    with anyio.move_on_after(5), suppress(Exception):  # the record says how it ended
        await ask(pipeline([kept.log], Scripted(script)), stream=stream)
    (record,) = kept.records
    assert (record["outcome"], record["level"]) == (outcome, level)


async def test_a_stream_that_is_left_has_one_record_and_is_no_failure() -> None:
    """A reader who stops has not failed."""
    kept = Kept()
    transport = Scripted([["one", "two", Finish("stop")]])
    async with pipeline([kept.log], transport).stream(ASK) as response:
        async for _ in response:
            break
    (record,) = kept.records
    assert (record["outcome"], record["level"]) == ("left", "info")
    assert "error" not in record


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("stream", [False, True])
def test_cancelled_at_any_step_there_is_one_record_for_each_call(
    backend: str, stream: bool
) -> None:
    """Wherever the cancellation strikes, and again during the clean-up."""

    def make() -> tuple[Callable[[], Any], Callable[[], Any]]:
        kept = Kept()
        begun: list[int] = []

        async def count(request: Request[Any], call_next: Any) -> Any:
            begun.append(1)
            return await call_next(request)

        transport = Scripted([["one", 0.1, "two", Finish("stop")]])
        pipe = pipeline([kept.log, count], transport)

        async def check() -> None:
            assert len(kept.records) == len(begun)

        return (lambda: ask(pipe, stream=stream)), check

    assert each_step(make, backend=backend, again=(1,)) > 2


# --- which ------------------------------------------------------------------------------------


async def test_levels_leave_out_what_is_quieter() -> None:
    """A success is `info`, a refusal `warning`, a failure `error`."""
    for level, count in (("debug", 3), ("info", 3), ("warning", 2), ("error", 1)):
        kept = Kept(level=level)
        pipe = pipeline([kept.log], Scripted(["ok", RefusedError("no"), ConnectionLostError("x")]))
        await pipe.run_many([ASK] * 3)
        assert len(kept.records) == count


async def test_sampling_depends_on_the_call_alone_and_keeps_errors() -> None:
    """Two layers, or two processes, agree about a call; failures are kept whatever it says."""
    one, two = Kept(sample=0.3), Kept(sample=0.3)
    pipe = pipeline([one.log, two.log], Scripted(["ok"], repeat=True))
    await pipe.run_many([ASK] * 300)
    ids = [record["call_id"] for record in one.records]
    assert ids == [record["call_id"] for record in two.records]
    assert 60 <= len(ids) <= 120
    for keep, count in ((True, 20), (False, 0)):
        kept = Kept(sample=0, keep_errors=keep)
        pipe = pipeline([kept.log], Scripted([ConnectionLostError("x")], repeat=True))
        await pipe.run_many([ASK] * 20)
        assert len(kept.records) == count


# --- lines ------------------------------------------------------------------------------------


async def test_json_lines_are_one_object_each() -> None:
    """With a timestamp in UTC; the stream is not configured globally."""
    stream = io.StringIO()
    log = Log(sink=stream, format="json")
    before = structlog.get_config()
    await pipeline([log], Scripted(["ok", "ok"])).run_many([ASK] * 2)
    assert log.flush(30)
    assert structlog.get_config() == before
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["outcome"] for line in lines] == ["complete", "complete"]
    assert lines[0]["timestamp"] == "2025-01-01T00:00:00.000Z"


@given(at=st.floats(0, 4e9))
@example(at=186958804.9999995)  # half a microsecond before the second
@example(at=3377173540.9309993)
@settings(max_examples=30, deadline=None, database=None)
def test_a_timestamp_is_what_datetime_makes_of_the_instant(at: float) -> None:
    """To the digit: cut off after the milliseconds, never rounded up into another second."""
    stream = io.StringIO()
    Lines(stream, "json")({"at": at, "event": "call", "level": "info"})
    said = dt.datetime.fromtimestamp(at, dt.UTC).isoformat(timespec="milliseconds")
    assert json.loads(stream.getvalue())["timestamp"] == said.replace("+00:00", "Z")


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
async def test_json_stays_json_whatever_a_number_is(value: float) -> None:
    """A hint may be infinite or none; JSON has no word for that."""
    stream = io.StringIO()
    log = Log(sink=stream, format="json")
    with pytest.raises(RateLimitError):
        await ask(pipeline([log], Scripted([RateLimitError("x", retry_after=value)])))
    assert log.flush(30)
    assert json.loads(stream.getvalue(), parse_constant=pytest.fail)["retry_after"] == str(value)


@pytest.mark.parametrize("variable", [("NO_COLOR", "1"), ("TERM", "dumb")])
async def test_colours_can_be_turned_off(
    variable: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As everywhere: by NO_COLOR, and for a terminal that has none."""
    monkeypatch.setenv(*variable)
    log = Log(sink=Terminal())
    await ask(pipeline([log], Scripted(["ok"])))
    assert log.flush(30)
    assert "\x1b" not in log.sink.getvalue()


async def test_auto_is_json_unless_somebody_looks() -> None:
    """On a terminal it is for people, with colours; elsewhere for machines."""
    for stream, is_json in ((io.StringIO(), True), (Terminal(), False)):
        log = Log(sink=stream)
        await ask(pipeline([log], Scripted(["ok"])))
        assert log.flush(30)
        assert stream.getvalue().startswith("{") is is_json
        assert "complete" in stream.getvalue()


@pytest.mark.parametrize("format_", ["json", "console"])
async def test_no_record_can_be_forged(format_: Any) -> None:
    """Line breaks, terminal codes and lone surrogates in what the caller gives are escaped."""
    stream = io.StringIO()
    log = Log(sink=stream, format=format_)
    model = 'm\n{"outcome": "forged"}\r\x1b[31m\u2028\ud800'
    await ask(pipeline([log], Scripted(["ok"])), request=ASK.evolve(model=model))
    assert log.flush(30)
    assert stream.getvalue().count("\n") == 1
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b[31m\\u2028" not in stream.getvalue()
    assert "\\x0a" in stream.getvalue()


async def test_a_stream_that_cannot_write_a_character_gets_it_escaped() -> None:
    """A record is not lost to an encoding."""
    raw = io.BytesIO()
    log = Log(sink=io.TextIOWrapper(raw, encoding="ascii"), format="console")
    await ask(pipeline([log], Scripted(["ok"])), request=ASK.evolve(model="modèle"))
    assert log.flush(30)
    assert b"mod\\xe8le" in raw.getvalue()


# --- never in the way -------------------------------------------------------------------------


async def test_a_blocked_sink_holds_nothing_up_and_drops_are_counted() -> None:
    """Fault row 49: the queue is bounded, the oldest go, and the next record says how many."""
    release, entered = threading.Event(), threading.Event()
    records: list[dict[str, Any]] = []

    def sink(record: dict[str, Any]) -> None:
        entered.set()
        release.wait(60)
        records.append(record)

    log = Log(sink=sink, queue=5)
    pipe = pipeline([log], Scripted(["ok"], repeat=True))
    await pipe.run(ASK)
    assert entered.wait(30)
    await pipe.run_many([ASK] * 20)
    assert log.health()["dropped"] == 15
    assert not log.flush(0.01)
    release.set()
    assert log.flush(30)
    assert len(records) == 6  # the one under way, and the youngest five
    assert sum(record.get("dropped", 0) for record in records) == 15


async def test_a_failing_sink_is_counted_and_disturbs_nothing() -> None:
    """What it raises goes no further."""

    def sink(record: dict[str, Any]) -> None:
        raise OSError("disk full")

    log = Log(sink=sink)
    response = await ask(pipeline([log], Scripted(["ok"])))
    assert response.text == "ok"
    assert log.flush(30)
    assert log.health() == {
        "queued": 0,
        "written": 0,
        "dropped": 0,
        "failed": 1,
        "error": "OSError",
    }


@pytest.mark.parametrize("end", [SystemExit, asyncio.CancelledError])
async def test_nothing_that_a_sink_raises_ends_the_thread(end: type[BaseException]) -> None:
    """The next record is written."""
    records: list[dict[str, Any]] = []

    def sink(record: dict[str, Any]) -> None:
        if not records:
            records.append(record)
            raise end
        records.append(record)

    log = Log(sink=sink)
    await pipeline([log], Scripted(["ok"], repeat=True)).run_many([ASK] * 2)
    assert log.flush(30)
    assert len(records) == 2
    assert log.health()["failed"] == 1


async def test_a_sink_that_logs_itself_does_not_recurse() -> None:
    """Fault row 49: what a sink brings about itself is dropped and counted, and it never waits."""
    records: list[dict[str, Any]] = []
    flushed: list[bool] = []

    def sink(record: dict[str, Any]) -> None:
        records.append(record)
        log.write(record)
        flushed.append(log.flush(60))

    log = Log(sink=sink)
    pipe = pipeline([log], Scripted(["ok", "ok"]))
    for count in (1, 2):
        await ask(pipe)
        assert log.flush(30)
        assert len(records) == count
    assert flushed == [False, False]
    assert log.health()["dropped"] == 2
    assert records[1]["dropped"] == 1


async def test_closing_waits_for_what_is_queued() -> None:
    """The last records of a program are not lost."""
    kept = Kept()
    pipe = pipeline([kept.log], Scripted(["ok"], repeat=True))
    await pipe.run_many([ASK] * 50)
    await pipe.aclose()
    assert len(kept.records) == 50


def test_layers_that_write_to_one_place_share_a_thread() -> None:
    """A layer made for each request does not start a thread for each."""
    assert Log()._writer is Log()._writer
    assert Log()._writer is not Log(queue=7)._writer


def test_records_survive_the_end_of_the_process_and_a_fork() -> None:
    """At exit what is queued is written; a forked child writes its own records and no others."""
    code = """if True:
        import os, sys, anyio, warnings
        warnings.simplefilter("ignore")
        from lamella import ChatRequest, ChatResponse, Pipeline
        from lamella_middlewares.log import Log
        async def good(request):
            return ChatResponse.of("ok")
        pipeline = Pipeline([Log()], good)
        anyio.run(pipeline.run, ChatRequest.of("x", model="parent"))
        child = os.fork() if hasattr(os, "fork") else None
        if child == 0:
            anyio.run(pipeline.run, ChatRequest.of("x", model="child"))
            Log().flush(30)
            os._exit(0)
        if child:
            os.waitpid(child, 0)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    models = sorted(json.loads(line)["model"] for line in done.stderr.splitlines())
    assert models == (["child", "parent"] if hasattr(os, "fork") else ["parent"])


async def test_a_forked_child_waits_for_no_record_of_its_parent() -> None:
    """Closing a layer there takes no second: nobody is there who would write them."""
    entered, release = threading.Event(), threading.Event()

    def stuck(_: object) -> None:
        entered.set()
        release.wait(60)

    writer = Writer(stuck, 10)
    writer.put({"number": 0})
    writer.put({"number": 1})
    assert entered.wait(30)
    began = anyio.current_time()
    _begin_anew()  # what a child does first
    await writer.aflush(60)
    assert writer.queued == 0
    assert anyio.current_time() - began < 1
    release.set()


def test_the_thread_ends_when_there_is_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """And another begins with the next record."""
    monkeypatch.setattr("lamella._writers.IDLE_SECONDS", 0.001)
    records: list[Any] = []
    writer = Writer(records.append, 10)
    for number in range(3):
        writer.put({"number": number})
        thread = writer._thread
        assert writer.flush(30)
        assert thread is not None
        thread.join(5)
        assert not thread.is_alive()
    assert [record["number"] for record in records] == [0, 1, 2]


async def _async_sink(record: Any) -> None: ...


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"format": "xml"}, "'json'"),
        ({"level": "loud"}, "'warning'"),
        ({"sample": 2}, "from 0 to 1"),
        ({"queue": 0}, "1 or more"),
        ({"content": "no"}, "True or False"),
        ({"keep_errors": 1}, "True or False"),
        ({"sink": "syslog"}, "'stderr'"),
        ({"sink": 3}, "text stream"),
        ({"sink": _async_sink}, "cannot be awaited"),
    ],
)
def test_wrong_options_are_refused_when_they_are_made(options: Any, words: str) -> None:
    """The message names the option and what to give."""
    with pytest.raises(ConfigurationError, match=words):
        Log(**options)
