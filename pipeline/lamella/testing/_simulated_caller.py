"""One caller of a simulation: what it asks, how it behaves, and what it saw."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import anyio
import attrs

from lamella._chat import ChatRequest, ChatResponse
from lamella._clock import Clock
from lamella._context import Context
from lamella._errors import LamellaError
from lamella._events import TextDelta

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella._attempts import Attempt
    from lamella._pipeline import Pipeline
    from lamella._trace import Trace
    from lamella.testing._simulated_ledger import Record

ROUNDING: Final = 1e-6
"""Seconds that sums of floats may be off."""


@attrs.frozen
class Manner:
    """How one caller behaves.

    Attributes:
        stream: Whether it streams.
        patience: Seconds after which it gives up; infinite for never.
        leaves_after: Events after which it leaves the stream; None to stay.
        hold: Seconds that it takes for each event.
    """

    stream: bool = False
    patience: float = math.inf
    leaves_after: int | None = None
    hold: float = 0.0


PLAIN: Final = (Manner(stream=False), Manner(stream=True))


class SimulatedCaller:
    """Makes one call, and is told by providers what they see of it.

    Args:
        number: Which call it is, from 0.
        tenant: Whose.
        manner: How the caller behaves.
        broken: Told of a law that was broken: its name, what happened, the trace.

    Attributes:
        outcome: `complete`, `left`, `cancelled`, or the class of the error.
        error: What the call raised.
        text: What it read.
        trace: The call's trace; None if the call was refused before it began.
        seconds: How long the call took.
        first_event: Seconds until the first text; None if there was none.
        records: What providers have received of it.
        deadline: The latest instant by which an attempt said that it must be over.
        clock: The call's clock.
    """

    __slots__ = (
        "_broken", "_not_before", "_read", "clock", "deadline", "error", "first_event", "manner",
        "number", "outcome", "records", "seconds", "tenant", "trace",
    )  # fmt: skip

    def __init__(
        self,
        number: int,
        tenant: str,
        manner: Manner,
        broken: Callable[[str, str, Trace | None], None],
    ) -> None:
        self.number = number
        self.tenant = tenant
        self.manner = manner
        self._broken = broken
        self._read: list[str] = []
        self._not_before: dict[tuple[str, str, str], float] | None = None
        self.outcome = ""
        self.error: BaseException | None = None
        self.trace: Trace | None = None
        self.seconds = 0.0
        self.first_event: float | None = None
        self.records: list[Record] = []
        self.deadline = -math.inf
        self.clock: Clock | None = None

    @property
    def text(self) -> str:
        """What it has read."""
        return "".join(self._read)

    # --- calling -------------------------------------------------------------------------------

    async def call(
        self, pipeline: Pipeline, request: ChatRequest, now: Callable[[], float]
    ) -> None:
        """Make the call. Whatever it raises is kept, except what ends the simulation itself.

        Args:
            pipeline: Where.
            request: What to ask.
            now: The clock.
        """
        began = now()
        manner = self.manner
        try:
            if manner.patience < math.inf:
                with anyio.move_on_after(manner.patience) as scope:
                    await self._make(pipeline, request, now, began)
                if scope.cancelled_caught:
                    self.outcome = "cancelled"
            else:
                await self._make(pipeline, request, now, began)
        except Exception as error:  # noqa: BLE001 - each is counted, and a stranger breaks a law
            self.error = error
            self.outcome = _name(error)
        finally:
            self.seconds = now() - began
            self.outcome = self.outcome or "cancelled"

    async def _make(
        self, pipeline: Pipeline, request: ChatRequest, now: Callable[[], float], began: float
    ) -> None:
        if self.manner.stream:
            async with pipeline.stream(request) as response:
                await self._stream(response, now, began)
            return
        response = await pipeline.run(request)
        self._read += [event.text for event in response.events if type(event) is TextDelta]
        self.outcome = "complete"

    async def _stream(self, response: ChatResponse, now: Callable[[], float], began: float) -> None:
        left = self.manner.leaves_after
        async for event in response:
            if type(event) is TextDelta:
                if self.first_event is None:
                    self.first_event = now() - began
                self._read.append(event.text)
            if left is not None:
                if left <= 0:
                    self.outcome = "left"
                    return
                left -= 1
            if self.manner.hold:
                await anyio.sleep(self.manner.hold)
        self.outcome = "complete"

    # --- what providers say --------------------------------------------------------------------

    def arrived(self, provider: str, context: Context, record: Record) -> None:
        """An attempt of the call has reached a provider.

        Args:
            provider: Which.
            context: The attempt's.
            record: The provider's record of it.
        """
        self.records.append(record)
        if context.deadline is not None:
            if context.left() <= 0:
                what = f"{provider} got an attempt {-context.left():.3f} s after the deadline"
                self._broken("no attempt after the deadline", what, context.trace)
            if record.call_id == context.call_id and context.deadline > self.deadline:
                self.deadline, self.clock = context.deadline, context.clock
        if self._not_before is not None:
            until = self._not_before.get((provider, context.provider, context.call_id))
            now = context.ports.monotonic()
            if until is not None and now < until - ROUNDING:
                what = f"{provider} got an attempt {until - now:.3f} s before it was to come back"
                self._broken("Retry-After is never undercut", what, context.trace)

    def asked_to_wait(self, provider: str, context: Context, seconds: float) -> None:
        """A provider has told the call when it may come back.

        Args:
            provider: Which.
            context: The attempt's.
            seconds: In how many seconds.
        """
        if self._not_before is None:
            self._not_before = {}
        key = (provider, context.provider, context.call_id)
        self._not_before[key] = context.ports.monotonic() + seconds

    def forget(self) -> None:
        """Let go of the frames that errors of the call came through.

        They hold the caller and the trace, which hold the errors: of thousands of failed calls that
        would be much work for the garbage collector.
        """
        _without_frames(self.error)
        for record in self.records:
            if record.attempt is not None and not record.open:
                _without_frames(record.attempt.error)

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The attempts that its trace has."""
        return () if self.trace is None else self.trace.attempts


def _without_frames(error: BaseException | None) -> None:
    """Drop the traceback of an error, and of those that it came from."""
    while error is not None and error.__traceback__ is not None:  # what comes again has none
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _name(error: Exception) -> str:
    """What an error is called in a report: its class, and its code where that says more."""
    kind = type(error).__name__
    if isinstance(error, LamellaError) and error.code == "retry_budget_exhausted":
        return f"{kind} (retry budget exhausted)"
    return kind
