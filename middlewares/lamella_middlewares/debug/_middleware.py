"""The layer: it tells of each call once it is over, and holds none of them up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import attrs

from lamella import Ending, Handler, Outcome, Request, Response, ending, middleware
from lamella._options import flag, is_number, optional_seconds, refused, whole
from lamella._text_sinks import TextStream, usable_sink
from lamella._writers import EXIT_SECONDS, Writer, writer_for
from lamella_middlewares.debug._pages import Pages
from lamella_middlewares.debug._telling import Telling

R = TypeVar("R", bound=Response)

Sink: TypeAlias = Callable[[str], object] | TextStream | str
"""Where texts go: `"stderr"`, `"stdout"`, a text stream, or a plain function of the text."""

_WELL: Final = frozenset({Outcome.COMPLETE, Outcome.LEFT, Outcome.CANCELLED})
"""A caller who stops, or is cancelled, has not failed."""

_MARK: Final = "lamella.debug"


def _folder(value: str | PathLike[str] | None) -> Path | None:
    return Path(value) if isinstance(value, str | PathLike) else value


def _usable_folder(debug: Any, option: attrs.Attribute[Any], value: object) -> None:
    if value is None:
        return
    if not isinstance(value, Path) or (value.exists() and not value.is_dir()):
        raise refused(debug, option, value, "the path of a folder, or None to write no pages")


def _seconds_or_none(debug: Any, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (not is_number(value) or value < 0):
        raise refused(
            debug, option, value, "seconds, 0 or more, a timedelta, or None for all calls"
        )


def _writer_of(debug: Any) -> Writer:
    attrs.validate(debug)  # attrs itself does so only once all fields are there
    sink: Any = debug.sink
    place = sink if isinstance(sink, str) else id(sink)  # the writer keeps the sink, so ids stay
    pages = None if debug.pages is None else Pages(debug.pages, debug.keep)
    key = ("debug", place, debug.pages, debug.keep, debug.queue)
    return writer_for(key, lambda: Writer(Telling(sink, pages), debug.queue))


@middleware(phase="observe", rank=5, once=True, timed=True)
@attrs.frozen(eq=False)
class Debug:
    """Tells of each call once it is over: for development.

    The call is drawn, each layer with its time; then the request and the answer in outline (roles,
    kinds of parts, sizes), what each layer took for itself, and what the layers say of their state.
    No text of prompts and answers, unless a redacting layer shows it and `content` asks for it; no
    message of an error, which may quote them.

    Reports are queued and written by a thread of their own: a sink that blocks or fails holds no
    call up, and harms none.

    Args:
        sink: Where to: `"stderr"`, `"stdout"`, an open text stream, or a plain function of the
            text. The function is called in the writer's thread; what it raises is counted (see
            `health`).
        pages: A folder to which each call is written as an HTML page too; it is made if it is not
            there. None writes none.
        keep: How many pages stay in the folder, at least 1; the oldest go.
        slower_than: Tells only of calls that took longer, in seconds (0 or more) or a timedelta,
            and of those that failed. None tells of all.
        content: Whether to show what the redacting layer lets observers see of prompts and answers
            (`trace.content`). Without such a layer that is nothing.
        queue: How many reports may wait for the sink, at least 1. Then the oldest goes; the next
            report says how many went.
    """

    sink: Any = attrs.field(default="stderr", validator=usable_sink("the text"))
    pages: Path | None = attrs.field(default=None, converter=_folder, validator=_usable_folder)
    keep: int = attrs.field(default=100, validator=whole(1))
    slower_than: float | None = attrs.field(
        default=None, converter=optional_seconds, validator=_seconds_or_none
    )
    content: bool = attrs.field(default=False, validator=flag)
    queue: int = attrs.field(default=100, validator=whole(1))
    _writer: Writer = attrs.field(
        init=False, repr=False, default=attrs.Factory(_writer_of, takes_self=True)
    )

    async def __call__(self, request: Request[R], call_next: Handler) -> R:
        """Pass the request on, and tell of its call when that is over."""
        context = request.context
        # Inside of one that tells of the same call, or of the call that this one is detached from.
        if context.attributes.get(_MARK) in {context.call_id, context.parent_id or ""}:
            return await call_next(request)
        seen = _Seen(self, request, call_next)
        context.call.after(seen.over, key=self._writer)
        attributes = {**context.attributes, _MARK: context.call_id}
        request = request.evolve(context=context.evolve(attributes=attributes))
        return await ending(call_next, request, seen.ended, answered=seen.answered)

    def wants(self, outcome: Outcome | None, seconds: float) -> bool:
        """Whether a call that ended so, after so long, is told of."""
        return self.slower_than is None or seconds > self.slower_than or outcome not in _WELL

    def write(self, report: Mapping[str, Any]) -> None:
        """Queue a report."""
        self._writer.put(report)

    def flush(self, timeout: float = EXIT_SECONDS) -> bool:
        """Wait until what is queued now has been written. Blocks; for the end of a program.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            Whether all of it has been written.
        """
        return self._writer.flush(timeout)

    async def aclose(self) -> None:
        """Wait, at most a second, until what is queued has been written."""
        await self._writer.aflush()

    def health(self) -> Mapping[str, Any]:
        """How many reports wait, were written, were dropped, and made the sink fail."""
        return self._writer.state()


class _Seen:
    """What is seen of one call. It must not hold the response, which would then live too long."""

    __slots__ = ("_call_next", "_debug", "_end", "_head", "_request")

    def __init__(self, debug: Debug, request: Request[Any], call_next: Handler) -> None:
        self._debug = debug
        self._request = request
        self._call_next = call_next
        self._head: dict[str, str] = {}
        self._end: Ending | None = None

    def answered(self, response: Response) -> None:
        """The answer has come, or begun to."""
        head = response.head
        known = {"model": head.model, "provider": head.provider, "request id": head.request_id}
        self._head = {name: fact for name, fact in known.items() if fact is not None}
        if head.cached:
            self._head["cached"] = "replayed, not paid for"

    def ended(self, end: Ending) -> None:
        """The answer has ended."""
        self._end = end

    def over(self) -> None:
        """The call is over, and its trace complete."""
        debug, context = self._debug, self._request.context
        trace = context.trace
        if not debug.wants(trace.outcome, trace.duration or 0.0):
            return
        from lamella_middlewares.debug._report import Report
        from lamella_middlewares.debug._state import State

        state = State(self._call_next, context.ports)
        shown = dict(trace.content) if debug.content else None
        report = Report(trace.record(), self._request, self._head, self._end, state, shown)
        debug.write({"report": report})
