"""Where there is no summary, what was declared happens, and it is noted; nothing is lost unseen."""

from __future__ import annotations

import logging
import math
import threading
from typing import Any

import anyio
import attrs
import pytest
from kept_stores import OUT, Remote
from summaries import RECORD, World, asked, long_talk, noted

from lamella import (
    BlockedError,
    BudgetExceededError,
    ConfigurationError,
    ContentFilteredError,
    DeadlineExceeded,
    Finish,
    LimitedError,
    Message,
    Packing,
    RefusalDelta,
    ServerError,
    Size,
    SummariseError,
    ToolCall,
)
from lamella._ports import default_ports
from lamella.testing import virtual_ports
from lamella_middlewares.deadline import Deadline
from lamella_middlewares.summarise import Summarise

pytestmark = pytest.mark.anyio

HANGS = [math.inf]
SLOW = [3.0, RECORD, Finish("stop")]

FAULTS: list[tuple[Any, str]] = [
    (ServerError("x", status=500), "ServerError"),
    (RuntimeError("x"), "RuntimeError"),
    (ConfigurationError("x"), "ConfigurationError"),
    (HANGS, "not over in time"),
    ("", "it is empty"),
    ([Finish("length")], "max_output_tokens left no room for it"),
    (" \n", "it is empty"),
    ([RefusalDelta("No."), Finish("stop")], "the model declined"),
    ([RECORD, Finish("content_filter")], "it ended with 'content_filter'"),
    (ToolCall("c", "t", "{}"), "it ended with 'tool_calls'"),
    ("lamp " * 2_000, "it is longer than what it stands for"),
]


async def test_what_the_model_does_wrong_does_not_fail_the_call() -> None:
    """The oldest turns are left out, which is noted; the next call tries again."""
    for fault, why in FAULTS:
        world = World()
        world.summary = fault
        response = await world.ask()
        talk = long_talk()
        [failed] = noted(response, "failed")
        [sent] = world.sent
        assert (failed["why"], failed["otherwise"]) == (why, "sliding_window")
        assert failed["left_out"] == len(talk) - len(sent) > 0
        assert (sent[0], sent[1:]) == (talk[0], talk[-len(sent) + 1 :])
        assert sent[1].role == "user"
        world.summary = RECORD
        if why[0].islower():  # what it has answered once it would answer again
            await world.ask()
            assert len(world.written) == 1
            await anyio.sleep(30 if fault is HANGS else 600)
        await world.ask()
        assert RECORD in world.sent[-1][1].text


async def test_what_otherwise_says_is_done() -> None:
    """All of it is sent, or the call is refused before anything is."""
    world = World(otherwise="pass")
    world.summary = ServerError("x", status=500)
    response = await world.ask()
    assert world.sent == [long_talk()]
    assert noted(response, "failed")[0]["left_out"] == 0
    world = World(otherwise="raise")
    world.summary = ""
    with pytest.raises(SummariseError, match="could not be summarised: it is empty") as caught:
        await world.ask()
    assert (caught.value.why, caught.value.layer) == ("it is empty", "summarise")
    assert len(caught.value.attempts) == 1
    assert world.sent == []


async def test_an_earlier_summary_stays() -> None:
    """With what came since, or without it, as `otherwise` says."""
    ports = virtual_ports()
    for otherwise in ("sliding_window", "pass"):
        world = World(ports=ports, otherwise=otherwise)
        await world.ask(long_talk(8))
        first = world.sent[0]
        world.summary = ServerError("x", status=500)
        talk = long_talk(16)
        await world.ask(talk)
        sent = world.sent[1]
        assert sent[:2] == first[:2]
        assert sent[-1] == talk[-1]
        assert (len(sent) > 18) == (otherwise == "pass")
        assert sent[2:] == talk[-len(sent) + 2 :]
        await world.layer.clear(world.pipeline)


