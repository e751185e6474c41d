"""Values of sources are kept, renewed ahead of their end, asked for once, and used on in need."""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import Registry, Secret, SecretError
from lamella._ports import default_ports
from lamella._registry import using
from lamella._revealed import MOST_VALUES, Revealed
from lamella._secret_values import (
    ASK_SECONDS,
    CALM_SECONDS,
    PATIENCE_SECONDS,
    REFUSED_PATIENCE_SECONDS,
    Flight,
    SourcedValue,
    Terms,
)
from lamella._secrets import revealed_values
from lamella.testing import run_virtual, virtual_ports

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(lamella_virtual_backend: tuple[str, dict[str, Any]]) -> Any:
    """Both event loops, in virtual time."""
    return lamella_virtual_backend


class Source:
    """A source that gives numbered values, each after `seconds`, or fails with what it is told."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.asked = 0
        self.same: str | None = None
        self.failure: BaseException | None = None

    async def __call__(self, rest: str) -> str:
        self.asked += 1
        number = self.asked
        await anyio.sleep(self.seconds)
        if self.failure is not None:
            raise self.failure
        return self.same or f"{rest}-value-{number}"


class World:
    """A registry with one source, and a clock."""

    def __init__(self) -> None:
        self.source = Source()
        self.ports = virtual_ports()

    async def fetch(self, secret: Secret) -> str:
        return await secret.fetch(ports=self.ports)

    async def settle(self) -> None:
        await anyio.sleep(0.001)


@pytest.fixture
def world() -> Iterator[World]:
    """A world whose source answers `own:`."""
    world, registry = World(), Registry([])
    registry.add(secret_sources={"own": world.source})
    with using(registry):
        yield world


async def test_a_value_is_kept_for_its_time(world: World) -> None:
    """One request serves all secrets with the same reference until its time has ended."""
    first, second = Secret("own:a", ttl=100), Secret("own:a", ttl=100)
    assert [await world.fetch(first) for _ in range(5)] == ["a-value-1"] * 5
    assert await world.fetch(second) == "a-value-1"
    assert await world.fetch(Secret("own:b", ttl=100)) == "b-value-2"
    await anyio.sleep(60)
    assert (await world.fetch(first), world.source.asked) == ("a-value-1", 2)


async def test_a_value_is_renewed_ahead_of_its_end(world: World) -> None:
    """From 70 to 90 % of its time on, one caller has it renewed, and nobody waits for that."""
    world.source.seconds = 2
    secret = Secret("own:a", ttl=100)
    await world.fetch(secret)
    await anyio.sleep(90)
    before = world.ports.monotonic()
    assert {await world.fetch(secret) for _ in range(3)} == {"a-value-1"}
    assert world.ports.monotonic() == before
    await anyio.sleep(2.1)
    assert (await world.fetch(secret), world.source.asked) == ("a-value-2", 2)


async def test_many_ask_once(world: World) -> None:
    """However many wait, the source gets one request, and all get its answer."""
    world.source.seconds = 5
    found: list[str] = []

    async def ask() -> None:
        found.append(await world.fetch(Secret("own:a")))

    async with anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(ask)
    assert (found, world.source.asked) == (["a-value-1"] * 100, 1)


async def test_who_gives_up_takes_nothing_from_the_others(world: World) -> None:
    """The first who asks is cancelled, and the request goes on for the others."""
    world.source.seconds = 5
    found: list[str] = []

    async def ask(patience: float) -> None:
        with anyio.move_on_after(patience):
            found.append(await world.fetch(Secret("own:a")))

    async with anyio.create_task_group() as group:
        group.start_soon(ask, 1)
        await anyio.sleep(0.5)
        group.start_soon(ask, 60)
        group.start_soon(ask, 60)
    assert (found, world.source.asked) == (["a-value-1"] * 2, 1)


async def test_a_failure_is_everybodys_for_a_second(world: World) -> None:
    """Without a value all who wait get the error, each its own; then the source is asked again."""
    world.source.failure = RuntimeError("token sk-very-secret")
    world.source.seconds = 1
    caught: list[SecretError] = []

    async def ask() -> None:
        with pytest.raises(SecretError, match=r"Secret\('own:a'\) failed with RuntimeError") as it:
            await world.fetch(Secret("own:a"))
        caught.append(it.value)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(ask)
    await ask()
    assert (len({id(error) for error in caught}), world.source.asked) == (4, 1)
    assert all(error.elsewhere and "secret " not in str(error) for error in caught)
    await anyio.sleep(1)
    world.source.failure = None
    assert await world.fetch(Secret("own:a")) == "a-value-2"


async def test_an_earlier_value_is_used_while_the_source_fails(world: World) -> None:
    """It is used for `stale_for` seconds, the source is left in peace, and `problem` says why."""
    secret = Secret("own:a", ttl=10, stale_for=100)
    await world.fetch(secret)
    world.source.failure = RuntimeError()
    await anyio.sleep(11)
    assert [await world.fetch(secret) for _ in range(10)] == ["a-value-1"] * 10
    assert world.source.asked == 2
    assert "failed with RuntimeError" in str(secret.problem)
    await anyio.sleep(CALM_SECONDS)
    assert (await world.fetch(secret), world.source.asked) == ("a-value-1", 3)
    await anyio.sleep(100)
    with pytest.raises(SecretError, match="failed with RuntimeError"):
        await world.fetch(secret)
    await anyio.sleep(CALM_SECONDS)
    world.source.failure = None
    assert (await world.fetch(secret), secret.problem) == ("a-value-5", None)


async def test_a_source_that_hangs_costs_a_second(world: World) -> None:
    """With an earlier value nobody waits longer than that, and who comes later not at all."""
    secret = Secret("own:a", ttl=10)
    await world.fetch(secret)
    world.source.seconds = 10_000
    await anyio.sleep(11)
    start = world.ports.monotonic()
    assert await world.fetch(secret) == "a-value-1"
    assert world.ports.monotonic() - start == pytest.approx(PATIENCE_SECONDS)
    start = world.ports.monotonic()
    assert await world.fetch(secret) == "a-value-1"
    assert (world.ports.monotonic() - start, world.source.asked) == (0, 2)
    await anyio.sleep(ASK_SECONDS)
    assert "did not answer in 30 s" in str(secret.problem)
    with pytest.raises(SecretError, match="did not answer in 30 s") as caught:
        await world.fetch(Secret("own:b"))
    assert caught.value.retryable


async def test_a_secret_that_is_gone_is_not_used_on(world: World) -> None:
    """A source that answers that there is no such secret any more has not failed."""
    secret = Secret("own:a", ttl=10)
    await world.fetch(secret)
    world.source.failure = SecretError("It was deleted.", code="gone")
    await anyio.sleep(11)
    with pytest.raises(SecretError, match=r"It was deleted\."):
        await world.fetch(secret)
    world.source.failure = SecretError("Not allowed.")
    with pytest.raises(SecretError) as caught:
        await world.fetch(Secret("own:b"))
    assert caught.value.elsewhere  # another target may have another key


async def test_a_refused_value_is_asked_for_at_once(world: World) -> None:
    """After `invalidate` the next caller waits for the source, and gets what it says now."""
    secret = Secret("own:a")
    value = await world.fetch(secret)
    secret.invalidate(value, ports=world.ports)
    assert await world.fetch(secret) == "a-value-2"
    secret.invalidate(value, ports=world.ports)  # of the one before: somebody was slow
    assert (await world.fetch(secret), world.source.asked) == ("a-value-2", 2)
    secret.invalidate(ports=world.ports)
    assert await world.fetch(secret) == "a-value-3"
    Secret("own:never").invalidate()


async def test_a_confirmed_value_is_not_asked_for_all_the_time(world: World) -> None:
    """A flood of refusals of a value that the source confirms is one request in five seconds."""
    world.source.same = "not rotated"
    secret = Secret("own:a")
    await world.fetch(secret)
    for _ in range(20):
        secret.invalidate("not rotated", ports=world.ports)
        assert await world.fetch(secret) == "not rotated"
    assert world.source.asked == 2
    await anyio.sleep(CALM_SECONDS)
    secret.invalidate("not rotated", ports=world.ports)
    await world.fetch(secret)
    assert world.source.asked == 3


async def test_what_was_asked_before_the_refusal_says_nothing(world: World) -> None:
    """A request that was under way when the value was refused is not taken for an answer to it."""
    world.source.same = "old value"
    secret = Secret("own:a", ttl=100)
    await world.fetch(secret)
    world.source.seconds = 3
    await anyio.sleep(95)
    assert await world.fetch(secret) == "old value"  # and a renewal has begun
    await world.settle()
    secret.invalidate("old value", ports=world.ports)
    await anyio.sleep(2.999)
    world.source.same = None
    assert await world.fetch(secret) == "a-value-3"


async def test_a_refused_value_is_used_on_in_need(world: World) -> None:
    """If the source fails then, the refused value is better than none."""
    secret = Secret("own:a")
    value = await world.fetch(secret)
    world.source.failure = RuntimeError()
    secret.invalidate(value, ports=world.ports)
    assert await world.fetch(secret) == value


async def test_a_source_that_hangs_costs_a_refused_value_five_seconds(world: World) -> None:
    """Then the refused value is used on: whoever sends it hears from the provider."""
    secret = Secret("own:a")
    value = await world.fetch(secret)
    world.source.seconds = 10_000
    secret.invalidate(value, ports=world.ports)
    start = world.ports.monotonic()
    assert await world.fetch(secret) == value
    assert world.ports.monotonic() - start == pytest.approx(REFUSED_PATIENCE_SECONDS)


async def test_worlds_do_not_mix(world: World) -> None:
    """A value that another clock calls fresh is none here, even of the same secret."""
    secret, other = Secret("own:a"), virtual_ports()
    assert await world.fetch(secret) == "a-value-1"
    assert await secret.fetch(ports=other) == "a-value-2"
    assert await world.fetch(secret) == "a-value-1"
    secret.invalidate(ports=world.ports)
    assert await secret.fetch(ports=other) == "a-value-2"
    assert await world.fetch(secret) == "a-value-3"


async def test_a_source_whose_work_is_cancelled_has_failed(world: World) -> None:
    """A source that passes on the cancellation of its own work is not asked without end."""
    import asyncio

    world.source.failure = asyncio.CancelledError()
    with pytest.raises(SecretError, match=r"(was cancelled whenever|failed with CancelledError)"):
        await world.fetch(Secret("own:a"))
    assert world.source.asked <= 3


async def test_plain_sources_run_where_they_may_block(world: World) -> None:
    """A plain function is run by the thread port, and what it gives may be awaitable."""
    threads: list[str] = []

    async def thread(function: Callable[..., Any], /, *args: Any) -> Any:
        threads.append(getattr(function, "__name__", ""))
        return function(*args)

    def plain(rest: str) -> str:
        return f"{rest}-value\n"

    def indirect(rest: str) -> Awaitable[str]:
        return world.source(rest)

    registry = Registry([])
    registry.add(secret_sources={"plain": plain, "indirect": indirect, "own": world.source})
    ports = virtual_ports()
    object.__setattr__(ports, "thread", thread)
    with using(registry):
        assert await Secret("plain:a").fetch(ports=ports) == "a-value"
        assert await Secret("indirect:a").fetch(ports=ports) == "a-value-1"
        assert await Secret("own:a").fetch(ports=ports) == "a-value-2"
    assert threads == ["plain", "indirect"]


@pytest.mark.parametrize("failure", [SystemExit(1), GeneratorExit(), Exception()])
async def test_whatever_a_source_raises_is_its_failure(
    world: World, failure: BaseException
) -> None:
    """A source that raises what ends programs ends none."""
    world.source.failure = failure
    with pytest.raises(SecretError, match=f"failed with {type(failure).__name__}"):
        await world.fetch(Secret("own:a"))


@pytest.mark.parametrize("answer", ["", "\n", None, 5, b"bytes", "x" * (1 << 20) + "x"])
async def test_values_are_text_of_a_bounded_size(world: World, answer: Any) -> None:
    """What is no text, empty or longer than a mebibyte is a failure."""

    async def wrong(_: str) -> Any:
        return answer

    registry = Registry([])
    registry.add(secret_sources={"wrong": wrong})
    with using(registry), pytest.raises(SecretError, match=r"gave (no text|more than 1048576)"):
        await world.fetch(Secret("wrong:a"))


async def test_a_source_of_ones_own_is_exchanged(world: World) -> None:
    """A program that registers another source gets its values, not those of the one before."""
    secret = Secret("own:a", ttl=1)
    assert await world.fetch(secret) == "a-value-1"
    other = Source()
    other.same = "another"
    registry = Registry([])
    registry.add(secret_sources={"own": other})
    with using(registry):
        assert await world.fetch(Secret("own:a")) == "another"
        await anyio.sleep(2)
        assert await world.fetch(secret) == "another"
    with using(Registry([], allow=[])):
        assert await world.fetch(secret) == "another"  # without a source, what there is


# --- threads, loops, processes -----------------------------------------------------------------


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_loops_and_threads_ask_together(backend: str) -> None:
    """Event loops in several threads share one request."""
    gate, asked = threading.Event(), threading.Semaphore(0)
    count: list[str] = []

    def slow(rest: str) -> str:
        count.append(rest)
        asked.release()
        gate.wait(10)
        return "shared value"

    value, found = SourcedValue(slow, "own:a", default_ports().monotonic), list[str]()

    def run() -> None:

        found.append(anyio.run(value.fetch, Terms(300, 0), default_ports(), backend=backend))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert asked.acquire(timeout=10)
    while True:
        flight = value._flight
        if flight is not None and len(flight.waiting) == len(threads):
            break
    gate.set()
    for thread in threads:
        thread.join(10)
    assert (found, count) == (["shared value"] * 8, ["a"])


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_loop_that_ends_leaves_nobody_waiting(backend: str) -> None:
    """A request that ends with its loop is made again by the next who asks."""
    source = Source(seconds=5)
    value = SourcedValue(source, "own:a", virtual_ports().monotonic)

    async def briefly() -> None:
        with anyio.move_on_after(1):
            await value.fetch(Terms(300, 0), virtual_ports())

    async def whole() -> str:
        return await value.fetch(Terms(300, 0), virtual_ports())

    run_virtual(briefly, backend=backend)
    assert run_virtual(whole, backend=backend) == "a-value-2"


async def test_a_question_that_is_lost_is_asked_again(world: World) -> None:
    """Nobody waits for ever for a thread that has vanished, nor asks without end."""
    value = SourcedValue(world.source, "own:a", world.ports.monotonic)
    value._flight = Flight(world.ports.monotonic(), 0, None)
    assert await value.fetch(Terms(300, 0), world.ports) == "a-value-1"
    assert world.ports.monotonic() >= ASK_SECONDS


async def test_a_fork_asks_for_itself(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child does not wait for a request that only its parent can finish."""
    world.source.seconds = 5
    secret = Secret("own:a")
    with anyio.move_on_after(1):
        await world.fetch(secret)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert await world.fetch(secret) == "a-value-2"


