"""The metrics: their names, labels, buckets, and what each of them says."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import attrs

Kind: TypeAlias = Literal["counter", "money", "histogram", "gauge"]
"""Money is a counter that is fed whole nano-units and shows whole units."""

Mode: TypeAlias = Literal["livesum", "livemin", "livemax"]
"""What the processes of one endpoint amount to."""

SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)
"""How long calls and attempts take."""

FIRST: Final = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 60.0)
"""How long the first word takes."""

EACH: Final = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0)
"""How long each further token takes."""

WAITS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""How long layers let a request wait."""


@attrs.frozen
class Family:
    """One metric.

    Attributes:
        name: Without the prefix, and of a counter without `_total`.
        kind: What is done with its numbers.
        help: What it says, in a sentence.
        labels: The names of its labels.
        buckets: The upper bounds of a histogram.
        mode: What several processes' values of a gauge amount to.
        labelled: Whether the caller's own labels are added.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    mode: Mode = "livesum"
    labelled: bool = False


_WHERE = ("provider", "model")

FAMILIES: Final[tuple[Family, ...]] = (
    # --- calls -------------------------------------------------------------------------------
    Family(
        "requests", "counter", "Calls that have ended, by how.",
        ("operation", "model", "status"), labelled=True,
    ),
    Family(
        "request_errors", "counter", "Calls that failed, by the class of their error.",
        ("model", "error"),
    ),
    Family("in_flight", "gauge", "Calls that are under way.", ("operation",)),
    Family(
        "request_duration_seconds", "histogram", "Seconds that a call took, waits included.",
        ("operation", "model"), SECONDS,
    ),
    Family(
        "time_to_first_token_seconds", "histogram",
        "Seconds from a streamed call's begin to its first token, waits and retries included.",
        ("model",), FIRST,
    ),
    # --- attempts ----------------------------------------------------------------------------
    Family(
        "attempts", "counter", "Requests to providers that have ended: tries, copies, children.",
        (*_WHERE, "outcome", "asked_by"), labelled=True,
    ),
    Family(
        "attempt_duration_seconds", "histogram", "Seconds that an attempt took.", _WHERE, SECONDS
    ),
    Family(
        "attempt_time_to_first_token_seconds", "histogram",
        "Seconds from an attempt's begin to the first token of its stream.", _WHERE, FIRST,
    ),
    Family(
        "time_per_output_token_seconds", "histogram",
        "Seconds for each token after the first, of streamed answers that are complete.",
        _WHERE, EACH,
    ),
    Family(
        "tokens", "counter", "Tokens of all attempts, in parts that add up.",
        (*_WHERE, "type"), labelled=True,
    ),
    Family(
        "tool_units", "counter", "Units of hosted tools that attempts used.", (*_WHERE, "tool")
    ),
    Family(
        "cost", "money", "What all attempts cost, in whole units of the currency.",
        (*_WHERE, "currency"), labelled=True,
    ),
    Family(
        "unpriced_attempts", "counter", "Attempts that were sent and whose cost is not known.",
        _WHERE,
    ),
    Family(
        "estimated_attempts", "counter", "Attempts whose tokens are an estimate.", _WHERE
    ),
    Family(
        "throttles", "counter", "Attempts that the provider refused for now (429, 503, 529).",
        (*_WHERE, "status"),
    ),
    # --- what layers did -----------------------------------------------------------------------
    Family("retries", "counter", "Tries after the first, by why.", ("reason",)),
    Family("retries_given_up", "counter", "Failures that were not tried again, by why.", ("why",)),
    Family("fallbacks", "counter", "Turns to another target.", ("source", "target", "reason")),
    Family("hedges", "counter", "Second copies that were sent, by which one won.", ("result",)),
    Family("routes", "counter", "Requests by the target chosen for them.", ("target", "by")),
    Family("limited", "counter", "Requests that found no room at once.", ("layer", "result")),
    Family(
        "wait_seconds", "histogram", "Seconds for which a layer let a request wait.",
        ("layer",), WAITS,
    ),
    Family(
        "breaker_transitions", "counter", "Changes of circuits that calls brought about.",
        (*_WHERE, "state"),
    ),
    Family("cache_hits", "counter", "Answers that a cache gave.", ("layer", "freshness")),
    Family("cache_misses", "counter", "Answers that a cache did not have.", ("layer",)),
    Family("saved_tokens", "counter", "Tokens of answers that caches gave.", ("layer",)),
    Family(
        "saved_cost", "money", "What answers that caches gave had cost, in whole units.",
        ("layer", "currency"),
    ),
    Family("flights", "counter", "Requests that shared an answer, or not.", ("result",)),
    Family(
        "guard_verdicts", "counter", "Verdicts of guards' rules that changed or stopped something.",
        ("rule", "direction", "verdict"),
    ),
    Family("pii_findings", "counter", "Personal data found, by kind.", ("kind", "action")),
    Family(
        "observer_errors", "counter", "Failures of those who only look: callbacks, sinks, hooks.",
        ("layer", "error"),
    ),
    Family("notes", "counter", "Facts that layers noted, all of them.", ("layer", "note")),
    Family(
        "label_overflows", "counter",
        "Label values that were counted as other, since there were too many.", ("label",),
    ),
    # --- how things are ------------------------------------------------------------------------
    Family(
        "breaker_state", "gauge", "State of a circuit: 0 closed, 1 half open, 2 open.",
        _WHERE, mode="livemax",
    ),
    Family(
        "rate_limiter_available", "gauge", "Room left in a limit.",
        ("layer", "resource"), mode="livemin",
    ),
    Family(
        "rate_limiter_limit", "gauge", "Room in a limit when nobody uses it.",
        ("layer", "resource"), mode="livemin",
    ),
    Family("queue_depth", "gauge", "Requests that wait in a layer.", ("layer",)),
    Family(
        "layer_reading", "gauge", "What other layers show of themselves.",
        ("layer", "name", "resource", "provider", "model"), mode="livemax",
    ),
)  # fmt: skip

BY_NAME: Final = {family.name: family for family in FAMILIES}


def exposed(family: Family, prefix: str) -> str:
    """The name under which a metric is scraped; a histogram's parts have more at its end."""
    ending = "_total" if family.kind in {"counter", "money"} else ""
    return f"{prefix}_{family.name}{ending}"
