"""Spend: every attempt is written down once, and no request waits for that or fails of it."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from spending import ANSWER, USED, FaultySpend, ask, spending

from lamella import (
    ChatRequest,
    ChatResponse,
    EmbeddingRequest,
    Finish,
    Money,
    Pipeline,
    RateLimitError,
    Request,
    SpendRecord,
    StoreUnavailableError,
    Usage,
)
from lamella.testing import Scripted, each_step, virtual_ports
from lamella.transports import Mock
from lamella_middlewares.hedge import Hedge
from lamella_middlewares.retry import Retry
from lamella_middlewares.single_flight import SingleFlight
from lamella_middlewares.spend import Spend

pytestmark = pytest.mark.anyio

COST = Money.of("0.0018")


async def answered(pipe: Pipeline, request: Any, *, stream: bool = False) -> Any:
    """The complete response, run or streamed."""
    if not stream:
        return await pipe.run(request)
    async with pipe.stream(request) as response:
        return await response.collect()


# --- what is written down ---------------------------------------------------------------------


async def test_a_model_of_the_transports_own_is_told() -> None:
    """Where the request names none it is the transport's own, by operation; and else the named."""
    store = FaultySpend()
    async with spending([Spend(store=store)], Mock(model="house")) as pipe:
        await pipe.run(ChatRequest.of("Hi"))
        await pipe.run(EmbeddingRequest.of(["Hi"]))
        response = await pipe.run(ChatRequest.of("Hi", model="other"))
    assert [each.model for each in await store.kept()] == ["house", "mock-embedding", "other"]
    assert [each.model for each in response.trace.attempts] == ["other"]


@pytest.mark.parametrize("stream", [False, True])
async def test_every_attempt_is_a_record(stream: bool) -> None:
    """Whose it was, what it was for, how it ended, what it took: of those that failed as well."""
    store = FaultySpend()
    transport = Scripted([RateLimitError("x", retry_after=1), ANSWER])
    who = {"tenant": "acme", "user": "ada", "session": "s-1"}
    request = ask(tags={"category": "search", "team": "web"}, **who)
    async with spending([Spend(store=store), Retry()], transport) as pipe:
        response = await answered(pipe, request, stream=stream)
    failed, good = await store.kept()
    call = response.trace.call_id
    assert [failed.id, good.id] == [f"{call}/0", f"{call}/1"]
    assert [failed.outcome, good.outcome] == ["failed", "complete"]
    assert [failed.layer, good.layer] == ["", "retry"]
    assert [failed.cost, good.cost] == [Money(0), COST]
    assert (good.usage, good.model, good.provider, good.operation) == (
        USED,
        "m",
        "scripted",
        "chat",
    )
    for record in (failed, good):
        assert {name: getattr(record, name) for name in who} == who
        assert (record.category, record.tags["team"]) == ("search", "web")
    assert good.at > failed.at + 1
    assert good.branch.endswith("try2")
    assert good.time_to_first_event is not None
    assert good.time_to_first_event <= good.duration


async def test_ids_that_are_numbers_are_texts() -> None:
    """Users, sessions and tenants come out of databases; none of it costs a record."""
    store = FaultySpend()
    pipe = spending([Spend(store=store)], Scripted([ANSWER]))
    await pipe.run(ask(user=7, session=8, tenant=9, tags={"team": 10}))
    await pipe.aclose()
    (record,) = await store.kept()
    assert (record.user, record.session, record.tenant) == ("7", "8", "9")
    assert record.tags == {"team": "10"}


async def test_losers_of_a_race_are_written_down() -> None:
    """Both copies cost something, the one that was cancelled as well."""
    store = FaultySpend()
    transport = Scripted([[10.0, "too late", Finish("stop")], ANSWER])
    async with spending([Spend(store=store), Hedge(delay=1, max_extra=1)], transport) as pipe:
        await pipe.run(ask())
    records = await store.kept()
    assert sorted(record.outcome for record in records) == ["cancelled", "complete"]
    assert {record.layer for record in records} == {"", "hedge"}
    assert all(record.cost for record in records)


async def test_detached_work_is_the_requesters() -> None:
    """A flight has a call of its own: it is written down once, for the one who began it."""
    store = FaultySpend()
    pipe = spending([Spend(store=store), SingleFlight()], Scripted([[1.0, "yes", Finish("stop")]]))
    async with pipe, anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(pipe.run, ask(tenant="acme", user="ada", tags={"team": "web"}))
    (record,) = await store.kept()
    assert record.parent_id is not None
    assert (record.user, record.tags["team"]) == ("ada", "web")