def test_plain_code_asks_plain_sources() -> None:
    """`reveal` asks in place, keeps the value, and uses an earlier one while the source fails."""
    answers: list[Any] = ["value-1", "value-2"]

    def plain(_: str) -> str:
        return str(answers.pop(0))

    registry = Registry([])
    registry.add(secret_sources={"plain": plain})
    with using(registry):
        secret = Secret("plain:a")
        assert (secret.reveal(), secret.reveal()) == ("value-1", "value-1")
        secret.invalidate("value-1")
        assert secret.reveal() == "value-2"
        secret.invalidate()
        assert secret.reveal() == "value-2"
        assert "failed with IndexError" in str(secret.problem)


# --- any order of events -----------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.sampled_from([0.5, 2.0, 7.0, 20.0])),
        st.tuples(st.sampled_from(["refuse", "fail", "mend", "rotate"]), st.just(0.0)),
        st.tuples(st.just("fetch"), st.just(0.0)),
    ),
    min_size=6,
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, ttl=st.sampled_from([0.0, 1.0, 9.0]), stale_for=st.sampled_from([0.0, 8.0]))
def test_a_value_is_never_older_than_allowed(
    steps: list[tuple[str, float]], ttl: float, stale_for: float
) -> None:
    """Whatever happens, a value was current within `ttl`, or `stale_for` more if asking fails."""

    async def play() -> None:
        ports, source = virtual_ports(), Source()
        value, terms = SourcedValue(source, "own:a", ports.monotonic), Terms(ttl, stale_for)
        source.same, ended = "value 0", dict[str, float]()
        number = 0
        for what, seconds in steps:
            if what == "wait":
                await anyio.sleep(seconds)
            elif what == "fail":
                source.failure = RuntimeError()
            elif what == "mend":
                source.failure = None
            elif what == "rotate":
                ended[source.same or ""] = ports.monotonic()
                number += 1
                source.same = f"value {number}"
            elif what == "refuse":
                value.invalidate(source.same, ports.monotonic())
            else:
                try:
                    found = await value.fetch(terms, ports)
                except SecretError:
                    assert source.failure is not None or value.problem is not None
                    continue
                age = ports.monotonic() - ended.get(found, ports.monotonic())
                assert age <= ttl + (stale_for if value.problem is not None else 0) + 1e-6

    run_virtual(play)


# --- what has been revealed --------------------------------------------------------------------


def test_revealed_values_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """What any secret has given is known to whoever searches logs for it; short words are not."""
    monkeypatch.setenv("LAMELLA_TEST_KEY", "a-value-of-its-own")
    Secret("env:LAMELLA_TEST_KEY").reveal()
    Secret.of_value("another-value-of-its-own").reveal()
    Secret.of_value("short77").reveal()
    unused = Secret.of_value("never revealed")
    known = revealed_values()
    assert {"a-value-of-its-own", "another-value-of-its-own"} <= set(known)
    assert not {"short77", "never revealed"} & set(known)
    Secret("env:LAMELLA_TEST_KEY").reveal()
    assert revealed_values() is known
    assert unused.reveal() in revealed_values()


def test_what_is_known_is_bounded() -> None:
    """The oldest are forgotten, and what is too long is not kept."""
    revealed = Revealed()
    for number in range(MOST_VALUES + 5):
        revealed.add(f"value number {number}")
    revealed.add("x" * 20_000)
    assert len(revealed.all()) == MOST_VALUES
    assert revealed.all()[0] == "value number 5"
    revealed.add("value number 0")
    assert revealed.all()[-1] == "value number 0"
