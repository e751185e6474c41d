"""An offered load: calls arrive when they arrive, whether or not earlier ones have been answered.

The provider's process draws the arrivals (`benchmarks.arrivals`) and sends one byte for each; the
contender begins a call for each byte. Latency counts from the instant at which a call was to begin,
so that what waits in a process that is behind is counted: no coordinated omission. Standard
library only.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from benchmarks.arrivals import arrivals
from benchmarks.figures import percentile
from benchmarks.prompts import fresh_prompts
from benchmarks.turns import Caller, Opener

WARM: Final = 32
PATIENCE: Final = 1.5
"""Seconds after the last arrival, when those that are left are given up."""


async def load(opener: Opener, url: str, *, rate: float, seconds: float, seed: int = 1) -> Any:
    """Answer arrivals at a rate; what was answered within the time, and the latencies.

    Args:
        opener: The contender.
        url: The provider.
        rate: Calls a second, on the average, at times drawn at random.
        seconds: How long they arrive.
        seed: Of the arrivals.

    Returns:
        `offered` and `answered` calls a second (those that were answered before the last one was
        to begin), milliseconds of latency (`p50`, `p90`, `p99`), `failed` calls, `left` those given
        up, and the share of a core that the process took, `busy`.
    """
    due = arrivals(rate, seconds, seed)
    port = int(url.rsplit(":", 1)[1].partition("/")[0])
    async with opener(url) as caller:
        prompts = fresh_prompts()
        await asyncio.gather(*[caller.answer(next(prompts)) for _ in range(WARM)])
        run = _Run(caller, due)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET /arrivals/{rate}/{seconds}/{seed} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        run.start = float(await reader.readline())
        spent = time.process_time()
        while run.begun < len(due):
            run.begin(len(await reader.read(4096)))
        writer.close()
        busy = (time.process_time() - spent) / seconds
        if run.tasks:
            _, left = await asyncio.wait(run.tasks, timeout=PATIENCE)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
    return {**run.report(seconds), "busy": busy}


class _Run:
    """What has begun, and how long it took."""

    def __init__(self, caller: Caller, due: list[float]) -> None:
        self._caller = caller
        self._due = due
        self._prompts = fresh_prompts()
        self._ended: list[tuple[float, float]] = []
        self._failed = 0
        self.begun = 0
        self.start = 0.0
        self.tasks: set[asyncio.Future[None]] = set()

    def begin(self, count: int) -> None:
        """So many calls have arrived."""
        if not count:
            raise ConnectionError("the provider stopped sending arrivals: is it still there?")
        for _ in range(count):
            task = asyncio.ensure_future(self._call(self._due[self.begun]))
            self.begun += 1
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _call(self, due: float) -> None:
        try:
            await self._caller.answer(next(self._prompts))
        except Exception:  # noqa: BLE001 - counted, and the report says so
            self._failed += 1
        else:
            now = time.monotonic() - self.start
            self._ended.append((now, now - due))

    def report(self, seconds: float) -> dict[str, Any]:
        """The figures."""
        latencies = sorted(latency for _, latency in self._ended)
        # What is never answered waits for ever: it counts among the slowest.
        left = len(self._due) - len(latencies)
        latencies += [seconds + PATIENCE] * left
        return {
            "offered": len(self._due) / seconds,
            "answered": sum(1 for at, _ in self._ended if at <= seconds) / seconds,
            **{f"p{part}": percentile(latencies, part) * 1e3 for part in (50, 90, 99)},
            "failed": self._failed,
            "left": left - self._failed,
        }
