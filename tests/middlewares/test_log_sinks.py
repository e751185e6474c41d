"""No sink of the layer sees a planted secret; with tracebacks, none of those in failures either."""

from __future__ import annotations

import io
import json
import logging
import threading
import time
from contextlib import suppress
from typing import Any

import anyio
import pytest

from lamella import ChatRequest, Context, Pipeline, ProviderError, Request, Secret
from lamella._writers import Writer, flush_all
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares.log import Log

pytestmark = pytest.mark.anyio

OPENAI = "sk-proj-abcdefghijklmnopqrstuvwxyz012345"
VALUE = "planted-by-type-a-revealed-value"
PLANTED = (OPENAI, VALUE)
ASK = ChatRequest.of("hi", model=f"m {OPENAI} {VALUE}", context=Context(tenant=f"t-{VALUE}"))


class Terminal(io.StringIO):
    """A stream that somebody looks at."""

    def isatty(self) -> bool:
        """It is one."""
        return True


class Sink:
    """Keeps what comes, as text."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, record: dict[str, Any]) -> None:
        self.seen.append(repr(record))

    def getvalue(self) -> str:
        return "\n".join(self.seen)


def pipeline(layers: list[Any], transport: Any) -> Pipeline:
    """A pipeline with a clock and stores of its own."""
    return Pipeline(layers, transport, ports=virtual_ports())


async def fail_planted(request: Request[Any], call_next: Any) -> Any:
    """Fail with both secrets in nested exceptions, in a note, in a field, and in a variable."""
    local = f"local {VALUE}"
    request.context.note("x", "x.noted", field=VALUE, password="hunter2", local=local)
    try:
        raise ExceptionGroup(f"group {VALUE}", [OSError(f"member {OPENAI}\n{{forged}}")])
    except ExceptionGroup as error:
        failure = ProviderError(f"failed {OPENAI}", status=500, code=VALUE, request_id=OPENAI)
        failure.add_note(f"note {VALUE}")
        raise failure from error


async def failed(**options: Any) -> None:
    """One call that fails, written."""
    Secret.of_value(VALUE).reveal()
    log = Log(level="debug", **options)
    with suppress(ProviderError):
        await pipeline([log, fail_planted], Scripted(["ok"])).run(ASK)
    assert log.flush(30)
    assert log.health()["failed"] == 0


SINKS = [
    (Sink, "auto"),
    (io.StringIO, "json"),
    (io.StringIO, "console"),
    (io.StringIO, "auto"),
    (Terminal, "auto"),
    (Terminal, "json"),
]


@pytest.mark.parametrize("tracebacks", [False, True])
@pytest.mark.parametrize(("make", "format_"), SINKS)
async def test_no_sink_sees_a_secret(make: Any, format_: Any, tracebacks: bool) -> None:
    """By type and by pattern, in facts, notes and failures."""
    sink = make()
    await failed(sink=sink, format=format_, tracebacks=tracebacks)
    shown = sink.getvalue()
    assert "ProviderError" in shown
    for secret in (*PLANTED, "hunter2"):
        assert secret not in shown
    for words in ("member", "note [removed]", "in fail_planted", "failed [removed]"):
        assert (words in shown) is tracebacks


@pytest.mark.parametrize("name", ["stderr", "stdout"])
async def test_neither_do_the_streams_of_the_process(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever they are at the moment."""
    await failed(sink=name, tracebacks=True)
    shown = getattr(capsys.readouterr(), name[3:])
    assert "member" in shown
    for secret in PLANTED:
        assert secret not in shown


async def test_a_traceback_is_one_field_of_a_record() -> None:
    """Class, message and text; the message is one line, and so is a line of JSON."""
    stream = io.StringIO()
    await failed(sink=stream, format="json", tracebacks=True)
    (line,) = stream.getvalue().splitlines()
    record = json.loads(line)
    assert record["error"] == "ProviderError"
    assert record["message"].startswith("failed [removed]")
    told = record["traceback"].splitlines()
    assert told[0] == "Traceback (most recent call last):"
    assert "  OSError: member [removed]\\x0a{forged}" in told
    assert told[-1] == "note [removed]"


