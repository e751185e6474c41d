"""A local Ray with two workers, a real Valkey and a provider over HTTP."""

from __future__ import annotations

import importlib.util
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lamella import ConfigurationError, Packing, Pipeline, RowOptions
from lamella.testing import MockServer
from lamella.transports import OpenAI
from lamella_middlewares import Budget, Cost, RateLimit
from lamella_ray import Job, Workers, map_rows, report

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]  # Ray has some of its own

KEY = "env:LAMELLA_TEST_ROWS_KEY"
PRICE = {"m": {"input": "0", "output": "100"}}


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A Ray of this test run alone."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", KEY[4:]: "a key that is long enough"}
    module: Any = importlib.import_module("ray")
    data: Any = importlib.import_module("ray.data")
    module.init(num_cpus=2, include_dashboard=False, logging_level="error")
    data.DataContext.get_current().enable_progress_bars = False
    yield module
    module.shutdown()


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server of limits and values."""
    from redis_peers import Valkey

    server = Valkey(tmp_path_factory.mktemp("valkey"))
    yield server
    server.end()


@pytest.fixture
def provider() -> Iterator[MockServer]:
    """Answers over HTTP, and remembers who asked."""
    server = MockServer(latency=0.02)
    with server.start_in_thread():
        yield server


def rows_of(ray: Any, count: int) -> Any:
    """So many rows in several blocks."""
    rows = [{"id": number, "prompt": f"mock: say {number}"} for number in range(count)]
    return ray.data.from_items(rows, override_num_blocks=8)


def maker(url: str, valkey: str, layers: Callable[[], list[Any]], name: str) -> Any:
    """A function that makes the pipeline of each worker."""

    def make() -> Pipeline:
        store = {"use": "redis", "url": valkey, "namespace": name, "timeout": 60.0}
        stores = {"leases": store, "blobs": store}
        return Pipeline(layers(), OpenAI("k", base_url=url), stores=stores)

    return make


def asked(provider: MockServer) -> list[int]:
    """What the provider was asked, in order of the rows."""
    contents = [request.json["messages"][-1]["content"] for request in provider.requests]
    return sorted(int(content.rsplit(" ", 1)[1]) for content in contents)


OPTIONS = RowOptions(model="m", concurrency=8)
TWO = Workers(least=2, most=2, batch_size=16, num_cpus=0.5)


def test_every_row_is_answered_once_and_a_bad_one_fails_alone(
    ray: Any, valkey: Any, provider: MockServer, tmp_path: Path
) -> None:
    """Two workers answer 200 rows; what is written says what it cost, and who has answered."""
    make = maker(provider.url, valkey.tcp, lambda: [Cost(PRICE, unknown="note")], "once")
    rows = rows_of(ray, 200).map(lambda row: row | {"prompt": row["prompt"] if row["id"] else ""})
    answers = map_rows(rows, make, options=OPTIONS, workers=TWO)
    with pytest.raises(ConfigurationError, match="ask for all of them again"):
        report(answers)
    answers.write_parquet(str(tmp_path))
    written = ray.data.read_parquet(str(tmp_path))
    found = {row["id"]: row for row in written.take_all()}
    assert asked(provider) == list(range(1, 200))
    assert all(found[number]["answer_text"] == str(number) for number in range(1, 200))
    assert found[0]["answer_error_code"] == "invalid_row"
    told = report(written)
    assert (told.rows, told.answered, told.failed) == (200, 199, 1)
    assert told.kinds == {"RowError": 1}


def test_two_workers_spend_one_budget_and_the_rest_is_asked_later(
    ray: Any, valkey: Any, provider: MockServer
) -> None:
    """Of 60 rows forty find room in the budget; a raised one lets the others through."""

    def layers(limit: int) -> Callable[[], list[Any]]:
        return lambda: [Budget(requests=limit, namespace="rows")]

    make = maker(provider.url, valkey.tcp, layers(40), "budget")
    options = RowOptions(model="m", concurrency=4)
    answers = map_rows(rows_of(ray, 60), make, options=options, workers=TWO).materialize()
    told = report(answers)
    assert told.answered == 40 == len(provider.requests)
    left = answers.filter(lambda row: row["answer_text"] in (None, ""))
    more = maker(provider.url, valkey.tcp, layers(100), "budget")
    assert report(map_rows(left, more, options=options, workers=TWO).materialize()).answered == 20
    assert asked(provider) == list(range(60))


def test_two_workers_keep_one_rate(ray: Any, valkey: Any, provider: MockServer) -> None:
    """More than a limit of ten a second lets through were never begun in any second."""
    begun: list[float] = []
    provider.answer = lambda _: begun.append(time.monotonic())
    make = maker(provider.url, valkey.tcp, lambda: [RateLimit(10, per=1.0, strict=True)], "rate")
    answers = map_rows(rows_of(ray, 40), make, options=OPTIONS, workers=TWO).materialize()
    assert report(answers).answered == 40
    times = sorted(begun)
    assert all(late - early > 0.9 for early, late in zip(times, times[10:], strict=False))


def test_a_worker_that_is_killed_costs_no_row_twice(
    ray: Any, valkey: Any, provider: MockServer, tmp_path: Path
) -> None:
    """What it had answered is found by the worker that takes its blocks."""
    pids = tmp_path / "pids"
    make_plain = maker(provider.url, valkey.tcp, list, "killed")

    def make() -> Pipeline:
        with pids.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return make_plain()  # type: ignore[no-any-return]

    job = Job("killed", Packing(key=KEY))
    rows = rows_of(ray, 200)
    answers = map_rows(
        rows, make, options=RowOptions(model="m", concurrency=4), workers=TWO, job=job
    )
    here, killed = os.getpid(), False
    found: list[Any] = []
    for row in answers.iter_rows():
        found.append(row)
        if not killed:
            killed = True
            victims = [int(pid) for pid in pids.read_text().split() if int(pid) != here]
            os.kill(victims[0], signal.SIGKILL)
    assert sorted(row["id"] for row in found) == list(range(200))
    assert all(row["answer_text"] == str(row["id"]) for row in found)
    again = len(provider.requests) - 200
    assert 0 <= again <= 4  # what was under way in the one that died
