"""The first layers together: order, parity, and nothing left behind wherever one cancels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from lamella import (
    ChatRequest,
    ConnectError,
    Finish,
    Outcome,
    Pipeline,
    RateLimitError,
    Request,
    Usage,
    UsageReport,
)
from lamella.testing import Scripted, each_step, virtual_ports
from lamella_middlewares.cost import Cost
from lamella_middlewares.deadline import Deadline
from lamella_middlewares.log import Log
from lamella_middlewares.retry import Retry
from lamella_middlewares.timeout import Timeout
from lamella_middlewares.watch import Watch

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("hello", model="m")
USED = Usage(uncached_input=10, text_output=3)
SCRIPT: list[Any] = [
    ConnectError("x"),
    RateLimitError("busy", status=429, retry_after=1),
    ["one ", 0.1, "two ", "three", UsageReport(USED), Finish("stop")],
]


class Stack:
    """All first layers, and what they have seen."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.traces: list[Any] = []
        self.seen: list[Any] = []
        self.log = Log(sink=self.records.append)
        self.transport = Scripted(SCRIPT)
        layers: list[Any] = [
            Deadline(60),
            self.log,
            Watch(on_request=lambda request: self.traces.append(request.context.trace),
                  on_event=self.seen.append),
            Retry(),
            Timeout(),
            Cost({"m": {"input": "1", "output": "4"}}),
        ]  # fmt: skip
        self.pipeline = Pipeline(layers, self.transport, ports=virtual_ports())

    async def ask(self, *, stream: bool) -> Any:
        """The complete response, run or streamed."""
        if not stream:
            return await self.pipeline.run(ASK)
        async with self.pipeline.stream(ASK) as response:
            return await response.collect()

    async def check(self) -> None:
        """What holds however a call ended."""
        assert self.log.flush(5)
        assert self.transport.open_sources == 0
        assert (await self.pipeline.health()).running == 0
        assert len(self.records) == len(self.traces)
        for trace in self.traces:
            assert trace.finished
            for attempt in trace.attempts:
                assert attempt.outcome is not None
                assert attempt.cost is not None
            assert not [note for note in trace.notes if note.layer == "core"]


async def test_streamed_and_not_give_the_same() -> None:
    """The same events, attempts, waits, usage and cost, and records that differ in one word."""
    found: list[Any] = []
    for stream in (False, True):
        stack = Stack()
        response = await stack.ask(stream=stream)
        await stack.check()
        (record,) = stack.records
        assert record.pop("stream") is stream
        attempts = [
            attrs.evolve(one, committed=False, start=0, end=0, first_event=0)
            for one in response.trace.attempts
        ]
        times = {"at", "duration", "time_to_first_event"}
        rest = {name: value for name, value in record.items() if name not in times}
        found.append((response.text, response.events, stack.seen, attempts, response.cost, rest))
    assert found[0] == found[1]
    assert found[0][0] == "one two three"
    assert [one.outcome for one in found[0][3]] == [
        Outcome.NOT_SENT,
        Outcome.FAILED,
        Outcome.COMPLETE,
    ]


@pytest.mark.parametrize("by_task", [False, True])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("stream", [False, True])
def test_cancelled_at_every_step_nothing_is_left(backend: str, stream: bool, by_task: bool) -> None:
    """Fault rows 31 and 32: once, and again during the clean-up."""

    def make() -> tuple[Callable[[], Any], Callable[[], Any]]:
        stack = Stack()
        return (lambda: stack.ask(stream=stream)), stack.check

    assert each_step(make, backend=backend, again=(1, 2), by_task=by_task) > 5


def test_any_order_given_is_arranged_as_documented() -> None:
    """Observers outside, Cost innermost."""
    layers: list[Any] = [
        Cost(), Timeout(), Retry(), Watch(on_event=print), Log(sink=print), Deadline(1),
    ]  # fmt: skip
    arranged = Pipeline.arrange(layers, Scripted(["ok"]))
    names = [info.name for info in arranged.infos]
    assert names == ["deadline", "log", "watch", "retry", "timeout", "cost"]
    assert not arranged.doubts


async def test_layers_do_not_touch_what_is_asked() -> None:
    """The transport gets the caller's request but for its context."""
    stack = Stack()
    await stack.ask(stream=False)
    sent: list[Request[Any]] = stack.transport.requests
    assert len(sent) == 3
    assert all(request == ASK for request in sent)
