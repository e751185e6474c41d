"""One turn of one contender: so many calls, and the CPU time of its process for each.

Nothing but the standard library: this module runs in the environment of every peer.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from benchmarks.prompts import fresh_prompts

Kind: TypeAlias = Literal["answer", "stream", "first"]

CHUNKS: Final = 200
ANSWER_LENGTH: Final = 100


@dataclass(frozen=True)
class Caller:
    """What a contender can do with one open client.

    Attributes:
        answer: Ask with a prompt; the text of the answer.
        stream: Ask with a prompt; each piece of text is handed over as it comes. None if this
            contender is not asked for streams.
    """

    answer: Callable[[str], Awaitable[str]]
    stream: Callable[[str, Callable[[str], object]], Awaitable[None]] | None = None


Opener: TypeAlias = Callable[[str], AbstractAsyncContextManager[Caller]]
"""Given a provider's address, a block with a client."""


@dataclass(frozen=True)
class Plan:
    """How much to measure.

    Attributes:
        rounds: How often each contender gets its turn; the median counts.
        calls: Calls in a turn; where a driver fits them to `seconds`, the most.
        concurrency: How many at once.
        kind: Whether each call gets an answer, reads a stream that comes at once, or is only
            watched until the first event of a stream has come.
        seconds: About how long a turn takes, where a driver decides about the number of calls.
    """

    rounds: int = 5
    calls: int = 400
    concurrency: int = 1
    kind: Kind = "answer"
    seconds: float = 0.4


@dataclass(frozen=True)
class Turn:
    """What one turn took, for each call, in microseconds.

    Attributes:
        cpu: CPU time of the whole process, all its threads.
        wall: Time that passed; for kind "first", the median time to the first event.
        yardstick: What a loop that never changes took just before and after: how fast the
            machine was.
        calls: How many there were.
    """

    cpu: float
    wall: float
    yardstick: float
    calls: int


def yardstick(rounds: int = 60) -> float:
    """Microseconds of CPU time of a loop of additions and multiplications."""
    started = time.process_time()
    for _ in range(rounds):
        total = 0
        for number in range(1_000):
            total += number * number
    return (time.process_time() - started) / rounds * 1e6


async def turn(opener: Opener, plan: Plan, url: str) -> Turn:
    """Open a client, connect as often as the plan needs, then measure."""
    prompts = fresh_prompts()
    async with opener(url) as caller:
        firsts: list[float] = []
        once = _checked(_once(caller, plan.kind, firsts), plan.kind)
        await _drive(once, plan.concurrency, plan.concurrency, prompts)
        firsts.clear()
        gc.collect()
        before = yardstick()
        started, clock = time.process_time(), time.perf_counter()
        await _drive(once, plan.calls, plan.concurrency, prompts)
        spent, passed = time.process_time() - started, time.perf_counter() - clock
        after = yardstick()
    wall = statistics.median(firsts) if firsts else passed / plan.calls
    return Turn(spent / plan.calls * 1e6, wall * 1e6, (before + after) / 2, plan.calls)


async def _drive(
    once: Callable[[str], Awaitable[None]], calls: int, concurrency: int, prompts: Iterator[str]
) -> None:
    left = iter(range(calls))

    async def work() -> None:
        for _ in left:
            await once(next(prompts))

    if concurrency == 1:
        await work()
        return
    await asyncio.gather(*[work() for _ in range(concurrency)])


def _once(caller: Caller, kind: Kind, firsts: list[float]) -> Callable[[str], Awaitable[Any]]:
    if kind == "answer":
        return caller.answer
    stream = caller.stream
    if stream is None:
        raise ValueError("this contender reads no streams")

    async def streamed(prompt: str) -> list[str]:
        pieces: list[str] = []
        await stream(prompt, pieces.append)
        return pieces

    async def first(prompt: str) -> list[str]:
        pieces = _Watched()
        clock = time.perf_counter()
        await stream(prompt, pieces.append)
        firsts.append(pieces.first - clock)
        return pieces

    return first if kind == "first" else streamed


class _Watched(list[str]):
    """Pieces, and when the first one with text came."""

    first = 0.0

    def append(self, piece: str) -> None:
        if not self.first and piece:
            self.first = time.perf_counter()
        super().append(piece)


def _checked(once: Callable[[str], Awaitable[Any]], kind: Kind) -> Callable[[str], Awaitable[None]]:
    """The same, and an error when it did not do the work."""
    least = ANSWER_LENGTH if kind == "answer" else CHUNKS

    async def checked(prompt: str) -> None:
        if len(await once(prompt)) < least:
            raise ValueError(f"an {kind} is shorter than {least}: what is measured is no real work")

    return checked
