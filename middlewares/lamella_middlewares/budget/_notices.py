"""Telling somebody, once, that a share of a budget is spent."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

import attrs

from lamella import Context, LeaseStore, Money, Ports
from lamella._options import is_async, is_number, refused
from lamella_middlewares.budget._accounts import NAME, Account

logger = logging.getLogger("lamella")

_TTL: Final = 60.0
_NO_PERSON: Final = frozenset({"tenant", "provider", "model"})
"""Parts of a scope that `Log` writes down as well. What the others say may be somebody's name, and
a digest of that could be guessed."""
_REACHED: Final = "the threshold of %.0f %% is reached"


@attrs.frozen
class BudgetNotice:
    """That a share of a budget is spent, told once to the whole fleet.

    Attributes:
        share: The threshold that is reached: 0.8 is four fifths. 1 means as well that a request did
            not fit into what is left.
        limit: How much there is.
        spent: How much of it is spent.
        scope: Whose budget it is: by the name of each part, such as `user`, its value.
        window: When it starts anew: `"day"`; empty if it never does.
        resets_at: The instant of that, in seconds since the epoch; None if there is none.
    """

    share: float
    limit: Money | int
    spent: Money | int
    scope: Mapping[str, str]
    window: str
    resets_at: float | None


class Thresholds:
    """The shares of which somebody wants to know, and who.

    Args:
        shares: Which; ascending.
        callback: Who is told, besides the log and the trace; None for nobody.
    """

    __slots__ = ("_callback", "_shares")

    def __init__(
        self, shares: Sequence[float], callback: Callable[[BudgetNotice], object] | None
    ) -> None:
        self._shares = tuple(shares)
        self._callback = callback

    def crossed(self, account: Account, spent: int) -> list[float]:
        """Those that so much spending may have reached, and that are not known to be told."""
        shares, told = self._shares, account.told
        if len(told) == len(shares) or not shares:
            return []
        reached = spent / account.capacity if account.capacity else 1.0
        if reached < shares[0]:
            return []
        return [share for share in shares if share <= reached and share not in told]

    async def tell(
        self, context: Context, account: Account, shares: Sequence[float], spent: int
    ) -> None:
        """Tell of thresholds that have been reached, unless another process has."""
        leases = context.ports.stores.leases
        for share in shares:
            if await _first(context, leases, account, share):
                self._tell(context, account, share, spent)
            account.told |= {share}

    def _tell(self, context: Context, account: Account, share: float, spent: int) -> None:
        limit = account.limit
        if not context.trace.finished:
            context.note(
                NAME,
                f"{NAME}.threshold",
                limit="/".join(limit.identity),
                share=share,
                spent=spent,
                capacity=account.capacity,
            )
        full = share == 1 and spent < account.capacity
        logger.warning(
            "Budget: %s, with %s spent of %s%s%s.",
            "a request did not fit into what is left" if full else _REACHED % (share * 100),
            limit.shown(spent),
            limit.shown(account.capacity),
            limit.whose,
            _shown_scope(limit.scope(account.values)),
        )
        if self._callback is None:
            return
        end = account.span.end
        notice = BudgetNotice(
            share,
            limit.value(account.capacity),
            limit.value(spent),
            limit.scope(account.values),
            limit.window.name,
            None if math.isinf(end) else end,
        )
        try:
            self._callback(notice)
        except Exception:
            logger.exception("Budget: on_threshold has failed.")


def _shown_scope(scope: Mapping[str, str]) -> str:
    """Whose it is, as far as a log may say: no users, sessions and tags, which may be people."""
    shown = ", ".join(f"{name}={scope[name]!r}" for name in scope if name in _NO_PERSON)
    return f" ({shown})" if shown else ""


async def _first(context: Context, leases: LeaseStore, account: Account, share: float) -> bool:
    """Whether nobody has told of it before."""
    lease_id = context.ports.new_id()
    lease = await leases.reserve(lease_id, [account.marker(share)], ttl=_TTL)
    if not lease.granted:
        return False
    try:
        await leases.settle(lease_id, [1])
    except Exception as error:  # noqa: BLE001 - to be told twice is better than not at all
        logger.info("Budget: that a threshold is told may not have been kept: %r", error)
    return True


async def levels_of(ports: Ports, accounts: Sequence[Account]) -> list[tuple[int, int]]:
    """What is spent and what is reserved of each account, all at one instant.

    What is reserved with 0 is always granted, and says what is left.

    Raises:
        Exception: What the store raises.
    """
    leases, lease_id = ports.stores.leases, ports.new_id()
    dimensions = [each for one in accounts for each in (one.both, one.under_way)]
    lease = await leases.reserve(lease_id, dimensions, ttl=_TTL)
    await leases.refund(lease_id)
    return levels_left(accounts, lease.remaining)


def levels_left(accounts: Sequence[Account], left: Sequence[int]) -> list[tuple[int, int]]:
    """What is spent and what is reserved of each account, of what is left of its dimensions.

    A store's guard that counts with a share of each limit has less left than there is: then more
    seems to be reserved.
    """
    found: list[tuple[int, int]] = []
    for index, account in enumerate(accounts):
        both, under_way = left[2 * index], left[2 * index + 1]
        spent = max(0, account.spent(both, under_way))
        found.append((spent, max(0, account.capacity - both - spent)))
    return found


def shares(layer: object, option: attrs.Attribute[Any], value: Any) -> None:
    """Check the thresholds: shares above 0 and up to 1."""
    given = cast("tuple[Any, ...]", value)
    if not all(is_number(one) and 0 < one <= 1 for one in given):
        raise refused(layer, option, value, "shares above 0 and up to 1, such as (0.5, 0.8, 1.0)")


def callback(layer: object, option: attrs.Attribute[Any], value: Any) -> None:
    """Check who is told: a plain function, or nobody."""
    if value is not None and (not callable(value) or is_async(value)):
        raise refused(layer, option, value, "a plain function of a BudgetNotice, or None")