async def test_it_is_written_down_once_however_often_the_layer_stands_there() -> None:
    """Twice in one pipeline, and in one inside: the outermost writes, and says what it was for."""
    store = FaultySpend()
    inside = spending([Spend(store=store, category="inner")], Scripted([ANSWER]))
    both = [Spend(store=store, category="outer"), Spend(store=store, category="inner")]
    pipe = Pipeline(both, inside, ports=virtual_ports())
    await pipe.run(ask())
    await pipe.aclose()
    (record,) = await store.kept()
    assert record.category == "outer"
    assert store.appends == [1]


async def test_without_cost_nobody_knows_what_it_costs() -> None:
    """A missing price is no price of 0: it is counted apart."""
    spend = Spend(store=FaultySpend())
    async with Pipeline([spend], Scripted([ANSWER]), ports=virtual_ports()) as pipe:
        await pipe.run(ask())
        total = await spend.total()
    assert (total.attempts, total.unpriced, total.cost) == (1, 1, None)


def about(request: Any) -> str:
    """A function of the request."""
    return f"about {request.model}"


def refusing(request: Any) -> str:
    """A function with a mistake in it."""
    raise KeyError(request.model)


def numbering(request: Any) -> int:
    """Another mistake."""
    return 7


@pytest.mark.parametrize(
    ("category", "tagged", "noted"),
    [
        ("batch", "batch", False),
        (about, "about m", False),
        (refusing, "search", True),
        (numbering, "search", True),
    ],
)
async def test_the_program_says_what_it_was_for(category: Any, tagged: str, noted: bool) -> None:
    """A word, or a function of the request; one that fails costs nobody an answer."""
    store = FaultySpend()
    pipe = spending([Spend(store=store, category=category)], Scripted([ANSWER]))
    response = await pipe.run(ask(tags={"category": "search"}))
    await pipe.aclose()
    assert [record.category for record in await store.kept()] == [tagged]
    notes = [note.name for note in response.trace.notes]
    assert notes == ["spend.category_failed"] * noted


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelled_at_any_step_what_was_opened_is_written_down(backend: str) -> None:
    """As many records as attempts, and all of them with a cost, wherever it strikes."""

    def make() -> tuple[Callable[[], Any], Callable[[], Any]]:
        traces: list[Any] = []

        async def keep(request: Request[Any], call_next: Any) -> Any:
            traces.append(request.context.trace)
            return await call_next(request)

        store = FaultySpend()
        transport = Scripted(
            [RateLimitError("x", retry_after=1), ["one ", 0.1, "two", Finish("stop")]]
        )
        pipe = spending([keep, Spend(store=store), Retry()], transport)

        async def check() -> None:
            await pipe.aclose()
            opened = [each for trace in traces for each in trace.attempts]
            records = await store.kept()
            assert len(records) == len(opened)
            assert all(record.cost is not None for record in records)

        return lambda: answered(pipe, ask(), stream=True), check

    assert each_step(make, backend=backend) > 3


# --- when it is written -----------------------------------------------------------------------


async def test_records_are_written_together_a_moment_later() -> None:
    """Nothing is written on the way of a request; one batch a second is."""
    store = FaultySpend()
    pipe = spending([Spend(store=store)], Scripted([ANSWER] * 3))
    for _ in range(3):
        await pipe.run(ask())
    assert store.appends == []
    await anyio.sleep(1.1)
    assert store.appends == [3]
    await anyio.sleep(5)
    assert store.appends == [3]
    await pipe.aclose()
    assert store.closed == 1


