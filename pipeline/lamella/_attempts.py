"""One try of sending a request to a provider: what the ledger of a call is made of."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

import attrs

from lamella._errors import AttemptLimitError, LamellaError
from lamella._money import Money
from lamella._nothing import NOTHING
from lamella._outcomes import Outcome
from lamella._usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lamella._events import Event
    from lamella._responses import Head

DEFAULT_ATTEMPTS = 10


@attrs.frozen
class Attempt:
    """The record of one attempt. Times are seconds since the call began.

    Attributes:
        index: Its place in the call, from 0.
        branch: Who asked for it, for example `/hedge2/try1`.
        provider: Where it went.
        model: What was asked for there: the transport's own model where the request names none, and
            None where nobody knows one.
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
        substitute: Whether it went to another target than the one that was meant, since that had
            failed or could not take the request.
        asked_by: The layer that made the request, as `Context.asked_by`; empty for the caller's.
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
    substitute: bool = False
    asked_by: str = ""

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
        model: What is asked for there, as in `Attempt`; the transport may put what it sends.
        named_model: The model that the request names; None takes the transport's own.
        transport: What sends it.
        vendor: The name of that, under which its prices are looked up; `provider` is a target's.
        bound: The bound of the model turn that it belongs to.
        usage: What it consumed, as far as known.
        stated: Asks what the provider has said so far that it consumes, while it is read; None
            where nobody can be asked.
        learned: Asks what an answer that is read has said of itself so far: its class of service
            and its cost may come last; None where nobody can be asked.
        cost: What it costs, as far as known.
        request_id: The provider's id of it.
        served_model: The model that the provider says answered; None as long as nobody has said.
        answer_id: The provider's id of the answer; None as long as nobody has said.
        finish_reasons: Why the answer is over, one for each choice, once it has ended well.
        url: Where it was sent, if over HTTP; the transport says so. It holds no secret.
        service: The provider's class of service that it asks for; a transport that sends another
            one, or none, says so, since that one is billed.
        substitute: Whether a choose layer has sent the request to another target than the one that
            was meant, since that had failed or could not take it.
        asked_by: The layer that makes the request; empty for the caller's own.
        headers: What observers want to go along with the request to the provider, such as a trace's
            context; transports over HTTP add them to their own, which they do not replace.
        preparing: Whether the transport is still getting what it needs to send it, such as a key.
        sent: Whether any byte of it left this process; the transport sets it.
        may_renew: Whether another key may be asked for if this one is refused.
        key_renewed: Whether its key was refused and there is another by now; the transport sets it,
            and one more attempt follows.
        streamed: Whether the answer is expected as a stream, so that its first event is awaited;
            see `expect_whole`.
        received: The events that have come, while it is under way: what was delivered is known even
            of an attempt that is cancelled before its answer is handed on.
    """

    __slots__ = (
        "_monotonic", "_origin", "answer_id", "asked_by", "bound", "branch", "committed", "cost",
        "end", "error", "finish_reasons", "first_event", "headers", "index", "interruption",
        "key_renewed", "learned", "may_renew", "model", "named_model", "outcome", "preparing",
        "provider", "received", "request_id", "sent", "served_model", "service", "start", "stated",
        "streamed", "substitute", "transport", "url", "usage", "vendor",
    )  # fmt: skip

    def __init__(
        self,
        index: int,
        branch: str,
        provider: str,
        model: str | None,
        clock: tuple[Callable[[], float], float],
    ) -> None:
        # Not the trace itself: a record that referred to the trace it stands in would keep every
        # call's trace until the garbage collector finds the cycle.
        self._monotonic, self._origin = clock
        self.index = index
        self.branch = branch
        self.provider = provider
        self.model = model
        self.named_model = model
        self.transport: object = None
        self.vendor = provider
        self.bound: AttemptBound | None = None
        self.start = clock[0]() - clock[1]
        self.first_event: float | None = None
        self.end: float | None = None
        self.outcome: Outcome | None = None
        self.committed = False
        self.usage: Usage | None = None
        self.stated: Callable[[], Usage | None] | None = None
        self.learned: Callable[[], Head] | None = None
        self.cost: Money | None = None
        self.request_id: str | None = None
        self.served_model: str | None = None
        self.answer_id: str | None = None
        self.finish_reasons: tuple[str, ...] = ()
        self.url: str | None = None
        self.service: str | None = None
        self.substitute = False
        self.asked_by = ""
        self.headers: Mapping[str, str] = NOTHING
        self.preparing = False
        self.sent = False
        self.may_renew = True
        self.key_renewed = False
        self.received: Sequence[Event] = ()
        self.error: BaseException | None = None
        self.streamed = False
        self.interruption: Callable[[], LamellaError | None] | None = None

    def asks(self, transport: object, model: str | None) -> bool:
        """Whether it goes to that transport for that model; None is the transport's own."""
        return self.transport is transport and model in (self.named_model, self.model)

    def broken_off(self) -> Usage | None:
        """What the provider had said of an answer that broke off, which may be less than the bill.

        It is flagged `estimated`; None if nothing was said.
        """
        usage = None if self.stated is None else self.stated()
        return None if usage is None else attrs.evolve(usage, estimated=True)

    def leaves(self) -> None:
        """The first byte is about to leave this process."""
        self.sent = True

    def saw_event(self) -> None:
        """The first semantic event has come."""
        if self.first_event is None:
            self.first_event = self._monotonic() - self._origin

    def expect_whole(self) -> None:
        """The answer comes in one piece, so there is no first event whose limit could pass.

        Transports call this where the provider does not stream what they asked it to, or cannot.
        """
        self.streamed = False

    def close(self, outcome: Outcome, error: BaseException | None) -> None:
        """The attempt has ended. Only the first ending counts."""
        if self.outcome is None:
            self.end = self._monotonic() - self._origin
            self.outcome = outcome
            self.error = error
            self.received = ()
            self.stated = self.learned = None  # with them, all that the answer said

    def moved(self, branch: str, later: float, not_before: float) -> OpenAttempt:
        """A copy, as it is now, in the time of a call that has adopted it.

        Args:
            branch: What its branch begins with there.
            later: Seconds by which its own call began later than that one.
            not_before: What its start is at least.
        """
        new = copy(self)
        new.branch = f"{branch}{self.branch}"
        new.start = max(self.start + later, not_before)
        new.first_event = None if self.first_event is None else self.first_event + later
        new.end = None if self.end is None else self.end + later
        return new

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
            substitute=self.substitute,
            asked_by=self.asked_by,
        )


