"""Alerts that are worth waking somebody for, as a rule file of Prometheus."""

from __future__ import annotations

import json
from typing import Final

import attrs

from lamella_prometheus._names import prefixed


@attrs.frozen
class Alert:
    """One rule.

    Attributes:
        name: What it is called.
        expr: When it holds.
        lasting: For how long it has to, in Prometheus' words.
        severity: `"page"` or `"ticket"`.
        summary: What is wrong, and what to look at.
    """

    name: str
    expr: str
    lasting: str
    severity: str
    summary: str


ALERTS: Final = (
    Alert(
        "LamellaCallsFail",
        'sum(rate(@requests_total{status!~"complete|cancelled|left"}[5m]))'
        " / sum(rate(@requests_total[5m])) > 0.05",
        "10m",
        "page",
        "More than 5 % of the calls fail. Look at request_errors_total, by error.",
    ),
    Alert(
        "LamellaCircuitOpen",
        "max by (provider, model) (@breaker_state) == 2",
        "5m",
        "page",
        "The circuit of {{ $labels.provider }} {{ $labels.model }} stays open.",
    ),
    Alert(
        "LamellaSlowFirstToken",
        "histogram_quantile(0.95, sum by (le, model) "
        "(rate(@time_to_first_token_seconds_bucket[10m]))) > 10",
        "15m",
        "ticket",
        "One stream in twenty of {{ $labels.model }} waits over 10 s for its first token.",
    ),
    Alert(
        "LamellaThrottled",
        "sum by (provider, model) (rate(@throttles_total[5m]))"
        " / sum by (provider, model) (rate(@attempts_total[5m])) > 0.1",
        "10m",
        "ticket",
        "{{ $labels.provider }} refuses over 10 % of the attempts at {{ $labels.model }} for now: "
        "lower RateLimit, or ask for a higher limit.",
    ),
    Alert(
        "LamellaQueueGrows",
        "sum by (layer) (@queue_depth) > 100",
        "5m",
        "ticket",
        "Over 100 requests wait in {{ $labels.layer }}.",
    ),
    Alert(
        "LamellaRetriesMultiply",
        'sum(rate(@attempts_total{asked_by="retry"}[10m])) / sum(rate(@requests_total[10m])) > 0.2',
        "15m",
        "ticket",
        "More than one attempt in five calls is a retry.",
    ),
    Alert(
        "LamellaCostUnknown",
        "sum by (provider, model) (increase(@unpriced_attempts_total[1h])) > 0",
        "0m",
        "ticket",
        "Attempts at {{ $labels.provider }} {{ $labels.model }} are billed, and have no price "
        "here: state one with Cost(prices=...).",
    ),
    Alert(
        "LamellaObserversFail",
        "sum by (layer) (increase(@observer_errors_total[1h])) > 0",
        "0m",
        "ticket",
        "{{ $labels.layer }} fails to see what passes.",
    ),
    Alert(
        "LamellaLabelsOverflow",
        "sum by (label) (increase(@label_overflows_total[1h])) > 0",
        "0m",
        "ticket",
        "There are more values of {{ $labels.label }} than Prometheus(max_values=...): the rest "
        "is counted as other.",
    ),
)


def alert_rules(*, prefix: str = "lamella") -> str:
    """The rule file, as YAML, for `rule_files` in Prometheus' configuration.

    Args:
        prefix: What the metrics' names begin with, as `Prometheus(prefix=...)`.
    """
    lines = ["groups:", "  - name: lamella", "    rules:"]
    for alert in ALERTS:
        lines += [
            f"      - alert: {alert.name}",
            f"        expr: {json.dumps(prefixed(alert.expr, prefix))}",
            f"        for: {alert.lasting}",
            "        labels:",
            f"          severity: {alert.severity}",
            "        annotations:",
            f"          summary: {json.dumps(alert.summary)}",
        ]
    return "\n".join(lines) + "\n"
