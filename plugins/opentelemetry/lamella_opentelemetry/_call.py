"""One call: its span from the layer's place, with what happened in it, and what it came to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry._logs import LogRecord
from opentelemetry.trace import SpanKind, StatusCode

from lamella import Ending, Event, MisuseError, Note, OpenAttempt, Response, scrub
from lamella_opentelemetry import _conventions as names
from lamella_opentelemetry import _sendable as sendable
from lamella_opentelemetry._content import shown, written
from lamella_opentelemetry._engine import Engine, within
from lamella_opentelemetry._facts import add_cost, add_failure, instant
from lamella_opentelemetry._place import Place, mark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from lamella import Head, Request

_MOST_FIELDS = 16
_CALLED = ("tools", "tools.called")


class Call:
    """A request on its way through the layer.

    Args:
        engine: What signals go through.
        request: As it came.
        parent: The context that it belongs to.
        outer: The place of the layer further out that sees the call; None if this one does.

    Attributes:
        place: What sees its attempts.
    """

    __slots__ = (
        "_attempt", "_began", "_cached", "_engine", "_first_note", "_outer", "_request", "_served",
        "_span", "place",
    )  # fmt: skip

    def __init__(
        self, engine: Engine, request: Request[Any], parent: Context, outer: Place | None
    ) -> None:
        trace = request.context.trace
        self._engine = engine
        self._request = request
        self._outer = outer is None
        self._began = trace.now()
        self._first_note = len(trace.notes)
        self._attempt: OpenAttempt | None = None
        self._served: str | None = None
        self._cached = False
        self._span: Span | None = None
        if engine.tracer is not None:
            name = request.operation if request.model is None else _named(request)
            self._span = engine.tracer.start_span(
                f"lamella {name}",
                parent,
                SpanKind.INTERNAL,
                _opening(request),
                start_time=instant(trace, self._began),
            )
            parent = within(self._span, parent)
        self.place = Place(engine, request.context.call_id, parent, outer)

    def answered(self, response: Response) -> None:
        """An answer came, open or complete."""
        head: Head | None = getattr(response, "head", None)
        if head is None:
            return  # it is none: the core says so, whoever returned it
        self._cached = head.cached
        self._served = head.provider
        try:
            context = response.context
        except MisuseError:
            return  # some layer has made it by hand
        if context.call_id == self._request.context.call_id:  # not that of a flight
            self._attempt = context.attempt

    def watched(self, response: Any) -> Any:
        """The answer with an eye on the time between its chunks, where that is wanted."""
        instruments, attempt = self._engine.instruments, self._attempt
        if not response.open or instruments is None or attempt is None:
            return response
        try:
            facts = instruments.facts(attempt, self._request)
        except Exception as error:  # noqa: BLE001 - as in `ended`
            failed(self._request, error)
            return response

        def passed(seconds: float) -> None:
            instruments.chunk(seconds, facts, self.place.context)

        return response.transform(Chunks(self._request, passed))

    def ended(self, end: Ending) -> None:
        """It is over: end its span and measure it. Nothing that fails here reaches the caller."""
        try:
            self._end(end)
        except Exception as error:  # noqa: BLE001 - a signal must never cost an answer
            failed(self._request, error)

    def _end(self, end: Ending) -> None:
        engine, request, context = self._engine, self._request, self.place.context
        trace = request.context.trace
        now = trace.now()
        notes = trace.notes[self._first_note :]
        try:
            if self._span is not None:
                self._end_span(self._span, end, notes, now)
        finally:
            if engine.instruments is not None and self._outer:
                seconds = now - self._began
                engine.instruments.call(request, end, seconds, context, cached=self._cached)
                counted = engine.unread.of(trace) if trace.parent_id is not None else notes
                if trace.adopted:
                    counted = [*counted, *engine.unread.of_adopted(trace)]
                if counted:
                    engine.instruments.notes(counted, context)
        if engine.logger is not None:
            self._send_event()

    def _end_span(self, span: Span, end: Ending, notes: Sequence[Note], now: float) -> None:
        trace = self._request.context.trace
        try:
            if span.is_recording():
                facts = self._closing(end)
                self._add_notes(span, notes, facts)
                if self._outer:
                    self._add_tools(notes)
                span.set_attributes(facts)
                mark(span, facts)
        finally:
            span.end(instant(trace, now))

    def _closing(self, end: Ending) -> dict[str, Any]:
        trace = self._request.context.trace
        found: dict[str, Any] = {"lamella.outcome": str(end.outcome)}
        if end.finish_reason is not None:
            found["lamella.finish_reason"] = end.finish_reason
        if self._cached:
            found["lamella.cached"] = True
        if self._served is not None:
            found["lamella.served_by"] = self._served
        if self._attempt is not None and self._attempt.first_event is not None:
            found["lamella.time_to_first_event"] = self._attempt.first_event - self._began
        if self._outer:
            usage = trace.usage
            found["lamella.attempts"] = len(trace.attempts)
            found["lamella.input_tokens"] = usage.input_tokens
            found["lamella.output_tokens"] = usage.output_tokens
            cost = trace.cost
            if cost is not None:
                add_cost(found, cost)
        add_failure(found, end.outcome, end.error)
        sendable.facts(found)
        if self._engine.wanted.content:
            messages = shown(trace.content, self._request.context.branch)
            if messages is not None:
                found[names.INPUT_MESSAGES] = written(messages[0])
                if messages[1]:
                    found[names.OUTPUT_MESSAGES] = written(messages[1])
        return found

    def _add_notes(self, span: Span, notes: Sequence[Note], facts: dict[str, Any]) -> None:
        """What layers noted as events of the span: the first ones, and how many more there were."""
        trace, most = self._request.context.trace, self._engine.wanted.most_notes
        for note in notes[:most]:
            known: dict[str, Any] = {"lamella.layer": note.layer}
            for name, value in list(note.fields.items())[:_MOST_FIELDS]:
                known[f"lamella.{name}"] = _plain(value)
            span.add_event(f"lamella.{note.name}", known, instant(trace, note.at))
        if len(notes) > most:
            facts["lamella.notes_dropped"] = len(notes) - most

    def _add_tools(self, notes: Sequence[Note]) -> None:
        """The calls of tools as spans of their own, as the conventions have them."""
        engine, trace = self._engine, self._request.context.trace
        assert engine.tracer is not None  # noqa: S101 - there is a span
        called = [note for note in notes if (note.layer, note.name) == _CALLED]
        for note in called[: engine.wanted.most_notes]:
            tool, outcome = note.fields["tool"], note.fields["outcome"]
            known: dict[str, Any] = {names.OPERATION: "execute_tool", names.TOOL_TYPE: "function"}
            if tool is not None:  # what a model made up has no name here
                known[names.TOOL_NAME] = tool
            if outcome != "ok":
                known[names.ERROR_TYPE] = outcome
            span = engine.tracer.start_span(
                "execute_tool" if tool is None else f"execute_tool {tool}",
                self.place.context,
                SpanKind.INTERNAL,
                sendable.facts(known),
                start_time=instant(trace, note.at - note.fields["seconds"]),
            )
            if outcome != "ok":
                span.set_status(StatusCode.ERROR)
            span.end(instant(trace, note.at))

    def _send_event(self) -> None:
        """The conventions' record of what was asked and answered, beside the span that served."""
        logger, attempt = self._engine.logger, self._attempt
        if logger is None or attempt is None:
            return
        # Taken out: layers further out that send events as well have none left to send.
        context, facts = self.place.closed.pop(attempt, (None, None))
        if facts is None:
            return  # not sampled, or of somebody else's call
        if self._engine.wanted.content:
            trace = self._request.context.trace
            messages = shown(trace.content, self._request.context.branch)
            if messages is not None:
                asked, answered = messages
                facts = {**facts, names.INPUT_MESSAGES: asked, names.OUTPUT_MESSAGES: answered}
        trace = self._request.context.trace
        at = instant(trace, trace.now())
        logger.emit(
            LogRecord(
                timestamp=at,
                observed_timestamp=at,
                context=context,
                event_name=names.DETAILS_EVENT,
                attributes=facts,
            )
        )


