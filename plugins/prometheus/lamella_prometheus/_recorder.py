"""What is counted, under one lock, for all pipelines that share a registry.

A fork waits for the lock, and nothing of the client's is touched outside of it: the client's own
locks would stay shut in a child that was forked while another thread held one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from weakref import WeakKeyDictionary, WeakSet

from lamella import Outcome, OverloadedError, RateLimitError
from lamella._fork_locks import fork_safe_lock
from lamella_prometheus._families import BY_NAME, Family
from lamella_prometheus._label_values import OTHER
from lamella_prometheus._notes import RULES
from lamella_prometheus._series import Series
from lamella_prometheus._sums import Sums

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from lamella import Ending, Note, Request, Trace, Usage
    from lamella._attempts import OpenAttempt

Readers: TypeAlias = "Sequence[tuple[str, Callable[[Request[Any]], object]]]"
"""Reads the caller's own labels off a request, by the label's name."""

_REMEMBERED: Final = 10_000
"""For how many raw combinations of label values the series are remembered."""

_MOMENT: Final = 1e-6
"""Seconds that do not count: clocks are read one after the other."""

_NO_FAILURE: Final = frozenset({Outcome.COMPLETE, Outcome.CANCELLED, Outcome.LEFT})

_recorders: WeakSet[Recorder] = WeakSet()


class _Place:
    """The series that calls, or attempts, with the same label values count into."""

    __slots__ = ("own", "series", "values")

    def __init__(self, values: tuple[str, ...], own: tuple[str, ...]) -> None:
        self.values = values
        self.own = own
        self.series: dict[object, Any] = {}


class Recorder:
    """Counts calls, attempts and notes. It is the observer of the attempts. Thread-safe.

    Args:
        series: What is counted into.
        labels: Reads the caller's own labels.
    """

    def __init__(self, series: Series, labels: Readers) -> None:
        self._series = series
        self._readers = tuple(labels)
        self._lock = fork_safe_lock()
        self._places: dict[object, _Place] = {}
        self._read: WeakKeyDictionary[Trace, int] = WeakKeyDictionary()
        self._begun: dict[OpenAttempt, float] = {}
        self._under_way = 0
        _recorders.add(self)

    # --- what happens ------------------------------------------------------------------------

    def began(self, operation: str) -> None:
        """A call is under way."""
        with self._lock:
            self._in_flight(operation).inc()
            self._under_way += 1

    def over(self, operation: str) -> None:
        """A call that has begun is under way no more."""
        with self._lock:
            self._under_way -= 1
            self._in_flight(operation).dec()

    @property
    def busy(self) -> bool:
        """Whether calls are under way."""
        return self._under_way > 0

    def ended(
        self, request: Request[Any], end: Ending, seconds: float, first: float | None
    ) -> None:
        """A call has ended.

        Args:
            request: What was asked.
            end: How it ended.
            seconds: How long it took.
            first: Seconds until its answer began, if it was streamed and there was one.
        """
        operation, outcome, error, series = request.operation, end.outcome, end.error, self._series
        own = self._own(request) if self._readers else ()
        with self._lock:
            place = self._place(("operation", "model"), operation, request.model, own)
            known = place.series
            ending = known.get(outcome)
            if ending is None:
                status = (*place.values, outcome.value, *place.own)
                ending = known[outcome] = (
                    series.of("requests", *status),
                    series.of("request_duration_seconds", *place.values),
                )
            ending[0].inc()
            ending[1].observe(seconds)
            model = place.values[1]
            if first is not None:
                series.of("time_to_first_token_seconds", model).observe(first)
            if error is not None and outcome not in _NO_FAILURE:
                named = series.value("error", type(error).__name__)
                series.of("request_errors", model, named).inc()
            trace = request.context.trace
            if trace.notes or trace.adopted:
                self._notes(trace)

    def attempt_opened(self, attempt: OpenAttempt, request: Request[Any], /) -> None:
        """An attempt begins. It counts once it has ended."""
        if request.stream:
            self._begun[attempt] = request.context.clock.now()

    def attempt_closed(self, attempt: OpenAttempt, request: Request[Any], /) -> None:
        """An attempt has ended: count it, with what it consumed and cost."""
        begun = self._begun.pop(attempt, None)
        own = self._own(request) if self._readers else ()
        outcome, series = attempt.outcome or Outcome.UNKNOWN, self._series
        with self._lock:
            place = self._place(("provider", "model"), attempt.provider, attempt.model, own)
            known, where = place.series, place.values
            kind = (outcome, attempt.asked_by)
            ending = known.get(kind)
            if ending is None:
                asked_by = series.value("asked_by", attempt.asked_by or "caller")
                ending = known[kind] = (
                    series.of("attempts", *where, outcome.value, asked_by, *place.own),
                    series.of("attempt_duration_seconds", *where),
                )
            ending[0].inc()
            if attempt.end is not None:
                ending[1].observe(attempt.end - attempt.start)
            if attempt.streamed and attempt.first_event is not None:
                waited = None if begun is None else request.context.clock.now() - begun
                self._streamed(attempt, where, waited)
            if attempt.usage is not None:
                self._consumed(attempt.usage, place)
            self._billed(attempt, outcome, place)
            if isinstance(attempt.error, RateLimitError | OverloadedError):
                status = series.value("status", str(attempt.error.status or "unknown"))
                series.of("throttles", *where, status).inc()
            if request.context.parent_id is not None:
                # Nobody is told of the end of what was detached: what it has noted so far.
                self._notes(request.context.trace)

    # --- counting, under the lock --------------------------------------------------------------

    def _in_flight(self, operation: str) -> Any:
        return self._series.of("in_flight", self._series.value("operation", operation))

    def _place(
        self, labels: tuple[str, str], first: str, model: str | None, own: tuple[str | None, ...]
    ) -> _Place:
        """Where calls with these label values count, as they were said."""
        key = (labels, first, model, own)
        place = self._places.get(key)
        if place is not None:
            return place
        value = self._series.value
        clean = (value(labels[0], first), value(labels[1], model))
        names = [name for name, _ in self._readers]
        mine = tuple([value(name, said) for name, said in zip(names, own, strict=True)])
        place = _Place(clean, mine)
        if OTHER not in clean and OTHER not in mine:  # each of the others is to be counted
            if len(self._places) >= _REMEMBERED:
                self._places.clear()
            self._places[key] = place
        return place

    def _streamed(self, attempt: OpenAttempt, where: tuple[str, ...], waited: float | None) -> None:
        """Count the times of a stream.

        Args:
            attempt: What was streamed.
            where: The values of its labels.
            waited: Seconds of it without those in which its reader held an event; None if nobody
                could.
        """
        end, first, usage = attempt.end, attempt.first_event, attempt.usage
        if end is None or first is None:
            return
        series = self._series
        series.of("attempt_time_to_first_token_seconds", *where).observe(first - attempt.start)
        if usage is None or usage.estimated or attempt.outcome is not Outcome.COMPLETE:
            return
        further, seconds = usage.output_tokens - 1, end - first
        held = 0.0 if waited is None else (end - attempt.start) - waited
        # Who reads no slower than the provider writes changes nothing about the time it takes. Of
        # who holds its events for longer than it waits for them, it says nothing of the provider.
        if further > 0 and 2 * held <= seconds + _MOMENT:
            series.of("time_per_output_token_seconds", *where).observe(seconds / further)

    def _consumed(self, usage: Usage, place: _Place) -> None:
        if usage.uncached_input:
            self._tokens(place, "uncached_input", usage.uncached_input)
        if usage.text_output:
            self._tokens(place, "text_output", usage.text_output)
        if usage.cache_read:
            self._tokens(place, "cache_read", usage.cache_read)
        if usage.reasoning_output:
            self._tokens(place, "reasoning_output", usage.reasoning_output)
        for lifetime, number in usage.cache_write.items():
            self._tokens(place, f"cache_write_{lifetime}" if lifetime else "cache_write", number)
        if usage.audio_input or usage.image_input or usage.audio_output or usage.image_output:
            self._tokens(place, "audio_input", usage.audio_input)
            self._tokens(place, "image_input", usage.image_input)
            self._tokens(place, "audio_output", usage.audio_output)
            self._tokens(place, "image_output", usage.image_output)
        for tool, number in usage.tool_units.items():
            tool_name = self._series.value("tool", tool)
            self._series.of("tool_units", *place.values, tool_name).inc(number)
        if usage.estimated:
            self._series.of("estimated_attempts", *place.values).inc()

    def _tokens(self, place: _Place, kind: str, number: int) -> None:
        found = place.series.get(kind)
        if found is None:
            clean = self._series.value("type", kind)
            found = self._series.of("tokens", *place.values, clean, *place.own)
            place.series[kind] = found
        found.inc(number)

    def _billed(self, attempt: OpenAttempt, outcome: Outcome, place: _Place) -> None:
        cost = attempt.cost
        if cost is None:
            if outcome is not Outcome.NOT_SENT:
                self._series.of("unpriced_attempts", *place.values).inc()
            return
        currency = self._series.value("currency", cost.currency)
        self._series.of("cost", *place.values, currency, *place.own).inc(cost.nano)

    def _notes(self, trace: Trace) -> None:
        """Count what has been noted since this was last asked, in adopted work too."""
        notes = trace.notes
        if notes:
            known = self._read.get(trace, 0)
            if len(notes) > known:
                self._read[trace] = len(notes)
                for note in notes[known:]:
                    self._note(note)
        for adopted in trace.adopted:
            self._notes(adopted)

    def _note(self, note: Note) -> None:
        series = self._series
        layer, name = series.value("layer", note.layer), series.value("note", note.name)
        series.of("notes", layer, name).inc()
        rule = RULES.get(note.name)
        if rule is None:
            return
        for family, values, amount in rule(note):
            known = BY_NAME[family]
            found = series.of(family, *series.clean(known, values))
            if known.kind == "histogram":
                found.observe(amount)
            else:
                found.inc(amount)

    def _own(self, request: Request[Any]) -> tuple[str | None, ...]:
        """What a request says of the caller's own labels."""
        found = [read(request) for _, read in self._readers]
        return tuple([None if value is None else str(value) for value in found])

    # --- what is seen --------------------------------------------------------------------------

    def collect(self) -> Iterable[Metric]:
        """Every metric with its samples, as they are now."""
        for metric in self._series:
            if isinstance(metric, Sums):
                with self._lock:  # for the numbers only: calls wait for it, on event loops
                    copied = metric.copied()
                yield from metric.shown(copied)
            else:
                with self._lock:
                    found = list(metric.collect())
                yield from found

    def show(self, family: str, samples: dict[tuple[str, ...], float]) -> None:
        """Set a gauge that several processes share."""
        with self._lock:
            self._series.show(family, samples)

    def clean(self, family: Family, values: Iterable[str]) -> tuple[str, ...]:
        """The values to use for a metric's labels."""
        with self._lock:
            return self._series.clean(family, values)

    def forked(self) -> None:
        """This is a child: it has none of the calls that were under way."""
        self._under_way = 0
        self._begun.clear()
        self._places.clear()
        self._series.forked()


def _forked() -> None:
    for recorder in list(_recorders):
        recorder.forked()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_forked)