@pytest.mark.parametrize("batch", [1, 2])
async def test_a_whole_batch_waits_for_nothing(batch: int) -> None:
    """As soon as there are enough, they are written; the rest waits for its time."""
    store = FaultySpend()
    spend = Spend(store=store, batch=batch, flush_interval=600)
    pipe = spending([spend], Scripted([ANSWER] * 5))
    for _ in range(5):
        await pipe.run(ask())
        await anyio.sleep(0.01)
    assert store.appends == [batch] * (5 // batch)
    await pipe.aclose()
    assert sum(store.appends) == 5


async def test_a_store_that_is_out_costs_no_request_anything(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Records wait for it; it is asked less and less often; one line says so, one that it is well.

    What it had taken without being heard counts once.
    """
    store = FaultySpend()
    spend = Spend(store=store)
    pipe = spending([spend], Scripted([ANSWER] * 4))
    store.out = True
    with caplog.at_level(logging.WARNING, "lamella"):
        for _ in range(3):
            await pipe.run(ask())
        await anyio.sleep(60)
        assert 5 <= len(store.appends) <= 9
        assert spend.health().well is False
        with pytest.raises(StoreUnavailableError):
            await spend.total()
        store.out, store.mute = False, True
        await anyio.sleep(60)
        store.mute = False
        await anyio.sleep(60)
    assert spend.health().well
    assert [record.message.count("cannot be written") for record in caplog.records] == [1, 0]
    assert "tried again" in caplog.text
    assert (await spend.total()).attempts == spend.health().detail["written"] == 3
    await pipe.aclose()


async def test_what_waits_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """The oldest go, and are counted; one line says what to do."""
    store = FaultySpend()
    spend = Spend(store=store, max_pending=2)
    store.out = True
    pipe = spending([spend], Scripted([ANSWER] * 5))
    calls = [(await pipe.run(ask())).trace.call_id for _ in range(5)]
    assert dict(spend.health().detail) | {"error": None} == {
        "pending": 2,
        "written": 0,
        "dropped": 3,
        "refused": 0,
        "error": None,
    }
    assert sum("raise max_pending" in record.message for record in caplog.records) == 1
    store.out = False
    await spend.flush()
    assert [record.call_id for record in await store.kept()] == calls[3:]


async def test_what_no_store_can_keep_goes_alone(caplog: pytest.LogCaptureFixture) -> None:
    """The others of its batch are written."""
    store = FaultySpend()
    spend = Spend(store=store)
    senseless = ChatResponse.of("no", usage=Usage(uncached_input=10**13))
    answers = [ANSWER, ANSWER, senseless, ANSWER, senseless, ANSWER]
    pipe = spending([spend], Scripted(answers))
    for _ in answers:
        await pipe.run(ask())
    await spend.flush()
    assert [record.usage for record in await store.kept()] == [USED] * 4
    assert spend.health().detail["refused"] == 2
    assert sum("no store can keep" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("fault", ["broken", "silent"])
async def test_a_store_with_a_mistake_in_it_loses_nothing(fault: str) -> None:
    """Whatever it raises, or if it says nothing: that a record is at fault is not for it to say."""
    store = FaultySpend()
    spend = Spend(store=store)
    pipe = spending([spend], Scripted([ANSWER] * 3))
    store.broken, store.delay = fault == "broken", 1000.0 * (fault == "silent")
    for _ in range(3):
        await pipe.run(ask())
    want: Any = (TypeError, "mistake") if store.broken else (StoreUnavailableError, "within 30 s")
    with pytest.raises(want[0], match=want[1]):
        await spend.total()
    assert (spend.health().well, spend.health().detail["pending"]) == (False, 3)
    store.broken, store.delay = False, 0
    await anyio.sleep(60)
    assert len(await store.kept()) == 3
    await pipe.aclose()


async def test_closing_is_bounded_and_what_is_left_is_written_at_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A store that hangs holds closing up for seconds; then the end of the process has its turn."""
    from lamella_middlewares.spend import _at_exit

    store = FaultySpend()
    store.delay = 1000
    pipe = spending([Spend(store=store)], Scripted([ANSWER]))
    await pipe.run(ask())
    began = anyio.current_time()
    await pipe.aclose()
    assert anyio.current_time() - began < 5
    assert "1 records could not be written" in caplog.text
    assert store.closed == 1
    _at_exit.write_all()
    assert len(await store.kept()) == 1


def test_at_the_end_what_cannot_be_written_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing goes without a word."""
    from lamella.testing import run_virtual
    from lamella_middlewares.spend import _at_exit

    store = FaultySpend()
    store.out = True

    async def work() -> None:
        await spending([Spend(store=store)], Scripted([ANSWER])).run(ask())

    run_virtual(work)
    _at_exit.write_all()
    assert "1 records are lost" in caplog.text
    store.out = False
    _at_exit.write_all()
    assert len(store.inner._records) == 1


def test_what_a_loop_leaves_behind_the_next_one_writes(
    anyio_backend: tuple[str, dict[str, Any]],
) -> None:
    """A program of several event loops loses nothing between them, and doubles nothing."""
    name, options = anyio_backend
    store = FaultySpend()
    pipe = spending([Spend(store=store)], Scripted([ANSWER] * 3))

    async def once(then: float) -> None:
        await pipe.run(ask())
        await anyio.sleep(then)

    for then in (0, 0, 2):
        anyio.run(once, then, backend=name, backend_options=options)
    assert len({record.id for record in store.inner._records.values()}) == 3


async def test_a_loop_that_has_ended_or_stands_still_is_not_waited_for() -> None:
    """Another one writes instead: at once if it was closed, or when it is a second late."""
    from lamella._loops import AsyncioLoop, current_loop
    from lamella_middlewares.spend._turn import Turn

    ports = virtual_ports()
    native = asyncio.new_event_loop()
    turn = Turn(AsyncioLoop(native), ports.monotonic() + 1)
    here = current_loop()
    assert not turn.lost(here, ports)
    await anyio.sleep(1.5)
    assert not turn.lost(here, ports)
    await anyio.sleep(1)
    assert turn.lost(here, ports)
    assert not turn.lost(turn.loop, ports)
    turn.due = ports.monotonic() + 1
    native.close()
    assert turn.lost(here, ports)


def test_many_loops_at_once_lose_nothing() -> None:
    """Threads with loops of their own share a store, and what one finds another may write."""
    import threading

    store = FaultySpend()
    store.delay = 0.001

    def program(backend: str) -> None:
        async def work() -> None:
            spend = Spend(store=store, flush_interval=0, batch=7)
            pipe = Pipeline([spend], Scripted([ANSWER] * 40))
            for _ in range(40):
                await pipe.run(ask())
            await spend.flush()

        anyio.run(work, backend=backend)

    threads = [threading.Thread(target=program, args=(each,)) for each in ("asyncio", "trio") * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.inner._records) == 160


def test_a_finaliser_may_bring_a_record_at_any_moment() -> None:
    """What an event loop left half done ends when the garbage is collected, here or anywhere."""
    from lamella_middlewares.spend._at_exit import let_go
    from lamella_middlewares.spend._pending import Pending

    brought: list[str] = []

    def bring(*_: Any) -> None:
        brought.append(f"{len(brought)}")
        pending.put(SpendRecord(id=brought[-1], at=0, call_id=""))

    holder: Any = object.__new__(Spend)
    pending = Pending(holder, 10**6)
    before = gc.get_threshold()
    gc.callbacks.append(bring)
    gc.set_threshold(1)
    try:
        for _ in range(20):
            bring()
            gone = pending.first(5)
            assert pending.remove(gone) == len(gone)
            assert pending.last() in brought
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(bring)
        let_go(holder)
    assert len(pending) == len(pending.first(10**6)) == len(set(brought)) - 100


async def test_old_records_go_once_a_day() -> None:
    """`keep_days`: in the background, after something was written."""
    store = FaultySpend()
    spend = Spend(store=store, keep_days=2)
    pipe = spending([spend], Scripted([ANSWER] * 4))
    for _ in range(4):
        await pipe.run(ask())
        await anyio.sleep(86_400)
    assert len(await store.kept()) == 2
    await pipe.aclose()


async def test_under_steady_load_batches_are_batches_and_old_records_go() -> None:
    """What comes while others are written waits for its own time, and forgetting has its turn."""
    store = FaultySpend()
    store.delay = 0.3
    spend = Spend(store=store, keep_days=1)
    pipe = spending([spend], Scripted([ANSWER] * 60))
    old = SpendRecord(id="old", at=pipe.ports.wall() - 2 * 86_400, call_id="old")
    store.inner.append_now([old])
    for _ in range(60):
        await pipe.run(ask())
        await anyio.sleep(0.1)
    assert len(store.appends) <= 7
    assert max(store.appends) <= 11  # none waits for longer because others are written
    assert "old" not in {record.id for record in await store.kept()}
    await pipe.aclose()
    assert len(await store.kept()) == 60


async def test_closing_ends_the_forgetting_of_old_records() -> None:
    """Nothing works with a store that has been closed."""
    store = FaultySpend()
    pipe = spending([Spend(store=store, keep_days=1, flush_interval=0)], Scripted([ANSWER]))
    await pipe.run(ask())
    await anyio.sleep(0.1)
    assert store.forgetting == 0
    store.delay = 20
    again = spending([Spend(store=store, keep_days=2, flush_interval=0)], Scripted([ANSWER]))
    await again.run(ask())
    await anyio.sleep(25)
    assert store.forgetting == 1
    await pipe.aclose()
    await again.aclose()
    await anyio.sleep(100)
    assert store.forgetting == 1  # it was broken off
    assert store.closed == 1
