"""Looking at a budget, and changing what there is, while it is in use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lamella import ConfigurationError, Money, Ports
from lamella._scopes import Scope
from lamella_middlewares.budget._accounts import Account
from lamella_middlewares.budget._allowances import MOST, Limit, money
from lamella_middlewares.budget._choices import Plan
from lamella_middlewares.budget._levels import BudgetLevel, levels
from lamella_middlewares.budget._overrides import overrides_of


async def levels_for(plan: Plan, ports: Ports, scope: Mapping[str, str]) -> tuple[BudgetLevel, ...]:
    """The state of every limit for one scope; see `Budget.levels`."""
    _must_know(plan, scope)
    overrides = overrides_of(ports.stores, plan.namespace)
    await overrides.read()
    now = await ports.stores.leases.now()
    accounts: list[Account] = []
    for limit in plan.limits:
        values = _values(limit, scope)
        capacity = overrides.capacity(limit, values)
        accounts.append(Account(plan.namespace, limit, values, limit.window.at(now), capacity))
    return await levels(ports, accounts)


async def levels_overridden(plan: Plan, ports: Ports) -> tuple[BudgetLevel, ...]:
    """The state of every scope with another amount than the layer's; see `Budget.overridden`."""
    overrides = overrides_of(ports.stores, plan.namespace)
    await overrides.read()
    now = await ports.stores.leases.now()
    accounts = [
        Account(plan.namespace, limit, values, limit.window.at(now), capacity)
        for limit in plan.limits
        for values, capacity in overrides.of(limit)
    ]
    return await levels(ports, accounts) if accounts else ()


async def change(
    plan: Plan, ports: Ports, limit: Limit, scope: Mapping[str, str], amount: Any
) -> bool:
    """Set what there is under a limit for a scope; None takes the layer's own amount again.

    Returns:
        Whether there was anything to change.

    Raises:
        ConfigurationError: If it is no such amount.
        Exception: What the store raises.
    """
    capacity = None if amount is None else _capacity(limit, amount)
    overrides = overrides_of(ports.stores, plan.namespace)
    return await overrides.put(limit, _values(limit, scope), capacity)


def limit_for(plan: Plan, scope: Mapping[str, str], unit: str | None, window: str | None) -> Limit:
    """The only limit that is counted by the words of a scope, and in this unit and window.

    Raises:
        ConfigurationError: If there is none, or several.
    """
    _must_know(plan, scope)
    found = [
        limit
        for limit in plan.limits
        if set(limit.words) == set(scope)
        and unit in {None, limit.unit}
        and window in {None, limit.identity[2]}
    ]
    if len(found) == 1:
        return found[0]
    listed = "; ".join(f"{limit.unit}{limit.whose or ' in all'}" for limit in found or plan.limits)
    many = "several limits" if found else "no limit"
    raise ConfigurationError(
        f"Budget has {many} for {', '.join(scope) or 'all together'} of that kind: {listed}.",
        hint="Name all that it is counted by, and its unit or window where that is not enough.",
    )


def _must_be_scope(given: Any) -> None:
    """Refuse what is no mapping of texts. It is not shown: a user's name may be in it.

    Raises:
        ConfigurationError: If it is something else.
    """
    values: Any = given.values() if isinstance(given, Mapping) else [None]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if not all(isinstance(each, str) for each in values):
        raise ConfigurationError(
            f"Budget: a scope has a text for each name, and this {type(given).__name__} has not.",  # pyright: ignore[reportUnknownArgumentType]
            hint='Say for whom like {"user": "a"}; leave it out for all together.',
        )


def _must_know(plan: Plan, scope: Mapping[str, str]) -> None:
    _must_be_scope(scope)
    words = sorted({word for limit in plan.limits for word in limit.words})
    for word in scope:
        if word not in words:
            by = f"It is counted by {', '.join(map(repr, words))}." if words else "It is for all."
            raise ConfigurationError(f"This budget is not counted by {word!r}.", hint=by)


def _values(limit: Limit, scope: Mapping[str, str]) -> Scope:
    return tuple([scope.get(word, "") for word in limit.words])


def _capacity(limit: Limit, amount: Any) -> int:
    """An amount in what a limit counts."""
    if limit.in_money:
        try:
            found = money(amount, limit.unit)
        except ValueError as error:
            raise ConfigurationError(
                f"Budget: {amount!r} is no amount of {limit.unit}.", hint=f"Give {error}."
            ) from None
        if found.currency != limit.unit:
            raise ConfigurationError(f"The limit is in {limit.unit}, and {found} is not.")
        return found.nano
    if isinstance(amount, Money):
        raise ConfigurationError(f"The limit is in {limit.unit}, and {amount} is money.")
    number: Any = amount
    if isinstance(amount, str) and amount.isdecimal() and len(amount) <= len(str(MOST)):
        number = int(amount)
    if type(number) is not int or not 0 <= number <= MOST:
        raise ConfigurationError(
            f"Budget: {amount!r} is no number of {limit.unit}.",
            hint=f"Give a whole number from 0 to {MOST}.",
        )
    return number
