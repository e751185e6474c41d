"""Random scripts of model turns: whatever a model asks for, each call is answered exactly once."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tool_turns import ASK, asks, pipeline, sent, whole

from lamella import ToolCall, ToolLimitError, ToolResult, answered
from lamella.testing import Scripted, run_virtual
from lamella_middlewares import Tools
from lamella_middlewares.tools import ToolFailed, tool

pytestmark = pytest.mark.anyio

MAX_STEPS = 4
KINDS = ("good", "slow", "broken", "declines", "again", "unknown")
ARGUMENTS = ('{"number":%d}', '{"number":"%d"}', '{"numb%d', "[%d]", "", '{"number":%d,"more":1}')


class World:
    """Tools that remember how often each of their calls was run."""

    def __init__(self) -> None:
        self.ran: Counter[tuple[str, int]] = Counter()
        self.running = self.most = 0

    async def _work(self, name: str, number: int, seconds: float) -> str:
        self.ran[name, number] += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await anyio.sleep(seconds)
        finally:
            self.running -= 1
        return f"{name} {number}"

    async def good(self, number: int) -> str:
        """Works."""
        return await self._work("good", number, 0.5)

    async def slow(self, number: int) -> str:
        """Takes longer than it may."""
        return await self._work("slow", number, 50)

    async def broken(self, number: int) -> str:
        """Fails."""
        await self._work("broken", number, 0.1)
        raise ValueError(number)

    async def declines(self, number: int) -> str:
        """Fails, and says why."""
        await self._work("declines", number, 0.1)
        raise ToolFailed("no")

    async def again(self, number: int) -> str:
        """May be tried again."""
        await self._work("again", number, 0.1)
        raise ConnectionError

    def layer(self, **options: Any) -> Tools:
        """All of them."""
        again = tool(self.again, idempotent=True, retries=1)
        functions = [self.good, self.slow, self.broken, self.declines, again]
        return Tools(functions, max_steps=MAX_STEPS, timeout=2, concurrency=2, **options)


@st.composite
def turns(draw: st.DrawFn) -> list[Any]:
    """What a model says in each turn; numbers tell the calls apart."""
    script: list[Any] = []
    number = 0
    for _ in range(draw(st.integers(0, MAX_STEPS + 1))):
        calls: list[ToolCall] = []
        for kind in draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4)):
            number += 1
            arguments = draw(st.sampled_from([*ARGUMENTS[:1] * 4, *ARGUMENTS[1:]]))
            text = arguments % number if "%d" in arguments else arguments
            identity = draw(st.sampled_from([f"c{number}"] * 4 + ["same", ""]))
            calls.append(ToolCall(identity, kind, text))
        reason = draw(st.sampled_from(["tool_calls"] * 6 + ["stop", "length", "content_filter"]))
        script.append(asks(*calls, reason=reason))
    return [*script, "Done."]


async def play(
    world: World, script: list[Any], options: dict[str, Any], seconds: float, *, stream: bool
) -> None:
    """One answer, cancelled after some seconds; then what has to hold."""
    transport = Scripted([*script, *["More."] * MAX_STEPS])
    pipe = pipeline(world.layer(**options), transport)
    messages: Any = None
    response: Any = None
    with anyio.move_on_after(seconds), suppress(ToolLimitError):
        if stream:
            async with pipe.stream(ASK) as response:
                await response.collect()
        else:
            response = await pipe.run(ASK)
            messages = response.messages
    if messages is None and response is not None:
        messages = response.partial.messages  # cancelled while tools ran: the model takes no time
    requests = sent(transport)
    assert whole(requests)
    assert len(requests) <= MAX_STEPS
    assert transport.open_sources == 0
    if messages is not None:
        assert answered(messages)
        calls = [one.id for message in messages for one in message.tool_calls]
        parts = [part for message in messages for part in message.parts]
        assert calls == [part.call_id for part in parts if isinstance(part, ToolResult)]
    assert world.most <= 2
    assert world.running == 0
    for (name, _), times in world.ran.items():
        assert times <= (2 if name == "again" else 1)


@settings(max_examples=25)
@given(
    script=turns(),
    options=st.sampled_from([{}, {"on_limit": "raise"}, {"max_seconds": 3}]),
    seconds=st.sampled_from([0.05, 0.6, 1.3, 2.5, 1000]),
    stream=st.booleans(),
    backend=st.sampled_from(["asyncio", "trio"]),
)
def test_each_call_is_answered_once_whatever_a_model_asks_for(
    script: list[Any], options: dict[str, Any], seconds: float, *, stream: bool, backend: Any
) -> None:
    """Good and bad calls, slow and failing tools, at a limit or cancelled; nothing runs twice."""

    async def scenario() -> None:
        await play(World(), script, options, seconds, stream=stream)

    run_virtual(scenario, backend=backend)
