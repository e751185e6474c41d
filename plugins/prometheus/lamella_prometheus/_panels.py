"""What the dashboard shows: rows of panels, each with its queries."""

from __future__ import annotations

from typing import Final

import attrs

Query = tuple[str, str]
"""What is asked, and what a line of it is called."""

MODEL: Final = 'model=~"$model"'
WHERE: Final = f'provider=~"$provider",{MODEL}'
WELL: Final = f'{MODEL},status="complete"'


@attrs.frozen
class Panel:
    """One panel.

    Attributes:
        kind: How Grafana draws it.
        title: What stands above it.
        unit: Grafana's word for the unit.
        queries: What it shows.
    """

    kind: str
    title: str
    unit: str
    queries: tuple[Query, ...]


def _graph(title: str, unit: str, *queries: Query) -> Panel:
    return Panel("timeseries", title, unit, queries)


def _stat(title: str, unit: str, query: str, legend: str = "") -> Panel:
    return Panel("stat", title, unit, ((query, legend),))


def _rate(metric: str, by: str, where: str = "") -> str:
    return f"sum by ({by}) (rate(@{metric}{{{where}}}[$__rate_interval]))"


def _each(metric: str, by: str, where: str = "", words: str = "") -> Query:
    """A line for each combination of some labels."""
    shown = " ".join([f"{{{{{label}}}}}" for label in by.split(", ")])
    return _rate(metric, by, where), words + shown


def _hourly(metric: str, by: str, where: str = "") -> Query:
    query = f"sum by ({by}, currency) (rate(@{metric}{{{where}}}[1h])) * 3600"
    return query, f"{{{{{by}}}}} {{{{currency}}}}"


def _quantile(quantile: float, metric: str, where: str, by: str = "") -> Query:
    labels = f"le, {by}" if by else "le"
    rate = f"sum by ({labels}) (rate(@{metric}_bucket{{{where}}}[$__rate_interval]))"
    shown = f"{{{{{by}}}}}" if by else f"p{quantile * 100:g}"
    return f"histogram_quantile({quantile}, {rate})", shown


def _quantiles(title: str, metric: str, where: str) -> Panel:
    return _graph(title, "s", *[_quantile(each, metric, where) for each in (0.5, 0.95, 0.99)])


def _p95(title: str, metric: str, where: str, by: str) -> Panel:
    return _graph(title, "s", _quantile(0.95, metric, where, by))


_HITS = "rate(@cache_hits_total[$__rate_interval])"
_MISSES = "rate(@cache_misses_total[$__rate_interval])"

ROWS: Final[tuple[tuple[str, tuple[Panel, ...]], ...]] = (
    (
        "Calls",
        (
            _stat("Calls a second", "reqps", _rate("requests_total", "", MODEL)),
            _stat(
                "Calls that end well",
                "percentunit",
                f"{_rate('requests_total', '', WELL)} / {_rate('requests_total', '', MODEL)}",
            ),
            _stat("Under way", "short", "sum(@in_flight)"),
            _stat(
                "Cost an hour",
                "short",
                f"sum by (currency) (rate(@cost_total{{{WHERE}}}[1h])) * 3600",
                "{{currency}}",
            ),
            _graph("Calls by how they ended", "reqps", _each("requests_total", "status", MODEL)),
            _graph("Failures by error", "reqps", _each("request_errors_total", "error", MODEL)),
            _quantiles("Duration of calls", "request_duration_seconds", MODEL),
            _quantiles("Time to first token", "time_to_first_token_seconds", MODEL),
        ),
    ),
    (
        "Providers",
        (
            _graph(
                "Attempts by outcome", "reqps", _each("attempts_total", "provider, outcome", WHERE)
            ),
            _graph("Attempts by who asked", "reqps", _each("attempts_total", "asked_by", WHERE)),
            _p95("Duration of attempts, p95", "attempt_duration_seconds", WHERE, "provider"),
            _p95(
                "First token of attempts, p95",
                "attempt_time_to_first_token_seconds",
                WHERE,
                "provider",
            ),
            _quantiles("Time for each further token", "time_per_output_token_seconds", WHERE),
            _graph(
                "Refused for now by providers",
                "reqps",
                _each("throttles_total", "provider, status", WHERE),
            ),
        ),
    ),
    (
        "Tokens and money",
        (
            _graph("Tokens a second", "short", _each("tokens_total", "type", WHERE)),
            _graph("Cost an hour by model", "short", _hourly("cost_total", "model", WHERE)),
            _graph("Saved by caches an hour", "short", _hourly("saved_cost_total", "layer")),
            _graph(
                "Attempts without a price, or estimated",
                "reqps",
                _each("unpriced_attempts_total", "model", WHERE, "no price: "),
                _each("estimated_attempts_total", "model", WHERE, "estimated: "),
            ),
            _graph("Tokens saved by caches", "short", _each("saved_tokens_total", "layer")),
            _graph("Units of hosted tools", "short", _each("tool_units_total", "tool", WHERE)),
        ),
    ),
    (
        "Layers",
        (
            _graph(
                "Retries",
                "reqps",
                _each("retries_total", "reason"),
                _each("retries_given_up_total", "why", words="given up: "),
            ),
            _graph(
                "Fallbacks, hedges, routes",
                "reqps",
                _each("fallbacks_total", "target", words="fallback to "),
                _each("hedges_total", "result", words="hedge won by "),
                _each("routes_total", "target", words="route to "),
            ),
            Panel(
                "state-timeline",
                "Circuits: 0 closed, 1 half open, 2 open",
                "short",
                (
                    (
                        f"max by (provider, model) (@breaker_state{{{WHERE}}})",
                        "{{provider}} {{model}}",
                    ),
                ),
            ),
            _graph(
                "Changes of circuits",
                "reqps",
                _each("breaker_transitions_total", "provider, state", WHERE),
            ),
            _graph(
                "Room left in limits",
                "percentunit",
                (
                    "min by (resource) (@rate_limiter_available / (@rate_limiter_limit > 0))",
                    "{{resource}}",
                ),
            ),
            _graph("Waiting", "short", ("sum by (layer) (@queue_depth)", "{{layer}}")),
            _graph(
                "Requests that found no room at once",
                "reqps",
                _each("limited_total", "layer, result"),
            ),
            _p95("Seconds waited, p95", "wait_seconds", "", "layer"),
            _graph(
                "Cache hits",
                "percentunit",
                (f"sum by (layer) ({_HITS}) / sum by (layer) ({_HITS} or {_MISSES})", "{{layer}}"),
            ),
            _graph("Shared flights", "reqps", _each("flights_total", "result")),
            _graph(
                "Guards and personal data",
                "reqps",
                _each("guard_verdicts_total", "rule, verdict"),
                _each("pii_findings_total", "kind, action"),
            ),
            _graph(
                "Failures of observers",
                "reqps",
                _each("observer_errors_total", "layer"),
                _each("label_overflows_total", "label", words="too many values of "),
            ),
            _graph("Everything that layers noted", "reqps", _each("notes_total", "note")),
            _graph(
                "What other layers show",
                "short",
                ("max by (layer, name, resource) (@layer_reading)", "{{layer}} {{name}}"),
            ),
        ),
    ),
)
