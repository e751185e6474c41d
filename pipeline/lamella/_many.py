"""Many requests at once, a bounded number at a time: `Pipeline.map` without rows or a journal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sized
from itertools import islice
from typing import Any, TypeVar, cast

import attrs

from lamella._errors import ConfigurationError
from lamella._requests import Request
from lamella._responses import Response

R = TypeVar("R", bound=Response)


@attrs.frozen
class Progress:
    """One request of many is done.

    Attributes:
        index: Which, in the order of the requests.
        done: How many are done by now.
        total: How many there are; None if the iterable does not say.
        result: Its response, or the exception it ended with.
    """

    index: int
    done: int
    total: int | None
    result: Response | Exception


async def run_many(
    run: Callable[[Request[R]], Awaitable[R]],
    requests: Iterable[Request[R]],
    concurrency: int,
    on_progress: Callable[[Progress], object] | None,
) -> list[R | Exception]:
    """See `Pipeline.run_many`."""
    if concurrency < 1:
        msg = f"concurrency={concurrency!r} would run nothing; it is 1 or more."
        raise ConfigurationError(msg)
    from lamella._bulk_pace import Fixed
    from lamella._bulk_work import Work

    total = len(requests) if isinstance(requests, Sized) else None
    results: dict[int, R | Exception] = {}
    numbered = enumerate(requests)

    async def take(most: int) -> list[tuple[int, Request[R]]] | None:
        return list(islice(numbered, most)) or None

    async def do(item: tuple[int, Request[R]]) -> None:
        index, request = item
        try:
            result: R | Exception = await run(request)
        except Exception as error:  # noqa: BLE001 - it stands in its request's place
            result = error
        results[index] = result
        if on_progress is not None:
            on_progress(Progress(index, len(results), total, result))

    places = concurrency if total is None else min(concurrency, max(total, 1))
    try:
        await Work(take, do, Fixed(places)).run()
    except BaseExceptionGroup as errors:
        group_of: BaseExceptionGroup[BaseException] = errors
        raise first_error(group_of) from None
    return [results[index] for index in range(len(results))]


def first_error(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first single error of a group: no ExceptionGroup leaves the library."""
    first: Any = errors
    while isinstance(first, BaseExceptionGroup):
        first = cast("Any", first).exceptions[0]
    return cast("BaseException", first)