async def test_a_model_that_fails_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    """After five failures in a row nobody waits for it, and it is tried now and then."""
    world = World(timeout=2)
    world.summary = HANGS
    with caplog.at_level(logging.WARNING, "lamella"):
        for words in range(20, 26):
            await world.ask(long_talk(words=words))
        response = await world.ask(long_talk(words=26))
        assert noted(response, "failed")[0]["why"] == "left alone after failures"
        assert len(world.written) == 5
        assert anyio.current_time() == pytest.approx(10.0)
        health = (await world.pipeline.health()).layers["summarise"]
        assert health.well is False
        assert health.detail["error"] == "not over in time"
        world.summary = RECORD
        await anyio.sleep(30)
        await world.ask()
    assert len(world.written) == 6
    assert (await world.pipeline.health()).layers["summarise"].well is True
    assert len(caplog.records) == 2
    assert "lamp" not in caplog.text


async def test_it_takes_half_of_the_time_that_is_left() -> None:
    """The answer needs the rest; and what was too hurried says nothing of the model."""
    world = World(outer=[Deadline(4)])
    world.summary = HANGS
    for words in range(20, 26):
        response = await world.ask(long_talk(words=words))
        assert noted(response, "failed")[0]["why"] == "not over in time"
    assert anyio.current_time() == pytest.approx(12.0)
    assert (await world.pipeline.health()).layers["summarise"].well is True


async def test_what_there_was_no_time_for_is_not_begun_at_each_call() -> None:
    """Nobody waits and pays again for what cannot be ready, unless there is much more time."""
    ports = virtual_ports()
    world, patient = World(ports=ports, outer=[Deadline(4)]), World(ports=ports)
    world.summary = patient.summary = SLOW
    for _ in range(3):
        response = await world.ask()
        assert noted(response, "failed")[0]["why"] == "not over in time"
    assert len(world.written) == 1
    assert anyio.current_time() == pytest.approx(2.0)
    await anyio.sleep(30)
    await world.ask()
    assert len(world.written) == 2
    await patient.ask()
    assert RECORD in patient.sent[0][1].text
    await world.ask()
    assert len(world.written) == 2
    assert RECORD in world.sent[-1][1].text


async def test_a_child_that_minds_no_deadline_is_cut_off() -> None:
    """A layer inside that sleeps by itself holds nobody up for long."""

    async def sleeps(request: Any, call_next: Any) -> Any:
        if request.context.asked_by == "summarise":
            await anyio.sleep_forever()
        return await call_next(request)

    world = World(inner=[sleeps], timeout=2)
    response = await world.ask()
    assert noted(response, "failed")[0]["why"] == "not over in time"
    assert anyio.current_time() == pytest.approx(2.5)


async def test_a_deadline_that_has_passed_is_the_callers() -> None:
    """It is an error of the call, and not of the summary."""

    async def dawdles(request: Any, call_next: Any) -> Any:
        await request.context.ports.sleep(1)
        return await call_next(request)

    world = World(outer=[Deadline(1), dawdles])
    with pytest.raises(DeadlineExceeded):
        await world.ask()
    assert world.written == []
    assert (await world.pipeline.health()).layers["summarise"].well is True


async def test_a_callers_empty_purse_is_not_the_models_fault() -> None:
    """What a layer inside refuses is held against nobody else."""
    for refusal in (BudgetExceededError("x"), LimitedError("x")):
        world = World()
        world.summary = refusal
        for _ in range(6):
            await world.ask()
        assert len(world.written) == 6
        assert (await world.pipeline.health()).layers["summarise"].well is True


async def test_a_conversation_that_cannot_be_summarised_takes_it_from_no_other() -> None:
    """What a model declines, or what is refused for its content, says nothing of the model."""
    refusals: list[Any] = [
        [RefusalDelta("No."), Finish("stop")],
        ContentFilteredError("x", status=400),
        BlockedError("x"),
    ]
    for refusal in refusals:
        world = World()
        world.summary = refusal
        for words in (20, 21, 22, 23, 24, 24):
            await world.ask(long_talk(words=words), tenant="mallory")
        assert len(world.written) == 5
        world.summary = RECORD
        await world.ask(tenant="ada")
        assert RECORD in world.sent[-1][1].text
        assert (await world.pipeline.health()).layers["summarise"].well is True


async def test_what_is_left_of_older_results_is_told_without_a_summary_too() -> None:
    """What was replaced by a line is in the note, beside what was left out."""
    call, result = Message("assistant", [ToolCall("c", "t", "{}")]), Message.tool("c", "lamp " * 90)
    talk = long_talk(2)
    world = World(trigger=Size(tokens=330))
    world.summary = ""
    talk = (*talk[:4], call, result, *long_talk(4)[4:])
    response = await world.ask(talk)
    [failed] = noted(response, "failed")
    assert failed["strategies"] == ("drop_tool_results",)


