"""The layer: reserve the worst case of each attempt, and settle with what it has cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeVar

import attrs

from lamella import (
    Context,
    Handler,
    Money,
    PartHealth,
    Pipeline,
    Ports,
    Request,
    Response,
    TokenCounter,
    ending,
    middleware,
    observed,
)
from lamella._evolve import changed
from lamella._nothing import NOTHING
from lamella._options import (
    flag,
    name,
    number,
    one_of,
    optional_seconds,
    seconds,
    span,
    span_or_none,
    whole,
)
from lamella._ownership import release, use
from lamella._price_sources import PRICES
from lamella_middlewares.budget import _allowances, _choices, _control, _notices
from lamella_middlewares.budget._allowances import Allowance, allowances_of
from lamella_middlewares.budget._choices import Plan, plan_of
from lamella_middlewares.budget._levels import BudgetLevel
from lamella_middlewares.budget._notices import BudgetNotice
from lamella_middlewares.budget._reserving import accounts_of, reserve
from lamella_middlewares.budget._visit import Visit, wanted_of
from lamella_middlewares.budget._windows import UTC, window_given
from lamella_middlewares.budget._worst_case import refuse_unbounded

R = TypeVar("R", bound=Response)

_OUTSIDE: Final = (
    "one reservation would stand for several attempts, and each of them is paid for: what {} sends "
    "besides would go beyond the budget"
)


def _requires(layer: Any) -> frozenset[str]:
    plan: Plan = layer.plan
    return frozenset([PRICES]) if plan.in_money else frozenset()


@middleware(
    phase="attempt",
    rank=10,
    effects=("short-circuits",),
    inside={
        "retry": _OUTSIDE.format("Retry"),
        "fallback": _OUTSIDE.format("Fallback"),
        "hedge": _OUTSIDE.format("Hedge"),
        "route": "Budget outside Route does not know which model it has to price",
        "cache": "Budget outside Cache would refuse answers that cost nothing",
    },
)
@attrs.frozen(eq=False)
class Budget:
    """Lets nobody spend more money, tokens or requests than there are for them.

    Before each attempt the most that it may use is reserved under all limits at once, or under
    none; at its end that is replaced by what it has really used. What was never sent costs nothing.
    Who finds too little left is refused at once with `BudgetExceededError`, which leads `Fallback`
    and `Route` to another target: a cheaper one may fit.

    It is counted in the pipeline's lease store, or in one of the layer's own: for this process, or
    for a fleet that shares one.

    Args:
        amount: Money: text in whole units, such as `"10.00"`, or `Money`. None limits none.
        tokens: Tokens of requests and answers together; 0 or more. None limits none of them.
        requests: Requests that are sent, each try of one; 0 or more. None limits none of them.
        per: For whom: `"tenant"`, `"user"`, `"session"`, `"provider"`, `"model"`, `"tag:NAME"`,
            `"key"` (the tag of that name), several of them, a plain function of the request that
            returns text, or None for all together.
        window: When it starts anew: `"minute"`, `"hour"`, `"day"`, `"week"` (on Monday), `"month"`,
            seconds (1 or more), a timedelta, or None for never: a total.
        limits: Further limits: `Allowance`s, or tables of their options.
        keep: Of a total: seconds after which it is forgotten, once nobody touches it any more. None
            is ten years, and seven days where it is counted for each session.
        currency: What amounts in text are in.
        timezone: Where days, weeks and months begin: `"UTC"`, `"Europe/Berlin"` ...
        strict: Whether to refuse requests whose cost has no bound: without `max_output_tokens`
            where the model's largest answer is not known, with tools that the provider runs, or of
            operations that are not counted in tokens.
        unknown: What to do about a model without a price, or with one in another currency, under a
            limit in money. `"refuse"` does not send it; `"note"` does, without counting it.
        missing: Requests that do not say for whom they are, where it is counted `per` somebody.
            `"together"` counts all of them as one; `"refuse"` does not send them.
        assume_output_tokens: The most tokens that an answer is taken to have where the request does
            not say `max_output_tokens`. None takes the largest answer of the model, or 4096.
        margin: Which share is put on top of the tokens that a request is counted to have, 0 to 10.
        counter: Counts the tokens of requests: a `TokenCounter`, the name of a tokenizer whose
            vocabulary is on this machine, `"auto"` for that of each model, or None for an estimate.
        notify_at: Shares above 0 and up to 1 of which somebody is to know once they are spent, once
            in each window for the whole fleet. 1 also when a request no longer fits.
        on_threshold: Told of them: a plain function of a `BudgetNotice`; None for the log only.
        store: Where it is counted: a lease store, a registered name, or a table with `use` and
            options. None is the pipeline's own, `ports.stores.leases`.
        on_outage: What to do if the store fails. `"deny"` sends nothing, `"allow"` sends uncounted.
            A store with a guard has a policy of its own, which comes first.
        ttl: Seconds after which what a process that died had reserved comes back; above 0.
        refresh: Seconds after which amounts that were set at run time are read anew; above 0.
        namespace: Budgets of one name are shared by all pipelines with the same store.

    Raises:
        ConfigurationError: If an option is wrong, or nothing is limited.
    """

    amount: Money | str | int | None = attrs.field(default=None, validator=_allowances.amount)
    tokens: int | None = attrs.field(default=None, validator=_allowances.count, kw_only=True)
    requests: int | None = attrs.field(default=None, validator=_allowances.count, kw_only=True)
    per: Any = attrs.field(default=None, validator=_allowances.whose, kw_only=True)
    window: str | float | None = attrs.field(default=None, converter=window_given, kw_only=True)
    limits: tuple[Allowance, ...] = attrs.field(default=(), converter=allowances_of, kw_only=True)
    keep: float | None = attrs.field(
        default=None, converter=optional_seconds, validator=span_or_none, kw_only=True
    )
    currency: str = attrs.field(default="USD", validator=_choices.currency, kw_only=True)
    timezone: str = attrs.field(default=UTC, validator=name, kw_only=True)
    strict: bool = attrs.field(default=False, validator=flag, kw_only=True)
    unknown: Literal["refuse", "note"] = attrs.field(
        default="refuse", validator=one_of("refuse", "note"), kw_only=True
    )
    missing: Literal["together", "refuse"] = attrs.field(
        default="together", validator=one_of("together", "refuse"), kw_only=True
    )
    assume_output_tokens: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(whole(0)), kw_only=True
    )
    margin: float = attrs.field(default=0.1, validator=number(0, 10), kw_only=True)
    counter: TokenCounter | str | None = attrs.field(
        default=None, validator=_choices.counter, kw_only=True
    )
    notify_at: tuple[float, ...] = attrs.field(
        default=(0.5, 0.8, 1.0),
        converter=_choices.ascending,
        validator=_notices.shares,
        kw_only=True,
    )
    on_threshold: Callable[[BudgetNotice], object] | None = attrs.field(
        default=None, validator=_notices.callback, kw_only=True
    )
    store: Any = attrs.field(  # pyright: ignore[reportUnknownVariableType]
        default=None, converter=_choices.store, kw_only=True
    )
    on_outage: Literal["deny", "allow"] = attrs.field(
        default="deny", validator=one_of("deny", "allow"), kw_only=True
    )
    ttl: float = attrs.field(default=60.0, converter=seconds, validator=span, kw_only=True)
    refresh: float = attrs.field(default=5.0, converter=seconds, validator=span, kw_only=True)
    namespace: str = attrs.field(default="shared", validator=name, kw_only=True)
    plan: Plan = attrs.field(
        init=False, repr=False, default=attrs.Factory(plan_of, takes_self=True)
    )
    """What the options amount to."""
    requires: frozenset[str] = attrs.field(
        init=False, repr=False, default=attrs.Factory(_requires, takes_self=True)
    )
    """What the layer needs of those inside: prices, if it counts money."""

    def __attrs_post_init__(self) -> None:
        """Refuse to limit nothing; and count who uses its store, which closes with the last."""
        _choices.must_limit(self)
        if self.store is not None:
            use(self.store, self)

    async def __call__(self, request: Request[R], call_next: Handler) -> R:
        """Send the request on if the most that it may use is there.

        Raises:
            BudgetExceededError: If it is not; nothing is sent.
            RefusedError: If the model has no price, the request no bound, or no scope, and that is
                not accepted.
            StoreUnavailableError: If the store is out, and `on_outage` is `"deny"`.
        """
        plan, context = self.plan, self._counting(request.context)
        worst = await plan.estimates.worst_case(request, call_next, plan.counter_of(request))
        if plan.strict and worst.unbounded:
            raise refuse_unbounded(worst.unbounded, request)
        accounts = await accounts_of(plan, request, context, worst)
        if not accounts:
            return await call_next(request)
        wanted = [wanted_of(account, worst) for account in accounts]
        grant = await reserve(plan, context, accounts, wanted)
        if grant is None:
            return await call_next(request)
        visit = Visit(plan, context, accounts, wanted, grant)
        return await ending(
            call_next, observed(request, visit), visit.settle, answered=visit.answered
        )

    def _counting(self, context: Context) -> Context:
        """The context with the stores that it counts in."""
        if self.store is None:
            return context
        return changed(context, "ports", self._ports(context.ports))

    def _ports(self, pipeline: Pipeline | Ports) -> Ports:
        ports = pipeline.ports if isinstance(pipeline, Pipeline) else pipeline
        if self.store is None:
            return ports
        return attrs.evolve(ports, stores=attrs.evolve(ports.stores, leases=self.store))

    def health(self, ports: Ports | None = None) -> PartHealth:
        """Whether its own store answers; the pipeline's speaks for itself."""
        ask = getattr(self.store, "health", None)
        return PartHealth(well=None) if ask is None or ports is None else ask()

    async def aclose(self) -> None:
        """Close a store of its own, once no other layer uses it."""
        if self.store is not None and release(self.store, self):
            await self.store.aclose()

    # --- for who looks after it ---------------------------------------------------------------

    async def levels(
        self, pipeline: Pipeline | Ports, scope: Mapping[str, str] = NOTHING, /
    ) -> tuple[BudgetLevel, ...]:
        """What there is, what is spent and what is left, limit by limit, at one instant.

        Args:
            pipeline: The pipeline that the layer is in, or its ports.
            scope: For whom, by the words of `per`: `{"user": "alice", "tag:team": "search"}`. What
                is not given is empty, as for requests that do not say it.

        Raises:
            ConfigurationError: If that is no mapping of texts, or no limit is counted by one of
                the words.
            Exception: What the store raises.
        """
        return await _control.levels_for(self.plan, self._ports(pipeline), scope)

    async def overridden(self, pipeline: Pipeline | Ports, /) -> tuple[BudgetLevel, ...]:
        """The state of every scope that has been given another amount than the layer's.

        Args:
            pipeline: The pipeline that the layer is in, or its ports.

        Raises:
            Exception: What the store raises.
        """
        return await _control.levels_overridden(self.plan, self._ports(pipeline))

    async def set_limit(
        self,
        pipeline: Pipeline | Ports,
        amount: Money | str | int | None,
        scope: Mapping[str, str] = NOTHING,
        /,
        *,
        unit: str | None = None,
        window: str | None = None,
    ) -> bool:
        """Give one scope another amount than the layer's, at once and for the whole fleet.

        What was spent counts on. Other processes see it after `refresh` seconds at most. It is kept
        in the pipeline's blob store.

        Args:
            pipeline: The pipeline that the layer is in, or its ports.
            amount: How much there is from now on; None takes the layer's own amount again.
            scope: For whom, by the words of `per`: all of them.
            unit: `"tokens"`, `"requests"` or a currency, where limits differ in that only.
            window: The window's name, such as `"day"`, or `"total"`, likewise.

        Returns:
            Whether there was anything to change.

        Raises:
            ConfigurationError: If that is no limit of this layer, or several, or no such amount,
                or the scope no mapping of texts.
            Exception: What the store raises.
        """
        limit = _control.limit_for(self.plan, scope, unit, window)
        return await _control.change(self.plan, self._ports(pipeline), limit, scope, amount)