async def test_no_line_of_a_traceback_can_be_taken_for_a_record() -> None:
    """On a console its lines are indented."""
    stream = io.StringIO()
    await failed(sink=stream, format="console", tracebacks=True)
    first, *rest = stream.getvalue().splitlines()
    assert "ProviderError" in first
    assert len(rest) > 5
    assert all(line.startswith("  ") or not line for line in rest)


async def test_by_default_a_record_has_the_class_of_a_failure_only() -> None:
    """A message may quote the prompt, which no scrubber knows."""
    records: list[dict[str, Any]] = []
    await failed(sink=records.append)
    (record,) = records
    assert record["error"] == "ProviderError"
    assert not {"message", "traceback"} & record.keys()


async def test_an_answer_has_no_traceback() -> None:
    """Nor has one that was cancelled."""
    records: list[dict[str, Any]] = []
    log = Log(sink=records.append, tracebacks=True)
    pipe = pipeline([log], Scripted(["ok", [float("inf")]]))
    await pipe.run(ASK)
    with anyio.move_on_after(1):
        await pipe.run(ASK)
    assert log.flush(30)
    assert [record["outcome"] for record in records] == ["complete", "cancelled"]
    assert not any("traceback" in record for record in records)


# --- fault row 49 -----------------------------------------------------------------------------


async def test_a_sink_that_blocks_for_ever_costs_requests_nothing() -> None:
    """Requests go on, the queue stays bounded however often it is flushed, drops are counted."""
    entered, held = threading.Event(), threading.Event()

    def block(record: dict[str, Any]) -> None:
        entered.set()
        held.wait()

    log = Log(sink=block, queue=10)
    pipe = pipeline([log], Scripted(["ok"], repeat=True))
    await pipe.run(ASK)
    assert entered.wait(30)
    try:
        for _ in range(20):
            await pipe.run_many([ASK] * 5)
            assert not log.flush(0)
        found = log.health()
        assert (found["queued"], found["dropped"], found["written"]) == (10, 90, 0)
        assert not log._writer._waiting
        assert not flush_all(0.05)
    finally:
        held.set()
    assert log.flush(30)
    assert log.health()["written"] == 11


def test_the_end_of_a_process_waits_for_all_stuck_sinks_together() -> None:
    """Not for one after the other."""
    held = threading.Event()
    layers = [Log(sink=lambda _: held.wait()) for _ in range(60)]
    for log in layers:
        log.write({"level": "info"})
    began = time.monotonic()
    assert not flush_all(0.2)
    assert time.monotonic() - began < 10  # one after the other it would be 12
    held.set()
    assert all(log.flush(30) for log in layers)


def test_a_flush_waits_for_the_record_under_way_too() -> None:
    """Though younger ones have been dropped, and more have come since."""
    entered, held = threading.Event(), threading.Event()

    def sink(record: Any) -> None:
        entered.set()
        held.wait(60)

    writer = Writer(sink, 2)
    writer.put({"n": 0})
    assert entered.wait(30)
    for number in range(1, 10):
        writer.put({"n": number})
    assert not writer.flush(0.01)
    held.set()
    assert writer.flush(30)
    assert (writer.written, writer.dropped) == (3, 7)


async def test_a_sink_that_logs_into_logging_and_back_does_not_recurse() -> None:
    """A handler of `logging` that brings another record about ends there."""
    program = logging.Logger("program")  # noqa: LOG001 - nobody else has it
    records: list[dict[str, Any]] = []

    class Back(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            log.write({"level": "info", "event": record.getMessage()})

    def sink(record: dict[str, Any]) -> None:
        records.append(record)
        program.info("wrote %s", record["event"])

    program.addHandler(Back())
    log = Log(sink=sink)
    await pipeline([log], Scripted(["ok"])).run(ASK)
    assert log.flush(30)
    assert len(records) == 1
    assert log.health()["dropped"] == 1
