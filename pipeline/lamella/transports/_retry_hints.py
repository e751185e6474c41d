"""When a provider says one may come back, from headers of four dialects and from its words.

The first valid of these counts: `retry-after-ms`; Amazon's `x-amz-retry-after`, in milliseconds
too; `retry-after` (seconds or a date); `x-ratelimit-reset-*` (Go durations such as `6m0s`) and
`anthropic-ratelimit-*-reset` (RFC 3339) of those dimensions of which nothing remains. What is not
positive, not finite or not understood is as good as not said. A long wait is kept as it is:
shortening it is not ours to do.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_LIMIT = re.compile(r"x-ratelimit-(?:remaining-(?P<of>.+)|remaining)")
_ANTHROPIC_LIMIT = re.compile(r"anthropic-ratelimit-(?P<of>.+)-remaining")
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|us|µs|ns|h|m|s|d))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|h|m|s|d)")
_UNITS = {
    "d": 86_400.0,
    "h": 3_600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "ns": 1e-9,
}
_SPAN = (
    r"(\d+(?:\.\d+)?)\s*"
    r"(ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hours?|d|days?)(?![a-z])"
)
_WORD = re.compile(_SPAN, re.IGNORECASE)
_WORDS = re.compile(rf"(?:try again|retry) (?:in|after) ((?:{_SPAN}(?:,|\s|and)*)+)", re.IGNORECASE)
_EPOCH_LEAST = 1e9  # as seconds to wait that would be thirty years; so it is an instant
_EPOCH_MILLISECONDS_LEAST = 1e11  # as seconds that would be the year 5138


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds until another try makes sense; None if the provider said nothing valid.

    Args:
        headers: With lower-case names.
        now: Seconds since the epoch, for instants; None takes the answer's own `date`, which has
            the advantage of coming from the same clock.
    """
    for hint in _hints(headers, now):
        if hint is not None and hint > 0 and math.isfinite(hint):
            return hint
    return None


def stated_in(message: str) -> float | None:
    """Seconds to wait that a provider's message names in words; None if it names none."""
    found = _WORDS.search(message)
    if found is None:
        return None
    spans = _WORD.findall(found[1].lower())
    seconds = sum(float(amount) * _scale(unit) for amount, unit in spans)
    return seconds if seconds > 0 and math.isfinite(seconds) else None


def _scale(unit: str) -> float:
    return 1e-3 if unit == "ms" or unit.startswith("mil") else _UNITS[unit[0]]


def should_retry(headers: Mapping[str, str]) -> bool | None:
    """The provider's explicit word; None if it said nothing."""
    return {"true": True, "false": False}.get(headers.get("x-should-retry", "").strip().lower())


def _hints(headers: Mapping[str, str], now: float | None) -> Iterator[float | None]:
    for name in ("retry-after-ms", "x-amz-retry-after"):
        milliseconds = _number(headers.get(name))
        yield None if milliseconds is None else milliseconds / 1000
    given = headers.get("retry-after")
    seconds = _number(given)
    yield seconds if seconds is not None else _until(_http_date(given), headers, now)
    yield _longest_reset(headers, now)


def _longest_reset(headers: Mapping[str, str], now: float | None) -> float | None:
    """The time until every exhausted dimension has something again."""
    waits: list[float] = []
    for name, value in headers.items():
        if _number(value) != 0:
            continue
        found = _LIMIT.fullmatch(name)
        if found is not None:
            of = found["of"]
            reset = headers.get(f"x-ratelimit-reset-{of}" if of else "x-ratelimit-reset")
        else:
            found = _ANTHROPIC_LIMIT.fullmatch(name)
            if found is None:
                continue
            reset = headers.get(f"anthropic-ratelimit-{found['of']}-reset")
        wait = reset_after(reset, headers, now)
        if wait is not None and wait > 0 and math.isfinite(wait):
            waits.append(wait)
    return max(waits, default=None)


def reset_after(value: str | None, headers: Mapping[str, str], now: float | None) -> float | None:
    """Seconds until a reset, which may already have passed; None if it is not understood.

    Args:
        value: A Go duration, seconds, (milli)seconds since the epoch, or an RFC 3339 instant.
        headers: The answer's, with lower-case names: its `date` is the base of instants.
        now: Seconds since the epoch, for answers without a date.
    """
    if value is None:
        return None
    text = value.strip()
    number = _number(text)
    if number is not None and number >= _EPOCH_LEAST:
        instant = number / 1000 if number >= _EPOCH_MILLISECONDS_LEAST else number
        return _until(instant, headers, now)
    if number is not None:
        return number
    if _DURATION.fullmatch(text):
        return sum(float(amount) * _UNITS[unit] for amount, unit in _PART.findall(text))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return _until(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp(), headers, now)


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value is not None and "_" not in value else None
    except ValueError:
        return None
    return None if number is None or math.isnan(number) else number


def _http_date(value: str | None) -> float | None:
    if value is None:
        return None
    try:
        found = parsedate_to_datetime(value.strip())
        return found.replace(tzinfo=found.tzinfo or UTC).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _until(instant: float | None, headers: Mapping[str, str], now: float | None) -> float | None:
    if instant is None:
        return None
    said = _http_date(headers.get("date"))
    base = now if said is None else said
    return None if base is None else instant - base
