"""Waiting for a limit: fairly, bounded, no longer than makes sense, across loops and threads.

Only the first in a line tries to enter; everybody else sleeps until it is woken. Nobody holds a
lock while it waits, and whoever leaves, for whatever reason, wakes who is first then.
"""

from __future__ import annotations

import math
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeVar
from weakref import WeakSet

import anyio
import attrs

from lamella._errors import LimitedError
from lamella._fork_locks import fork_safe_lock
from lamella._line_order import Order, Ticket
from lamella._loops import Waiter, current_loop

if TYPE_CHECKING:
    from lamella._context import Context

T = TypeVar("T")

SHORTEST: Final = 0.001
"""Seconds between two tries at least: event loops do not wait more finely."""


IMPATIENCE: Final = 1.0
"""How many seconds a request waits at most where another target may take it at once."""

WATCH: Final = 10.0
"""Every how many seconds those behind look whether the event loop of the first is still there."""


@attrs.frozen
class Terms:
    """How a layer waits.

    Attributes:
        layer: Its name, for errors and notes.
        code: The code of its refusals, such as `"rate_limited"`.
        max_waiting: How many may wait for one limit; 0 refuses instead of waiting.
        max_wait: How long one may wait, in seconds; 0 refuses at once, None leaves it to the
            deadline.
        ttl: Seconds after which a lease whose holder has died is given back; above 0.
        aging: Seconds of waiting that weigh as much as one level of priority; above 0.
        poll: Every how many seconds the first in a line asks a store that other processes share,
            where somebody must give back and time alone will not do.
        insist: For how many seconds a settlement that the store does not take is tried again; None
            is `ttl`. Longer where what was used matters beyond the time that a lease lives.
        gives_way: Whether a request that another credential of the same provider may take does not
            wait at all.
    """

    layer: str
    code: str
    max_waiting: int = 1000
    max_wait: float | None = None
    ttl: float = 60.0
    aging: float = 10.0
    poll: float = 0.05
    insist: float | None = None
    gives_way: bool = False

    def patience(self, context: Context) -> float | None:
        """How long a request may wait, in seconds; None leaves it to the deadline.

        Where a choose layer outside has another target, being served there beats waiting here.
        """
        return self._patience(context)[0]

    def patience_words(self, context: Context) -> str:
        """The same as the rest of a sentence, with what it is due to."""
        most, cause = self._patience(context)
        return "" if most is None else f"it may wait {most:.3g} s ({cause})"

    def _patience(self, context: Context) -> tuple[float | None, str]:
        if self.gives_way and context.spare_credentials:
            return 0.0, "another credential may have room"
        if (self.max_wait is None or self.max_wait > IMPATIENCE) and context.alternatives:
            return IMPATIENCE, "another target may have room"
        return self.max_wait, "max_wait"


@attrs.frozen
class Refused:
    """Why somebody cannot enter now.

    Attributes:
        retry_after: Seconds after which to try again; None if somebody must give back first.
        never: Whether it can never enter, however long it waits.
        why: What stands in the way, as the rest of a sentence. No personal data.
        hint: What to do about it.
        poll: Seconds after which to try again although nobody was heard to give back; None never.
        limit: A word for the limit, for the trace.
    """

    retry_after: float | None = None
    never: bool = False
    why: str = "the limit is reached"
    hint: str | None = None
    poll: float | None = None
    limit: str | None = None


@attrs.frozen
class Moved:
    """What an attempt returns that leaves the line without having entered.

    Attributes:
        to: Where it goes, for whoever called.
        refused: Why it goes there, if it was refused.
    """

    to: int
    refused: Refused | None = None


_lines: WeakSet[Line] = WeakSet()


