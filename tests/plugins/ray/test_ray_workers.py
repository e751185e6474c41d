"""What a worker makes of blocks, without Ray: an actor's state is an ordinary object."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from lamella import (
    AuthenticationError,
    ConfigurationError,
    Packing,
    Pipeline,
    RowOptions,
    Secret,
)
from lamella._memory_blobs import MemoryBlobs
from lamella.testing import Scripted
from lamella_middlewares import RateLimit, Retry
from lamella_ray import Job, Workers, map_rows
from lamella_ray._tables import ANSWER_COLUMNS
from lamella_ray._worker import NOT_ASKED, Task, Worker

pytestmark = pytest.mark.anyio

KEY = Secret.of_value("a key that is long enough")


@pytest.fixture
def anyio_backend() -> str:
    """Ray's workers run on asyncio."""
    return "asyncio"


class Shared(MemoryBlobs):
    """Values that all workers of a test reach."""

    shared = True

    def __init__(self) -> None:
        super().__init__(monotonic=time.monotonic, max_bytes=1 << 20, max_entry_bytes=1 << 20)


def worker(
    make: Callable[[], Pipeline], *, job: Job | None = None, options: RowOptions | None = None
) -> Worker:
    """A worker with a pipeline."""
    given = options or RowOptions(model="m", concurrency=2)
    return Worker(Task(stack=make, options=given, prefix="answer_", job=job))


async def answered(one: Worker, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with their answers."""
    tables = [table async for table in one(pa.Table.from_pylist(rows))]
    assert len(tables) == 1
    found: list[dict[str, Any]] = tables[0].to_pylist()
    return found


def provider(*steps: Any) -> Scripted:
    """Answers as the steps say, the last of them again and again."""
    return Scripted(steps or ["fine"], repeat=True)


async def test_an_answer_stands_in_its_row_beside_other_columns() -> None:
    """Whatever else a row has stays there, and what it asks by other names is not looked at."""
    one = worker(lambda: Pipeline([], provider("fine")))
    rows = await answered(one, [{"id": 7, "prompt": "hi", "stars": 5}])
    assert (rows[0]["id"], rows[0]["stars"], rows[0]["answer_text"]) == (7, 5, "fine")


async def test_every_block_has_the_same_schema() -> None:
    """A block of errors, and one of answers, have the same columns of the same types."""
    one = worker(lambda: Pipeline([], provider("fine")))
    good, bad = pa.table({"prompt": ["hi"]}), pa.table({"prompt": [""]})
    schemas = [table.schema for block in (good, bad) async for table in one(block)]
    assert schemas[0] == schemas[1]
    assert set(schemas[0].names) == {"prompt", *("answer_" + name for name in ANSWER_COLUMNS)}


async def test_a_bad_row_fails_no_other() -> None:
    """Rows that ask nothing, or what there is not, are errors in their own row."""
    one = worker(lambda: Pipeline([], provider("fine")))
    asked: list[dict[str, Any]] = [
        {"prompt": "hi", "temperature": 0.5},
        {"prompt": None, "temperature": None},
        {"prompt": "ho", "temperature": None},
    ]
    rows = await answered(one, asked)
    assert [row["answer_text"] for row in rows] == ["fine", "", "fine"]
    assert rows[1]["answer_error_code"] == "invalid_row"
    assert rows[0]["answer_error_type"] is None


async def test_what_every_row_would_meet_ends_the_asking() -> None:
    """A refused key is met once; rows that were not asked say so, and that they may be again."""
    transport = provider("fine", AuthenticationError("no"))
    options = RowOptions(model="m", concurrency=1)
    one = worker(lambda: Pipeline([], transport), options=options)
    rows = await answered(one, [{"prompt": str(number)} for number in range(9)])
    again = await answered(one, [{"prompt": "later"}])
    assert rows[0]["answer_text"] == "fine"
    assert rows[-1]["answer_error_code"] == again[0]["answer_error_code"] == NOT_ASKED
    assert rows[-1]["answer_retryable"] is True
    assert len(transport.requests) == 2


async def test_a_job_asks_for_nothing_twice() -> None:
    """Another worker of the same job finds what was answered; one of another job does not."""
    blobs, transport = Shared(), provider("fine")

    def make() -> Pipeline:
        return Pipeline([], transport, stores={"blobs": blobs})

    job = Job("reviews", Packing(key=KEY))
    rows = [{"id": 1, "prompt": "hi"}, {"id": 2, "prompt": ""}]
    first = await answered(worker(make, job=job), rows)
    second = await answered(worker(make, job=job), [*rows, {"id": 3, "prompt": "hi"}])
    assert second[:2] == first
    assert len(transport.requests) == 2
    await answered(worker(make, job=Job("others", Packing(key=KEY))), rows)
    assert len(transport.requests) == 3


async def test_a_job_asks_again_for_what_failed() -> None:
    """Errors are not kept: the next worker asks for those rows again."""
    blobs, transport = Shared(), provider(TimeoutError("slow"), "fine")

    def make() -> Pipeline:
        return Pipeline([], transport, stores={"blobs": blobs})

    job = Job("reviews", Packing(key=KEY))
    rows = [{"id": 1, "prompt": "hi"}]
    assert (await answered(worker(make, job=job), rows))[0]["answer_error_type"] is not None
    assert (await answered(worker(make, job=job), rows))[0]["answer_text"] == "fine"


async def test_what_somebody_else_wrote_is_not_believed() -> None:
    """A result that was not signed with the job's key is asked for anew."""
    blobs, transport = Shared(), provider("fine")

    def make() -> Pipeline:
        return Pipeline([], transport, stores={"blobs": blobs})

    rows = [{"id": 1, "prompt": "hi"}]
    for key in (KEY, Secret.of_value("another key, as long as it has to be")):
        await answered(worker(make, job=Job("reviews", Packing(key=key))), rows)
    assert len(transport.requests) == 2


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"pipeline": Pipeline([], Scripted(["hi"]))}, "cannot travel"),
    ({"pipeline": 7}, "preset, or a function"),
    ({"pipeline": lambda: "openai"}, "returned a str"),
    ({"workers": Workers(least=0)}, "least=0"),
    ({"workers": Workers(least=3, most=2)}, "fewer than the least"),
    ({"workers": Workers(batch_size=0)}, "batch_size=0"),
    ({"prefix": ""}, "prefix=''"),
    ({"pipeline": lambda: Pipeline([RateLimit(5)], "mock"), "workers": Workers(most=4)}, "4 worke"),
    ({"job": Job("reviews", Packing(key=KEY))}, "each worker's memory"),
]


@pytest.mark.parametrize(("given", "said"), MISTAKES, ids=[said for _, said in MISTAKES])
async def test_mistakes_are_told_before_anything_is_asked(given: dict[str, Any], said: str) -> None:
    """What cannot be meant is refused where `map_rows` is called, with what to do."""
    with pytest.raises(ConfigurationError, match=said):
        map_rows(None, **{"pipeline": lambda: Pipeline([Retry()], "mock"), **given})


@pytest.mark.parametrize("name", ["", "  ", 7])
async def test_a_job_has_a_name(name: Any) -> None:
    """Nothing could be found again without one."""
    with pytest.raises(ConfigurationError, match="known by its name"):
        Job(name, Packing(key=KEY))
