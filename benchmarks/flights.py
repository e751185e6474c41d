"""Thousands of calls in flight before a provider that answers late: what each takes of memory.

Standard library only: this runs in the environment of every peer.
"""

from __future__ import annotations

import asyncio
import gc
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.prompts import fresh_prompts
from benchmarks.turns import Opener

WARM: Final = 50


async def flight(opener: Opener, url: str, *, calls: int, late: float, patience: float) -> Any:
    """Begin so many calls at once, and wait for all of them.

    Args:
        opener: The contender.
        url: The provider.
        calls: How many.
        late: Seconds after which the provider answers each.
        patience: Seconds after which those that are left are given up.

    Returns:
        How many were answered, how many failed and how the first of them did, how many were at the
        provider at once, the seconds that it took, and the KB of memory that each call took at the
        peak (None where the system does not say).
    """
    prompts = fresh_prompts()
    root = url.removesuffix("/v1")
    async with opener(f"{root}/late/{late}/v1") as caller:
        await asyncio.gather(*[caller.answer(next(prompts)) for _ in range(WARM)])
        gc.collect()
        await at_provider(url)
        before = _forgotten_peak()
        started = time.perf_counter()
        tasks = [asyncio.ensure_future(caller.answer(next(prompts))) for _ in range(calls)]
        _, left = await asyncio.wait(tasks, timeout=patience)
        passed = time.perf_counter() - started
        for task in left:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    failed = [one for one in ended if isinstance(one, BaseException)]
    peak = _kilobytes("VmHWM")
    return {
        "answered": len(ended) - len(failed),
        "failed": len(failed),
        "error": f"{type(failed[0]).__name__}: {failed[0]}"[:200] if failed else None,
        "at_once": await at_provider(url),
        "seconds": passed,
        "kb_each": None if before is None or peak is None else (peak - before) / calls,
    }


async def at_provider(url: str) -> int:
    """How many requests were at the provider at once since this was asked last."""
    port = int(url.rsplit(":", 1)[1].partition("/")[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /peak HTTP/1.1\r\nhost: x\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    peak = int(await reader.readline())
    writer.close()
    return peak


def _forgotten_peak() -> int | None:
    """The memory in use, from which on its peak counts anew; None where that cannot be had."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _kilobytes("VmRSS")


def _kilobytes(field: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(field + ":")), None)
