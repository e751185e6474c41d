"""One try of sending a request to a provider: what the ledger of a call is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import attrs

from lamella._errors import AttemptLimitError, LamellaError
from lamella._money import Money
from lamella._outcomes import Outcome
from lamella._usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lamella._events import Event

DEFAULT_ATTEMPTS = 10


@attrs.frozen
class Attempt:
    """The record of one attempt. Times are seconds since the call began.

    Attributes:
        index: Its place in the call, from 0.
        branch: Who asked for it, for example `/hedge2/try1`.
        provider: Where it went.
        model: What was asked for there.
        start: When it was opened.
        first_event: When the first semantic event came; None if none did.
        end: When it ended; None while it is under way.
        outcome: How it ended; None while it is under way.
        committed: Whether anything of it was handed on.
        usage: What it consumed; None if nobody knows.
        cost: What it costs; None if nobody knows.
        cause: The class of the error that ended it.
        status: The HTTP status of that error, or the one it maps to.
        request_id: The provider's id of the request.
    """

    index: int
    branch: str
    provider: str
    model: str | None
    start: float
    first_event: float | None = None
    end: float | None = None
    outcome: Outcome | None = None
    committed: bool = False
    usage: Usage | None = None
    cost: Money | None = None
    cause: str | None = None
    status: int | None = None
    request_id: str | None = None

    @property
    def duration(self) -> float | None:
        """Seconds from its start to its end; None while it is under way."""
        return None if self.end is None else self.end - self.start

    @property
    def time_to_first_event(self) -> float | None:
        """Seconds from its start to the first semantic event; None if none came."""
        return None if self.first_event is None else self.first_event - self.start


class OpenAttempt:
    """An attempt under way: the transport and the wire layers write down what they learn.

    Attributes:
        index: Its place in the call.
        provider: Where it goes; the transport may put its own name.
        usage: What it consumed, as far as known.
        cost: What it costs, as far as known.
        request_id: The provider's id of it.
        sent: Whether any byte of it left this process; the transport sets it.
        received: The events that have come, while it is under way: what was delivered is known even
            of an attempt that is cancelled before its answer is handed on.
    """

    __slots__ = (
        "_now", "branch", "committed", "cost", "end", "error", "first_event", "index",
        "interruption", "model", "outcome", "provider", "received", "request_id", "scope", "sent",
        "start", "usage",
    )  # fmt: skip

    def __init__(
        self, index: int, branch: str, provider: str, model: str | None, now: Callable[[], float]
    ) -> None:
        self._now = now
        self.index = index
        self.branch = branch
        self.provider = provider
        self.model = model
        self.start = now()
        self.first_event: float | None = None
        self.end: float | None = None
        self.outcome: Outcome | None = None
        self.committed = False
        self.usage: Usage | None = None
        self.cost: Money | None = None
        self.request_id: str | None = None
        self.sent = False
        self.received: Sequence[Event] = ()
        self.error: BaseException | None = None
        self.scope: anyio.CancelScope | None = None
        self.interruption: Callable[[], LamellaError | None] | None = None

    def saw_event(self) -> None:
        """The first semantic event has come."""
        if self.first_event is None:
            self.first_event = self._now()

    def close(self, outcome: Outcome, error: BaseException | None) -> None:
        """The attempt has ended. Only the first ending counts."""
        if self.outcome is None:
            self.end = self._now()
            self.outcome = outcome
            self.error = error
            self.received = ()

    def interrupted(self) -> LamellaError | None:
        """Why the attempt's own limits, or a closing pipeline, cancelled it; None if not."""
        return self.interruption() if self.interruption is not None else None

    def record(self) -> Attempt:
        """What is known now."""
        error = self.error
        return Attempt(
            index=self.index,
            branch=self.branch,
            provider=self.provider,
            model=self.model,
            start=self.start,
            first_event=self.first_event,
            end=self.end,
            outcome=self.outcome,
            committed=self.committed,
            usage=self.usage,
            cost=self.cost,
            cause=None if error is None else type(error).__name__,
            status=error.status if isinstance(error, LamellaError) else None,
            request_id=self.request_id,
        )


class AttemptBound:
    """How many attempts one model turn may still make, whoever asks for them.

    Retry inside fallback inside retry multiplies; the core counts where attempts are opened.
    """

    __slots__ = ("limit", "used")

    def __init__(self, limit: int = DEFAULT_ATTEMPTS) -> None:
        self.limit = limit
        self.used = 0

    def take(self) -> None:
        """Count one more.

        Raises:
            AttemptLimitError: If the bound is reached.
        """
        if self.used >= self.limit:
            msg = f"This model turn has made {self.used} attempts, which is its bound."
            hint = "Retry, Fallback and Hedge multiply: lower theirs, or raise max_attempts=."
            raise AttemptLimitError(msg, hint=hint)
        self.used += 1