async def test_a_summary_that_is_far_too_long_is_cut() -> None:
    """A model that minds no bound does not make the conversation too long for good."""
    world = World()
    world.summary = "lamp " * 200
    response = await world.ask()
    assert noted(response, "made")[0]["cut"]
    assert noted(response, "used")[0]["after"] <= 400
    assert 80 <= world.sent[0][1].text.count("lamp") <= 110
    assert "longer than it may be" in world.sent[0][1].text
    await world.ask()
    assert world.sent[0] == world.sent[1]


# --- at once -----------------------------------------------------------------------------------


async def test_calls_at_once_share_one_summary() -> None:
    """The first one makes it and pays; the others wait for it."""
    world = World()
    world.summary = SLOW
    responses: list[Any] = []

    async def ask() -> None:
        responses.append(await world.ask())

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(ask)
    assert len(world.written) == 1
    assert anyio.current_time() == pytest.approx(3.0)
    assert sorted(noted(one, "used")[0]["joined"] for one in responses) == [False, True, True, True]
    assert sorted(len(one.trace.attempts) for one in responses) == [1, 1, 1, 2]


async def test_a_failure_is_shared_as_well() -> None:
    """Nobody tries after another what has just failed."""
    world = World()
    world.summary = [1.0, ServerError("x", status=500)]
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(world.ask)
    assert len(world.written) == 1
    assert len(world.sent) == 3


async def test_another_one_goes_on_if_who_makes_it_is_cancelled() -> None:
    """Or runs out of its own time."""
    for hurry in (False, True):
        ports = virtual_ports()
        first = World(ports=ports, outer=[Deadline(2)] if hurry else [])
        second = World(ports=ports)
        first.summary = second.summary = SLOW
        responses: list[Any] = []

        async def ask(world: World = second, found: list[Any] = responses) -> None:
            found.append(await world.ask())

        async with anyio.create_task_group() as group:
            scope = anyio.CancelScope()

            async def leader(world: World = first, scope: anyio.CancelScope = scope) -> None:
                with scope:
                    await world.ask()

            group.start_soon(leader)
            await anyio.sleep(0.5)
            group.start_soon(ask)
            await anyio.sleep(0.2)
            if not hurry:
                scope.cancel()
        assert (len(first.written), len(second.written)) == (1, 1)
        assert RECORD in second.sent[0][1].text
        assert len(noted(responses[0], "made")) == 1
        assert first.transport.open_sources == 0


async def test_who_waits_keeps_its_own_deadline() -> None:
    """It goes on without a summary, and whoever makes it is not disturbed."""
    ports = virtual_ports()
    patient, hurried = World(ports=ports), World(ports=ports, outer=[Deadline(2)])
    patient.summary = SLOW
    async with anyio.create_task_group() as group:
        group.start_soon(patient.ask)
        await anyio.sleep(0.5)
        response = await hurried.ask()
        assert anyio.current_time() == pytest.approx(1.5)
        assert noted(response, "failed")[0]["why"] == "not over in time"
    assert RECORD in patient.sent[0][1].text
    assert hurried.written == []


async def test_a_summary_that_another_process_had_ready_is_taken() -> None:
    """Where this one's own attempt has come to nothing."""
    store = Remote()
    one, other = World(store=store), World(store=store)

    async def too_late(_: Any) -> Any:
        await other.ask()
        return ServerError("x", status=500)

    one.summary = too_late
    response = await one.ask()
    assert noted(response, "failed") == []
    assert one.sent == other.sent


