"""Prometheus: what is scraped over HTTP, of one process and of several."""

from __future__ import annotations

import gzip
import math
import os
import subprocess
import sys
import textwrap
import threading
import urllib.request
from pathlib import Path
from typing import Any

import anyio
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector
from scraping import parsed

from lamella import ChatRequest, ConfigurationError, Pipeline
from lamella.testing import Scripted
from lamella_prometheus import Prometheus, metrics_app, metrics_text, serve_metrics

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("x", model="m")


def test_a_server_gives_the_metrics_until_it_is_closed(registry: CollectorRegistry) -> None:
    """In the format that is asked for."""
    Pipeline([Prometheus(registry=registry)], Scripted(["ok"])).run_sync(ASK)
    with serve_metrics(0, registry=registry) as server:
        assert server.url == f"http://127.0.0.1:{server.port}/metrics"
        assert parsed(read(server.url).decode())["lamella_requests_total"]
        assert read(server.url, Accept="application/openmetrics-text").endswith(b"# EOF\n")
        with pytest.raises(ConfigurationError, match="another port"):
            serve_metrics(server.port, registry=registry)
    server.close()
    with pytest.raises(OSError, match="refused"):
        read(server.url)


def read(url: str, **headers: str) -> bytes:
    """What is there."""
    asked = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(asked) as answer:
        body: bytes = answer.read()
    return body


class Whereabouts(Collector):
    """Remembers in which threads it was asked."""

    def __init__(self) -> None:
        self.threads: set[threading.Thread] = set()

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> list[Any]:
        self.threads.add(threading.current_thread())
        return []


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_application_gives_the_metrics(registry: CollectorRegistry, backend: str) -> None:
    """For whoever mounts it in a server of their own, whose event loop goes on meanwhile."""
    Prometheus(registry=registry)
    seen = Whereabouts()
    registry.register(seen)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def ask(kind: str, *headers: tuple[bytes, bytes]) -> None:
        scope = {"type": kind, "method": "GET", "query_string": b"", "headers": headers}
        await metrics_app(registry)(scope, None, send)

    anyio.run(ask, "http", backend=backend)
    assert sent[0]["status"] == 200
    assert dict(sent[0]["headers"])[b"content-type"].startswith(b"text/plain")
    assert b"# HELP lamella_requests_total" in sent[1]["body"]
    assert threading.main_thread() not in seen.threads
    asked = [(b"Accept", b"application/openmetrics-text"), (b"accept-encoding", b"gzip")]
    anyio.run(ask, "http", *asked, backend=backend)
    assert gzip.decompress(sent[3]["body"]).endswith(b"# EOF\n")
    with pytest.raises(ConfigurationError, match="websocket"):
        anyio.run(ask, "websocket", backend=backend)
    assert metrics_text(registry)[1].startswith("text/plain")


PROLOGUE = """
import os, prometheus_client
from lamella import ChatRequest, Pipeline
from lamella.testing import Scripted
from lamella_middlewares import CircuitBreaker, Cost
from lamella_prometheus import Prometheus, metrics_text
registry = prometheus_client.CollectorRegistry()
cost = Cost({"m": {"input": "0.1", "output": "0.7"}})
def ask(times, registry=registry):
    layers = [Prometheus(registry=registry), CircuitBreaker(), cost]
    pipe = Pipeline(layers, Scripted(["ok"], repeat=True))
    for _ in range(times):
        pipe.run_sync(ChatRequest.of("x", model="m"))
    return pipe
"""


def process(code: str, directory: Path | None) -> str:
    """What a process prints that counts into a directory."""
    environment = dict(os.environ)
    if directory is not None:
        environment["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    done = subprocess.run(
        [sys.executable, "-c", PROLOGUE + textwrap.dedent(code)],
        env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout


def test_several_processes_are_scraped_together(tmp_path: Path) -> None:
    """Calls, money and live state of all of them, from any of them; forks and registries too."""
    text = process(
        """
        import anyio, shutil
        from lamella_middlewares import Concurrency, LoadShed

        async def limited(times):
            "One call under a limit that is closed then, and several at once that wait."
            live = Prometheus(registry=registry).page.live
            for layer, number in ((LoadShed(9), 1), (Concurrency(1), times - 1)):
                live._written = -9
                layers = [Prometheus(registry=registry), layer, cost]
                pipe = Pipeline(layers, Scripted(["ok"], repeat=True))
                async with anyio.create_task_group() as group:
                    for _ in range(number):
                        group.start_soon(pipe.run, ChatRequest.of("x", model="m"))
                if number == 1:
                    await pipe.aclose()

        kept = ask(2)
        child = os.fork()
        if not child:
            ask(4)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        ask(1, prometheus_client.CollectorRegistry())
        anyio.run(limited, 5)
        print(metrics_text(registry)[0].decode())
        shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"])
        child = os.fork()
        if not child:
            assert kept.run_sync(ChatRequest.of("x", model="m")).text == "ok"
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0, "without the directory there are answers still"
        """,
        tmp_path,
    )
    seen = parsed(text)
    assert seen["lamella_requests_total"] == {("m", "chat", "complete"): 12}
    assert seen["lamella_attempts_total"] == {("caller", "m", "complete", "scripted"): 12}
    (cost,) = seen["lamella_cost_total"].values()
    tokens = seen["lamella_tokens_total"]
    price = 0.1 * tokens["m", "scripted", "uncached_input"] / 1e6
    price += 0.7 * tokens["m", "scripted", "text_output"] / 1e6
    assert cost == pytest.approx(price, rel=1e-12)
    assert seen["lamella_request_duration_seconds_count"] == {("m", "chat"): 12}
    assert seen["lamella_in_flight"] == {("chat",): 0}
    assert seen["lamella_breaker_state"] == {("m", "scripted"): 0}
    # The last of several calls says that nobody waits any more, however soon it follows.
    assert seen["lamella_queue_depth"] == {("concurrency",): 0, ("load_shed",): 0}
    # A limit that is gone has no room of which there could be none.
    assert seen["lamella_rate_limiter_available"] == {
        ("concurrency", "scripted/m"): 1,
        ("load_shed", "calls"): math.inf,
    }


def test_a_forked_child_counts_on_alone() -> None:
    """It has what was counted before, none of the calls under way, and no lock is shut."""
    text = process(
        """
        ask(2)
        page = Prometheus(registry=registry).page
        page.recorder.began("chat")
        child = os.fork()
        if not child:
            ask(1)
            print(metrics_text(registry)[0].decode(), flush=True)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        """,
        None,
    )
    seen = parsed(text)
    assert seen["lamella_requests_total"] == {("m", "chat", "complete"): 3}
    assert seen["lamella_in_flight"] == {("chat",): 0}


def test_a_directory_that_comes_too_late_is_an_error(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Silence would be a process that is missing from every graph."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    with pytest.raises(ConfigurationError, match="before Python starts"):
        Prometheus(registry=registry)
