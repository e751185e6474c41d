"""What one worker does with the blocks it is given."""

from __future__ import annotations

import asyncio  # noqa: TID251 - Ray runs its workers' functions on loops of asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias

import attrs

from lamella import ConfigurationError, MapStoppedError, Pipeline, RowOptions, answer_rows
from lamella._bulk_columns import flat
from lamella_ray._kept_rows import Job, KeptRows
from lamella_ray._tables import ANSWER_COLUMNS, rows_of, with_answers

Stack: TypeAlias = str | Callable[[], Pipeline]
"""The name of a preset, or a function that makes a pipeline."""

NOT_ASKED: Final = "not_asked"
"""The code of rows that were not begun, since what came before would have met them as well."""

CLOSING: Final = 5.0
"""Seconds that a worker's pipeline gets to close: to write down what it has spent."""


@attrs.frozen(kw_only=True)
class Task:
    """What a worker has to know; it travels there.

    Attributes:
        stack: What makes its pipeline.
        options: What holds for all rows, and the pace of one block.
        prefix: What the names of the new columns begin with.
        job: Under what results are kept; None keeps none.
    """

    stack: Stack
    options: RowOptions
    prefix: str
    job: Job | None


def make_pipeline(stack: Stack) -> Pipeline:
    """The pipeline of a worker.

    Raises:
        ConfigurationError: If it is none.
    """
    if isinstance(stack, str):
        return Pipeline.preset(stack)
    made: Any = stack()
    if isinstance(made, Pipeline):
        return made
    msg = f"The function that makes the pipeline of each worker returned a {type(made).__name__}."
    raise ConfigurationError(msg, hint="Let it return a Pipeline.")


class Worker:
    """An actor's state: a pipeline, kept for all blocks.

    Args:
        task: What it has to know.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._pipeline = make_pipeline(task.stack)
        self._kept = None
        if task.job is not None:
            self._kept = KeptRows(task.job, self._pipeline, task.options)
        self._stopped: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, block: Any) -> AsyncIterator[Any]:
        """Answer the rows of a block, an Arrow table."""
        self._loop = asyncio.get_running_loop()
        yield with_answers(block, await self._answers(rows_of(block)), self._task.prefix)

    async def _answers(self, rows: list[dict[str, Any]]) -> list[Mapping[str, Any]]:
        found: dict[int, Mapping[str, Any]] = {}
        if self._kept is not None:
            found |= await self._kept.find(rows)
        left = [number for number in range(len(rows)) if number not in found]
        if left and self._stopped is None:
            await self._ask(rows, left, found)
        return [found.get(number) or self._not_asked() for number in range(len(rows))]

    async def _ask(
        self, rows: list[dict[str, Any]], left: Sequence[int], found: dict[int, Mapping[str, Any]]
    ) -> None:
        kept = self._kept

        async def ended(result: Mapping[str, Any]) -> None:
            index: int = result["index"]
            number = left[index]
            found[number] = answer = _answer_of(result)
            if kept is not None:
                await kept.keep(rows[number], answer)

        try:
            asked = [rows[number] for number in left]
            await answer_rows(self._pipeline, asked, self._task.options, on_result=ended)
        except MapStoppedError as error:
            # What every further row would have met. Those that were answered stay so.
            self._stopped = error.__cause__ or error

    def _not_asked(self) -> Mapping[str, Any]:
        nothing: dict[str, Any] = dict.fromkeys(ANSWER_COLUMNS)
        why = self._stopped
        return nothing | {
            "attempts": 0,
            "error_type": type(why).__name__,
            "error_code": NOT_ASKED,
            "error_message": f"Not asked, since every row would have met the same: {why}",
            "retryable": True,
        }

    def __del__(self) -> None:
        """Close the pipeline: Ray lets go of a worker's state before it ends its process."""
        loop, self._loop = self._loop, None
        if loop is None or not loop.is_running():
            return
        closing = asyncio.run_coroutine_threadsafe(self._pipeline.aclose(drain=CLOSING), loop)
        if _is_running_here(loop):  # it cannot wait for itself
            return
        with suppress(Exception):  # nobody is there to be told, and the process ends
            closing.result(CLOSING)


def _is_running_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _answer_of(result: Mapping[str, Any]) -> dict[str, Any]:
    columns = flat(result)
    return {name: columns[name] for name in ANSWER_COLUMNS}
