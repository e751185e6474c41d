"""The layer: reserve what a request will probably use, and settle with what it has used."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final, TypeVar, cast

import attrs

from lamella import (
    Handler,
    Phase,
    Ports,
    Reading,
    Request,
    Response,
    TokenCounter,
    ending,
    middleware,
)
from lamella._admission import admit, admit_at_once
from lamella._grants import Grant
from lamella._held_places import holding
from lamella._lines import Terms
from lamella._nothing import NOTHING
from lamella._options import (
    flag,
    is_number,
    name,
    optional_seconds,
    refused,
    seconds,
    shares,
    span,
    wait_or_none,
    whole,
)
from lamella._scopes import ScopeOf, scope_name, scope_of, shown_scope
from lamella._tokenizers import CounterOf, counter_choice
from lamella._tokens import counted_tokens, tokens_at_hand
from lamella._waiting_lines import waiting_lines
from lamella_middlewares.rate_limit._account import Account, account_of
from lamella_middlewares.rate_limit._learning import Learned
from lamella_middlewares.rate_limit._limits import NO_DEMAND, Demand, limits_of
from lamella_middlewares.rate_limit._visit import Rules, Visit

R = TypeVar("R", bound=Response)

NAME: Final = "rate_limit"
CODE: Final = "rate_limited"

MOST: Final = 10**15
"""More than that of anything is no limit."""

_INNER: Final = ("attempt", "wire")


def _limit(layer: object, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None:
        whole(1, MOST)(layer, option, value)


def _share(layer: object, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (not is_number(value) or not 0 < value <= 1):
        raise refused(layer, option, value, "a share of the limit, above 0 and up to 1")


def _counter(layer: object, option: attrs.Attribute[Any], value: Any) -> None:
    # Lists have a count() too, and so has an empty name.
    counts = callable(getattr(value, "count", None)) and not isinstance(value, str | list | tuple)
    named = isinstance(value, str) and value != ""
    if value is not None and not counts and not named:
        want = "a TokenCounter (an object with count(texts)), a tokenizer's name, 'auto' or None"
        raise refused(layer, option, cast("object", value), want)


def _counter_of(layer: Any) -> CounterOf:
    attrs.validate(layer)  # attrs itself does so only once all fields are there
    return counter_choice(layer.counter)


def _key_of(layer: Any) -> object:
    if layer.key is not None:
        return layer.key
    return ("provider", "model") if layer.phase in _INNER else "tenant"


def _scope_of(layer: Any) -> ScopeOf:
    return scope_of("RateLimit", _key_of(layer))


def _rules_of(layer: Any) -> Rules:
    limits = limits_of(layer)
    inner = layer.phase in _INNER
    terms = Terms(
        NAME,
        CODE,
        layer.max_waiting,
        layer.max_wait,
        ttl=layer.ttl,
        aging=layer.aging,
        gives_way=inner,
    )
    prefix = (layer.namespace, NAME, scope_name(_key_of(layer)))
    return Rules(
        limits,
        terms,
        prefix=prefix,
        account=(
            *prefix,
            ", ".join([f"{limit.capacity}/{limit.per:g} {limit.word}" for limit in limits]),
        ),
        tokens=any(limit.kind.endswith("tokens") for limit in limits),
        learn=inner if layer.learn is None else layer.learn,
        wide=not inner,
    )


@middleware(phase="attempt", rank=20, effects=("short-circuits",))
@attrs.frozen
class RateLimit:
    """Lets no more through than a provider, or a tenant's contract, allows.

    Everything that a request will probably use is reserved at once, or nothing is. At its end the
    reservation is replaced by what it has really used: what is over comes back, what is missing is
    waited for by later requests. Nothing is used by what was never sent. Whoever finds no room
    waits in a fair line, unless it is clear that the wait would be too long: then it is refused at
    once, with `retry_after`.

    Limits are token buckets: a bucket holds `burst` of the limit and is refilled evenly, so in any
    span at most that and what has flowed in meanwhile is let through; with `strict`, no more than
    the limit in any span of `per`. They are counted in the
    pipeline's lease store: for this process, or for a fleet that shares one.

    Args:
        requests: Requests for each `per`; 1 or more. None limits none of them; so with the others.
        tokens: Tokens for each `per`, of request and answer together.
        input_tokens: Tokens of requests for each `per`.
        output_tokens: Tokens of answers for each `per`.
        concurrency: Requests at a time. A stream counts until it has ended.
        per: In how many seconds a limit flows back; above 0. A minute by default.
        requests_per_day: Requests for each day.
        tokens_per_day: Tokens for each day, of request and answer together.
        burst: Which share of a limit may be used at once, above 0 and up to 1. What remains of the
            limit comes evenly. None is 1, or 0.1 with `strict`.
        strict: Whether no span of `per`, wherever it begins, may see more than the limit. What may
            be used at once is then taken from what flows back: with a `burst` of 0.1, nine tenths
            of the limit are let through in the long run, and in the worst span all of it.
        key: For whom is counted: `"provider"`, `"model"`, `"tenant"`, `"user"`, `"session"`,
            several of them, or a plain function of the request that returns text. None is provider
            and model in the phases `attempt` and `wire`, and the tenant elsewhere. Requests that
            do not say who they are from are counted together.
        phase: Where the layer belongs: `"attempt"` for a provider's limits, `"govern"` for quotas.
        weights: How many turns a tenant gets while several wait, by its name; above 0. 1 for those
            that are not named.
        max_waiting: How many may wait for one limit; 0 or more. The newest of the tenant that has
            the most waiting goes first.
        max_wait: How many seconds a request may wait. 0 refuses at once, None leaves it to the
            deadline.
        aging: Seconds of waiting that weigh as much as one level of `context.priority`; above 0.
        counter: Counts the tokens of a request before it is sent: a `TokenCounter`; the name of a
            tokenizer whose vocabulary is on this machine, such as `"o200k_base"`; `"auto"` for that
            of each request's model, as far as it is known and here; or None for an estimate.
        output_estimate: Tokens to reserve for the answer of a request that does not limit it with
            `max_output_tokens`; 0 or more. None learns the average for each key.
        learn: Whether what a provider says of its limits, in headers and with 429, lowers what is
            let through. None is yes in the phases `attempt` and `wire`.
        ttl: Seconds after which what a process that died had reserved comes back; above 0.
        namespace: Limits of one name are shared by all pipelines with the same store.
    """

    requests: int | None = attrs.field(default=None, validator=_limit)
    tokens: int | None = attrs.field(default=None, validator=_limit)
    input_tokens: int | None = attrs.field(default=None, validator=_limit)
    output_tokens: int | None = attrs.field(default=None, validator=_limit)
    concurrency: int | None = attrs.field(default=None, validator=_limit)
    per: float = attrs.field(default=60.0, converter=seconds, validator=span)
    requests_per_day: int | None = attrs.field(default=None, validator=_limit, kw_only=True)
    tokens_per_day: int | None = attrs.field(default=None, validator=_limit, kw_only=True)
    burst: float | None = attrs.field(default=None, validator=_share, kw_only=True)
    strict: bool = attrs.field(default=False, validator=flag, kw_only=True)
    key: Any = attrs.field(default=None, kw_only=True)
    phase: Phase = attrs.field(default="attempt", kw_only=True)
    weights: Mapping[str, float] = attrs.field(default=NOTHING, validator=shares, kw_only=True)
    max_waiting: int = attrs.field(default=1000, validator=whole(0), kw_only=True)
    max_wait: float | None = attrs.field(
        default=None, converter=optional_seconds, validator=wait_or_none, kw_only=True
    )
    aging: float = attrs.field(default=10.0, converter=seconds, validator=span, kw_only=True)
    counter: TokenCounter | str | None = attrs.field(default=None, validator=_counter, kw_only=True)
    output_estimate: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(whole(0)), kw_only=True
    )
    learn: bool | None = attrs.field(
        default=None, validator=attrs.validators.optional(flag), kw_only=True
    )
    ttl: float = attrs.field(default=60.0, converter=seconds, validator=span, kw_only=True)
    namespace: str = attrs.field(default="shared", validator=name, kw_only=True)
    _scope: ScopeOf = attrs.field(
        init=False, eq=False, repr=False, default=attrs.Factory(_scope_of, takes_self=True)
    )
    _counter_of: CounterOf = attrs.field(
        init=False, eq=False, repr=False, default=attrs.Factory(_counter_of, takes_self=True)
    )
    _rules: Rules = attrs.field(
        init=False, eq=False, repr=False, default=attrs.Factory(_rules_of, takes_self=True)
    )

    async def __call__(self, request: Request[R], call_next: Handler) -> R:
        """Send the request on when there is room for it.

        Raises:
            LimitedError: If there is no room in time; nothing was sent. Its `retry_after` says when
                there is; None if there never is, or if nobody can know.
            DeadlineExceeded: If the deadline passes while it waits.
        """
        context, rules = request.context, self._rules
        local, scope = context.ports.stores.local, self._scope(request)
        account = local.get((*rules.account, *scope), partial(account_of, rules, scope, local))
        learned, demand = account.learned, NO_DEMAND
        if rules.tokens:
            counter = self._counter_of(request)
            tokens = tokens_at_hand(request, counter)
            if tokens is None:
                tokens = await counted_tokens(request, counter)
            demand = self._demand(request, tokens, learned)
        wanted = account.wanted(demand, context)
        grant: Grant | None = admit_at_once(
            context, wanted, learned.paused if learned.has_paused else None
        )
        if grant is None:
            weight = self.weights.get(context.tenant or "", 1.0)
            grant = await admit(context, wanted, rules.terms, weight=weight, gate=learned.paused)
            if not grant.immediate:
                account.heard(grant.remaining)
            if grant.waited > 0:
                context.note(NAME, f"{NAME}.waited", seconds=grant.waited)
        visit = Visit(rules, context, demand, learned, grant)
        if account.mark is not None:
            request = holding(request, account.mark, grant)
        return await ending(call_next, request, visit.settle, answered=visit.answered)

    def readings(self, ports: Ports) -> list[Reading]:
        """What is left of each limit that calls have asked for: see `lamella.Reading`."""
        stores, prefix = ports.stores, self._rules.account
        found: list[Reading] = []
        for key, account in stores.local.under(prefix).items():
            if not isinstance(account, Account):
                continue
            scope = shown_scope(_key_of(self), key[len(prefix) :])
            for limit, dimension, left in account.levels(stores):
                span = f" per {limit.per:g} s" if limit.per else ""
                what = f"{scope} {limit.word}{span}"
                waiting = waiting_lines(stores).count(dimension)
                numbers = {"available": left, "limit": limit.capacity, "waiting": waiting}
                found += [
                    Reading(NAME, name, number, what, source=(id(stores.local), dimension.key))
                    for name, number in numbers.items()
                ]
        return found

    def _demand(self, request: Request[Any], tokens: int, learned: Learned) -> Demand:
        """What the request, of so many tokens, will probably use."""
        most: int | None = getattr(request, "max_output_tokens", -1)
        if most == -1:
            return Demand(tokens)
        answers: int = getattr(request, "n", None) or 1
        if most is not None:
            return Demand(tokens, most * answers)
        estimate = self.output_estimate
        each = learned.output if estimate is None else estimate
        return Demand(tokens, each * answers, certain=False)