class Line:
    """Who waits for one limit. Thread-safe, bounded, for any number of event loops.

    When it is full, whoever matters least has to go: of the lowest priority, of the tenant that has
    the most waiting, the newest. So a tenant that floods the line cannot keep others out of it.

    Args:
        max_waiting: How many may wait; 0 or more.
        aging: Seconds of waiting that weigh as much as one level of priority; above 0.
    """

    __slots__ = ("__weakref__", "_aging", "_first", "_lock", "_max_waiting", "_order")

    def __init__(self, *, max_waiting: int, aging: float = 10.0) -> None:
        if max_waiting < 0 or not 0 < aging < math.inf:
            raise ValueError(
                f"Line: max_waiting {max_waiting!r} must be 0 or more, and aging {aging!r} above "
                "0 and finite."
            )
        self._max_waiting = max_waiting
        self._aging = aging
        self._lock = fork_safe_lock()
        self._order = Order(aging)
        self._first: Ticket | None = None
        _lines.add(self)

    def __len__(self) -> int:
        return len(self._order)

    def join(self, ticket: Ticket) -> Ticket | None:
        """Stand in the line; None if there was room.

        Otherwise the one that had to go for it, which is told, or the newcomer itself.
        """
        gone: Ticket | None = None
        with self._lock:
            if len(self._order) >= self._max_waiting:
                gone = self._order.least(ticket)
                if gone is ticket:
                    return gone
                self._order.remove(gone, entered=False)
                gone.ousted = gone.woken = True
            ticket.woken = ticket.ousted = False
            self._order.add(ticket)
            self._look()
            waiter = None if gone is None else gone.waiter
        if waiter is not None:
            waiter.wake()
        self._rouse()
        return gone

    def leave(self, ticket: Ticket, *, entered: bool = False) -> None:
        """Stand in the line no longer; whoever is first then is woken. Idempotent.

        Args:
            ticket: Who leaves.
            entered: Whether it got what it waited for, which counts as its tenant's turn.
        """
        with self._lock:
            if not self._order.remove(ticket, entered=entered):
                return
            self._look()
        self._rouse()

    def head(self) -> Ticket | None:
        """Whose turn it is."""
        return self._first

    def ahead(self, ticket: Ticket) -> tuple[int, int]:
        """About how many go before one who stands here, and what they want together."""
        with self._lock:
            return self._order.ahead(ticket)

    def wake(self) -> None:
        """Something was given back: the first tries again. From any thread."""
        if self._first is None:
            return
        with self._lock:
            first = self.head()
            if first is not None:
                first.woken = True
        self._rouse()

    async def enter(
        self,
        context: Context,
        ticket: Ticket,
        attempt: Callable[[], Awaitable[T | Refused]],
        terms: Terms,
        *,
        predict: Callable[[int, int], float | None] | None = None,
    ) -> T:
        """Wait for one's turn, and go in.

        Args:
            context: Of the request that waits: its deadline and its pipeline's closing end the
                wait.
            ticket: Who waits; `arrived` is the instant from which `max_wait` counts.
            attempt: Tries to enter. It is called when nobody goes before the ticket. What it
                returns is returned, unless it is a `Refused`.
            terms: How long to wait, and how to say no.
            predict: About how many seconds it takes until one can enter before whom so many
                tickets, wanting so much together, go; None if that is not known.

        Raises:
            LimitedError: At once if the wait would be longer than it may, or if the line is full
                of those who are no less important; later, if it was pushed out by somebody more
                important, or `max_wait` has passed.
            DeadlineExceeded: If the deadline passes although nothing said so before.
            ClosedError: If the pipeline closes meanwhile.
        """
        stay = Stay(context, ticket, terms, predict)
        last: Refused | None = None
        if self._first is None:
            found = await attempt()
            if not isinstance(found, Refused):
                return found
            last = found
        return await self.wait(stay, attempt, last)

    async def wait(
        self, stay: Stay, attempt: Callable[[], Awaitable[T | Refused]], last: Refused | None
    ) -> T:
        """The part of `enter` that comes after a first try was refused, or was not due.

        Args:
            stay: Who waits, and how.
            attempt: Tries to enter.
            last: Why the first try was refused; None if there was none.
        """
        ticket, entered = stay.ticket, False
        ticket.loop = current_loop()
        if last is not None:
            stay.judge(last)
        last = last or _BEHIND
        self._pass_over(ticket)
        first, tickets, amounts = self._prospect(ticket)
        if not first or last.retry_after is None:
            # Before anybody has to go for it: who will not wait takes nobody's place.
            stay.judge(stay.predicted(tickets, amounts, last))
        if self.join(ticket) is ticket:
            raise stay.refusal("full", last)
        try:
            while True:
                if self._first is ticket:
                    ticket.woken = False
                    found = await attempt()
                    if not isinstance(found, Refused):
                        entered = not isinstance(found, Moved)
                        return found
                    last = found
                else:
                    last = _BEHIND
                    self._pass_over(ticket)
                if ticket.ousted:
                    raise stay.refusal("pushed out", last)
                stay.judge(last)
                await self._pause(stay, last)
        finally:
            self.leave(ticket, entered=entered)

    async def _pause(self, stay: Stay, last: Refused) -> None:
        """Sleep until woken, or until it is time to look again."""
        ticket, seconds = stay.ticket, stay.pause(last)
        if last is _BEHIND:
            seconds = min(seconds, WATCH)
        waiter = Waiter()
        with self._lock:
            if ticket.woken:
                ticket.woken = False
                return
            ticket.waiter = waiter
        try:
            await stay.wait(waiter, seconds)
        finally:
            ticket.waiter = None

    def _prospect(self, ticket: Ticket) -> tuple[bool, int, int]:
        """If it stood here: whether it would be first, and how many would go before it for what."""
        if self._first is None:
            return True, 0, 0
        with self._lock:
            self._order.add(ticket)
            first, ahead = self._order.first() is ticket, self._order.ahead(ticket)
            self._order.remove(ticket, entered=False)
        return first, *ahead

    def _pass_over(self, ticket: Ticket) -> None:
        """Take out who is first if its event loop was closed under it: it will never leave."""
        first = self._first
        while first is not None and first.loop is not ticket.loop:
            if first.loop is None or not first.loop.closed:
                return
            self.leave(first)
            first = self._first

    def _look(self) -> None:
        """Find out who is first; who has just become it is to try. Under the lock."""
        first = self._order.first()
        if first is not self._first:
            self._first = first
            if first is not None:
                first.woken = True

    def _rouse(self) -> None:
        """Wake the first if it sleeps and has something to wake for. Outside the lock."""
        first = self._first
        while first is not None and first.woken:
            waiter = first.waiter
            if waiter is None or waiter.wake():
                return
            # Its event loop was closed under it: it will never go in, nor leave by itself.
            with self._lock:
                self._order.remove(first, entered=False)
                self._look()
            first = self._first

    def forget(self) -> None:
        """Nobody waits here any more: a forked child has none of those who did."""
        self._order = Order(self._aging)
        self._first = None


