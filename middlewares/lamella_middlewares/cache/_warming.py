"""Warming a cache up: running what stands in a file through a pipeline, so that it is kept.

Each line goes through the pipeline itself, as a call of its own. Only so does the answer stand
under the key that later calls ask for, which depends on what the layers outside make of a request
and on what stands inside.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import anyio

from lamella import (
    AuthenticationError,
    ChatRequest,
    ClosedError,
    ConfigurationError,
    LamellaError,
    MisuseError,
    Opaque,
    PermissionDeniedError,
    Pipeline,
    QuotaError,
)
from lamella._repeatable import deterministic, stateless
from lamella_middlewares.cache._control import LAYER, WarmingUp
from lamella_middlewares.cache._warm_answers import LineError
from lamella_middlewares.cache._warm_file import LARGEST, Lines
from lamella_middlewares.cache._warm_lines import WarmLine, read_line
from lamella_middlewares.cache._warmed import Came, Warmed, WarmProblem, WarmProgress

if TYPE_CHECKING:
    from lamella import Response, Trace

__all__ = ["WarmProblem", "WarmProgress", "Warmed", "warm"]

MOST_PROBLEMS: Final = 1_000
"""How many problems a report names; it counts them all."""

_FINAL: Final = (
    AuthenticationError,
    ClosedError,
    ConfigurationError,
    PermissionDeniedError,
    QuotaError,
)
"""What the next line would meet as well."""
_SHARED: Final = "not_own"
"""Another call has made this answer, and keeps it."""
_OUT: Final = frozenset({"unavailable", "it took too long"})


async def warm(
    pipeline: Pipeline,
    path: str | os.PathLike[str],
    *,
    tenant: str | None = None,
    concurrency: int = 8,
    refresh: bool = False,
    on_progress: Callable[[WarmProgress], object] | None = None,
) -> Warmed:
    """Keep what the lines of a file ask; see `Cache.warm`."""
    if concurrency.__class__ is not int or concurrency < 1:
        msg = f"Cache.warm(concurrency={concurrency!r}) would warm nothing; it is 1 or more."
        raise ConfigurationError(msg)
    said: Any = tenant
    if said is not None and not (isinstance(said, str) and said):
        what = "an empty text" if said == "" else f"a {type(said).__name__}"
        msg = f"Cache.warm(tenant=...) was given {what}, which is nobody's name."
        hint = "Give a text that is not empty, or None where each line names its own."
        raise MisuseError(msg, hint=hint, layer=LAYER)
    lines = Lines(Path(path), pipeline.ports.thread)
    run = _Run(pipeline, tenant, refresh=refresh, on_progress=on_progress)
    try:
        async with anyio.create_task_group() as group:
            for _ in range(concurrency):
                group.start_soon(run.work, lines)
    except BaseExceptionGroup as errors:
        group_of: BaseExceptionGroup[BaseException] = errors
        raise _alone(group_of) from None
    finally:
        lines.close()
    return run.report()


def _alone(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group: no group leaves the library."""
    first: Any = errors
    while isinstance(first, BaseExceptionGroup):
        first = cast("Any", first).exceptions[0]
    return cast("BaseException", first)


