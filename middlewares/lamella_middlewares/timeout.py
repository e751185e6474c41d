"""Timeout: how long the stages of each attempt may take."""

from __future__ import annotations

from typing import Any, TypeVar

import attrs

from lamella import Handler, Limits, Request, Response, middleware
from lamella._evolve import informed
from lamella._limits import NO_LIMITS
from lamella._options import flag, optional_seconds, span_or_none

R = TypeVar("R", bound=Response)


def _limits_of(layer: Any) -> Limits:
    attrs.validate(layer)  # attrs itself does so only once all fields are there
    return Limits(
        connect=layer.connect,
        write=layer.write,
        first_event=layer.first_event,
        idle=layer.idle,
        attempt=layer.attempt,
        stream_runs=layer.stream_runs,
    )


@middleware(phase="attempt", rank=90)
@attrs.frozen
class Timeout:
    """Bounds each attempt, stage by stage; `Deadline` bounds the call.

    It puts limits on the request's context and holds nothing while the answer is read: connect and
    write are kept by the client, the others by the core, so that an attempt which ran out of time
    is recorded as timed out. Limits only ever tighten those that are there already. The time for
    which the consumer of a stream holds an event never counts.

    Args:
        connect: Seconds to get a connection, TLS included.
        write: Seconds for the peer to take the next piece of the request.
        first_event: Seconds from the start of an attempt to the first event that says something.
            Only where the answer is streamed: one that comes in one piece is bounded by `attempt`.
        idle: Seconds between two events that say something; pings do not count.
        attempt: Seconds for the whole attempt.
        stream_runs: Whether the answers of `run` are read as streams too, by transports that can,
            so that `first_event` and `idle` hold for them: a provider that has died is then found
            out within seconds. It costs some CPU for each chunk.

    Times are above 0, or timedeltas; None sets no limit.
    """

    connect: float | None = attrs.field(
        default=5.0, converter=optional_seconds, validator=span_or_none
    )
    write: float | None = attrs.field(
        default=30.0, converter=optional_seconds, validator=span_or_none
    )
    first_event: float | None = attrs.field(
        default=120.0, converter=optional_seconds, validator=span_or_none
    )
    idle: float | None = attrs.field(
        default=60.0, converter=optional_seconds, validator=span_or_none
    )
    attempt: float | None = attrs.field(
        default=300.0, converter=optional_seconds, validator=span_or_none
    )
    stream_runs: bool = attrs.field(default=False, validator=flag)
    _limits: Limits = attrs.field(
        init=False, eq=False, repr=False, default=attrs.Factory(_limits_of, takes_self=True)
    )

    async def __call__(self, request: Request[R], call_next: Handler) -> R:
        """Pass the request on with its limits."""
        limits, outer = self._limits, request.context.limits
        if outer is not NO_LIMITS:
            limits = outer.tighten(limits)
        return await call_next(informed(request, "limits", limits))
