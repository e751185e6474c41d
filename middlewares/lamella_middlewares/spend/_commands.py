"""`lamella costs`: what has been spent, told apart as asked; export, and forgetting.

| exit code | meaning |
|---|---|
| 0 | all is well |
| 1 | the store failed, or nothing was forgotten |
| 2 | the command line is wrong, or there is no such file or preset |
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

from cyclopts import Parameter

from lamella import SpendQuery
from lamella_middlewares.spend._where import ALL, HERE, Source, Where

if TYPE_CHECKING:
    from lamella import SpendStore
    from lamella_middlewares.spend._where import Place

T = TypeVar("T")

_GOOD: Final = 0
_BAD: Final = 1


def costs(
    *,
    by: Annotated[tuple[str, ...], Parameter(negative=(), consume_multiple=False)] = ("model",),
    where: Where = ALL,
    json: bool = False,
) -> int:
    """Show what has been spent: a table, and a bar for each line.

    Args:
        by: What is told apart: model, user, session, tenant, day, hour, week, month, tag:NAME,
            layer, provider, operation, category, outcome, service, currency. May be given again.
            By model if not given.
        where: Which records.
        json: Print a JSON object; amounts are texts, and billionths.
    """
    from lamella.cli._output import say, show_json
    from lamella_middlewares.spend._report import form, show_totals, whole

    query = where.query(by)
    place = where.place()
    totals = _with(place, lambda store: store.totals(query))
    if json:
        about = {"from": place.name, "timezone": query.timezone}
        groups = [form(each, by) for each in totals]
        show_json({**about, "groups": groups, "total": form(whole(totals), ())})
        return _GOOD
    if not totals or not any(total.attempts for total in totals):
        say(
            f"Nothing is written down in {place.name} that was asked for. "
            "See whether --since, --until and --where leave anything, and whether the pipeline "
            "has a Spend."
        )
        return _GOOD
    show_totals(totals, by)
    say(f"({place.name}; times of {query.timezone})", style="dim")
    return _GOOD


def export(
    *,
    to: str,
    overwrite: bool = False,
    where: Where = ALL,
) -> int:
    """Write the records into a file, one for each attempt.

    Args:
        to: The file; the end of its name says the format: .csv, .jsonl or .parquet.
        overwrite: Replace a file that is there.
        where: Which records.
    """
    from lamella.cli._output import say
    from lamella_middlewares.spend._export import export as write

    query = where.query()
    count = _with(where.place(), lambda store: write(store, to, query, overwrite=overwrite))
    say(f"{count:,} records in {to}.")
    return _GOOD


def forget(
    *,
    before: str | None = None,
    source: Source = HERE,
    yes: bool = False,
) -> int:
    """Remove the records of all attempts that ended before an instant, or that are somebody's.

    Args:
        before: The instant: 2026-01-01, 400d.
        source: Whose, and where.
        yes: Do not ask first.
    """
    from lamella.cli._errors import UsageError
    from lamella.cli._output import say
    from lamella_middlewares.spend._times import instant_of

    until = None if before is None else instant_of("--before", before, source.zone)
    asked = source.asked
    try:
        SpendQuery.forgetting(until, asked)
    except ValueError:
        msg = "Nothing says which records are to go."
        hint = "Give --before 400d, or --where NAME=VALUE with a value, such as user=u-1."
        raise UsageError(msg, hint=hint) from None
    place = source.place()
    said = ["what was spent", *([] if before is None else [f"before {before}"])]
    said += [f"with {pair}" for pair in source.where]
    if not _sure(f"Remove {' '.join(said)} from {place.name}?", yes=yes):
        say("Nothing was removed.")
        return _BAD
    gone = _with(place, lambda store: store.forget(before=until, where=asked))
    say(f"{gone:,} records removed.")
    return _GOOD


def _with(place: Place, work: Callable[[SpendStore], Awaitable[T]]) -> T:
    """Ask the store, and close it."""
    from lamella.cli._interrupts import run

    async def whole(_: object) -> T:
        try:
            return await work(place.store)
        finally:
            await place.owner.aclose()

    return run(whole)


def _sure(question: str, *, yes: bool) -> bool:
    """Whether somebody means it."""
    from lamella.cli._errors import UsageError
    from lamella.cli._output import harmless, is_terminal

    if yes:
        return True
    if not (sys.stdin.isatty() and is_terminal(sys.stderr)):
        msg = "What is removed is gone, and there is nobody to ask."
        raise UsageError(msg, hint="Add --yes if you mean it.")
    sys.stderr.write(f"{harmless(question)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().casefold() in {"y", "yes"}


COMMANDS: Final[Mapping[str, Any]] = {"": costs, "export": export, "forget": forget}
"""`lamella costs` itself, and its commands."""
