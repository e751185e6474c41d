"""Who waits for a limit waits fairly, bounded, and leaves no hole behind."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import anyio
import pytest

from lamella import ClosedError, Context, DeadlineExceeded, LimitedError, Ports, Trace
from lamella._background import Background
from lamella._calls import Call
from lamella._clock import Clock
from lamella._line_order import Ticket
from lamella._lines import Line, Refused, Terms
from lamella.testing import each_step, run_virtual, virtual_backends, virtual_ports

pytestmark = pytest.mark.anyio

TERMS = Terms("limit", "limited")


@pytest.fixture(params=virtual_backends(), ids=lambda backend: f"virtual-{backend[0]}")
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Both event loops, in virtual time."""
    return request.param


def begun(ports: Ports | None = None, **fields: Any) -> Context:
    """A context as a pipeline hands it to its layers."""
    ports = ports or virtual_ports()
    trace = Trace("call", monotonic=ports.monotonic, wall=0.0)
    return Context(
        call_id="call",
        ports=ports,
        trace=trace,
        clock=Clock(ports.monotonic),
        call=Call(trace),
        background=Background(),
        **fields,
    )


class Places:
    """A number of places, and a line before them."""

    def __init__(self, count: int = 1, *, max_waiting: int = 1000, aging: float = 10.0) -> None:
        self.line = Line(max_waiting=max_waiting, aging=aging)
        self.free = count
        self.entered: list[str] = []
        self.tries = 0

    async def attempt(self) -> bool | Refused:
        self.tries += 1
        if self.free < 1:
            return Refused(limit="places")
        self.free -= 1
        return True

    def give_back(self) -> None:
        self.free += 1
        self.line.wake()

    async def visit(
        self, name: str, context: Context, *, hold: float = 1.0, terms: Terms = TERMS, **ticket: Any
    ) -> None:
        """Enter, stay a while, leave."""
        mine = Ticket(arrived=context.ports.monotonic(), **ticket)
        await self.line.enter(context, mine, self.attempt, terms)
        self.entered.append(name)
        try:
            await anyio.sleep(hold)
        finally:
            self.give_back()


