"""What a budget has, has spent and has left, for who asks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import attrs

from lamella import Money, Ports
from lamella_middlewares.budget._accounts import Account
from lamella_middlewares.budget._notices import levels_of


@attrs.frozen
class BudgetLevel:
    """The state of one limit for one scope.

    Attributes:
        unit: `"tokens"`, `"requests"`, or a currency.
        scope: Whose it is: by the name of each part, such as `user`, its value; empty for all.
        window: When it starts anew: `"day"`; empty if it never does.
        limit: How much there is.
        spent: How much of that is spent.
        reserved: How much calls under way have reserved.
        left: How much may still be reserved; negative if more was spent than there is.
        resets_at: When it starts anew, in seconds since the epoch; None if it never does.
        overridden: Whether the amount was set at run time, and is not the layer's.
    """

    unit: str
    scope: Mapping[str, str]
    window: str
    limit: Money | int
    spent: Money | int
    reserved: Money | int
    left: Money | int
    resets_at: float | None
    overridden: bool


async def levels(ports: Ports, accounts: Sequence[Account]) -> tuple[BudgetLevel, ...]:
    """The state of accounts, all at one instant.

    Raises:
        Exception: What the store raises.
    """
    found: list[BudgetLevel] = []
    for account, (spent, reserved) in zip(accounts, await levels_of(ports, accounts), strict=True):
        limit, end = account.limit, account.span.end
        found.append(
            BudgetLevel(
                unit=limit.unit,
                scope=limit.scope(account.values),
                window=limit.window.name,
                limit=limit.value(account.capacity),
                spent=limit.value(spent),
                reserved=limit.value(reserved),
                left=limit.value(account.capacity - spent - reserved),
                resets_at=None if math.isinf(end) else end,
                overridden=account.capacity != limit.capacity,
            )
        )
    return tuple(found)
