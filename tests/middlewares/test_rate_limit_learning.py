"""RateLimit: what the provider says of its limits can only lower what is let through."""

from __future__ import annotations

from typing import Any

import anyio
import attrs
import pytest

from lamella import (
    ChatRequest,
    Finish,
    Head,
    LamellaError,
    LimitedError,
    Pipeline,
    QuotaError,
    RateLimitError,
    TextDelta,
)
from lamella.testing import Scripted, ScriptedAnswer, virtual_ports
from lamella_middlewares.deadline import Deadline
from lamella_middlewares.rate_limit import RateLimit
from lamella_middlewares.retry import Retry

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("hello", model="m")


def says(headers: dict[str, str], **more: Any) -> ScriptedAnswer:
    """A good answer with these headers."""
    return ScriptedAnswer((TextDelta("ok"), Finish("stop")), head=Head(headers=headers), **more)


def openai(remaining: int, reset: str, of: str = "requests") -> dict[str, str]:
    """Headers as OpenAI and many others write them."""
    return {f"x-ratelimit-remaining-{of}": str(remaining), f"x-ratelimit-reset-{of}": reset}


class World:
    """A pipeline with one limit, and what came of its calls."""

    def __init__(self, script: list[Any], *layers: Any, **options: Any) -> None:
        self.ports = virtual_ports()
        options = {"requests": 60, **options}
        self.transport = Scripted(script)
        self.pipe = Pipeline([*layers, RateLimit(**options)], self.transport, ports=self.ports)
        self.notes: list[Any] = []

    async def ask(self) -> Exception | None:
        try:
            response = await self.pipe.run(ASK)
        except LamellaError as error:
            return error.with_traceback(None)
        self.notes += [note for note in response.trace.notes if note.name.startswith("rate_limit")]
        return None

    @property
    def now(self) -> float:
        return round(self.ports.monotonic(), 2)


async def test_less_at_the_server_is_less_here() -> None:
    """Another program has used the limit as well: after two more there is a wait."""
    world = World([says(openai(2, "58s")), *["ok"] * 3])
    for _ in range(3):
        await world.ask()
    assert world.now == 0
    assert world.notes[0].name == "rate_limit.learned"
    assert world.notes[0].fields == {
        "limit": "requests", "remaining": 2, "missing": 57, "seconds": 58.0,
    }  # fmt: skip
    await world.ask()
    assert world.now == 1.0


async def test_more_at_the_server_is_no_more_here() -> None:
    """What the provider would let through does not raise the limit that was set."""
    world = World([says(openai(10_000, "1s"))] * 70)
    for _ in range(61):
        await world.ask()
    assert world.now == 1.0
    assert [note.name for note in world.notes] == ["rate_limit.waited"]


async def test_it_holds_until_the_reset() -> None:
    """Then the local count is as if nothing had been said."""
    world = World([says(openai(0, "5s")), *["ok"] * 80], per=3600)
    await world.ask()
    await anyio.sleep(5.1)
    for _ in range(59):
        await world.ask()
    assert world.now == 5.1


async def test_many_answers_that_say_the_same_count_once() -> None:
    """A hundred in flight hear of the same shortage; it is held back once."""
    world = World(["never"], requests=100)
    left = iter(range(49, -51, -1))

    async def slow(request: Any) -> Any:
        remaining = max(0, next(left))
        return says(openai(remaining, "60s"), delay=5.0)

    world.transport = Scripted([slow], repeat=True)
    world.pipe = Pipeline([RateLimit(requests=100)], world.transport, ports=world.ports)
    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(world.ask)
    learned = [note.fields["missing"] for note in world.notes if note.name.endswith("learned")]
    assert sum(learned) == 50


async def test_slow_answers_are_compared_with_their_own_time() -> None:
    """What flowed back while an answer took its time is no shortage."""
    world = World(["never"], requests=10, per=10)
    left = iter(range(9, -1, -1))

    def slow(request: Any) -> Any:
        return says(openai(next(left), "10s"), delay=30.0)

    world.transport = Scripted([slow], repeat=True)
    world.pipe = Pipeline([RateLimit(requests=10, per=10)], world.transport, ports=world.ports)
    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(world.ask)
    assert world.notes == []


@pytest.mark.parametrize(
    "headers",
    [
        {"anthropic-ratelimit-requests-remaining": "1",
         "anthropic-ratelimit-requests-reset": "2025-01-01T00:01:00Z"},
        {"x-ratelimit-remaining": "1", "x-ratelimit-reset": "60"},
        {"ratelimit-remaining": "1", "ratelimit-reset": "60"},
    ],
)  # fmt: skip
async def test_it_reads_the_dialects(headers: dict[str, str]) -> None:
    """Anthropic's instants, plain seconds, the drafts of the IETF."""
    world = World([says(headers), "ok", "ok"])
    for _ in range(2):
        await world.ask()
    assert world.now == 0
    await world.ask()
    assert world.now == 1.0


