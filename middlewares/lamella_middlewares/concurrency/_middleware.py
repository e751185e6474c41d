"""The layer: a place for each attempt, out of a fixed number of them or of one that is learnt."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final, Literal, TypeVar

import attrs

from lamella import (
    ConfigurationError,
    Handler,
    Phase,
    Ports,
    Reading,
    Request,
    Response,
    Stores,
    ending,
    middleware,
)
from lamella._held_places import HELD, held, holding
from lamella._lines import Terms
from lamella._nothing import NOTHING
from lamella._options import (
    name,
    one_of,
    optional_seconds,
    seconds,
    shares,
    span,
    wait_or_none,
    whole,
)
from lamella._scopes import Scope, ScopeOf, scope_name, scope_of, shown_scope
from lamella._waiting_lines import waiting_lines
from lamella_middlewares.concurrency._aimd import AIMD
from lamella_middlewares.concurrency._fixed import Fixed, dimension_of
from lamella_middlewares.concurrency._gate import Gate
from lamella_middlewares.concurrency._gradient import Gradient

R = TypeVar("R", bound=Response)

NAME: Final = "concurrency"
MOST: Final = 200
ALL: Final = 1_000_000
"""More than that at a time is no limit."""

_ALGORITHMS: Final = {"aimd": AIMD, "gradient": Gradient}


@attrs.frozen
class Gauge:
    """How full one limit is.

    Attributes:
        limit: How many may be in flight.
        in_flight: How many are.
        waiting: How many of this process wait.
    """

    limit: int
    in_flight: int
    waiting: int


def _bounds(layer: Any) -> tuple[int, int]:
    """The least and the most that an adaptive limit may become."""
    attrs.validate(layer)  # attrs itself does so only once all fields are there
    low = 1 if layer.min_limit is None else layer.min_limit
    high = max(MOST, layer.limit) if layer.max_limit is None else layer.max_limit
    if layer.adaptive is None:
        if layer.min_limit is not None or layer.max_limit is not None:
            msg = "Concurrency(min_limit=..., max_limit=...) bound an adaptive limit only."
            raise ConfigurationError(msg, hint='Give adaptive="aimd", or leave them out.')
    elif not low <= layer.limit <= high:
        raise ConfigurationError(
            f"Concurrency(limit={layer.limit!r}, min_limit={low!r}, max_limit={high!r}): the limit "
            "to start with must lie between the two."
        )
    return low, high


def _algorithm_or_none(layer: Any, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None:
        one_of("aimd", "gradient")(layer, option, value)


def _whole_or_none(layer: Any, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None:
        whole(1, ALL)(layer, option, value)


def _terms_of(layer: Any) -> Terms:
    return Terms(
        layer=NAME,
        code=NAME,
        max_waiting=layer.max_waiting,
        max_wait=layer.max_wait,
        ttl=layer.ttl,
    )


def _prefix_of(layer: Any) -> Scope:
    scope = scope_name(layer.key)
    if layer.adaptive is None:
        return (layer.namespace, NAME, scope)
    low, high = layer.bounds
    numbers = f"{layer.adaptive},{layer.limit},{low},{high},{layer.max_waiting}"
    return (layer.namespace, NAME, scope, numbers)


def _place_of(layer: Any) -> Scope:
    """How the keys begin under which this process keeps what it knows of a fixed limit."""
    return (layer.namespace, NAME, scope_name(layer.key), f"fixed {layer.limit}")


@middleware(phase="attempt", rank=30, effects=("short-circuits",))
@attrs.frozen(eq=False)
class Concurrency:
    """Bounds how many attempts may be in flight at a time, for each provider and model.

    A fixed limit is counted in the store for leases, so that processes with a shared store share
    it: a place whose process has died comes back after `ttl`. An adaptive one is learnt and counted
    by each process for itself. Whoever finds no room waits: by priority, in turn between tenants,
    in order of arrival; and is refused at once if that would take longer than it may. A stream
    holds its place until it ends, however it ends.

    Args:
        limit: How many, 1 or more. Of an adaptive limit, the one to start with.
        adaptive: None keeps the limit as it is. `"aimd"` raises it while attempts succeed and
            lowers it when the provider throttles (429, 503, 529); `"gradient"` lowers it also when
            first events come later than they used to.
        min_limit: The least an adaptive limit may become; 1 or more, None is 1.
        max_limit: The most it may become; None is 200, or `limit` if that is more.
        key: What the limit is for: `"provider"`, `"model"`, `"tenant"`, `"user"`, `"session"`,
            several of these, or a plain function of the request that returns text.
        max_waiting: How many may wait for one limit, 0 or more; 0 refuses instead. If more come,
            the newest of the least important have to go.
        max_wait: How many seconds one may wait; 0 refuses instead, None leaves it to the deadline.
        weights: The shares of tenants that wait, above 0, by name; others have 1.
        ttl: Seconds after which a place whose process has died comes back, above 0. Places in use
            are renewed.
        namespace: Limits are shared by name; another name counts apart.
        phase: Where it stands: `"attempt"`, or `"govern"` for a limit of each tenant's calls.
    """

    limit: int = attrs.field(default=20, validator=whole(1, ALL))
    adaptive: Literal["aimd", "gradient"] | None = attrs.field(
        default=None, kw_only=True, validator=_algorithm_or_none
    )
    min_limit: int | None = attrs.field(default=None, kw_only=True, validator=_whole_or_none)
    max_limit: int | None = attrs.field(default=None, kw_only=True, validator=_whole_or_none)
    key: Any = attrs.field(default=("provider", "model"), kw_only=True)
    max_waiting: int = attrs.field(default=1000, kw_only=True, validator=whole(0))
    max_wait: float | None = attrs.field(
        default=600.0, kw_only=True, converter=optional_seconds, validator=wait_or_none
    )
    weights: Mapping[str, float] = attrs.field(
        default=NOTHING, kw_only=True, repr=False, validator=shares
    )
    ttl: float = attrs.field(default=60.0, kw_only=True, converter=seconds, validator=span)
    namespace: str = attrs.field(default="shared", kw_only=True, validator=name)
    phase: Phase = attrs.field(default="attempt", kw_only=True)
    bounds: tuple[int, int] = attrs.field(
        init=False, repr=False, default=attrs.Factory(_bounds, takes_self=True)
    )
    _key: ScopeOf = attrs.field(
        init=False,
        repr=False,
        default=attrs.Factory(lambda layer: scope_of("Concurrency", layer.key), takes_self=True),
    )
    _terms: Terms = attrs.field(
        init=False, repr=False, default=attrs.Factory(_terms_of, takes_self=True)
    )
    _prefix: Scope = attrs.field(
        init=False, repr=False, default=attrs.Factory(_prefix_of, takes_self=True)
    )
    _place: Scope = attrs.field(
        init=False, repr=False, default=attrs.Factory(_place_of, takes_self=True)
    )

    async def __call__(self, request: Request[R], call_next: Handler) -> R:
        """Pass the request on once there is a place for it.

        Raises:
            LimitedError: If there is none in time; nothing is sent. `code` is `"concurrency"`.
        """
        context, parts = request.context, self._key(request)
        local = context.ports.stores.local
        weight = self.weights.get(context.tenant or "", 1.0) if self.weights else 1.0
        if self.adaptive is None:
            make = partial(Fixed, self._prefix, parts, self.limit)
            fixed = local.get(self._place + parts, make)
            if HELD in context.attributes and held(context, fixed.mark):
                return await call_next(request)  # this very attempt has its place, further out
            visit = fixed.at_once(context) or await fixed.visit(context, self._terms, weight)
            return await ending(call_next, holding(request, fixed.mark, visit.grant), visit)
        key = self._prefix + parts
        if HELD in context.attributes and held(context, key):
            return await call_next(request)  # this very attempt has its place, further out
        gate = local.get(key, self._gate)
        place = gate.at_once(context, streamed=request.stream)
        if place is None:
            place = await gate.enter(context, self._terms, weight, streamed=request.stream)
        inner = holding(request, key, place)
        answered = place.answered if self.adaptive == "gradient" else None
        return await ending(call_next, inner, place, answered=answered)

    def _gate(self) -> Gate:
        assert self.adaptive is not None  # noqa: S101 - the fixed limit has no gate
        return Gate(_ALGORITHMS[self.adaptive](self.limit, *self.bounds), self.max_waiting)

    def readings(self, ports: Ports) -> list[Reading]:
        """How full each limit is that calls have asked for: see `lamella.Reading`."""
        local = ports.stores.local
        found: list[Reading] = []
        prefix = self._place if self.adaptive is None else self._prefix
        for key, kept in local.under(prefix).items():
            if isinstance(kept, Fixed):
                limit, in_flight, waiting = kept.gauge(ports.stores)
            elif isinstance(kept, Gate):
                limit, in_flight, waiting = kept.limit, kept.in_flight, len(kept.line)
            else:
                continue
            what = shown_scope(self.key, key[len(prefix) :])
            numbers = {"available": max(0, limit - in_flight), "limit": limit, "waiting": waiting}
            found += [
                Reading(NAME, name, number, what, source=(id(local), key))
                for name, number in numbers.items()
            ]
        return found

    async def gauge(self, *key: str, stores: Stores) -> Gauge:
        """How full the limit of one key is.

        Args:
            *key: Its parts, in the order of the option `key`: `"openai", "gpt-4o"`.
            stores: Where it is counted: `pipeline.ports.stores`.
        """
        full = self._prefix + key
        if self.adaptive is not None:
            gate = stores.local.get(full, self._gate)
            return Gauge(gate.limit, gate.in_flight, len(gate.line))
        dimension = dimension_of(full, self.limit)
        level = await stores.leases.level(dimension)
        waiting = waiting_lines(stores).count(dimension)
        return Gauge(self.limit, self.limit - level, waiting)
