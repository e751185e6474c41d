"""`lamella cache`: what caches keep, how good they are, forgetting, and warming them up.

| exit code | meaning |
|---|---|
| 0 | all is well |
| 1 | the store or a line of the file failed, or what should be forgotten may still be there |
| 2 | the command line is wrong, or there is no such preset, cache, store or file |
| 130 | ended by Ctrl-C; what was kept or forgotten until then is |
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final, TypeVar

from lamella.cli._stack import NO_STACK, Stack
from lamella_middlewares.cache._where import NOWHERE, Where

T = TypeVar("T")

_GOOD: Final = 0
_BAD: Final = 1


def stats(*, where: Where = NOWHERE, json: bool = False) -> int:
    """Show how much is kept, of whom, and what it has saved.

    Args:
        where: Which caches.
        json: Print a JSON list, an object for each cache.
    """
    from lamella_middlewares.cache._summary import summarise

    return _with_shelves(where, lambda shelves: summarise(shelves, json=json))


def listed(
    *,
    tenant: str | None = None,
    tag: str | None = None,
    limit: int = 100,
    content: bool = False,
    where: Where = NOWHERE,
    json: bool = False,
) -> int:
    """List what is kept: whose it is, its age, size and tags; what it says only if asked.

    Args:
        tenant: Only of this tenant.
        tag: Only with this tag.
        limit: At most so many; 0 lists all. 100 if not given.
        content: Show what the models have said too.
        where: Which caches.
        json: Print a JSON list.
    """
    from lamella.cli._errors import UsageError
    from lamella.cli._output import say, show_json
    from lamella_middlewares.cache._listing import Entry, show_entries

    _no_empty(tenant=tenant, tag=tag)
    if limit < 0:
        msg = f"--limit {limit} lists nothing."
        raise UsageError(msg, hint="It is 0 for all, or more.")

    async def work(shelves: list[Any]) -> int:
        found: list[Entry] = []
        async with aclosing(_entries(shelves, tenant, tag)) as entries:
            async for entry in entries:
                found.append(entry)
                if limit and len(found) > limit:
                    break
        more = bool(limit) and len(found) > limit
        if more:
            found.pop()
        found.sort(key=lambda entry: entry.info.age)
        if json:
            show_json([entry.form(content=content) for entry in found])
        elif found:
            show_entries(found, content=content)
        else:
            say("Nothing is kept.")
        if more:
            say(f"(There is more than these {limit}: --limit 0 lists all.)", style="dim")
        return _GOOD

    return _with_shelves(where, work)


def purge(
    *,
    tenant: str | None = None,
    tag: str | None = None,
    where: Where = NOWHERE,
    yes: bool = False,
    json: bool = False,
) -> int:
    """Forget all of a tenant, all with a tag, or what of a tenant has the tag.

    Args:
        tenant: Whose. `shared` is a tenant as any other.
        tag: Which.
        where: Which caches.
        yes: Do not ask first.
        json: Print a JSON object: how many were forgotten.
    """
    from lamella.cli._errors import UsageError

    if tenant is None and tag is None:
        msg = "There is nothing to choose what is to be forgotten by."
        raise UsageError(msg, hint="Give --tenant T, --tag X or both; `clear` forgets everything.")
    _no_empty(tenant=tenant, tag=tag)
    what = " ".join(
        [f"{name} {given!r}" for name, given in (("of tenant", tenant), ("with tag", tag)) if given]
    )
    return _forget(where, what, yes=yes, json=json, tenant=tenant, tag=tag)


def clear(*, where: Where = NOWHERE, yes: bool = False, json: bool = False) -> int:
    """Forget everything.

    Args:
        where: Which caches.
        yes: Do not ask first.
        json: Print a JSON object: how many were forgotten.
    """
    return _forget(where, "", yes=yes, json=json, tenant=None, tag=None)


def warm(
    file: str,
    *,
    stack: Stack = NO_STACK,
    tenant: str | None = None,
    concurrency: int = 8,
    refresh: bool = False,
    json: bool = False,
) -> int:
    """Run the requests of a file, one JSON object a line, so that their answers are kept.

    A line with an `answer` keeps that and asks nobody; what is kept already and fresh is left.

    Args:
        file: The file.
        stack: The pipeline with the cache.
        tenant: Whose they are, where a line does not say `tenant`.
        concurrency: How many at once. 8 if not given.
        refresh: Ask again, and keep again, what is kept already.
        json: Print a JSON object: how many, and the problems.
    """
    from lamella.cli._interrupts import run
    from lamella_middlewares.cache._shelves import must_outlive
    from lamella_middlewares.cache._summary import Progress, tell_warmed
    from lamella_middlewares.cache._warming import warm as warm_up

    _no_empty(tenant=tenant)
    pipeline = stack.pipeline(quiet=True)
    must_outlive(pipeline)
    progress = Progress()

    async def work(_: object) -> Any:
        async with pipeline:
            return await warm_up(
                pipeline,
                file,
                tenant=tenant,
                concurrency=concurrency,
                refresh=refresh,
                on_progress=progress.tell,
            )

    try:
        warmed = run(work)
    except BaseException as error:
        progress.broken_off(error)
        raise
    return tell_warmed(warmed, json=json)


# --- behind them ---------------------------------------------------------------------------------


def _no_empty(**given: str | None) -> None:
    """Refuse what is left of a variable that is not set: nothing is kept for it."""
    from lamella.cli._errors import UsageError

    for name, value in given.items():
        if value == "":
            msg = f"--{name} is empty, and nothing is kept for an empty {name}."
            raise UsageError(msg, hint="See whether the variable that it comes from is set.")


def _with_shelves(where: Where, work: Callable[[list[Any]], Awaitable[T]]) -> T:
    """Do something with the shelves, and close their store."""
    from lamella.cli._interrupts import run
    from lamella_middlewares.cache._shelves import shelves_of

    place = where.place()

    async def whole(_: object) -> T:
        shelves, opened = await shelves_of(place)
        try:
            return await work(shelves)
        finally:
            await opened.aclose()

    return run(whole)


async def _entries(
    shelves: list[Any], tenant: str | None = None, tag: str | None = None
) -> AsyncGenerator[Any]:
    from lamella_middlewares.cache._listing import Entry

    for shelf in shelves:
        async with aclosing(shelf.kept.listed(tenant=tenant, tag=tag)) as listing:
            async for info, answer in listing:
                yield Entry(shelf, info, answer)


def _forget(
    where: Where, what: str, *, yes: bool, json: bool, tenant: str | None, tag: str | None
) -> int:
    from lamella.cli._output import say, show_json
    from lamella_middlewares.cache._listing import print_text

    place = where.place()
    source = f"preset {place.preset!r}" if place.use is None else f"store {place.use!r}"
    if not _sure(f"Forget every kept answer{what and ' '}{what} in the {source}?", yes=yes):
        say("Nothing was forgotten.")
        return _BAD

    async def work(shelves: list[Any]) -> tuple[int, int]:
        gone = 0
        for shelf in shelves:
            gone += await shelf.kept.purge(tenant=tenant, tag=tag)
        hidden = 0
        if what:  # under another key tenants and tags have other digests
            async for entry in _entries(shelves):
                hidden += entry.answer is None
        return gone, hidden

    gone, hidden = _with_shelves(where, work)
    if json:
        show_json({"forgotten": gone, "unreadable": hidden})
    else:
        print_text(f"{gone:,} forgotten.")
    if hidden:
        say(
            f"{hidden:,} answers that are there cannot be read with this key, and may be {what}. "
            "Give the --key that they were signed with, or forget everything: lamella cache clear."
        )
        return _BAD
    return _GOOD


def _sure(question: str, *, yes: bool) -> bool:
    """Whether somebody means it."""
    from lamella.cli._errors import UsageError
    from lamella.cli._output import harmless, is_terminal

    if yes:
        return True
    if not (sys.stdin.isatty() and is_terminal(sys.stderr)):
        msg = "What is forgotten is gone, and there is nobody to ask."
        raise UsageError(msg, hint="Add --yes if you mean it.")
    sys.stdout.flush()
    sys.stderr.write(f"{harmless(question)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().casefold() in {"y", "yes"}


COMMANDS: Final[Mapping[str, Any]] = {
    "stats": stats,
    "list": listed,
    "purge": purge,
    "clear": clear,
    "warm": warm,
}
"""The commands of `lamella cache`."""
