"""Sees every attempt of one call, and of what is detached from it: a span and measurements each.

It travels inward as an observer on the request's context, so that no context variable is set: a
token of one must not be held while an answer is read, perhaps by another task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, get_current_span

from lamella_opentelemetry import _conventions as names
from lamella_opentelemetry._engine import within
from lamella_opentelemetry._facts import closing, instant, opening
from lamella_opentelemetry._sendable import text

if TYPE_CHECKING:
    from lamella import Context as CallContext
    from lamella import OpenAttempt, Request
    from lamella_opentelemetry._engine import Engine


@attrs.frozen(eq=False)
class Opened:
    """An attempt under way: its span, and the context in which that is the current one."""

    span: Span | None
    context: Context


class Place:
    """Where in OpenTelemetry's traces the attempts of a call stand.

    Args:
        engine: What signals go through.
        call_id: The call that it was made for.
        context: The context in which attempts begin: that of the call's span.
        outer: The place that it stands in for, of a layer further out; None if there is none.

    Attributes:
        opened: The attempts under way.
        closed: Of attempts that have ended, where events are wanted: context and facts. The place
            further out has them too, as it does not see them itself.
        keeps: Whether events are wanted, here or further out.
    """

    __slots__ = ("_roots", "call_id", "closed", "context", "engine", "keeps", "opened")

    def __init__(
        self, engine: Engine, call_id: str, context: Context, outer: Place | None = None
    ) -> None:
        self.engine = engine
        self.call_id = call_id
        self.context = context
        self.opened: dict[OpenAttempt, Opened] = {}
        self.closed: dict[OpenAttempt, tuple[Context, dict[str, Any]]] = (
            {} if outer is None else outer.closed
        )
        self.keeps: bool = engine.logger is not None or (outer is not None and outer.keeps)
        self._roots: dict[str, Context] = {}

    def context_for(self, found: CallContext) -> Context:
        """The context in which attempts of a call begin: a trace of its own for detached work."""
        if found.call_id == self.call_id:
            return self.context
        root = self._roots.get(found.call_id)
        if root is None:
            root = self._roots[found.call_id] = self._detached(found)
        return root

    def _detached(self, found: CallContext) -> Context:
        """The root of detached work: a span without extent, which says when and for whom it began.

        Nobody is told when such work is over, and its attempts are what takes time.
        """
        tracer = self.engine.tracer
        if tracer is None:
            return Context()
        cause = get_current_span(self.context).get_span_context()
        began = instant(found.trace, 0)
        purpose = found.branch.split("/")[1] if "/" in found.branch else "detached"
        attributes: dict[str, str] = {"lamella.call_id": found.call_id}
        if found.parent_id is not None:
            attributes["lamella.parent_id"] = found.parent_id
        span = tracer.start_span(
            f"lamella {purpose}",
            Context(),
            SpanKind.INTERNAL,
            attributes,
            [Link(cause)] if cause.is_valid else [],
            began,
        )
        span.end(began)
        return within(span, Context())

    def attempt_opened(self, attempt: OpenAttempt, request: Request[Any], /) -> None:
        """Begin its span, and say what is to go along with the request."""
        engine = self.engine
        context = self.context_for(request.context)
        span: Span | None = None
        if engine.tracer is not None:
            words = engine.words
            name = request.operation
            span = engine.tracer.start_span(
                name if attempt.model is None else text(f"{name} {attempt.model}"),
                context,
                SpanKind.CLIENT,
                opening(attempt, request, words),
                start_time=instant(request.context.trace, attempt.start),
            )
            context = within(span, context)
        if engine.on:
            self.opened[attempt] = Opened(span, context)
        if engine.wanted.propagate:
            headers = engine.headers(context)
            if headers:
                attempt.headers = {**attempt.headers, **headers}

    def attempt_closed(self, attempt: OpenAttempt, request: Request[Any], /) -> None:
        """End its span, and measure it."""
        opened = self.opened.pop(attempt, None)
        if opened is None:
            return
        try:
            self._tell(opened, attempt, request)
        finally:
            if opened.span is not None:
                end = attempt.start if attempt.end is None else attempt.end
                opened.span.end(instant(request.context.trace, end))
        instruments = self.engine.instruments
        if instruments is not None:
            instruments.attempt(attempt, request, opened.context)
            trace = request.context.trace
            if trace.parent_id is not None and trace.notes:
                # Nobody is told of the end of what was detached: what it has noted so far.
                instruments.notes(self.engine.unread.of(trace), opened.context)

    def _tell(self, opened: Opened, attempt: OpenAttempt, request: Request[Any]) -> None:
        """Give its span what is known of it; keep that where an event is to follow."""
        span, engine = opened.span, self.engine
        if span is None:
            if not self.keeps:
                return
        elif not span.is_recording():
            return  # not sampled
        facts = closing(attempt, request, engine.words)
        if span is not None:
            span.set_attributes(facts)
            mark(span, facts)
        if self.keeps:
            known = {**opening(attempt, request, engine.words), **facts}
            self.closed[attempt] = opened.context, known


def mark(span: Span, facts: dict[str, Any]) -> None:
    """Say of a span that it failed, if its facts say so."""
    kind = facts.get(names.ERROR_TYPE)
    if kind is None:
        return
    codes = (facts.get(names.STATUS_CODE), facts.get("lamella.error.code"))
    known = ", ".join(str(code) for code in codes if code is not None)
    span.set_status(Status(StatusCode.ERROR, f"{kind} ({known})" if known else kind))
