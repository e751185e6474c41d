"""Debug: each call told once it is over, without its texts, and never in the way."""

from __future__ import annotations

import io
import math
import threading
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from inline_snapshot import snapshot

from lamella import (
    ChatRequest,
    ChatResponse,
    ConfigurationError,
    Context,
    EmbeddingRequest,
    EmbeddingResponse,
    Finish,
    LamellaError,
    Message,
    Outcome,
    Pipeline,
    RateLimitError,
    Reading,
    ServerError,
    ToolCall,
    Usage,
)
from lamella.testing import Scripted, each_step, virtual_ports
from lamella_middlewares.circuit_breaker import CircuitBreaker
from lamella_middlewares.concurrency import Concurrency
from lamella_middlewares.cost import Cost
from lamella_middlewares.deadline import Deadline
from lamella_middlewares.debug import Debug
from lamella_middlewares.pii import PII
from lamella_middlewares.rate_limit import RateLimit
from lamella_middlewares.retry import Retry

pytestmark = pytest.mark.anyio

CANARY = "canary-7f3a"
ASK = ChatRequest.of(
    [
        Message.system(f"Serve {CANARY}."),
        Message.user(
            [f"I am {CANARY}.", {"type": "image_url", "image_url": {"url": "https://x/y"}}]
        ),
        Message.assistant(ToolCall("c1", "look_up", f'{{"who": "{CANARY}"}}')),
        Message.tool("c1", f"Found {CANARY}."),
    ],
    model="m",
    temperature=0.5,
    stop=[CANARY],
    extra={"metadata": {"owner": CANARY}},
    context=Context(tenant="acme", user=CANARY, session=CANARY),
)
USED = Usage(uncached_input=1000, text_output=200)
PRICES = {"m": {"input": "1", "output": "4"}}


class Told:
    """A layer, and what it has told."""

    def __init__(self, **options: Any) -> None:
        self._texts: list[str] = []
        self.debug = Debug(sink=self._texts.append, **options)

    @property
    def texts(self) -> list[str]:
        """All reports so far."""
        assert self.debug.flush(30)
        return self._texts


def pages_in(folder: Path) -> list[Path]:
    """The pages in a folder, oldest first."""
    return sorted(folder.iterdir())


def shown_in(folder: Path) -> str:
    """All pages in a folder as one text."""
    return "".join([page.read_text("utf-8") for page in pages_in(folder)])


def pipeline(layers: list[Any], transport: Any) -> Pipeline:
    """A pipeline with a clock, ids and stores of its own."""
    return Pipeline(layers, transport, ports=virtual_ports())


async def ask(pipe: Pipeline, *, stream: bool = False, request: Any = ASK) -> Any:
    """The complete response, run or streamed."""
    if not stream:
        return await pipe.run(request)
    async with pipe.stream(request) as response:
        return await response.collect()


# --- what is told -----------------------------------------------------------------------------


async def test_a_call_is_drawn_and_described() -> None:
    """Layers with their times, the request and the answer in outline, what layers say of them."""
    told = Told()
    answer = ChatResponse.of(f"Hello {CANARY}", usage=USED, model="m-1")
    steps: list[Any] = [RateLimitError(f"busy with {CANARY}", status=429, retry_after=1), answer]
    layers = [Deadline(60), told.debug, Retry(jitter="none"), CircuitBreaker(), Cost(PRICES)]
    await ask(pipeline(layers, Scripted(steps, gap=0.5)), stream=True)
    (text,) = told.texts
    assert text == snapshot("""\
call 00000000  complete  2.58 s  1000 tokens in, 200 out  $0.0018
  deadline                  ===============---------   2.58 s
    debug                   ===============---------   2.58 s
      retry                 ===============---------   2.58 s
        circuit_breaker     =                            0 us  raised RateLimitError
          -> scripted       =                            0 us  failed, 429, RateLimitError, $0
            cost            =                            0 us  raised RateLimitError
        wait                ..........                 1.08 s  reason=rate_limited  error=RateLimitError  status=429  retry_after=1
        circuit_breaker               =====---------   1.50 s
          -> scripted /try2           =====---------   1.50 s  complete, first event after 500.0 ms, $0.0018
            cost                      =====---------   1.50 s
  asked       what: chat, streamed, model m, tenant acme
              options: extra (1), temperature=0.5, stop (1)
              system: text 18 characters
              user: text 17 characters, image by reference
              assistant: tool_call 22 characters
              tool: tool_result (text 18 characters)
  answer      ended: complete stop
              model: m-1
              provider: scripted
              events: 1 TextDelta of 17 characters, 1 UsageReport, 1 Finish
  own time    deadline: 0 us of 1.58 s
              debug: 0 us of 1.58 s
              retry: 1.08 s of 1.58 s
              circuit_breaker: 0 us of 500.0 ms, in 2 passes
              cost: 500.0 ms of 500.0 ms, in 2 passes
  state       circuit_breaker: well
              circuit_breaker: scripted m: state=0
""")  # noqa: E501 - as it is told


