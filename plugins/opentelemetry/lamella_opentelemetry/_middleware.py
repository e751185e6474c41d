"""The layer: a span for each call, one for each attempt, and the metrics of both."""

from __future__ import annotations

from typing import Any, TypeVar

import attrs
from opentelemetry import baggage, propagate
from opentelemetry.context import Context, get_current
from opentelemetry.trace import get_current_span

from lamella import ConfigurationError, Handler, Request, Response, ending, middleware
from lamella._evolve import changed
from lamella._options import flag, one_of, refused, whole
from lamella_opentelemetry._call import Call, failed
from lamella_opentelemetry._conventions import CONVENTIONS, VERSIONS, Version
from lamella_opentelemetry._engine import Engine, Engines, Propagate, Wanted
from lamella_opentelemetry._place import Place

R = TypeVar("R", bound=Response)


def _provides(method: str) -> Any:
    def check(layer: Any, option: attrs.Attribute[Any], value: object) -> None:
        if value is not None and not callable(getattr(value, method, None)):
            want = f"an OpenTelemetry provider, which has {method}(), or None for the program's own"
            raise refused(layer, option, value, want)

    return check


def _propagates(layer: Any, option: attrs.Attribute[Any], value: object) -> None:
    if value != "baggage" and not isinstance(value, bool):
        raise refused(layer, option, value, "True, False, or 'baggage' to send that as well")


def _engines_of(layer: OpenTelemetry) -> Engines:
    attrs.validate(layer)  # attrs itself does so only once all fields are there
    if not CONVENTIONS[layer.conventions].messages and (layer.events or layer.content):
        msg = (
            f"OpenTelemetry(conventions={layer.conventions!r}) has no names for events or content."
        )
        raise ConfigurationError(msg, hint='Give conventions="1.41" or later, or leave those off.')
    if not (layer.traces or layer.metrics or layer.events or layer.propagate):
        raise ConfigurationError(
            "OpenTelemetry(traces=False, metrics=False, propagate=False) sends nothing.",
            hint="Leave the layer out, or one of them on.",
        )
    return Engines(
        Wanted(
            tracer_provider=layer.tracer_provider,
            meter_provider=layer.meter_provider,
            logger_provider=layer.logger_provider,
            conventions=layer.conventions,
            traces=layer.traces,
            metrics=layer.metrics,
            events=layer.events,
            content=layer.content,
            chunks=layer.chunks,
            propagate=layer.propagate,
            most_notes=layer.most_notes,
            most_models=layer.most_models,
        )
    )


@middleware(phase="observe", rank=20, name="opentelemetry")
@attrs.frozen(eq=False, kw_only=True)
class OpenTelemetry:
    """Sends a span for each call and each attempt, and measures them, with OpenTelemetry.

    The call's span is a child of the span that is current where `run` or `stream` is called, and
    the attempts' spans are its children: tries, hedges, fallbacks, child calls. Work that outlives
    the call has a trace of its own, linked to it. What fails in OpenTelemetry is noted in the trace
    (`opentelemetry.failed`, `observer.failed`) and never disturbs a request.

    Args:
        tracer_provider: Whose spans these are. None is the program's own; as long as there is
            none, no span is made.
        meter_provider: The same for metrics.
        logger_provider: The same for events.
        conventions: Which version of the conventions for generative AI names things:
            `"1.36"`, `"1.41"`, `"2026-10"`, `"2026-11"`.
        traces: Whether spans are sent.
        metrics: Whether metrics are.
        events: Whether an event with the facts of the attempt that served is sent for each call.
        content: Whether the call's span, and its event, hold prompts and answers as the redacting
            layer lets them be seen (`trace.content`). Without such a layer that is nothing.
        chunks: Whether the time between the chunks of a stream is measured, each of them.
        propagate: Whether the attempt's context goes along with the request to the provider, as
            the program's propagator writes it (`traceparent`). True leaves out baggage, which may
            say things about users; `"baggage"` sends it too.
        most_notes: How many of the trace's notes become events of the call's span, 0 or more.
        most_models: How many models, and how many servers, metrics tell apart, at least 1; what
            comes later is counted as `other`.
    """

    tracer_provider: Any = attrs.field(default=None, repr=False, validator=_provides("get_tracer"))
    meter_provider: Any = attrs.field(default=None, repr=False, validator=_provides("get_meter"))
    logger_provider: Any = attrs.field(default=None, repr=False, validator=_provides("get_logger"))
    conventions: Version = attrs.field(default="2026-10", validator=one_of(*VERSIONS))
    traces: bool = attrs.field(default=True, validator=flag)
    metrics: bool = attrs.field(default=True, validator=flag)
    events: bool = attrs.field(default=False, validator=flag)
    content: bool = attrs.field(default=False, validator=flag)
    chunks: bool = attrs.field(default=False, validator=flag)
    propagate: Propagate = attrs.field(default=True, validator=_propagates)
    most_notes: int = attrs.field(default=64, validator=whole(0))
    most_models: int = attrs.field(default=100, validator=whole(1))
    _engines: Engines = attrs.field(
        init=False, repr=False, default=attrs.Factory(_engines_of, takes_self=True)
    )

    async def __call__(self, request: Request[R], call_next: Handler) -> R:
        """Pass the request on; its call and all its attempts are seen."""
        call: Call | None = None
        inward = request
        try:
            engine = self._engines.get()
            known = _known(engine, request)
            parent = _parent(request, known)
            if engine.on:
                call = Call(engine, request, parent, known)
                inward = _watched_by(call.place, request)
            else:
                inward = _carrying(engine, request, parent)
        except Exception as error:  # noqa: BLE001 - a signal must never cost an answer
            failed(request, error)
        if call is None:
            return await call_next(inward)
        response = await ending(call_next, inward, call.ended, answered=call.answered)
        return call.watched(response) if self.chunks else response


def _known(engine: Engine, request: Request[Any]) -> Place | None:
    """The place that a layer further out, with the same providers, has made."""
    for observer in request.context.observers:
        if isinstance(observer, Place) and observer.engine.like(engine):
            return observer
    return None


def _watched_by(place: Place, request: Request[R]) -> Request[R]:
    """The request with this place, instead of one that would see its attempts as well."""
    context = request.context
    others = tuple(
        observer
        for observer in context.observers
        if not (isinstance(observer, Place) and observer.engine.like(place.engine))
    )
    return changed(request, "context", changed(context, "observers", (*others, place)))


def _parent(request: Request[Any], known: Place | None) -> Context:
    """What the call belongs to.

    A call inside another belongs to that one; otherwise what its caller has put on the request's
    context, as headers came in, goes before what is current here.
    """
    context = request.context
    if known is not None:
        return known.context_for(context)
    here = get_current()
    given = context.attributes
    if given:
        carrier = {
            name: value
            for name in propagate.get_global_textmap().fields
            if isinstance(value := given.get(name), str)
        }
        if carrier:
            return propagate.extract(carrier, here)
    return here


def _carrying(engine: Engine, request: Request[R], parent: Context) -> Request[R]:
    """The request with what only passes through: a context that others sent, and nobody records."""
    wanted = engine.wanted.propagate
    if not wanted:
        return request
    if get_current_span(parent).get_span_context().is_valid or (
        wanted == "baggage" and baggage.get_all(parent)
    ):
        return _watched_by(Place(engine, request.context.call_id, parent), request)
    return request