async def test_event_loops_in_threads_do_not_disturb_one_another() -> None:
    """Each makes its own; what the first has kept the others find later."""
    ports = attrs.evolve(default_ports(), stores=virtual_ports().stores)
    world = World(ports=ports)
    meet = threading.Barrier(3, timeout=10)

    def writes(_: Any) -> str:
        meet.wait()
        return RECORD

    world.summary = writes
    failed: list[BaseException] = []

    async def talk() -> None:
        for words in (20, 21):
            await world.ask(long_talk(words=words))

    def run(backend: str) -> None:
        try:
            anyio.run(talk, backend=backend)
        except BaseException as error:  # noqa: BLE001 - told below
            failed.append(error)

    threads = [threading.Thread(target=run, args=[name]) for name in ("asyncio", "asyncio", "trio")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(world.written) == 6
    assert len(set(world.sent)) == 2
    other = World(ports=ports)
    await other.ask()
    assert other.written == []


# --- the store ---------------------------------------------------------------------------------


async def test_without_its_store_a_summary_is_made_once_by_a_process() -> None:
    """What the store does not take, the process keeps meanwhile."""
    store = Remote()
    store.error = OUT
    world = World(store=store)
    response = await world.ask()
    assert noted(response, "not_stored")[0]["why"] == "unavailable"
    await world.ask()
    assert len(world.written) == 1
    assert world.sent[0] == world.sent[1]
    store.error = None
    assert await world.layer.clear(world.pipeline) == 0
    await world.ask()
    assert len(world.written) == 2
    await world.pipeline.aclose()


async def test_what_the_process_keeps_itself_expires_as_well() -> None:
    """Its time to live holds wherever a summary is, and its age is told."""
    store = Remote()
    store.error = OUT
    world = World(store=store, ttl=60)
    await world.ask()
    await anyio.sleep(59)
    response = await world.ask()
    assert noted(response, "used")[0]["age"] == pytest.approx(59)
    await anyio.sleep(1)
    await world.ask()
    assert len(world.written) == 2
    store.error = None
    await world.pipeline.aclose()


async def test_a_summary_is_kept_though_its_caller_leaves() -> None:
    """It has been paid for: whoever comes next has it."""

    class Stuck(Remote):
        async def put(self, *_: Any, **__: Any) -> None:
            await anyio.sleep_forever()

    world = World(store=Stuck())
    with anyio.move_on_after(0.04):
        await world.ask()
    assert world.sent == []
    await world.ask()
    assert len(world.written) == 1
    assert RECORD in world.sent[-1][1].text
    await world.pipeline.aclose()


async def test_a_summary_expires() -> None:
    """After its time to live it is made anew."""
    ports = virtual_ports()
    world = World(ports=ports, ttl=60)
    await world.ask()
    await anyio.sleep(59)
    await world.ask()
    assert len(world.written) == 1
    await anyio.sleep(2)
    await world.ask()
    assert len(world.written) == 2
    stricter = World(ports=ports, ttl=10)
    await anyio.sleep(11)
    await stricter.ask()
    assert len(stricter.written) == 1


async def test_where_others_can_write_summaries_are_signed() -> None:
    """A key is demanded, and what was written without it is not believed."""
    with pytest.raises(ConfigurationError, match="no key"):
        Summarise(store=Remote(shared=True))
    store = Remote(shared=True)
    key = Packing(key="env:SUMMARY_KEY")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUMMARY_KEY", "k" * 32)
        world = World(store=store, packing=key)
        await world.layer.check()
        await world.ask()
        [(name, blob)] = [
            (info.key, await store.inner.get(info.key))
            for info in (await store.inner.entries()).entries
        ]
        assert blob is not None
        assert RECORD.encode() in blob.data
        await store.inner.put(name, blob.data.replace(b"4711", b"4712"))
        await world.ask()
        assert len(world.written) == 2
        await world.ask(tenant="mallory")  # a true one, in the place of another's
        [other] = {info.key for info in (await store.inner.entries()).entries} - {name}
        planted = await store.inner.get(other)
        assert planted is not None
        await store.inner.put(name, planted.data)
        await world.ask()
        assert len(world.written) == 4


async def test_what_has_no_key_is_not_summarised() -> None:
    """Half of a character, as a stream may have cut it, is in no digest."""
    world, talk = World(), list(long_talk())
    talk[1] = type(talk[1]).user("a\ud83d" + talk[1].text)
    response = await world.ask(tuple(talk))
    assert "UnicodeEncodeError" in noted(response, "failed")[0]["why"]


async def test_nothing_of_the_conversation_is_in_the_trace() -> None:
    """Counts, digests and reasons are."""
    world = World()
    response = await world.ask()
    assert "lamp" not in str([dict(note.fields) for note in response.trace.notes])
    assert asked().messages == world.sent[0][:0] + long_talk()