@pytest.mark.parametrize("stream", [False, True])
async def test_no_text_of_anybody_is_told(tmp_path: Path, stream: bool) -> None:
    """Neither prompts, answers, names of users nor what errors say: in texts and on pages."""
    told = Told(pages=tmp_path)
    steps: list[Any] = [f"Hello {CANARY}", ServerError(f"no {CANARY}", status=500), [CANARY]]
    pipe = pipeline([told.debug], Scripted(steps))
    for _ in steps:
        try:
            await ask(pipe, stream=stream)
        except LamellaError:
            continue
    assert len(told.texts) == len(pages_in(tmp_path)) == 3
    assert CANARY not in "".join(told.texts)
    assert CANARY not in shown_in(tmp_path)
    assert "ServerError status=500" in told.texts[1]


async def test_content_is_what_the_redacting_layer_shows(tmp_path: Path) -> None:
    """With `content=True`, masked; without such a layer it is said that there is none."""
    request = ChatRequest.of("I am ada@example.com", model="m", context=Context(tenant="acme"))
    for layers, expected in (([PII()], "I am ⟦EMAIL_"), ([], "no layer of this pipeline redacts")):
        told = Told(content=True, pages=tmp_path)
        await ask(pipeline([told.debug, *layers], Scripted(["ok"])), request=request)
        (text,) = told.texts
        assert expected in text
        assert "ada@example.com" not in text
        assert "ada@" not in shown_in(tmp_path)


async def test_other_operations_are_told_too() -> None:
    """An outline has each option by its size, whatever the operation."""

    async def embed(request: EmbeddingRequest) -> EmbeddingResponse:
        return EmbeddingResponse.of([[1.0]] * len(request.inputs))

    told = Told()
    await pipeline([told.debug], embed).run(EmbeddingRequest.of([CANARY, "b"], model="e"))
    assert "what: embedding" in told.texts[0]
    assert "inputs (2)" in told.texts[0]
    assert CANARY not in told.texts[0]


async def test_secrets_in_notes_are_not_told(tmp_path: Path) -> None:
    """What a stranger's layer notes goes through the scrubber."""

    async def careless(request: Any, call_next: Any) -> Any:
        request.context.note("careless", "careless.key", api_key="hunter2hunter2", well="\x1b[2J")
        return await call_next(request)

    told = Told(pages=tmp_path)
    await ask(pipeline([told.debug, careless], Scripted(["ok"])))
    for text in (told.texts[0], shown_in(tmp_path)):
        assert "careless.key" in text
        assert "hunter2" not in text
        assert "\x1b" not in text


async def test_limits_and_queues_are_told_as_they_stand() -> None:
    """How full each limit is, of the layers inside; one that fails to say is told as such."""

    class Broken(Retry):
        def health(self) -> bool:
            raise ZeroDivisionError

        def readings(self, ports: Any) -> list[Any]:
            raise ZeroDivisionError

    told = Told()
    layers = [told.debug, Broken(), RateLimit(requests=10), Concurrency(3)]
    await ask(pipeline(layers, Scripted(["ok"])))
    state = told.texts[0].partition("state ")[2]
    assert "retry: unwell  error=ZeroDivisionError" in state
    assert "retry: failed to say how full it is: ZeroDivisionError" in state
    assert "available=9  limit=10  waiting=0" in state
    assert "concurrency: " in state
    assert "limit=3" in state


