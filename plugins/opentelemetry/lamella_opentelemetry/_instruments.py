"""The metrics: those of the conventions for each attempt, and the library's own for each call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from lamella_opentelemetry import _conventions as names
from lamella_opentelemetry._facts import (
    error_type,
    first_chunk_of,
    modalities,
    provider_of,
    server_of,
)
from lamella_opentelemetry._sendable import text

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import Counter as Sum
    from opentelemetry.metrics import Histogram, Meter

    from lamella import Ending, Note, OpenAttempt, Request, Usage
    from lamella_opentelemetry._conventions import Conventions

OTHER: Final = "other"
"""What stands for a value that would be one too many."""

_MOST_NOTES = 200

_PARTS = {
    "cache_read.input_tokens": "Input tokens served from a provider-managed cache.",
    "cache_write.input_tokens": "Input tokens written to a provider-managed cache.",
    "reasoning.output_tokens": "Output tokens used for reasoning.",
}


class Cap:
    """Lets so many values of an attribute through; a series is kept for each for ever."""

    __slots__ = ("_limit", "_seen")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._seen: set[str] = set()

    def __call__(self, value: str) -> str:
        if value in self._seen:
            return value
        if len(self._seen) >= self._limit:
            return OTHER
        self._seen.add(value)
        return value


class Instruments:
    """What is measured.

    Args:
        meter: Makes the instruments.
        words: What they are called.
        most: How many different models, and how many servers, are told apart.
    """

    def __init__(self, meter: Meter, words: Conventions, most: int) -> None:
        self._words = words
        self._models = Cap(most)
        self._served = Cap(most)
        self._servers = Cap(most)
        self._notes = Cap(_MOST_NOTES)
        self._duration = self._spans(meter, words.duration, "Duration of GenAI operations.")
        self._other_duration = self._duration
        if words.other_duration != words.duration:
            about = "Duration of GenAI operations."
            self._other_duration = self._spans(meter, words.other_duration, about)
        self._first_chunk = self._per_chunk = self._tokens = None
        if words.first_chunk is not None:
            about = "Time from the request to the first chunk of a streamed answer."
            self._first_chunk = self._spans(meter, words.first_chunk, about)
        if words.per_chunk is not None:
            about = "Time from one chunk of a streamed answer to the next."
            self._per_chunk = self._spans(meter, words.per_chunk, about)
        if words.usage_histogram is not None:
            self._tokens = meter.create_histogram(
                words.usage_histogram,
                unit="{token}",
                description="Number of input and output tokens used.",
                explicit_bucket_boundaries_advisory=names.TOKEN_BUCKETS,
            )
        self._counters: dict[str, Sum] = {}
        if words.usage_counters is not None:
            parts = {"input_tokens": "Input tokens.", "output_tokens": "Output tokens.", **_PARTS}
            for part, about in parts.items():
                self._counters[part] = meter.create_counter(
                    words.usage_counters + part, unit="{token}", description=about
                )
        about = "Duration of calls, with everything that layers did for them."
        self._calls = self._spans(meter, "lamella.call.duration", about)
        self._cost = meter.create_counter(
            "lamella.cost",
            unit="{nano_unit}",
            description="What attempts cost, in billionths of the currency's unit.",
        )
        self._facts = meter.create_counter(
            "lamella.notes", unit="{note}", description="What layers noted, such as retry.wait."
        )

    @staticmethod
    def _spans(meter: Meter, name: str, about: str) -> Histogram:
        return meter.create_histogram(
            name,
            unit="s",
            description=about,
            explicit_bucket_boundaries_advisory=names.DURATION_BUCKETS,
        )

    def attempt(self, attempt: OpenAttempt, request: Request[Any], context: Context | None) -> None:
        """Record an attempt that has ended."""
        facts = self.facts(attempt, request)
        if attempt.usage is not None and self._tokens is not None:
            for kind, count in (
                ("input", attempt.usage.input_tokens),
                ("output", attempt.usage.output_tokens),
            ):
                self._tokens.record(count, {**facts, names.USAGE_TYPE: kind}, context)
        if self._counters:
            self._count(attempt.usage, facts, context)
        if attempt.cost:
            currency = {"lamella.currency": attempt.cost.currency}
            self._cost.add(attempt.cost.nano, {**facts, **currency}, context)
        first = first_chunk_of(attempt)
        if first is not None and self._first_chunk is not None:
            self._first_chunk.record(first, facts, context)
        failure = error_type(attempt.outcome, attempt.error)
        if failure is not None:
            facts[names.ERROR_TYPE] = failure
        if attempt.end is not None:
            chat = request.operation == "chat"
            duration = self._duration if chat else self._other_duration
            duration.record(attempt.end - attempt.start, facts, context)

    def facts(self, attempt: OpenAttempt, request: Request[Any]) -> dict[str, str | int]:
        """The attributes of what is measured of an attempt."""
        found: dict[str, str | int] = {
            names.OPERATION: request.operation,
            self._words.provider: provider_of(attempt),
        }
        if attempt.model is not None:
            found[names.REQUEST_MODEL] = self._models(text(attempt.model))
        if attempt.served_model is not None:
            found[names.RESPONSE_MODEL] = self._served(text(attempt.served_model))
        if attempt.url is not None:
            address, port = server_of(attempt.url)
            known = self._servers(address)
            found[names.SERVER_ADDRESS] = known
            if known is address:
                found[names.SERVER_PORT] = port
        return found

    def _count(
        self, usage: Usage | None, facts: dict[str, str | int], context: Context | None
    ) -> None:
        for direction in ("input", "output"):
            parts = {"unknown": 0} if usage is None else modalities(usage, direction)
            counter = self._counters[f"{direction}_tokens"]
            for modality, count in parts.items():
                counter.add(count, {**facts, names.MODALITY: modality}, context)
        if usage is None:
            return
        within = (usage.cache_read, sum(usage.cache_write.values()), usage.reasoning_output)
        for part, count in zip(_PARTS, within, strict=True):
            if count:
                known = {**facts, names.MODALITY: "unknown"}
                self._counters[part].add(count, known, context)

    @property
    def counts_chunks(self) -> bool:
        """Whether there is a metric for the time between chunks."""
        return self._per_chunk is not None

    def chunk(self, seconds: float, facts: dict[str, str | int], context: Context | None) -> None:
        """Record the time from one chunk to the next."""
        if self._per_chunk is not None:
            self._per_chunk.record(seconds, facts, context)

    def call(
        self,
        request: Request[Any],
        end: Ending,
        seconds: float,
        context: Context | None,
        *,
        cached: bool,
    ) -> None:
        """Record a call that has ended."""
        found: dict[str, str | bool] = {
            names.OPERATION: request.operation,
            "lamella.outcome": str(end.outcome),
            "lamella.cached": cached,
        }
        if request.model is not None:
            found[names.REQUEST_MODEL] = self._models(text(request.model))
        failure = error_type(end.outcome, end.error)
        if failure is not None:
            found[names.ERROR_TYPE] = failure
        self._calls.record(seconds, found, context)

    def notes(self, notes: Iterable[Note], context: Context | None) -> None:
        """Count what layers noted."""
        for (layer, name), count in Counter((note.layer, note.name) for note in notes).items():
            known = self._notes(name)
            facts = {"lamella.note": known, "lamella.layer": OTHER if known is OTHER else layer}
            self._facts.add(count, facts, context)