class AttemptBound:
    """How many attempts one model turn may still make, whoever asks for them.

    Retry inside fallback inside retry multiplies; the core counts where attempts are opened. What
    else a model turn has only once is kept here too, for layers that stand in it several times.

    Args:
        limit: How many.
        outer: The bound of the pipeline around this one: what is taken here is taken there as well.

    Attributes:
        limit: How many.
        used: How many have been made.
        paid: Of the turn: the budgets that it has been counted in as a call.
        free_used: Of the turn: whether its one free try, after nothing was sent, has been made.
    """

    __slots__ = ("free_used", "limit", "outer", "paid", "used")

    def __init__(self, limit: int = DEFAULT_ATTEMPTS, outer: AttemptBound | None = None) -> None:
        self.limit = limit
        self.used = 0
        self.outer = outer
        self.paid: tuple[object, ...] = ()
        self.free_used = False

    @property
    def turn(self) -> AttemptBound:
        """The bound of the whole model turn: the outermost one."""
        return self if self.outer is None else self.outer.turn

    @property
    def left(self) -> int:
        """How many may still be made."""
        left = self.limit - self.used
        return left if self.outer is None else min(left, self.outer.left)

    def within(self, limit: int) -> AttemptBound:
        """The bound of a pipeline inside, which allows `limit` attempts."""
        return self if limit >= self.left else AttemptBound(limit, self)

    def take(self) -> None:
        """Count one more.

        Raises:
            AttemptLimitError: If the bound, or one around it, is reached.
        """
        if self.outer is None and self.used < self.limit:
            self.used += 1
            return
        full = self._full()
        if full is not None:
            msg = f"This model turn has made {full.used} attempts, which is its bound."
            hint = "Retry, Fallback and Hedge multiply: lower theirs, or raise max_attempts=."
            raise AttemptLimitError(msg, hint=hint)
        bound: AttemptBound | None = self
        while bound is not None:
            bound.used += 1
            bound = bound.outer

    def _full(self) -> AttemptBound | None:
        """The outermost bound that is reached; None if none is."""
        full: AttemptBound | None = None
        bound: AttemptBound | None = self
        while bound is not None:
            if bound.used >= bound.limit:
                full = bound
            bound = bound.outer
        return full
