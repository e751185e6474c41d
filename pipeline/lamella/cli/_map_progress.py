"""How far `lamella map` is, on a terminal and in words."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lamella import MapProgress, MapReport

_LOOK: Final = 0.1
"""Seconds between two looks at the terminal."""

_BAR: Final = 20
_MOST_KINDS: Final = 5


def rows(count: int) -> str:
    """So many rows."""
    return f"{count:,} row{'' if count == 1 else 's'}"


class Progress:
    """How far it is, on a terminal: one line that is written over.

    Args:
        monotonic: The clock.
        hidden: Whether to show nothing.
    """

    def __init__(self, monotonic: Callable[[], float], *, hidden: bool) -> None:
        from lamella.cli._output import is_terminal

        self._monotonic = monotonic
        self._shown = monotonic()
        self._hidden = hidden or not is_terminal(sys.stderr)

    @property
    def teller(self) -> Callable[[MapProgress], None] | None:
        """What is to be told of each row; None if nothing is shown."""
        return None if self._hidden else self.tell

    def tell(self, progress: MapProgress) -> None:
        """A row is done. No terminal is written to more often than it is looked at."""
        now = self._monotonic()
        if self._hidden or now - self._shown < _LOOK:
            return
        self._shown = now
        sys.stderr.write(f"\r{line(progress)}\x1b[K")
        sys.stderr.flush()

    def clear(self) -> None:
        """Take it off the terminal."""
        if not self._hidden:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def line(progress: MapProgress) -> str:
    """How far it is, in one line."""
    done, total = progress.done, progress.total
    words = f"{done:,} done"
    if total:
        part = min(done / total, 1.0)
        full = int(part * _BAR)
        bar = "=" * full + " " * (_BAR - full)
        words = f"[{bar}] {part:.0%}, {done:,} of {total:,}"
    costs = " and ".join([str(cost) for cost in progress.costs.values()]) or "$0"
    words = (
        f"{words}, {progress.failed:,} failed, {progress.running:,} of {progress.concurrency:,} "
        f"under way, {progress.rows_per_second:,.1f} rows and "
        f"{progress.tokens_per_second:,.0f} tokens a second, {costs}"
    )
    return words if progress.left is None else f"{words}, {_time(progress.left)} left"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def told(report: MapReport) -> str:
    """What it has come to, in words."""
    words = (
        f"{rows(report.rows)} done, {report.failed:,} failed, in {report.seconds:,.1f} s; "
        f"{report.input_tokens:,} tokens in, {report.output_tokens:,} out; {spent(report)}."
    )
    if report.restored:
        words += f" The journal had {report.restored:,} of them."
    if report.kinds:
        most = [f"{count:,} {kind}" for kind, count in list(report.kinds.items())[:_MOST_KINDS]]
        more = " and others" if len(report.kinds) > _MOST_KINDS else ""
        words += f" Failures: {', '.join(most)}{more}; see 'error' in their lines."
    if not report.uniform:
        words += f" Answered by {_models(report)}."
    return words


def _models(report: MapReport) -> str:
    """Who has answered, where that was not one and the same."""
    found = [
        f"{model or 'an unnamed model'}{f' ({fingerprint})' if fingerprint else ''}: {count:,}"
        for model, by_fingerprint in report.models.items()
        for fingerprint, count in by_fingerprint.items()
    ]
    more = " and others" if len(found) > _MOST_KINDS else ""
    return f"{', '.join(found[:_MOST_KINDS])}{more}"


def spent(report: MapReport) -> str:
    """What all that has cost, in words."""
    if report.unpriced and report.unpriced == report.rows:
        return "cost unknown"
    costs = [str(cost) for cost in report.costs.values()] or ["$0"]
    unknown = f", {rows(report.unpriced)} of unknown cost" if report.unpriced else ""
    return f"{' and '.join(costs)}{unknown}"
