"""Turns that are cut off at any point: what is kept, saved, and free again."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from lamella import (
    ChatResponse,
    ClosedError,
    Conversation,
    ConversationRecord,
    Finish,
    Message,
    MisuseError,
    Pipeline,
    StoreUnavailableError,
    ToolCall,
    answered,
)
from lamella.testing import Scripted, each_step, virtual_ports
from lamella_middlewares import Tools

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(lamella_virtual_backend: tuple[str, dict[str, Any]]) -> tuple[str, Any]:
    """Both event loops, in virtual time."""
    return lamella_virtual_backend


class SlowStore:
    """Keeps the last record, after a while; if it is cancelled meanwhile, it does not."""

    def __init__(self) -> None:
        self.kept: ConversationRecord | None = None

    async def save(self, record: ConversationRecord, /) -> None:
        """Keep it."""
        await anyio.sleep(0.1)
        self.kept = record

    async def load(
        self, session: str, /, *, tenant: str | None = None
    ) -> ConversationRecord | None:
        """What was kept."""
        return self.kept

    async def delete(self, session: str, /, *, tenant: str | None = None) -> bool:
        """Forget it."""
        self.kept = None
        return True

    async def find(self, **_: Any) -> Sequence[Any]:
        """Nothing is looked for here."""
        return ()


@pytest.mark.parametrize("kind", ["say", "stream", "stream, partial"])
@pytest.mark.parametrize("backend", ["asyncio", "asyncio by task", "trio"])
def test_cancelled_at_any_step_a_turn_is_whole_or_not_there(backend: str, kind: str) -> None:
    """No call alone, nobody in the way, and what stands is saved, tools and store included."""

    def make() -> Any:
        async def wait() -> str:
            """Wait."""
            await anyio.sleep(0.1)
            return "ok"

        calls = Message("assistant", [ToolCall(f"c{n}", "wait", "{}") for n in range(2)])
        model = Scripted([calls, "Done.", "And on."], gap=0.05)
        store = SlowStore()
        talking = Conversation(
            Pipeline([Tools([wait])], model, ports=virtual_ports()),
            store=store,
            keep_partial=kind == "stream, partial",
        )

        async def scenario() -> None:
            if kind == "say":
                await talking.say("go")
                return
            async with talking.say_stream("go") as response:
                await response.collect()

        async def check() -> None:
            assert not talking.busy
            assert answered(talking.messages)
            whole = ["user", "assistant", "tool", "tool", "assistant"]
            roles = [message.role for message in talking.messages]
            assert roles in ([], whole) if kind != "stream, partial" else roles == whole[: len(roles)]
            kept = () if store.kept is None else store.kept.entries
            assert kept == talking.entries
            assert model.open_sources == 0
            model.script[:] = ["And on."]

        return scenario, check

    by_task = backend == "asyncio by task"
    assert each_step(make, backend=backend.partition(" ")[0], by_task=by_task) > 8
