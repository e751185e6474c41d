"""`lamella map`: many requests from a file, their answers into another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
from cyclopts import Parameter

from lamella.cli._asking import NO_ASKING, Asking
from lamella.cli._map_run import CLEANING
from lamella.cli._stack import NO_STACK, Stack

if TYPE_CHECKING:
    from lamella.cli._interrupts import Interrupts
    from lamella.cli._map_run import Progress, Run


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Batch:
    """How the rows are worked off.

    Attributes:
        concurrency: How many rows are under way at once, 1 or more. 16 if not given.
        limit: At most so many rows.
        overwrite: Replace a file of answers that is there.
        drain: Seconds that rows under way get to finish after Ctrl-C or SIGTERM, 0 or more. 2.5 if
            not given.
        no_progress: Do not show on a terminal how far it is.
    """

    concurrency: int = 16
    limit: int | None = None
    overwrite: bool = False
    drain: float = CLEANING
    no_progress: bool = False


_NO_BATCH: Final = Batch()


def map_requests(
    rows: str,
    answers: str,
    /,
    *,
    stack: Stack = NO_STACK,
    asking: Asking = NO_ASKING,
    batch: Batch = _NO_BATCH,
) -> int:
    """Ask many times: rows from a file of JSON lines, and an answer for each into another.

    A row is a prompt in quotes, or an object with a prompt or messages, and what else is said with
    it: id, model, temperature, max_output_tokens, user, session, tags. What it does not say holds
    as given here. Answers are written as they come, each on a line with its row's index and id.

    Args:
        rows: The file to read; - is standard input.
        answers: The file to write, which must not be there; - is standard output.
        stack: The pipeline.
        asking: How to answer.
        batch: How the rows are worked off.
    """
    from lamella.cli._interrupts import run
    from lamella.cli._map_input import Lines, open_input
    from lamella.cli._map_output import Results, opened_output
    from lamella.cli._map_rows import Reader
    from lamella.cli._map_run import Progress, Run

    _must_make_sense(batch)
    pipeline = stack.pipeline(quiet=True)
    reader = Reader(asking, has_model=getattr(pipeline.transport, "model", "") is not None)
    ports = pipeline.ports
    progress = Progress(ports.monotonic, hidden=batch.no_progress)
    seen: list[Interrupts] = []
    with (
        open_input(rows) as source,
        opened_output(answers, source, overwrite=batch.overwrite) as target,
    ):

        async def work(interrupts: Interrupts) -> None:
            seen.append(interrupts)
            async with pipeline:
                await job.work(batch.concurrency, interrupts, batch.drain)

        lines = Lines(source, ports.thread, batch.limit)
        job = Run(pipeline, lines, reader, Results(target, ports.thread), progress)
        try:
            run(work)
        finally:
            _tell(job, progress)
    return _exit_code(job, seen)


def _must_make_sense(batch: Batch) -> None:
    from lamella.cli._errors import UsageError

    if batch.concurrency < 1:
        raise UsageError(f"--concurrency {batch.concurrency} would ask nothing; it is 1 or more.")
    if batch.limit is not None and batch.limit < 0:
        raise UsageError(f"--limit {batch.limit} is no number of rows; it is 0 or more.")
    if not 0 <= batch.drain < float("inf"):
        raise UsageError(f"--drain {batch.drain:g} is no time; it is 0 seconds or more.")


def _tell(job: Run, progress: Progress) -> None:
    """Say what has become of the rows, however the run has ended."""
    from lamella.cli._errors import report
    from lamella.cli._map_results import rows
    from lamella.cli._output import say

    progress.clear()
    say(job.tally.told(progress.seconds))
    if job.tally.running:
        say(
            f"Broken off: {rows(job.tally.running)} under way, which have no line, and whose cost "
            "is not in these sums."
        )
    if job.stopped is not None:
        report(job.stopped)
        say("No further row was begun, since it would have met the same.")


def _exit_code(job: Run, seen: list[Interrupts]) -> int:
    from lamella.cli._errors import FAILED, OK, exit_code, exit_code_of_signal

    for interrupts in seen:
        if interrupts.received is not None:
            return exit_code_of_signal(interrupts.received)
    if job.stopped is not None:
        return exit_code(job.stopped)
    return FAILED if job.tally.failed else OK
