"""One request between its reservation and its settlement, told of every attempt inside."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, Final

from lamella import (
    Context,
    Dimension,
    Ending,
    Money,
    Outcome,
    ProviderError,
    Request,
    Response,
)
from lamella._attempts import OpenAttempt
from lamella._grants import Grant, at_once, in_background, is_immediate, persist
from lamella_middlewares.budget._accounts import NAME, Account
from lamella_middlewares.budget._allowances import REQUESTS, TOKENS
from lamella_middlewares.budget._choices import Plan
from lamella_middlewares.budget._notices import levels_of
from lamella_middlewares.budget._worst_case import WorstCase

_ANSWERED: Final = frozenset({Outcome.COMPLETE, Outcome.TRUNCATED, Outcome.LEFT, Outcome.UNKNOWN})

_PROCESSED: Final = frozenset({408, 504})
"""Statuses with which a provider, or a proxy before it, gives up on work that it has begun."""


def wanted_of(account: Account, worst: WorstCase) -> int:
    """What a request may use of an account."""
    unit = account.limit.unit
    if unit == REQUESTS:
        return 1
    if unit == TOKENS:
        return worst.tokens
    return worst.nano or 0


class Visit:
    """What a request has reserved, and what becomes of it.

    It observes the attempts of its request. Where a budget further in has the same account in the
    same store, that one is charged, and this one is not: nothing is paid for twice.

    Args:
        plan: The layer's.
        context: Of the request, with the stores that the layer counts in.
        accounts: What it counts for.
        wanted: What was reserved of each.
        grant: The reservation.

    Attributes:
        keys: Of the accounts.
        leases: The store that they are in.
    """

    __slots__ = (
        "_accounts", "_attempts", "_cached", "_context", "_ended", "_grant", "_plan", "_used",
        "_wanted", "keys", "leases",
    )  # fmt: skip

    def __init__(
        self,
        plan: Plan,
        context: Context,
        accounts: Sequence[Account],
        wanted: Sequence[int],
        grant: Grant,
    ) -> None:
        self._plan = plan
        self._context = context
        self._accounts = accounts
        self._wanted = wanted
        self._grant = grant
        self._used: list[int] | None = None
        self._attempts = 0
        self._cached = False
        self._ended = False
        self.keys = [account.both.key for account in accounts]
        self.leases = context.ports.stores.leases

    # --- what the core tells ------------------------------------------------------------------

    def attempt_opened(self, attempt: OpenAttempt, request: Request[Any], /) -> None:
        """Nothing is known yet; what is abandoned with its event loop is as dear as it can be."""
        if not self._ended:
            self._grant.expect(_both(_sums(self._used, self._wanted)))

    def attempt_closed(self, attempt: OpenAttempt, request: Request[Any], /) -> None:
        """An attempt has ended, and what it used is known."""
        if not _was_sent(attempt):
            if not self._ended:
                self._grant.expect(_both(self._used or [0] * len(self._wanted)))
            return
        self._attempts += 1
        inner = self._inner(request)
        used = [
            0 if account.both.key in inner else _used(account, wanted, attempt)
            for account, wanted in zip(self._accounts, self._wanted, strict=True)
        ]
        if self._ended:
            self._charge(used)
            return
        self._used = _sums(self._used, used)
        self._grant.expect(_both(self._used))

    def answered(self, response: Response) -> None:
        """The answer has begun."""
        head = getattr(response, "head", None)
        self._cached = head is not None and head.cached

    def settle(self, end: Ending) -> Coroutine[Any, Any, None] | None:
        """Replace what was reserved by what was used; give all back if nothing was sent."""
        self._ended = True
        used = None if self._cached and self._attempts == 1 else self._used
        waiting = self._grant.finish(None if used is None else _both(used))
        if used is None:
            return waiting
        crossed = self._near(used)
        if not crossed:
            return waiting
        telling = self._tell(waiting, crossed)
        if not self._grant.immediate:
            return telling
        at_once(telling)
        return None

    # --- thresholds ---------------------------------------------------------------------------

    def _near(self, used: Sequence[int]) -> list[Account]:
        """The accounts of which a threshold may have been reached."""
        found: list[Account] = []
        left = self._grant.remaining
        for index, account in enumerate(self._accounts):
            # What others have reserved counts as spent here: only then a closer look is worth it.
            most = account.capacity - left[2 * index] - self._wanted[index] + used[index]
            if self._plan.thresholds.crossed(account, most):
                found.append(account)
        return found

    async def _tell(
        self, waiting: Coroutine[Any, Any, None] | None, accounts: Sequence[Account]
    ) -> None:
        if waiting is not None:
            await waiting
        context, thresholds = self._context, self._plan.thresholds
        try:
            levels = await levels_of(context.ports, accounts)
            for account, (spent, _) in zip(accounts, levels, strict=True):
                shares = thresholds.crossed(account, spent)
                if shares:
                    await thresholds.tell(context, account, shares, spent)
        except Exception as error:  # noqa: BLE001 - the answer is good, and the next one will tell
            if not context.trace.finished:
                context.note(NAME, f"{NAME}.store_failed", error=type(error).__name__)

    # --- what comes late ----------------------------------------------------------------------

    def _charge(self, used: Sequence[int]) -> None:
        """Charge what detached work has used after the answer had ended."""
        context, terms = self._context, self._plan.terms
        lease_id = context.ports.new_id()
        if is_immediate(context.ports.stores.leases):
            at_once(self._owe(lease_id, used))
        else:
            in_background(
                context,
                terms,
                persist,
                context,
                terms,
                lambda: self._owe(lease_id, used),
                terms.insist,
            )

    async def _owe(self, lease_id: str, used: Sequence[int]) -> None:
        leases = self._context.ports.stores.leases
        await leases.reserve(lease_id, dimensions_of(self._accounts), ttl=self._plan.terms.ttl)
        await leases.settle(lease_id, _both(used))

    def _inner(self, request: Request[Any]) -> set[tuple[str, ...]]:
        """The keys that are charged by budgets further in."""
        observers = request.context.observers
        if observers[-1] is self:
            return _NONE
        found: set[tuple[str, ...]] = set()
        for observer in reversed(observers):
            if observer is self:
                break
            if isinstance(observer, Visit) and observer.leases is self.leases:
                found.update(observer.keys)
        return found


_NONE: Final[set[tuple[str, ...]]] = set()


def dimensions_of(
    accounts: Sequence[Account], wanted: Sequence[int] | None = None
) -> tuple[Dimension, ...]:
    """What to reserve: of each account twice, as what is gone and as what is under way."""
    found: list[Dimension] = []
    for index, account in enumerate(accounts):
        amount = 0 if wanted is None else wanted[index]
        found.append(account.both.want(amount))
        found.append(account.under_way.want(amount))
    return tuple(found)


def _sums(known: Sequence[int] | None, more: Sequence[int]) -> list[int]:
    """What was used, and more; None for nothing yet."""
    if known is None:
        return list(more)
    return [one + other for one, other in zip(known, more, strict=True)]


def _both(used: Sequence[int]) -> list[int]:
    """What was used, for each dimension. What was under way is given back whatever is said."""
    return [amount for one in used for amount in (one, 0)]


def _used(account: Account, wanted: int, attempt: OpenAttempt) -> int:
    """What an attempt that was sent has used; where nobody can say, what was reserved for it."""
    unit = account.limit.unit
    if unit == REQUESTS:
        return 0 if attempt.key_renewed else 1  # the same request, with another key
    if unit == TOKENS:
        if attempt.usage is not None:
            return attempt.usage.total_tokens
        return 0 if _refused_unread(attempt) else wanted
    cost: Money | None = attempt.cost
    if cost is not None and cost.currency == unit:
        return max(0, cost.nano)  # a provider that pays is none to count on
    return 0 if cost is None and _refused_unread(attempt) else wanted


def _was_sent(attempt: OpenAttempt) -> bool:
    if attempt.outcome is Outcome.NOT_SENT:
        return False
    # Not every transport says what it has sent, but whoever was answered has sent something, and
    # what is billed was sent.
    answered = attempt.outcome in _ANSWERED or attempt.first_event is not None
    return attempt.sent or answered or isinstance(attempt.error, ProviderError) or _billed(attempt)


def _billed(attempt: OpenAttempt) -> bool:
    """Whether `Cost`, or the answer, says that it has used something."""
    if attempt.cost is not None and attempt.cost.nano:
        return True
    return attempt.usage is not None and attempt.usage.total_tokens > 0


def _refused_unread(attempt: OpenAttempt) -> bool:
    """Whether the provider refused it before it began to work on it."""
    error = attempt.error
    if not isinstance(error, ProviderError) or error.partial is not None:
        return False
    return error.status not in _PROCESSED and attempt.first_event is None