def failed(request: Request[Any], error: Exception) -> None:
    """Note that something of OpenTelemetry failed."""
    request.context.note("opentelemetry", "opentelemetry.failed", error=type(error).__name__)


def _named(request: Request[Any]) -> str:
    return sendable.text(f"{request.operation} {request.model}")


def _opening(request: Request[Any]) -> dict[str, Any]:
    context = request.context
    found: dict[str, Any] = {
        "lamella.call_id": context.call_id,
        "lamella.operation": request.operation,
        "lamella.stream": request.stream,
    }
    if request.model is not None:
        found["lamella.model"] = request.model
    if context.parent_id is not None:
        found["lamella.parent_id"] = context.parent_id
    if context.tenant is not None:
        found["lamella.tenant"] = context.tenant
    if context.session is not None:
        found[names.CONVERSATION_ID] = context.session
    if context.branch:
        found["lamella.branch"] = context.branch
    return sendable.facts(found)


def _plain(value: object) -> str | bool | int | float:
    """A field of a note as an attribute: numbers as they are, all else as scrubbed words."""
    if isinstance(value, bool | float):
        return value
    if isinstance(value, int) and value.bit_length() < 64:
        return value
    return sendable.text(str(scrub(str(value))), 200)


class Chunks:
    """Lets the events of an answer through, and tells how long each was awaited after the first.

    The time is the call's own, which stands still while its consumer holds an event.

    Args:
        request: What is answered.
        passed: Told the seconds from one chunk to the next; not any more once it has failed.
    """

    __slots__ = ("_broken", "_last", "_passed", "_request")

    def __init__(self, request: Request[Any], passed: Callable[[float], None]) -> None:
        self._request = request
        self._passed = passed
        self._last: float | None = None
        self._broken = False

    def feed(self, event: Event) -> Iterable[Event]:
        """See one event."""
        if event.semantic and not self._broken:
            now = self._request.context.clock.now()
            if self._last is not None:
                self._tell(now - self._last)
            self._last = now
        return (event,)

    def _tell(self, seconds: float) -> None:
        try:
            self._passed(seconds)
        except Exception as error:  # noqa: BLE001 - a signal must never cost an answer
            self._broken = True
            failed(self._request, error)

    def flush(self) -> Iterable[Event]:
        """Nothing is held back."""
        return ()
