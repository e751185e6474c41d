"""The retry budget: retries are a share of the traffic, whatever fails.

It is the core's because several layers repeat requests, and only together can they be bounded.
Without one, an outage multiplies the load on what is failing by the number of tries. The shape
(a share of requests, a small steady allowance, a time to live) is that of Finagle's RetryBudget.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import attrs

from lamella._fork_locks import fork_safe_lock
from lamella._options import name, number, seconds, span

if TYPE_CHECKING:
    from lamella._requests import Request

SLOTS = 10
"""Into how many slots the time to live is cut; what is counted expires slot by slot."""


def _key_of(budget: Any) -> tuple[str, ...]:
    attrs.validate(budget)  # attrs itself does so only once all fields are there
    numbers = f"{budget.ratio:g},{budget.per_second:g},{budget.ttl:g}"
    return (budget.namespace, "retry", numbers)


@attrs.frozen
class RetryBudget:
    """How many retries all pipelines of a process may make together, per provider and operation.

    Each retry counts the last `ttl` seconds: with it, the retries are at most `ratio` x calls +
    `per_second` x `ttl`.

    Args:
        ratio: Retries for each call, 0 to 1. 0 leaves only the steady allowance.
        per_second: Retries that are always allowed, per second; 0 or more. It lets a program with
            little traffic retry at all.
        ttl: For how many seconds a call allows its retries, above 0.
        namespace: Budgets are shared by name; another name counts apart. So do other numbers.
    """

    ratio: float = attrs.field(default=0.2, validator=number(0, 1))
    per_second: float = attrs.field(default=10.0, validator=number(0))
    ttl: float = attrs.field(default=10.0, converter=seconds, validator=span)
    namespace: str = attrs.field(default="shared", validator=name)
    key: tuple[str, ...] = attrs.field(
        init=False, eq=False, repr=False, default=attrs.Factory(_key_of, takes_self=True)
    )

    def balance(self) -> Balance:
        """A fresh count."""
        return Balance(self)


class Balance:
    """What has been called and retried lately. Thread-safe.

    Args:
        budget: The bounds.
    """

    __slots__ = ("_calls", "_lock", "_ratio", "_reserve", "_retries", "_slots", "_width")

    def __init__(self, budget: RetryBudget) -> None:
        self._ratio = budget.ratio
        self._reserve = budget.per_second * budget.ttl
        self._width = max(budget.ttl / SLOTS, 1e-9)  # instants are no finer
        self._lock = fork_safe_lock()
        self._slots: deque[list[int]] = deque()  # [number, calls, retries], oldest first
        self._calls = 0
        self._retries = 0

    def deposit(self, now: float) -> None:
        """One call has been made.

        Args:
            now: The monotonic instant, in seconds.
        """
        with self._lock:
            slots = self._slots
            # Nearly always the latest slot; asking for it by the longer way costs more than this.
            latest = slots and slots[-1][0] == int(now // self._width)
            (slots[-1] if latest else self._slot(now))[1] += 1
            self._calls += 1

    def withdraw(self, now: float) -> bool:
        """Whether one more retry is allowed; if so, it is counted."""
        with self._lock:
            slot = self._slot(now)
            # A millionth forgives sums of floats: five times 0.2 must allow one.
            if self._retries + 1 > self._ratio * self._calls + self._reserve + 1e-6:
                return False
            slot[2] += 1
            self._retries += 1
            return True

    def _slot(self, now: float) -> list[int]:
        """The slot of an instant, the expired ones forgotten."""
        slots = self._slots
        at = int(now // self._width)
        if slots and at < slots[-1][0]:
            if at > slots[-1][0] - SLOTS:
                return slots[-1]  # another thread has read the clock a little later
            self._forget(len(slots))  # another clock: a test's began anew
        while slots and slots[0][0] <= at - SLOTS:
            self._forget(1)
        if not slots or slots[-1][0] != at:
            slots.append([at, 0, 0])
        return slots[-1]

    def _forget(self, count: int) -> None:
        for _ in range(count):
            _, calls, retries = self._slots.popleft()
            self._calls -= calls
            self._retries -= retries


def balance_of(budget: RetryBudget | None, request: Request[Any], provider: str) -> Balance | None:
    """The count that a request shares with all others of its provider and operation."""
    if budget is None:
        return None
    key = (*budget.key, provider, request.operation)
    return request.context.ports.stores.local.get(key, budget.balance)


def count_call(balance: Balance | None, request: Request[Any]) -> bool:
    """Count a request as one call, once for each model turn, whoever in it asks to.

    Returns:
        Whether it was counted now; False if it had been, or there is no budget.
    """
    if balance is None:
        return False
    context = request.context
    bound = context.bound
    turn = bound if bound.outer is None else bound.turn
    paid = turn.paid
    if balance in paid:
        return False
    turn.paid = (*paid, balance)
    balance.deposit(context.ports.monotonic())
    return True
