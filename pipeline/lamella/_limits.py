"""Limits in time on one attempt."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeAlias

import attrs

Seconds: TypeAlias = float | timedelta | None
"""A span of time: seconds, or a timedelta; None for no limit."""


def seconds(value: Seconds) -> float | None:
    """As seconds, or None.

    Raises:
        ValueError: If it is negative or not a number.
    """
    if value is None:
        return None
    span = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if not span >= 0:
        msg = f"A span of time must be 0 or more seconds, not {value!r}."
        raise ValueError(msg)
    return span


def positive_seconds(value: Seconds) -> float | None:
    """As seconds above zero, or None.

    Raises:
        ValueError: If it is zero, negative or not a number.
    """
    span = seconds(value)
    if span == 0:
        msg = "A limit of 0 seconds lets nothing pass; use None for no limit."
        raise ValueError(msg)
    return span


@attrs.frozen
class Limits:
    """How long the stages of one attempt may take, in seconds; None is no limit.

    Attributes:
        connect: To get a connection, TLS included.
        write: For the peer to take the next piece of the request.
        first_event: From the start of the attempt to the first semantic event of a stream. It does
            not apply to an answer that is not streamed on the wire.
        idle: Between two semantic events; pings do not count, the consumer's time does not either.
        attempt: The whole attempt, the consumer's time excluded.
        stream_runs: Whether transports that can are to read an answer as a stream although the
            caller takes it whole, so that `first_event` and `idle` hold for it too: a provider
            that has died is found out in seconds instead of at the limit of the whole attempt.
    """

    connect: float | None = attrs.field(default=None, converter=positive_seconds)
    write: float | None = attrs.field(default=None, converter=positive_seconds)
    first_event: float | None = attrs.field(default=None, converter=positive_seconds)
    idle: float | None = attrs.field(default=None, converter=positive_seconds)
    attempt: float | None = attrs.field(default=None, converter=positive_seconds)
    stream_runs: bool = False

    def tighten(self, other: Limits) -> Limits:
        """The smaller of each: a nested scope never loosens its parent's limits."""
        return Limits(
            connect=_smaller(self.connect, other.connect),
            write=_smaller(self.write, other.write),
            first_event=_smaller(self.first_event, other.first_event),
            idle=_smaller(self.idle, other.idle),
            attempt=_smaller(self.attempt, other.attempt),
            stream_runs=self.stream_runs or other.stream_runs,
        )


def _smaller(one: float | None, other: float | None) -> float | None:
    if one is None:
        return other
    return one if other is None else min(one, other)


NO_LIMITS = Limits()