class _Run:
    """The lines that are under way, and what the others have come to."""

    def __init__(
        self,
        pipeline: Pipeline,
        tenant: str | None,
        *,
        refresh: bool,
        on_progress: Callable[[WarmProgress], object] | None,
    ) -> None:
        self._pipeline = pipeline
        self._layer = _cache_of(pipeline)
        self._tenant = tenant if tenant is not None else self._layer.tenant
        self._refresh = refresh
        self._on_progress = on_progress
        self._counts: dict[Came, int] = dict.fromkeys(("fresh", "kept", "asked", "failed"), 0)
        self._problems: list[WarmProblem] = []
        self._stopped: LamellaError | None = None

    def report(self) -> Warmed:
        """What has become of the lines."""
        problems = tuple(sorted(self._problems, key=lambda one: one.line))
        return Warmed(**self._counts, problems=problems, stopped=self._stopped)

    async def work(self, lines: Lines) -> None:
        """Take lines until there are no more, or the rest would fail as well."""
        while self._stopped is None:
            taken = await lines.take()
            if taken is None:
                return
            number, text = taken
            try:
                came, why = await self._one(text)
            except LineError as error:
                came, why = "failed", f"it {error}"
            except _FINAL as error:
                self._stop(error)
                came, why = "failed", str(error)
            except Exception as error:  # noqa: BLE001 - a line's own failure is in the report
                came, why = "failed", _told(error)
            self._count(number, came, why)

    async def _one(self, text: bytes | None) -> tuple[Came, str]:
        if text is None:
            msg = f"has more than {LARGEST >> 20} MiB"
            raise LineError(msg)
        line = read_line(text, self._tenant)
        self._must_be_cached(line)
        response = await self._pipeline.run(self._controlled(line))
        came, why = _came(response, given=line.answer is not None)
        if why in _OUT:  # each further line would be paid for, and forgotten
            msg = "The cache's store does not answer, so nothing would be kept of what is asked."
            self._stop(LamellaError(msg, hint="Look why it is out."))
        return came, f"its answer was not kept: {why}" if why else ""

    def _must_be_cached(self, line: WarmLine) -> None:
        """Refuse what would be asked and paid for, and then not be kept."""
        when = self._layer.when
        if line.request.context.tenant is None:
            msg = "names no 'tenant' that the answer is kept for"
            raise LineError(msg)
        if not stateless(line.request):
            tools = line.request.tools if isinstance(line.request, ChatRequest) else ()
            msg = "leaves something behind at the provider, so its answer is not kept"
            if any(isinstance(tool, Opaque) for tool in tools):
                msg = (
                    "has a tool that is none of your own, so that its answer is not kept: yours "
                    'is {"type": "function", "function": {"name": ...}}'
                )
            raise LineError(msg)
        if line.always or when == "all":
            return
        if when == "deterministic" and not deterministic(line.request):
            msg = (
                "need not come out the same each time, so the cache does not keep it; give it a "
                'temperature of 0 or a seed, or "cache": true if your requests say so, too'
            )
            raise LineError(msg)
        if callable(when) and not when(line.request):
            msg = "is none that the cache keeps: its `when` says so"
            raise LineError(msg)

    def _controlled(self, line: WarmLine) -> Any:
        control = WarmingUp(
            mode="refresh" if self._refresh else "use",
            always=line.always,
            ttl=line.ttl,
            tags=line.tags,
            answer=line.answer,
        )
        context = line.request.context.evolve(attributes={LAYER: control})
        return line.request.evolve(context=context)

    def _stop(self, error: LamellaError) -> None:
        """Look at no further line. The first reason counts."""
        if self._stopped is None:
            self._stopped = error

    def _count(self, number: int, came: Came, why: str) -> None:
        self._counts[came] += 1
        problem = None
        if came == "failed":
            problem = WarmProblem(number, why)
            if len(self._problems) < MOST_PROBLEMS:
                self._problems.append(problem)
        if self._on_progress is not None:
            done = sum(self._counts.values())
            self._on_progress(WarmProgress(number, done, came, problem))


def _cache_of(pipeline: Pipeline) -> Any:
    for info, layer in zip(pipeline.infos, pipeline.layers, strict=True):
        if info.name == LAYER:
            return layer
    msg = "Cache.warm: the pipeline has no Cache that could keep anything."
    raise MisuseError(msg, hint="Give the pipeline that this layer is in.")


def _came(response: Response, *, given: bool) -> tuple[Came, str]:
    """What the cache did about a call, and why it kept nothing."""
    notes = _notes(response.trace)
    if "stored" in notes:
        return ("kept" if given else "asked"), ""
    if "hit" in notes or notes.get("not_stored") == _SHARED:
        return "fresh", ""
    for name in ("not_stored", "bypassed", "miss"):
        if name in notes:
            return "failed", notes[name]
    return "failed", "the call did not come to the cache, for a layer outside has answered it"


def _notes(trace: Trace) -> dict[str, str]:
    """What the cache has noted, each with the reason."""
    mine = [note for note in trace.notes if note.layer == LAYER]
    return {note.name.partition(".")[2]: str(note.fields.get("why", "")) for note in mine}


def _told(error: Exception) -> str:
    """An error in a line, without what a stranger's one may quote."""
    return str(error) if isinstance(error, LamellaError) else type(error).__name__
