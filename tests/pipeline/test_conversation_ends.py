"""Turns that are cut off at any point: what is kept, saved, and free again."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from lamella import (
    BusyError,
    ClosedError,
    Conversation,
    ConversationRecord,
    Finish,
    Message,
    MisuseError,
    Pipeline,
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
            assert (
                roles in ([], whole) if kind != "stream, partial" else roles == whole[: len(roles)]
            )
            kept = () if store.kept is None else store.kept.entries
            assert kept == talking.entries
            assert model.open_sources == 0

        return scenario, check

    by_task = backend == "asyncio by task"
    assert each_step(make, backend=backend.partition(" ")[0], by_task=by_task) > 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_in_the_middle_of_a_turn_leaves_the_child_free() -> None:
    """The turn is the parent's: in the child nobody would ever end it."""
    talking = Conversation(Pipeline([], Scripted(["a"])))
    with talking.alone():
        with pytest.raises(BusyError):
            talking.undo()
        child = os.fork()
        if child == 0:
            os._exit(talking.busy)
        assert os.waitpid(child, 0)[1] == 0
    assert not talking.busy


async def test_a_pipeline_that_closes_ends_the_turn() -> None:
    """Said or streamed: nothing is added, and nobody stays in the way."""
    for streamed in (False, True):
        pipeline = Pipeline([], Scripted([["a", 5.0, Finish("stop")]]), ports=virtual_ports())
        talking = Conversation(pipeline)

        async def ask(talking: Conversation = talking, streamed: bool = streamed) -> None:
            with pytest.raises(ClosedError):
                if not streamed:
                    await talking.say("hello")
                else:
                    async with talking.say_stream("hello") as response:
                        await response.collect()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await anyio.sleep(1)
            await pipeline.aclose()
        assert (talking.messages, talking.busy) == ((), False)


async def test_an_answer_that_cannot_stand_comes_with_the_error() -> None:
    """It was paid for."""
    calls = [Message.user("q"), Message("assistant", ToolCall("c1", "f", "{}"))]
    talking = Conversation(Pipeline([], Scripted(["well"]), ports=virtual_ports()), messages=calls)
    with pytest.raises(MisuseError) as caught:
        await talking.resume()
    assert caught.value.partial is not None
    assert caught.value.partial.text == "well"


def test_of_many_threads_each_turn_is_whole() -> None:
    """Who does not get its turn is told; the others' turns stand one after another."""
    talking = Conversation(Pipeline([], Scripted(["yes"], repeat=True)))
    told: list[str] = []

    def ask(name: str) -> None:
        for number in range(5):
            try:
                talking.say_sync(f"{name}{number}")
            except BusyError:
                continue
            told.append(f"{name}{number}")

    threads = [threading.Thread(target=ask, args=[name]) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    said = [message.text for message in talking.messages]
    assert sorted(said[::2]) == sorted(told)
    assert said[1::2] == ["yes"] * len(told)
    assert told
