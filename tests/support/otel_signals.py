"""What OpenTelemetry's SDK has received, for tests of what is sent to it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler


class Balance(SpanProcessor):
    """Counts how often each span was started and ended."""

    def __init__(self) -> None:
        self.started: Counter[int] = Counter()
        self.ended: Counter[int] = Counter()

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """One more has begun."""
        self.started[span.context.span_id] += 1

    def on_end(self, span: ReadableSpan) -> None:
        """One more is over."""
        assert span.context is not None
        self.ended[span.context.span_id] += 1

    def check(self) -> int:
        """See that every span that began has ended, once; how many there were."""
        assert set(self.started.values()) <= {1}
        assert self.started == self.ended
        return len(self.started)


class Signals:
    """Providers of the SDK that keep what they get in memory."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self.balance = Balance()
        self._spans = InMemorySpanExporter()
        self.tracer_provider = TracerProvider(sampler, shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(self.balance)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self._reader = InMemoryMetricReader()
        self.meter_provider = MeterProvider([self._reader], shutdown_on_exit=False)
        self._events = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
        self.logger_provider = LoggerProvider(shutdown_on_exit=False)
        self.logger_provider.add_log_record_processor(SimpleLogRecordProcessor(self._events))

    @property
    def traced(self) -> dict[str, Any]:
        """Options of a layer that sends spans here, and nothing else."""
        return {"tracer_provider": self.tracer_provider, "metrics": False}

    @property
    def measured(self) -> dict[str, Any]:
        """Options of a layer that sends metrics here, and nothing else."""
        return {"meter_provider": self.meter_provider, "traces": False, "propagate": False}

    @property
    def all(self) -> dict[str, Any]:
        """Options of a layer that sends everything here."""
        return {
            "tracer_provider": self.tracer_provider,
            "meter_provider": self.meter_provider,
            "logger_provider": self.logger_provider,
            "events": True,
        }

    def spans(self) -> list[Any]:
        """The spans that have ended, in that order."""
        return list(self._spans.get_finished_spans())

    def call(self) -> Any:
        """The span of the only call."""
        (found,) = [span for span in self.spans() if span.name.startswith("lamella ")]
        return found

    def attempts(self) -> list[Any]:
        """The spans of attempts, in the order begun."""
        found = [span for span in self.spans() if not span.name.startswith("lamella ")]
        return sorted(found, key=lambda span: span.start_time)

    def events(self) -> list[Any]:
        """The events."""
        return [each.log_record for each in self._events.get_finished_logs()]

    def points(self, name: str) -> list[Any]:
        """The data points of a metric; none if there is no such metric."""
        data = self._reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def sum(self, name: str, **attributes: Any) -> Any:
        """The sum of what a metric has counted or measured, of the series with these attributes.

        Dots in names are written as two underscores.
        """
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        return sum(
            point.value if hasattr(point, "value") else point.sum
            for point in self.points(name)
            if wanted.items() <= dict(point.attributes).items()
        )