async def test_the_numbers_of_a_thousand_limits_hold_no_loop_up() -> None:
    """They are asked for by the thread that tells them; what is no number harms no report."""
    asked: list[threading.Thread] = []

    class Crowded(Retry):
        def readings(self, ports: Any) -> list[Any]:
            asked.append(threading.current_thread())
            return [Reading("retry", "left", one, f"limit {one}") for one in range(1000)]

    class Wrong(Retry):
        def readings(self, ports: Any) -> list[Any]:
            return ["full"]

    for layer, expected in ((Crowded(), "and 990 more"), (Wrong(), "failed to say how full it is")):
        told = Told()
        await ask(pipeline([told.debug, layer], Scripted(["ok"])))
        assert f"retry: {expected}" in told.texts[0]
    assert len(asked) == 1
    assert asked[0] is not threading.current_thread()


@pytest.mark.parametrize(
    ("slower_than", "expected"), [(None, 3), (0, 3), (1.0, 2), (math.nextafter(5, 6), 1)]
)
async def test_only_slow_and_failed_calls_where_that_is_wanted(
    slower_than: float | None, expected: int
) -> None:
    """`slower_than` leaves out what was quick and went well."""
    told = Told(slower_than=slower_than)
    for transport in (
        Scripted(["quick"], gap=0.01),
        Scripted(["slow"], gap=2),
        Scripted([ServerError("x", status=500)]),
    ):
        try:
            await ask(pipeline([told.debug], transport))
        except ServerError:
            continue
    assert len(told.texts) == expected


# --- once, and of the whole call --------------------------------------------------------------


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("stream", [False, True])
def test_cancelled_at_any_step_there_is_one_report_for_each_call(
    backend: str, stream: bool
) -> None:
    """Of a call that was begun, however it ends."""

    def make() -> tuple[Any, Any]:
        told, begun = Told(), list[str]()

        async def count(request: Any, call_next: Any) -> Any:
            begun.append(request.context.call_id)
            return await call_next(request)

        transport = Scripted([["one", 0.1, "two", Finish("stop")]])
        pipe = pipeline([told.debug, count, Retry()], transport)

        async def check() -> None:
            assert len(told.texts) == len(begun)

        return partial(ask, pipe, stream=stream), check

    assert each_step(make, backend=backend) > 2


async def test_a_pipeline_inside_tells_of_nothing_twice() -> None:
    """One report of the whole call, by the outermost; the layers inside stand inside."""
    told, inner = Told(), Told()
    inside = pipeline([inner.debug, Retry()], Scripted(["ok"], gap=1))
    await ask(pipeline([told.debug, Deadline(5)], inside))
    assert inner.texts == []
    (text,) = told.texts
    lines = [line for line in text.splitlines() if "====" in line]
    assert [len(line) - len(line.lstrip()) for line in lines] == [2, 4, 6, 8, 10]
    assert lines[3].split()[0] == "retry"


async def test_a_pipeline_inside_that_is_tried_again_tells_once() -> None:
    """One report of the whole call, also where only pipelines inside of it tell of calls."""
    told = Told()
    flaky = Scripted([ServerError("x", status=500), "ok"])
    await ask(pipeline([Retry(jitter="none")], pipeline([told.debug], flaky)))
    (text,) = told.texts
    assert text.count("->") == 2
    assert "ended: complete stop" in text


async def test_a_call_that_a_layer_begins_is_told_as_one_of_its_own() -> None:
    """It has a trace of its own, so nobody else tells of it; what is detached is not told."""
    outer, inner = Told(), Told()
    inside = pipeline([inner.debug], Scripted(["ok"] * 2))

    async def calls(request: Any, call_next: Any) -> Any:
        await inside.run(request)
        detached = request.detach("refresh")
        await inside(detached)
        await detached.context.call.close(Outcome.COMPLETE)
        return await call_next(request)

    await ask(pipeline([outer.debug, calls], Scripted(["ok"])))
    assert (len(outer.texts), len(inner.texts)) == (1, 1)