async def all_at_once(*visits: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Start them in this order, at one instant."""
    async with anyio.create_task_group() as group:
        for visit in visits:
            group.start_soon(visit)
            await anyio.sleep(0.001)


# --- the line ---------------------------------------------------------------------------------


async def test_who_comes_while_nobody_waits_goes_in_at_once() -> None:
    """With room, and nobody before one, there is one try and no wait."""
    places = Places(2)
    await places.visit("a", begun(), hold=0)
    assert places.tries == 1
    assert len(places.line) == 0


async def test_they_go_in_one_by_one_in_order() -> None:
    """Each that leaves lets the next in, and only the first one tries."""
    places, context = Places(1), begun()
    names = [f"v{number}" for number in range(20)]
    await all_at_once(*[partial(places.visit, name, context) for name in names])
    assert places.entered == names
    assert len(places.line) == 0
    assert places.tries <= 3 * len(names)


async def test_a_newcomer_does_not_overtake() -> None:
    """Even if there is room at that instant, who waits already goes first."""
    places, context = Places(0), begun()
    async with anyio.create_task_group() as group:
        group.start_soon(places.visit, "first", context)
        await anyio.sleep(1)
        places.free += 1  # not announced yet
        group.start_soon(places.visit, "second", context)
        await anyio.sleep(1)
        assert places.entered == []
        places.line.wake()
    assert places.entered == ["first", "second"]


async def test_a_more_important_newcomer_tries_first() -> None:
    """It becomes the first in the line as it joins."""
    places, context = Places(0), begun()
    async with anyio.create_task_group() as group:
        group.start_soon(places.visit, "normal", context)
        await anyio.sleep(0.1)
        group.start_soon(lambda: places.visit("urgent", context, priority=5))
        await anyio.sleep(0.1)
        places.give_back()
    assert places.entered == ["urgent", "normal"]


async def test_a_cancelled_waiter_leaves_no_hole() -> None:
    """If the first gives up, the next takes its turn; what was given back is not lost."""
    places, context, scope = Places(0), begun(), anyio.CancelScope()

    async def first() -> None:
        with scope:
            await places.visit("first", context)

    async with anyio.create_task_group() as group:
        group.start_soon(first)
        await anyio.sleep(0.1)
        group.start_soon(places.visit, "second", context)
        await anyio.sleep(0.1)
        places.give_back()
        scope.cancel()  # in the same instant: the first was woken already
    assert places.entered[-1] == "second"
    assert places.free == 1
    assert len(places.line) == 0


async def test_a_wake_up_between_refusal_and_sleep_is_not_lost() -> None:
    """What is given back while the first is still being refused lets it in."""
    line, free, tries = Line(max_waiting=10), [False], []

    async def attempt() -> bool | Refused:
        tries.append(1)
        if free[0]:
            return True
        if len(tries) == 2:
            free[0] = True
            line.wake()
        await anyio.lowlevel.checkpoint()
        return Refused()

    with anyio.fail_after(1):
        assert await line.enter(begun(), Ticket(), attempt, TERMS) is True


async def test_a_refusal_that_says_when_is_tried_again_then() -> None:
    """Time alone is waited for exactly as long as it takes."""
    context = begun()
    monotonic = context.ports.monotonic
    opens = monotonic() + 7.5

    async def attempt() -> float | Refused:
        left = opens - monotonic()
        return Refused(left) if left > 0 else monotonic()

    ticket = Ticket(arrived=monotonic())
    entered = await Line(max_waiting=1).enter(context, ticket, attempt, TERMS)
    assert entered == pytest.approx(opens, abs=0.002)


async def test_a_shared_store_is_polled() -> None:
    """Where others may give back unheard, the first asks again from time to time."""
    context, tries = begun(), []

    async def attempt() -> bool | Refused:
        tries.append(context.ports.monotonic())
        return True if len(tries) > 4 else Refused(poll=0.5)

    await Line(max_waiting=1).enter(context, Ticket(), attempt, TERMS)
    assert tries[-1] - tries[1] == pytest.approx(1.5)


# --- saying no --------------------------------------------------------------------------------


async def refused(places: Places, context: Context, **options: Any) -> LimitedError:
    """The error with which a visitor is refused."""
    with pytest.raises(LimitedError) as caught:
        await places.visit("nobody", context, **options)
    assert caught.value.code == "limited"
    assert caught.value.layer == "limit"
    return caught.value


async def test_a_wait_of_zero_refuses_at_once() -> None:
    """`max_wait=0` never waits, whoever stands there."""
    places, context = Places(0), begun()
    before = context.ports.monotonic()
    error = await refused(places, context, terms=Terms("limit", "limited", max_wait=0))
    assert context.ports.monotonic() == before
    assert "max_wait" in str(error)
    assert context.trace.notes[-1].fields == {
        "why": "max_wait", "limit": "places", "retry_after": None,
    }  # fmt: skip


async def test_a_wait_that_proves_too_long_ends() -> None:
    """After `max_wait` it gives up, and the next one stands in its place."""
    places, context = Places(0), begun()
    before = context.ports.monotonic()
    await refused(places, context, terms=Terms("limit", "limited", max_wait=3))
    assert context.ports.monotonic() - before == pytest.approx(3, abs=0.01)
    assert len(places.line) == 0


@pytest.mark.parametrize("bound", ["deadline", "max_wait"])
async def test_a_wait_known_to_be_too_long_is_refused_at_once(bound: str) -> None:
    """The error says when to come back, and no time is lost."""
    ports = virtual_ports()
    until = ports.monotonic() + 5 if bound == "deadline" else None
    context = begun(ports, deadline=until)
    terms = TERMS if bound == "deadline" else Terms("limit", "limited", max_wait=5)

    async def attempt() -> bool | Refused:
        return Refused(20.0, why="the limit of 3 calls is reached")

    ticket = Ticket(arrived=ports.monotonic())
    with pytest.raises(LimitedError, match=r"limit of 3 calls is reached, room.* 20 s") as caught:
        await Line(max_waiting=9).enter(context, ticket, attempt, terms)
    assert caught.value.retry_after == 20
    assert ports.monotonic() == ticket.arrived


async def test_a_wait_predicted_to_be_too_long_is_refused_at_once() -> None:
    """Behind others it is predicted from how many they are and what they want."""
    places = Places(0)
    async with anyio.create_task_group() as group:
        for amount in (2, 3):
            group.start_soon(partial(places.visit, "x", begun(), amount=amount))
            await anyio.sleep(0.1)
        ports = virtual_ports()
        context = begun(ports, deadline=ports.monotonic() + 5)
        with pytest.raises(LimitedError) as caught:
            await places.line.enter(
                context, Ticket(arrived=ports.monotonic()), places.attempt, TERMS,
                predict=lambda tickets, amounts: float(10 * tickets + amounts),
            )  # fmt: skip
        assert caught.value.retry_after == 25
        assert len(places.line) == 2
        group.cancel_scope.cancel()


async def test_what_never_fits_is_refused_at_once() -> None:
    """It does not wait for what cannot come."""

    async def attempt() -> bool | Refused:
        return Refused(never=True, why="it wants 9 and the limit is 5", hint="Ask for less.")

    with pytest.raises(LimitedError, match=r"wants 9 and the limit is 5\. Ask for less") as caught:
        await Line(max_waiting=9).enter(begun(), Ticket(), attempt, TERMS)
    assert caught.value.retry_after is None


async def test_the_deadline_and_a_closing_pipeline_end_the_wait() -> None:
    """Where nobody could tell how long it takes, it ends when the call has to."""
    ports = virtual_ports()
    places = Places(0)
    with pytest.raises(DeadlineExceeded):
        await places.visit("x", begun(ports, deadline=ports.monotonic() + 2))
    context = begun(ports)
    async with anyio.create_task_group() as group:

        async def wait() -> None:
            with pytest.raises(ClosedError):
                await places.visit("x", context)

        group.start_soon(wait)
        await anyio.sleep(1)
        context.call.interrupt()
    assert len(places.line) == 0


async def test_a_full_line_lets_the_less_important_go() -> None:
    """A more important newcomer pushes the newest of the lowest priority out."""
    places, gone = Places(0, max_waiting=2), []
    terms = Terms("limit", "limited", max_waiting=2)

    async def visit(name: str, priority: int) -> None:
        try:
            await places.visit(name, begun(), priority=priority, terms=terms)
        except LimitedError as error:
            gone.append((name, str(error)))

    async with anyio.create_task_group() as group:
        for name, priority in (("a", 0), ("b", 0), ("c", 0), ("d", 1)):
            group.start_soon(visit, name, priority)
            await anyio.sleep(0.1)
        assert [name for name, _ in gone] == ["c", "b"]
        assert "max_waiting=2" in gone[0][1]
        assert "matters more" in gone[1][1]
        places.give_back()
    assert places.entered == ["d", "a"]


async def test_a_flood_cannot_keep_others_out_of_a_full_line() -> None:
    """Of equals the newest of the tenant that has the most waiting goes."""
    places, gone = Places(0, max_waiting=3), []

    async def visit(tenant: str) -> None:
        try:
            await places.visit(tenant, begun(), tenant=tenant)
        except LimitedError:
            gone.append(tenant)

    async with anyio.create_task_group() as group:
        for tenant in ("flood", "flood", "flood", "flood", "quiet"):
            group.start_soon(visit, tenant)
            await anyio.sleep(0.1)
        assert gone == ["flood", "flood"]
        places.give_back()
    assert places.entered == ["flood", "quiet", "flood"]


async def test_memory_is_bounded_by_the_line() -> None:
    """Ten thousand at once leave no more waiting than may, and nothing once they are gone."""
    places, gone = Places(0, max_waiting=50), list[int]()

    async def visit() -> None:
        try:
            await places.visit("x", CONTEXT)
        except LimitedError:
            gone.append(1)

    CONTEXT = begun()  # noqa: N806 - one for all: this is about the line
    async with anyio.create_task_group() as group:
        for _ in range(10_000):
            group.start_soon(visit)
        await anyio.sleep(1)
        assert len(places.line) == 50
        assert len(gone) == 9_950
        group.cancel_scope.cancel()
    assert len(places.line) == 0


# --- loops, threads, forks, steps -------------------------------------------------------------


def scenario() -> tuple[Any, Any]:
    """Three visitors one after the other; the check is that all is as before."""
    places = Places(1)

    async def run() -> None:
        context = begun()
        await all_at_once(*[partial(places.visit, str(n), context, hold=0.1) for n in range(3)])

    async def check() -> None:
        assert places.free == 1
        assert len(places.line) == 0
        with anyio.fail_after(1):
            await places.visit("later", begun(), hold=0)

    return run, check


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelled_at_each_step(backend: str) -> None:
    """Wherever it is cancelled, no place is lost and nobody stands in the line."""
    assert each_step(scenario, backend=backend, again=(1, 2)) > 8


def test_several_loops_share_one_line() -> None:
    """Two threads with asyncio and one with trio pass three places around; all get in."""
    places = Places(3)
    lock = threading.Lock()
    inside, most, done = [0], [0], [0]

    async def attempt() -> bool | Refused:
        with lock:
            if inside[0] >= 3:
                return Refused()
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            return True

    async def one(context: Context) -> None:
        ticket = Ticket(arrived=context.ports.monotonic())
        await places.line.enter(context, ticket, attempt, TERMS)
        await anyio.sleep(0.001)
        with lock:
            inside[0] -= 1
            done[0] += 1
        places.line.wake()

    async def many() -> None:
        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                for _ in range(30):
                    group.start_soon(one, begun(Ports()))

    errors: list[BaseException] = []

    def loop(backend: str) -> None:
        try:
            anyio.run(many, backend=backend)
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    threads = [
        threading.Thread(target=loop, args=(name,)) for name in ("asyncio", "trio", "asyncio")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert (done[0], inside[0], most[0]) == (90, 0, 3)
    assert len(places.line) == 0


def test_a_loop_that_was_closed_holds_nobody_up() -> None:
    """A waiter that its event loop has left behind is passed over."""
    import asyncio

    places = Places(0)
    loop = asyncio.new_event_loop()

    async def wait() -> None:
        await places.visit("left behind", begun(Ports()))

    task = loop.create_task(wait())
    loop.run_until_complete(asyncio.sleep(0.01))
    assert len(places.line) == 1
    loop.close()
    task._log_destroy_pending = False  # type: ignore[attr-defined]

    async def later() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(places.visit, "here", begun())
            await anyio.sleep(0.1)
            places.give_back()

    run_virtual(later)
    assert places.entered == ["here"]
    del task


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_finds_nobody_waiting() -> None:
    """Those who wait belong to the parent."""
    line = Line(max_waiting=5)
    line.join(Ticket())
    child = os.fork()
    if not child:
        os._exit(0 if len(line) == 0 and line.head() is None else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert len(line) == 1


@pytest.mark.parametrize(("option", "value"), [("max_waiting", -1), ("aging", 0.0)])
def test_a_wrong_bound_is_refused(option: str, value: float) -> None:
    """The message names the option and its range."""
    with pytest.raises(ValueError, match=option):
        Line(**{"max_waiting": 1, option: value})  # type: ignore[arg-type]
