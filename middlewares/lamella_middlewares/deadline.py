"""Deadline: how long the whole call may take."""

from __future__ import annotations

from typing import TypeVar

import attrs

from lamella import DeadlineExceeded, Handler, Outcome, Request, Response, middleware
from lamella._evolve import informed
from lamella._options import optional_seconds, span_or_none

R = TypeVar("R", bound=Response)


@middleware(phase="observe", rank=0)
@attrs.frozen
class Deadline:
    """Bounds the whole call: every attempt, every wait between them, every tool and child call.

    It sets an instant on the call's own clock, which stands still while the consumer of a stream
    holds an event. Waits that would pass it are refused at once; an attempt that reaches it ends as
    timed out. A deadline that is already nearer stays.

    Args:
        seconds: From this layer on; above 0, or a timedelta. None sets no deadline.
    """

    seconds: float | None = attrs.field(
        default=600.0, converter=optional_seconds, validator=span_or_none
    )

    async def __call__(self, request: Request[R], call_next: Handler) -> R:
        """Pass the request on with its deadline.

        Raises:
            DeadlineExceeded: If an outer deadline has passed already; nothing is sent.
        """
        if self.seconds is None:
            return await call_next(request)
        context = request.context
        until = context.clock.now() + self.seconds
        if context.deadline is not None:
            if context.left() <= 0:
                raise DeadlineExceeded(
                    "The call's deadline had passed before the request came here.",
                    phase="local",
                    outcome=Outcome.NOT_SENT,
                    layer="deadline",
                )
            until = min(until, context.deadline)
        return await call_next(informed(request, "deadline", until))
