"""A block of rows without files: what distributed runners hand to a worker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs
import msgspec

from lamella._bulk_map import MapRun
from lamella._bulk_options import MOST, MapOptions
from lamella._bulk_results import Lines
from lamella._bulk_rows import RowReader

if TYPE_CHECKING:
    from lamella._chat import ChatRequest
    from lamella._pipeline import Pipeline


@attrs.frozen(kw_only=True)
class RowOptions:
    """How a block of rows is asked. Plain values: it can be sent to another process.

    Attributes:
        model: The model where a row names none. None takes the transport's.
        system: Instructions that stand before rows without instructions of their own.
        temperature: Where a row is silent; None for the provider's default.
        max_output_tokens: Likewise.
        tenant: Likewise: whose requests they are.
        concurrency: How many rows are under way at once: a number, or as many as the provider takes
            well.
        max_concurrency: The most there may be of `"adaptive"`.
        row_timeout: Seconds that a row may take; None for no limit but those of the layers.
    """

    model: str | None = None
    system: str | None = None
    temperature: float | None = None
    max_output_tokens: int | None = None
    tenant: str | None = None
    concurrency: int | Literal["adaptive"] = "adaptive"
    max_concurrency: int = MOST
    row_timeout: float | None = None

    def defaults(self) -> ChatRequest:
        """What holds where a row is silent.

        Raises:
            ValueError: If a number is out of range.
        """
        from lamella._chat import ChatRequest
        from lamella._context import Context
        from lamella._messages import Message

        return ChatRequest(
            messages=[] if self.system is None else [Message.system(self.system)],
            model=self.model,
            temperature=self.temperature,
            max_output_tokens=self.max_output_tokens,
            context=Context(tenant=self.tenant),
        )


_PLAIN: Final = RowOptions()


async def answer_rows(
    pipeline: Pipeline,
    rows: Sequence[Mapping[str, Any] | str],
    options: RowOptions = _PLAIN,
    *,
    first: int = 0,
    on_result: Callable[[dict[str, Any]], Awaitable[None]] | None = None,
) -> list[dict[str, Any]]:
    """Ask a block of rows; one result for each, in their order, as plain values.

    A row that is wrong, or whose call fails, is a result with an `error`. Nothing is written.

    Args:
        pipeline: What answers; it stays open.
        rows: As lines of `lamella map` have them.
        options: How they are asked.
        first: The index of the first row.
        on_result: Told each result as soon as it is there: not in order, and several at a time;
            `index` says which. A row keeps its place under way until it has returned; what it
            raises ends the rows under way, and is raised.

    Raises:
        ConfigurationError: If an option is wrong.
        MapStoppedError: If not all rows were begun, as each would have met the same error.
    """
    found: dict[int, dict[str, Any]] = {}

    async def ended(line: bytes) -> None:
        form: dict[str, Any] = msgspec.json.decode(line)
        found[form["index"]] = form
        form["index"] += first
        if on_result is not None:
            await on_result(form)

    defaults = options.defaults()
    has_model = getattr(pipeline.transport, "model", "") is not None
    run: MapRun[Any] = MapRun(
        pipeline,
        rows,
        MapOptions(
            concurrency=options.concurrency,
            max_concurrency=options.max_concurrency,
            row_timeout=options.row_timeout,
        ),
        form=Lines(),
        reader=RowReader(defaults, has_model=has_model),
        deliver=ended,
    )
    async with run as work:
        async for _ in work:  # delivered already
            continue
    return [found[index] for index in range(len(found))]