_BEHIND: Final = Refused(why="others wait before it", limit="line")


class Stay:
    """One request's time in a line.

    Args:
        context: Of the request.
        ticket: Who waits.
        terms: How.
        predict: As for `Line.enter`.
    """

    __slots__ = ("_context", "_predict", "_terms", "ticket")

    def __init__(
        self,
        context: Context,
        ticket: Ticket,
        terms: Terms,
        predict: Callable[[int, int], float | None] | None = None,
    ) -> None:
        self._context = context
        self._terms = terms
        self._predict = predict
        self.ticket = ticket

    def predicted(self, tickets: int, amounts: int, last: Refused) -> Refused:
        """How long it will probably take behind so many who want so much.

        It is asked once: a guess from the past does not get better by waiting.
        """
        behind = _BEHIND if tickets else last
        if self._predict is None:
            return behind
        return attrs.evolve(behind, retry_after=self._predict(tickets, amounts))

    def left(self) -> float:
        """Seconds that it may still wait by the terms."""
        most = self._terms.patience(self._context)
        if most is None:
            return math.inf
        return most - (self._context.ports.monotonic() - self.ticket.arrived)

    def judge(self, refused: Refused) -> None:
        """Raise unless it makes sense to wait."""
        if refused.never:
            raise self.refusal("never", refused)
        wait = refused.retry_after
        left = self.left()
        if left <= 0 or (wait is not None and wait > left):
            raise self.refusal("max_wait", refused)
        if wait is not None and wait > 0 and wait >= self._context.left():
            raise self.refusal("deadline", refused)

    def pause(self, refused: Refused) -> float:
        """Seconds until it has to look again."""
        wait = refused.poll if refused.retry_after is None else refused.retry_after
        return max(SHORTEST, min(math.inf if wait is None else wait, self.left()))

    async def wait(self, waiter: Waiter, seconds: float) -> None:
        """Wait to be woken, but no longer than so many seconds."""

        async def bounded() -> None:
            with anyio.move_on_after(seconds):
                await waiter.wait()

        unbounded = math.isinf(seconds)
        what = f"waiting for the limit of {self._terms.layer}"
        await self._context.wait(waiter.wait if unbounded else bounded, what=what)

    def refusal(self, why: str, refused: Refused) -> LimitedError:
        """The error that says no."""
        terms, context = self._terms, self._context
        wait = refused.retry_after
        context.note(
            terms.layer, f"{terms.layer}.refused", why=why, limit=refused.limit, retry_after=wait
        )
        return LimitedError(
            f"{terms.layer} refuses the request: {refused.why}{self._because(why, wait)}.",
            hint=refused.hint,
            code=terms.code,
            layer=terms.layer,
            retry_after=wait,
            provider=context.provider or None,
        )

    def _because(self, why: str, wait: float | None) -> str:
        terms = self._terms
        expected = "" if wait is None else f", room is expected in {wait:.3g} s"
        if why == "full":
            return f", and as many wait already as may (max_waiting={terms.max_waiting})"
        if why == "pushed out":
            return ", and what matters more took its place among those who wait"
        if why == "max_wait":
            return f"{expected}, and {terms.patience_words(self._context)}"
        if why == "deadline":
            return f"{expected}, and the deadline is in {max(0.0, self._context.left()):.3g} s"
        return ""


def _forget_all() -> None:
    for line in list(_lines):
        line.forget()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_forget_all)