@pytest.mark.parametrize(
    "headers",
    [
        openai(1, "soon"),
        openai(1, "-5"),
        openai(1, "0"),
        {"x-ratelimit-remaining-requests": "1"},
        {"x-ratelimit-remaining-requests": "few", "x-ratelimit-reset-requests": "5s"},
        {"x-ratelimit-remaining-requests": "nan", "x-ratelimit-reset-requests": "5s"},
        {"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "inf"},
    ],
)
async def test_what_makes_no_sense_changes_nothing(headers: dict[str, str]) -> None:
    """Junk in a header neither stops nor opens anything."""
    world = World([says(headers), "ok", "ok", "ok"])
    for _ in range(4):
        await world.ask()
    assert (world.now, world.notes) == (0, [])


async def test_tokens_are_learnt_too() -> None:
    """Each limit listens to the header of its own kind."""
    headers = {**openai(59, "1s"), **openai(0, "60s", of="tokens")}
    world = World([says(headers), "ok"], tokens=60_000, output_estimate=1000)
    await world.ask()
    await world.ask()
    assert world.notes[0].fields["limit"] == "tokens"
    assert 0 < world.now <= 1.1


async def test_a_throttle_pauses_the_key_until_its_hint() -> None:
    """Nobody is sent into a limit that the provider has said is reached."""
    world = World([RateLimitError("x", status=429, retry_after=7), *["ok"] * 3])
    assert isinstance(await world.ask(), RateLimitError)
    await world.ask()
    assert world.now == 7.0
    await world.ask()
    assert world.now == 7.0


async def test_a_throttle_without_a_hint_pauses_for_a_second() -> None:
    """Long enough not to hammer, short enough to find out."""
    world = World([RateLimitError("x", status=429), "ok"])
    await world.ask()
    await world.ask()
    assert world.now == 1.0


async def test_a_throttle_in_the_middle_of_a_stream_counts_as_well() -> None:
    """The answer has begun, and still the provider has said no."""
    broken = ScriptedAnswer((TextDelta("a"), RateLimitError("x", status=429, retry_after=3)))
    world = World([broken, "ok"])
    with pytest.raises(RateLimitError):
        async with world.pipe.stream(ASK) as response:
            await response.collect()
    await world.ask()
    assert world.now == 3.0


async def test_a_pause_longer_than_the_deadline_is_refused_at_once() -> None:
    """The error has the hint of the provider."""
    script = [RateLimitError("x", status=429, retry_after=40), "ok"]
    world = World(script, Deadline(10))
    await world.ask()
    error = await world.ask()
    assert isinstance(error, LimitedError)
    assert error.retry_after == pytest.approx(40)
    assert "asked for a pause" in str(error)
    assert world.now == 0


async def test_an_absurd_hint_pauses_for_an_hour_at_most() -> None:
    """Then one request finds out."""
    world = World([RateLimitError("x", status=429, retry_after=1e12), "ok"])
    await world.ask()
    await world.ask()
    assert world.now == 3600.0


async def test_an_empty_account_is_no_throttle() -> None:
    """Waiting does not fill it."""
    world = World([QuotaError("x", status=429, retry_after=60), "ok"])
    await world.ask()
    await world.ask()
    assert world.now == 0


async def test_retry_and_the_limit_wait_once() -> None:
    """A retry that has waited for the hint finds the pause over."""
    world = World([RateLimitError("x", status=429, retry_after=5), "ok"], Retry())
    await world.ask()
    assert 5.0 <= world.now <= 5.6


async def test_a_quota_does_not_listen_unless_told_to() -> None:
    """What a provider says is about the provider's limit, not the tenant's."""
    script = [RateLimitError("x", status=429, retry_after=7), says(openai(0, "50s")), "ok"]
    world = World(script, phase="govern")
    for _ in range(3):
        await world.ask()
    assert world.now == 0
    told = World([script[0], "ok"], phase="govern", learn=True)
    await told.ask()
    await told.ask()
    assert told.now == 7.0


class Far:
    """A lease store that another process uses as well: it suspends."""

    immediate = False

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._inner, name)

        async def far(*args: Any, **options: Any) -> Any:
            await anyio.sleep(0.001)
            return await operation(*args, **options)

        return far


async def test_processes_that_hear_the_same_hold_it_back_once() -> None:
    """With a shared store the shortage that one has held back is not held back by another."""
    far = Far(virtual_ports().stores.leases)
    layer = RateLimit(requests=60, per=1e9, max_wait=0)
    worlds = [World([says(openai(10 - n, "1h"), delay=1.0), *["ok"] * 20]) for n in range(2)]
    for number, world in enumerate(worlds):
        ports = virtual_ports(seed=number)
        ports = attrs.evolve(ports, stores=attrs.evolve(ports.stores, leases=far))
        world.pipe = Pipeline([layer], world.transport, ports=ports)
    async with anyio.create_task_group() as group:
        for world in worlds:
            group.start_soon(world.ask)
            await anyio.sleep(0.1)
    await anyio.sleep(0.5)
    errors = [await worlds[0].ask() for _ in range(12)]
    assert [error is None for error in errors] == [True] * 9 + [False] * 3
    for world in worlds:
        await world.pipe.aclose()
