"""Several processes on one server, written as their programs would be."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from itertools import pairwise

from redis_peers import Valkey

PROGRAM = """
import sys
import anyio
from lamella import ChatRequest, DeadlineExceeded, LimitedError, Pipeline
from lamella.testing import Scripted
from lamella_middlewares import Deadline, RateLimit

backend, url, count, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
request = ChatRequest.of("hi", model="m")
refused = 0

async def ask(pipeline):
    global refused
    try:
        await pipeline.run(request)
    except (LimitedError, DeadlineExceeded):
        refused += 1

async def main():
    provider = Scripted(["ok"], repeat=True)
    limit = RateLimit(requests=100, per=2, strict=True)
    layers = [Deadline(seconds), limit]
    stores = {"leases": {"use": "redis", "url": url, "outage": "deny", "timeout": 60.0}}
    async with Pipeline(layers, provider, stores=stores) as pipeline:
        await pipeline.ports.stores.leases.store.health()
        print("ready", flush=True)
        sys.stdin.readline()
        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(ask, pipeline)
    print(len(provider.requests), refused, flush=True)

anyio.run(main, backend=backend)
"""

GRANTED = re.compile(rb'^\+(\d+\.\d+) .*"HSET" "[^"]*:lease:[^"]*" "state" "held"', re.MULTILINE)


class Watch:
    """What a server is told, from now on, with the instants on its own clock."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.sendall(b"MONITOR\r\n")
        assert self._socket.recv(5) == b"+OK\r\n"

    def grants(self) -> list[float]:
        """When leases were granted."""
        with socket.create_connection(("127.0.0.1", self._port)) as other:
            other.sendall(b"ECHO the-end\r\n")
            seen = b""
            while b"the-end" not in seen[-1000:]:
                seen += self._socket.recv(1 << 16)
        self._socket.close()
        return [float(instant) for instant in GRANTED.findall(seen)]


def run_together(url: str, count: int, seconds: float) -> tuple[int, int]:
    """Let two processes ask at the same moment; how many requests were sent, and refused."""
    words = [url, str(count), str(seconds)]
    children = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, backend, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for backend in ("asyncio", "trio")
    ]
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        answers = [child.communicate(timeout=60)[0].split() for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert all(int(sent) for sent, _ in answers)
    return sum(int(sent) for sent, _ in answers), sum(int(refused) for _, refused in answers)


def test_two_processes_keep_one_limit(own_valkey: Valkey) -> None:
    """Of a burst of 300 over two processes, no two seconds see more than 100, wherever they begin.

    By the server's own record, which knows neither of the processes' clocks.
    """
    watch = Watch(own_valkey.port)
    sent, refused = run_together(own_valkey.tcp, 150, 3.6)
    instants = watch.grants()
    # At the deadline some are cut off: just granted and given back, or just sent.
    assert len(instants) >= sent > 100
    assert sent + refused >= 300
    assert all(later >= earlier for earlier, later in pairwise(instants))
    spans = [later - earlier for earlier, later in zip(instants, instants[100:], strict=False)]
    assert min(spans) >= 2.0
