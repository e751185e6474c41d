"""`lamella map`: many requests from a file, their answers into another."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import attrs
from cyclopts import Parameter

from lamella.cli._asking import NO_ASKING, Asking
from lamella.cli._map_run import CLEANING
from lamella.cli._run import STDIN
from lamella.cli._stack import NO_STACK, Stack

if TYPE_CHECKING:
    from lamella import Money, Pipeline
    from lamella._bulk_options import MapOptions
    from lamella._ports import ThreadPort
    from lamella.cli._interrupts import Interrupts
    from lamella.cli._map_file import AnswerFile
    from lamella.cli._map_output import AnswerStream
    from lamella.cli._map_progress import Progress
    from lamella.cli._map_run import Job

Format: TypeAlias = Literal["jsonl", "csv", "parquet"]

_ENDS: Final[Mapping[str, Format]] = {".csv": "csv", ".parquet": "parquet", ".pq": "parquet"}


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Batch:
    """How the rows are worked off.

    Attributes:
        concurrency: How many rows are under way at once: a number, or `adaptive`, which begins with
            8 and goes on as the provider takes it. `adaptive` if not given.
        max_concurrency: The most that `adaptive` may come to. 256 if not given.
        limit: At most so many rows.
        budget: The most that all rows may cost, such as 5 or 5EUR; no further row is begun then.
        max_tokens: The most tokens that all rows may take, read and written.
        row_timeout: Seconds that a row may take.
        input_format: What is read, where its name does not say: jsonl, csv, parquet.
        format: What is written, likewise.
        overwrite: Replace a file of answers that is there.
        journal: The journal from which the next run goes on. ANSWERS.journal if not given; with
            standard output there is none then.
        no_journal: Keep none.
        restart: Forget what the journal has.
        retry_failed: Ask rows again that have failed with what may pass.
        changed: What to do with rows that ask something else than when the journal was given their
            answers: refuse to go on, or ask them again.
        drain: Seconds that rows under way get to finish after Ctrl-C or SIGTERM, 0 or more. 2.5 if
            not given.
        no_progress: Do not show on a terminal how far it is.
    """

    concurrency: int | Literal["adaptive"] = "adaptive"
    max_concurrency: int = 256
    limit: int | None = None
    budget: str | None = None
    max_tokens: int | None = None
    row_timeout: float | None = None
    input_format: Format | None = None
    format: Format | None = None
    overwrite: bool = False
    journal: str | None = None
    no_journal: bool = False
    restart: bool = False
    retry_failed: bool = False
    changed: Literal["refuse", "again"] = "refuse"
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
    """Ask many times: rows from a file, and an answer for each into another, in their order.

    A row is a line of JSON: a prompt in quotes, or an object with a prompt or messages, and what
    else is said with it: id, model, temperature, max_output_tokens, user, session, tags. What it
    does not say holds as given here. CSV and Parquet have these names as columns. What a run that
    was ended has answered is in its journal, from which the same command goes on.

    Args:
        rows: The file to read; - is standard input.
        answers: The file to write, which must not be there; - is standard output, to which answers
            are written as they come.
        stack: The pipeline.
        asking: How to answer.
        batch: How the rows are worked off.
    """
    from lamella._bulk_map import MapRun
    from lamella._bulk_results import Lines
    from lamella._bulk_rows import RowReader
    from lamella.cli._interrupts import run
    from lamella.cli._map_progress import Progress
    from lamella.cli._map_run import Job

    _must_make_sense(batch)
    streamed = _is_stream(answers)
    journal = _journal(answers, batch, streamed=streamed)
    options = _options(asking, batch, journal)
    seen: list[Interrupts] = []
    with ExitStack() as files:
        pipeline = stack.pipeline(quiet=True)
        thread = pipeline.ports.thread
        source, total = _source(files, rows, batch, thread)
        file = _target(files, (rows, answers), batch, thread, journal)
        progress = Progress(pipeline.ports.monotonic, hidden=batch.no_progress)
        delivered = streamed and journal is None
        made: MapRun[Any] = MapRun(
            pipeline,
            source,
            attrs.evolve(options, total=total, on_progress=progress.teller),
            form=Lines(),
            reader=RowReader(options.defaults, has_model=_has_model(pipeline), hint=_NAME_ONE),
            deliver=file.add if delivered else None,
        )
        job = Job(pipeline, made, None if delivered else file, progress)

        async def work(interrupts: Interrupts) -> None:
            seen.append(interrupts)
            await job.work(interrupts, batch.drain)

        try:
            run(work)
        finally:
            _tell(job, progress, journal)
    return _exit_code(job, seen)


_NAME_ONE: Final = "Name one in the row, or for all rows with --model."


def _has_model(pipeline: Pipeline) -> bool:
    return getattr(pipeline.transport, "model", "") is not None


def _must_make_sense(batch: Batch) -> None:
    from lamella.cli._errors import UsageError

    given = batch.concurrency
    if isinstance(given, int) and given < 1:
        raise UsageError(f"--concurrency {given} would ask nothing; it is 1 or more.")
    if batch.max_concurrency < 1:
        least = batch.max_concurrency
        raise UsageError(f"--max-concurrency {least} would ask nothing; it is 1 or more.")
    if batch.limit is not None and batch.limit < 0:
        raise UsageError(f"--limit {batch.limit} is no number of rows; it is 0 or more.")
    if not 0 <= batch.drain < float("inf"):
        raise UsageError(f"--drain {batch.drain:g} is no time; it is 0 seconds or more.")
    if batch.budget is not None and batch.max_tokens is not None:
        raise UsageError("--budget and --max-tokens cannot both be meant.")
    if batch.no_journal and batch.journal is not None:
        raise UsageError("--journal and --no-journal cannot both be meant.")


def _is_stream(answers: str) -> bool:
    """Whether what is written cannot be taken back: standard output, a device, a pipe."""
    path = Path(answers)
    return answers == STDIN or (path.exists() and not path.is_file() and not path.is_dir())


def _journal(answers: str, batch: Batch, *, streamed: bool) -> Path | None:
    if batch.no_journal:
        return None
    if batch.journal is not None:
        return Path(batch.journal).expanduser().absolute()
    return None if streamed else Path(f"{answers}.journal").expanduser().absolute()


def _options(asking: Asking, batch: Batch, journal: Path | None) -> MapOptions:
    from lamella._bulk_options import MapOptions

    base = asking.request([])
    return MapOptions(
        journal=journal if journal is None or journal.parent.is_dir() else None,
        concurrency=batch.concurrency,
        max_concurrency=batch.max_concurrency,
        defaults=base.evolve(context=base.context.evolve(timed=False)),
        budget=batch.max_tokens if batch.budget is None else _money(batch.budget),
        row_timeout=batch.row_timeout,
        retry_failed=batch.retry_failed,
        changed=batch.changed,
        restart=batch.restart,
    )


def _money(given: str) -> Money:
    from lamella import Money
    from lamella.cli._errors import UsageError

    found = re.fullmatch(r"\$?(\d+(?:\.\d{1,9})?) ?([A-Za-z]{3})?", given)
    if found is None:
        raise UsageError(f"--budget {given!r} is no amount.", hint="Write 5, 0.25, or 5EUR.")
    return Money.of(found[1], (found[2] or "USD").upper())


def _source(
    files: ExitStack, rows: str, batch: Batch, thread: ThreadPort
) -> tuple[Any, int | None]:
    """Where the rows come from, and how many there are, if a table says so."""
    from lamella.cli._errors import UsageError
    from lamella.cli._map_input import Lines, open_input

    form = _format_of(rows, batch.input_format)
    if form == "jsonl":
        return Lines(files.enter_context(open_input(rows)), thread, batch.limit), None
    from lamella.cli._map_tables import table_rows

    if rows == STDIN:
        raise UsageError("Standard input has lines of JSON.", hint="Give the table as a file.")
    found, total = table_rows(rows, form)
    if batch.limit is None:
        return found, total
    return islice(found, batch.limit), None if total is None else min(total, batch.limit)


def _target(
    files: ExitStack,
    names: tuple[str, str],
    batch: Batch,
    thread: ThreadPort,
    journal: Path | None,
) -> AnswerFile | AnswerStream:
    """Where the answers go."""
    from lamella.cli._errors import UsageError
    from lamella.cli._map_file import AnswerFile, must_be_free
    from lamella.cli._map_output import AnswerStream, opened_stream

    rows, answers = names
    form = _format_of(answers, batch.format)
    if _is_stream(answers):
        if form != "jsonl":
            msg = "Standard output, a device or a pipe takes lines of JSON."
            raise UsageError(msg, hint="Give the name of a file.")
        return AnswerStream(files.enter_context(opened_stream(answers)), thread)
    source = None if rows == STDIN else Path(rows)
    must_be_free(Path(answers), source, journal, overwrite=batch.overwrite)
    file = AnswerFile(Path(answers), form, thread)
    files.callback(file.drop)
    return file


def _format_of(name: str, given: Format | None) -> Format:
    """What a file is: as it was said, or as its name ends; lines of JSON otherwise."""
    return given or _ENDS.get(Path(name).suffix.lower(), "jsonl")


def _tell(job: Job, progress: Progress, journal: Path | None) -> None:
    """Say what has become of the rows, however the run has ended."""
    from lamella.cli._errors import report as tell_error
    from lamella.cli._map_progress import rows, told
    from lamella.cli._output import say

    progress.clear()
    report = job.report
    if report is None:
        return
    say(told(report))
    if report.broken_off:
        say(
            f"Broken off: {rows(report.broken_off)} under way, which have no line, and whose cost "
            "is not in these sums."
        )
    if job.stopped is not None:
        cause = job.stopped.__cause__
        if isinstance(cause, Exception):
            tell_error(cause)
            say("No further row was begun, since it would have met the same.")
        else:
            say(f"No further row was begun: {report.stopped}.")
    if journal is not None and journal.exists():
        more = " --retry-failed asks those again that may pass." if report.failed else ""
        say(f"The same command goes on from {journal.name}.{more}")


def _exit_code(job: Job, seen: list[Interrupts]) -> int:
    from lamella.cli._errors import FAILED, OK, exit_code, exit_code_of_signal

    for interrupts in seen:
        if interrupts.received is not None:
            return exit_code_of_signal(interrupts.received)
    if job.stopped is not None:
        cause = job.stopped.__cause__
        return exit_code(cause) if isinstance(cause, Exception) else FAILED
    return FAILED if job.report is None or job.report.failed else OK
