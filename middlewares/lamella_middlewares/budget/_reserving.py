"""Finding the accounts of a request, and reserving what it may use of all of them."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from lamella import (
    ClosedError,
    Context,
    DeadlineExceeded,
    Lease,
    RefusedError,
    Request,
    StoreUnavailableError,
)
from lamella._admission import admit_now
from lamella._grants import Grant, at_once, is_immediate
from lamella._scopes import Scope
from lamella._store_asking import MISTAKES
from lamella_middlewares.budget._accounts import NAME, Account, Book
from lamella_middlewares.budget._allowances import Limit
from lamella_middlewares.budget._choices import Plan
from lamella_middlewares.budget._notices import levels_left
from lamella_middlewares.budget._overrides import overrides_of
from lamella_middlewares.budget._refusals import exceeded
from lamella_middlewares.budget._visit import dimensions_of
from lamella_middlewares.budget._worst_case import WorstCase, refuse_unpriced, unknown_price

_ENDED: Final = (DeadlineExceeded, ClosedError)
"""What ends a wait, and says nothing about the store."""


async def accounts_of(
    plan: Plan, request: Request[Any], context: Context, worst: WorstCase
) -> list[Account] | None:
    """What a request is counted in; None if the store is out and that is accepted.

    Args:
        plan: The layer's.
        request: The request.
        context: Its own, with the stores that the layer counts in.
        worst: What it may use.

    Raises:
        RefusedError: If it has no price, or does not say for whom it is, and that is not accepted.
        StoreUnavailableError: If the store is out.
    """
    limits = _priced(plan, request, worst)
    try:
        now = await _now(context) if plan.windowed else 0.0
    except (*_ENDED, *MISTAKES):
        raise
    except Exception as error:  # noqa: BLE001 - raised there, unless it is accepted
        _out(plan, context, error)
        return None
    ports = context.ports
    stores, local = ports.stores, ports.stores.local
    leases = stores.leases
    overrides = overrides_of(stores, plan.namespace)
    if overrides.due(ports.monotonic()):
        await overrides.refresh(context, plan.refresh)
    found: list[Account] = []
    for limit in limits:
        values = limit.scope_of(request)
        if values and plan.missing == "refuse" and "" in values:
            raise _nobody(limit, values)
        key = (plan.namespace, *limit.place, f"{id(leases):x}", *values)
        book = local.get(key, partial(Book, plan.namespace, limit, values, leases))
        account = book.account(limit.window.at(now), overrides.capacity(limit, values))
        account.seen = now
        found.append(account)
    return found


async def reserve(
    plan: Plan, context: Context, accounts: list[Account], wanted: list[int]
) -> Grant | None:
    """Reserve all; None if the store is out and that is accepted.

    Args:
        plan: The layer's.
        context: Of the request, with the stores that the layer counts in.
        accounts: What it is counted in.
        wanted: What it may use of each.

    Raises:
        BudgetExceededError: If one of them does not fit.
        StoreUnavailableError: If the store is out.
    """
    for account, amount in zip(accounts, wanted, strict=True):
        if amount > account.capacity:
            raise exceeded(context, account, amount, (0, 0))
    dimensions = dimensions_of(accounts, wanted)
    try:
        if is_immediate(context.ports.stores.leases):
            found = await admit_now(context, dimensions, plan.terms)
        else:
            found = await context.wait(
                lambda: admit_now(context, dimensions, plan.terms), what="reserving a budget"
            )
    except (*_ENDED, *MISTAKES):
        raise
    except Exception as error:  # noqa: BLE001 - raised there, unless it is accepted
        _out(plan, context, error)
        return None
    if isinstance(found, Grant):
        return found
    index = _refused(accounts, found)
    if min(found.remaining[2 * index : 2 * index + 2]) >= wanted[index]:
        _out(plan, context, _no_room(accounts[index]))
        return None
    account, level = accounts[index], levels_left(accounts, found.remaining)[index]
    if level[0] + wanted[index] > account.capacity:
        await _tell_full(plan, context, account, level[0])
    raise exceeded(context, account, wanted[index], level)


async def _tell_full(plan: Plan, context: Context, account: Account, spent: int) -> None:
    """Tell that the first request did not fit."""
    shares = plan.thresholds.crossed(account, max(spent, account.capacity))
    if not shares or shares[-1] < 1:
        return
    try:
        await plan.thresholds.tell(context, account, shares[-1:], spent)
    except Exception as error:  # noqa: BLE001 - the refusal is what matters
        context.note(NAME, f"{NAME}.store_failed", error=type(error).__name__)


def _refused(accounts: list[Account], lease: Lease) -> int:
    """The place of the account that has refused."""
    if lease.refused is not None:
        for index, account in enumerate(accounts):
            if lease.refused.key in {account.both.key, account.under_way.key}:
                return index
    return 0


def _priced(plan: Plan, request: Request[Any], worst: WorstCase) -> tuple[Limit, ...]:
    """The limits that the request can be counted under."""
    limits = plan.limits
    if not plan.in_money:
        return limits
    why = unknown_price(worst, [limit.unit for limit in limits if limit.in_money])
    if not why:
        return limits
    if plan.unknown == "refuse":
        raise refuse_unpriced(why, request, worst)
    request.context.note(NAME, f"{NAME}.uncounted", why=why, model=request.model)
    known = None if worst.nano is None else worst.currency
    return tuple([limit for limit in limits if not limit.in_money or limit.unit == known])


async def _now(context: Context) -> float:
    """The instant by the store's clock."""
    leases = context.ports.stores.leases
    if is_immediate(leases):
        return at_once(leases.now())
    return await context.wait(leases.now, what="asking a budget's store what time it is")


def _no_room(account: Account) -> StoreUnavailableError:
    """The error for a store that would have to forget a count that is in use to begin another."""
    return StoreUnavailableError(
        f"Budget's store has no room for another count{account.limit.whose}.",
        hint="Count fewer scopes, give totals a shorter `keep`, make the store with more "
        "`max_limits`, or count in a store that processes share.",
        code="store_full",
        layer=NAME,
    )


def _out(plan: Plan, context: Context, error: Exception) -> None:
    """The store is out.

    Raises:
        StoreUnavailableError: If that means no.
    """
    if plan.on_outage == "deny":
        if isinstance(error, StoreUnavailableError):
            raise error
        raise StoreUnavailableError(
            f"Budget's store fails ({type(error).__name__}), and nothing is sent uncounted.",
            hint="Mend the store, or send uncounted meanwhile: Budget(on_outage='allow').",
            layer=NAME,
        ) from error
    context.note(NAME, f"{NAME}.uncounted", why="the store is out", error=type(error).__name__)


def _nobody(limit: Limit, values: Scope) -> RefusedError:
    word = limit.words[values.index("")]
    return RefusedError(
        f"Budget refuses the request: it is counted per {word}, and the request says none.",
        hint="Say it in the context of the request, or count all such requests together: "
        'Budget(missing="together").',
        code="no_scope",
        layer=NAME,
    )
