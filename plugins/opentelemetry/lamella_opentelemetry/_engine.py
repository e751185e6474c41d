"""What a layer sends its signals through: a tracer, instruments, a logger, those that are there.

The program may set its providers after the layer was made, and tests set others; so the layer looks
again at each call, which costs less than a microsecond, and makes things anew only then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import attrs
from opentelemetry import baggage, metrics, propagate, trace
from opentelemetry._logs import get_logger_provider
from opentelemetry.trace import set_span_in_context

from lamella_opentelemetry._conventions import CONVENTIONS, Conventions, Version
from lamella_opentelemetry._instruments import Instruments
from lamella_opentelemetry._unread import Unread, unread_for

if TYPE_CHECKING:
    from opentelemetry._logs import Logger
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

Propagate: TypeAlias = Literal["baggage"] | bool

_SCOPE = "lamella"
_IDLE = ("opentelemetry.trace.", "opentelemetry.metrics.", "opentelemetry._logs.")


def _live(provider: object) -> bool:
    """Whether signals get anywhere; the API's own stand-ins drop them."""
    return provider is not None and not f"{type(provider).__module__}.".startswith(_IDLE)


@attrs.frozen(kw_only=True)
class Wanted:
    """What a layer was asked to send; see its options."""

    tracer_provider: Any
    meter_provider: Any
    logger_provider: Any
    conventions: Version
    traces: bool
    metrics: bool
    events: bool
    content: bool
    chunks: bool
    propagate: Propagate
    most_notes: int
    most_models: int


@attrs.frozen(eq=False)
class Engine:
    """What signals go through.

    Attributes:
        wanted: What the layer was asked for.
        words: What things are called.
        unread: Tells what others have not counted yet of the notes of work of its own.
        providers: Whose tracer, meter and logger these are; None for a signal that is off.
        tracer: None sends no spans.
        instruments: None measures nothing.
        logger: None sends no events.
    """

    wanted: Wanted
    words: Conventions
    unread: Unread
    providers: tuple[Any, Any, Any]
    tracer: Tracer | None
    instruments: Instruments | None
    logger: Logger | None

    def like(self, other: Engine) -> bool:
        """Whether the other sends to the same places, so that one of them is enough."""
        mine, others = self.providers, other.providers
        return mine[0] is others[0] and mine[1] is others[1]

    @property
    def on(self) -> bool:
        """Whether any signal gets anywhere."""
        return (self.tracer or self.instruments or self.logger) is not None

    def headers(self, context: Context) -> dict[str, str]:
        """What tells a server whose context its work belongs to, by the program's propagator."""
        if self.wanted.propagate is True and baggage.get_all(context):
            context = baggage.clear(context)
        carrier: dict[str, str] = {}
        propagate.inject(carrier, context)
        return carrier


class Engines:
    """Makes the engine of a layer, and another one when the program's providers change."""

    __slots__ = ("_made", "_wanted")

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._made: Engine | None = None

    def get(self) -> Engine:
        """The engine of now. Two threads may make one each at first; they are alike."""
        wanted, made = self._wanted, self._made
        providers: tuple[Any, Any, Any] = (
            (wanted.tracer_provider or trace.get_tracer_provider()) if wanted.traces else None,
            (wanted.meter_provider or metrics.get_meter_provider()) if wanted.metrics else None,
            (wanted.logger_provider or get_logger_provider()) if wanted.events else None,
        )
        if made is None or any(
            new is not old for new, old in zip(providers, made.providers, strict=True)
        ):
            made = self._make(providers)
            self._made = made
        return made

    def _make(self, providers: tuple[Any, Any, Any]) -> Engine:
        from importlib.metadata import version

        wanted = self._wanted
        words = CONVENTIONS[wanted.conventions]
        tracing, measuring, logging = providers
        scope = (_SCOPE, version("lamella-opentelemetry"))
        tracer = instruments = logger = None
        if _live(tracing):
            tracer = tracing.get_tracer(*scope, schema_url=words.schema_url)
        if _live(measuring):
            meter = measuring.get_meter(*scope, schema_url=words.schema_url)
            instruments = Instruments(meter, words, wanted.most_models)
        if _live(logging):
            logger = logging.get_logger(*scope, schema_url=words.schema_url)
        unread = unread_for(measuring)
        return Engine(wanted, words, unread, providers, tracer, instruments, logger)


def within(span: Span, context: Context) -> Context:
    """A context in which a span is the current one; nothing is attached to this task."""
    return set_span_in_context(span, context)