async def test_many_calls_at_once_have_a_report_each() -> None:
    """None is lost, and none is mixed with another."""
    told = Told()
    pipe = pipeline([told.debug], Scripted(["ok"] * 50, gap=0.1))
    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(ask, pipe)
    assert len(told.texts) == 50
    assert all(text.count("->") == 1 for text in told.texts)


async def test_layers_are_timed_only_where_somebody_wants_to_know() -> None:
    """A pipeline with the layer keeps spans in each call; one without does not."""
    for layers, timed in (([Told().debug], True), ([], False)):
        response = await ask(pipeline([*layers, Deadline(5)], Scripted(["ok"])))
        assert bool(response.trace.spans) is timed


# --- never in the way -------------------------------------------------------------------------


async def test_a_sink_that_fails_or_blocks_harms_no_call() -> None:
    """What it raises is counted; while it blocks, calls go on, and the oldest reports go."""
    entered, release = threading.Event(), threading.Event()
    texts: list[str] = []

    def stuck(text: str) -> None:
        entered.set()
        release.wait(60)
        texts.append(text)
        raise OSError

    debug = Debug(sink=stuck, queue=1)
    pipe = pipeline([debug], Scripted(["ok"] * 4))
    await ask(pipe)
    entered.wait(30)
    for _ in range(3):
        assert (await ask(pipe)).text == "ok"
    release.set()
    assert debug.flush(30)
    assert debug.health() == {
        "queued": 0, "written": 0, "dropped": 2, "failed": 2, "error": "OSError",
    }  # fmt: skip
    assert "dropped: 2 reports before this one" in texts[1]


async def test_pages_are_kept_up_to_a_number(tmp_path: Path) -> None:
    """The oldest go; what else is in the folder stays."""
    folder = tmp_path / "made" / "here"
    told = Told(pages=str(folder), keep=3)
    pipe = pipeline([told.debug], Scripted(["ok"] * 5, gap=1))
    await ask(pipe)
    assert len(told.texts) == 1
    (folder / "notes.html").write_text("mine")
    for _ in range(4):
        await ask(pipe)
    named = [text.partition("page: ")[2].strip() for text in told.texts]
    assert [str(path) for path in pages_in(folder)] == [*named[-3:], str(folder / "notes.html")]
    assert shown_in(folder).count("<!doctype html>") == 3


async def test_a_page_that_cannot_be_written_is_told_and_counted(tmp_path: Path) -> None:
    """The text comes all the same."""
    told = Told(pages=tmp_path / "gone" / "pages")
    (tmp_path / "gone").write_text("a file")
    await ask(pipeline([told.debug], Scripted(["ok"])))
    assert "page: could not be written" in told.texts[0]
    assert told.debug.health()["failed"] == 1


async def test_a_call_beyond_all_calendars_is_told_without_its_page(tmp_path: Path) -> None:
    """Whatever keeps a page from being made, the text comes."""
    told = Told(pages=tmp_path)
    pipe = Pipeline([told.debug], Scripted(["ok"]), ports=virtual_ports(epoch=1e15))
    await ask(pipe)
    assert "page: could not be written: ValueError" in told.texts[0]
    assert told.debug.health()["failed"] == 1


async def test_it_writes_to_streams(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard error unless said otherwise; what a stream cannot say is escaped."""
    raw = io.BytesIO()
    narrow = io.TextIOWrapper(raw, encoding="ascii")
    for debug in (Debug(), Debug(sink=narrow)):
        await ask(pipeline([debug], Scripted(["ok"])), request=ChatRequest.of("x", model="grün"))
        await debug.aclose()
    assert "model grün" in capsys.readouterr().err
    assert b"model gr\\xfcn" in raw.getvalue()


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"sink": "sterr"}, "'stderr', 'stdout'"),
        ({"sink": 5}, "a plain function of the text"),
        ({"pages": 5}, "the path of a folder"),
        ({"pages": __file__}, "the path of a folder"),
        ({"keep": 0}, "a whole number, 1 or more"),
        ({"slower_than": -1}, "seconds"),
        ({"content": "no"}, "True or False"),
        ({"queue": 0}, "a whole number, 1 or more"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], wanted: str) -> None:
    """When the layer is made, with what to give instead."""
    with pytest.raises(ConfigurationError, match=wanted):
        Debug(**options)
