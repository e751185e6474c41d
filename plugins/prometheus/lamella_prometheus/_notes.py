"""What the notes of layers count as. Layers never know this one; it knows what they write down."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

if TYPE_CHECKING:
    from lamella._trace import Note

Counted: TypeAlias = tuple[str, tuple[Any, ...], float]
"""A metric, the values of its labels, and how much."""

Rule: TypeAlias = "Callable[[Note], Iterable[Counted]]"


def _one(family: str, *fields: str) -> Rule:
    """Counts one, labelled with fields of the note."""
    return lambda note: [(family, tuple([note.fields.get(each) for each in fields]), 1)]


def _seconds(note: Note) -> Iterable[Counted]:
    """A wait that is over."""
    yield "wait_seconds", (note.layer,), note.fields.get("seconds", 0.0)


def _waited(note: Note) -> Iterable[Counted]:
    """Room was found after a wait."""
    yield "limited", (note.layer, "waited"), 1
    yield from _seconds(note)


def _refused(note: Note) -> Iterable[Counted]:
    yield "limited", (note.layer, "refused"), 1


def _retried(note: Note) -> Iterable[Counted]:
    yield "retries", (note.fields.get("reason"),), 1
    yield from _seconds(note)


def _hit(note: Note) -> Iterable[Counted]:
    """Answers that were given, one or several, and what they had cost."""
    fields = note.fields
    freshness = "stale" if fields.get("stale") else "fresh"
    yield "cache_hits", (note.layer, freshness), fields.get("inputs", 1)
    yield "saved_tokens", (note.layer,), fields.get("saved_tokens", 0)
    for currency, nano in cast("Mapping[str, int]", fields.get("saved_nano", {})).items():
        yield "saved_cost", (note.layer, currency), nano


def _missed(note: Note) -> Iterable[Counted]:
    yield "cache_misses", (note.layer,), note.fields.get("inputs", 1)


def _changed(state: str) -> Rule:
    """A circuit is in another state."""
    return lambda note: [
        (
            "breaker_transitions",
            (note.fields.get("provider"), note.fields.get("model"), state),
            1,
        )
    ]


def _flight(result: str) -> Rule:
    return lambda _: [("flights", (result,), 1)]


def _verdict(note: Note) -> Iterable[Counted]:
    fields, verdict = note.fields, note.name.partition(".")[2]
    yield "guard_verdicts", (fields.get("rule"), fields.get("direction"), verdict), 1


def _found(action: str) -> Rule:
    """Personal data of some kinds: with their numbers, or only what they are."""

    def rule(note: Note) -> Iterable[Counted]:
        kinds: object = note.fields.get("kinds", ())
        if isinstance(kinds, Mapping):
            for kind, number in cast("Mapping[str, int]", kinds).items():
                yield "pii_findings", (kind, action), number
        else:
            for kind in cast("Iterable[str]", kinds):
                yield "pii_findings", (kind, action), 1

    return rule


def _failed(note: Note) -> Iterable[Counted]:
    yield "observer_errors", (note.fields.get("observer", note.layer), note.fields.get("error")), 1


RULES: Final[Mapping[str, Rule]] = {
    "retry.wait": _retried,
    "retry.gave_up": _one("retries_given_up", "why"),
    "fallback.next": _one("fallbacks", "source", "target", "reason"),
    "hedge.over": _one("hedges", "winner"),
    "route.chosen": _one("routes", "target", "by"),
    "rate_limit.waited": _waited,
    "rate_limit.refused": _refused,
    "concurrency.waited": _waited,
    "concurrency.refused": _refused,
    "load_shed.waited": _waited,
    "load_shed.refused": _refused,
    "budget.refused": _refused,
    "circuit_breaker.open": _changed("open"),
    "circuit_breaker.half_open": _changed("half_open"),
    "circuit_breaker.closed": _changed("closed"),
    "cache.hit": _hit,
    "cache.miss": _missed,
    "semantic_cache.hit": _hit,
    "semantic_cache.miss": _missed,
    "single_flight.started": _flight("started"),
    "single_flight.joined": _flight("joined"),
    "single_flight.alone": _flight("alone"),
    "guard.blocked": _verdict,
    "guard.changed": _verdict,
    "guard.asked": _verdict,
    "guard.denied": _verdict,
    "guard.failed": _verdict,
    "pii.masked": _found("masked"),
    "pii.blocked": _found("blocked"),
    "observer.failed": _failed,
    "callback.failed": _failed,
    "watch.failed": _failed,
    "log.failed": _failed,
    "spend.category_failed": _failed,
    "circuit_breaker.on_change_failed": _failed,
}
"""By the note's name. Others are counted in `notes` only, as these are too."""
