"""The layer: it writes down how each request ended, and holds none of them up."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias, TypeVar

import attrs

from lamella import Ending, Handler, Outcome, Request, Response, ending, middleware
from lamella._failure_texts import FailureText
from lamella._options import flag, number, one_of, whole
from lamella._scrub import scrub
from lamella._text_sinks import TextStream, usable_sink
from lamella._writers import EXIT_SECONDS, Writer, writer_for
from lamella_middlewares.log._lines import Format, Lines
from lamella_middlewares.log._record import LEVELS, level_of, notes_of, record_of

R = TypeVar("R", bound=Response)

Sink: TypeAlias = Callable[[dict[str, Any]], object] | TextStream | str
"""Where records go: `"stderr"`, `"stdout"`, a text stream, or a plain function of the record."""

Level: TypeAlias = Literal["debug", "info", "warning", "error"]


def _writer_of(log: Any) -> Writer:
    attrs.validate(log)  # attrs itself does so only once all fields are there
    sink: Any = log.sink
    place = sink if isinstance(sink, str) else id(sink)  # the writer keeps the sink, so ids stay
    write = sink if callable(sink) else Lines(sink, log.format)
    key = (place, log.format, log.queue)
    # The sink is kept beside the function made of it, or its id could be given to another object.
    return writer_for(key, lambda: Writer(_Scrubbing(write, sink), log.queue))


@attrs.frozen(eq=False)
class _Scrubbing:
    """A sink that sees only what may be logged."""

    write: Callable[[dict[str, Any]], object]
    kept: object

    def __call__(self, record: Mapping[str, Any]) -> None:
        self.write(scrub(record))


@middleware(phase="observe", rank=10)
@attrs.frozen(eq=False)
class Log:
    """Writes exactly one record for each request: completed, failed, cancelled or left.

    A record holds facts of the call (who, which model, how it ended, how long, attempts, tokens,
    cost, the class and status of an error), never an error's message and never content, unless
    asked for. Secrets are scrubbed from all that goes to a sink, as by `lamella.scrub`. Records are
    queued and written by a thread of their own.

    Args:
        format: How lines look on a text stream: `"json"`, `"console"`, or `"auto"`, which is
            console on a terminal and JSON elsewhere.
        level: The quietest records that are written. Endings are `info`, what the library itself
            refused is `warning`, what failed is `error`. With `"debug"`, records have the notes of
            the trace.
        tracebacks: Whether records of failures have `message`, what the error says, and
            `traceback`: its text with those of its causes and members, places and lines of source,
            no values of variables. An error's message may quote a prompt, which scrubbing does not
            recognise.
        content: Whether records have `content`: what the redacting layer lets observers see of
            prompts and answers (`trace.content`). Without such a layer that is nothing.
        sample: Which part of the requests is written, 0 to 1; the call's id decides, so that all
            processes agree about a call.
        keep_errors: Whether warnings and errors are written whatever `sample` says.
        sink: Where to: `"stderr"`, `"stdout"`, an open text stream, or a plain function of the
            record, a dict. The function is called in the writer's thread; what it raises is
            counted (see `health`).
        queue: How many records may wait for the sink, at least 1. Then the oldest goes; the next
            record says how many went (`dropped`).
    """

    format: Format = attrs.field(default="auto", validator=one_of("json", "console", "auto"))
    level: Level = attrs.field(default="info", validator=one_of(*LEVELS))
    tracebacks: bool = attrs.field(default=False, validator=flag)
    content: bool = attrs.field(default=False, validator=flag)
    sample: float = attrs.field(default=1.0, validator=number(0, 1))
    keep_errors: bool = attrs.field(default=True, validator=flag)
    sink: Any = attrs.field(default="stderr", validator=usable_sink("the record"))
    queue: int = attrs.field(default=1000, validator=whole(1))
    _writer: Writer = attrs.field(
        init=False, repr=False, default=attrs.Factory(_writer_of, takes_self=True)
    )

    async def __call__(self, request: Request[R], call_next: Handler) -> R:
        """Pass the request on, and write down how it ended."""
        call = _Call(self, request)
        return await ending(call_next, request, call.ended, answered=call.answered)

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
        """How many records wait, were written, were dropped, and made the sink fail."""
        return self._writer.state()

    def wants(self, outcome: Outcome, call_id: str) -> bool:
        """Whether a call that ended so is written."""
        level = LEVELS[level_of(outcome)]
        if level < LEVELS[self.level]:
            return False
        if self.sample >= 1 or (self.keep_errors and level > LEVELS["info"]):
            return True
        return zlib.crc32(call_id.encode()) < self.sample * 2**32

    def write(self, record: Mapping[str, Any]) -> None:
        """Queue a record."""
        self._writer.put(record)


class _Call:
    """One request on its way."""

    __slots__ = ("_began", "_log", "_request", "_response")

    def __init__(self, log: Log, request: Request[Any]) -> None:
        self._log = log
        self._request = request
        self._response: Response | None = None
        self._began = request.context.trace.now()

    def answered(self, response: object) -> None:
        """Remember the answer."""
        if isinstance(response, Response):  # or a layer inside is wrong, which is said at the end
            self._response = response

    def ended(self, end: Ending) -> None:
        """Queue the record."""
        context, log = self._request.context, self._log
        if not log.wants(end.outcome, context.call_id):
            return
        try:
            record = record_of(self._request, self._response, end, self._began)
            if log.level == "debug":
                record["notes"] = notes_of(context.trace.notes)
            if log.tracebacks and isinstance(end.error, Exception):
                failure = FailureText.of(end.error)
                record["message"], record["traceback"] = failure.message, failure
            if log.content and context.trace.content:
                content = context.trace.content
                record["content"] = {branch: shown.to_dict() for branch, shown in content.items()}
            log.write(record)
        except Exception as error:  # noqa: BLE001 - a record must never cost an answer
            context.note("log", "log.failed", error=type(error).__name__)
