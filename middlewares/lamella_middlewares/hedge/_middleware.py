"""The layer: how long a first answer may take to begin, and whether a call may be sent twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import attrs

from lamella import Handler, Request, Response, middleware
from lamella._options import (
    flag,
    is_async,
    name,
    number,
    optional_seconds,
    refused,
    seconds,
    span,
    span_or_none,
    whole,
)
from lamella._repeatable import stateless
from lamella._shared_cards import shared_reading
from lamella._target_forms import as_targets
from lamella._targets import Target
from lamella_middlewares.hedge._first_events import SAMPLES, FirstEvents
from lamella_middlewares.hedge._load import Load
from lamella_middlewares.hedge._race import Race

R = TypeVar("R", bound=Response)


def _targets(given: Any) -> tuple[Target, ...]:
    return () if given is None else as_targets(given)


def _plain_function(hedge: Any, option: attrs.Attribute[Any], value: object) -> None:
    if value is not None and (not callable(value) or isinstance(value, type) or is_async(value)):
        raise refused(hedge, option, value, "a plain function of the request, or None")


def _key_of(hedge: Any) -> tuple[str, ...]:
    attrs.validate(hedge)  # attrs itself does so only once all fields are there
    return (hedge.namespace, "hedge")


def _load_key_of(hedge: Any) -> tuple[str, ...]:
    return (*hedge.key, "load", f"{float(hedge.max_extra)!r},{float(hedge.window)!r}")


@middleware(
    phase="choose",
    rank=40,
    effects=("calls again",),
    outside={"route": "the second copy would go to the same slow place, and be paid for nothing"},
    inside={"fallback": "the second copy would walk all of Fallback's targets once more"},
)
@attrs.frozen(eq=False)
class Hedge:
    """Asks a second time where an answer takes unusually long to begin; the first to return wins.

    The wait before the second copy is the time within which 95 % of the answers of that provider
    and model began lately, so that about one call in twenty is sent twice, and never more of them
    than `max_extra`. The copy that loses is cancelled and its connection closed; what it has cost
    is in the ledger.

    Calls that leave something behind at the provider are sent once, and so is whatever answers in
    time: for that the layer starts no task.

    Args:
        targets: Where the second copy goes: model names, transports, pipelines, `Target`s or
            tables, the first that can take the request; see `as_targets`. None sends it on as the
            first one, for `Route` inside to take elsewhere.
        quantile: Which share of answers begins within the wait, 0.5 to 0.999.
        min_samples: How many answers it takes to know that, 1 to 200.
        delay: The wait while that is not known, in seconds above 0. None sends nothing twice until
            it is.
        min_delay: The shortest wait, in seconds above 0.
        max_extra: How many second copies there may be for each call, 0 to 1.
        window: For how many seconds a call counts for that, above 0.
        pause: For how many seconds nothing is sent twice after the provider has asked for less
            (429, 503, 529), above 0; longer if it says so itself.
        on_failure: Whether the second copy is sent at once where the first fails before the wait is
            over, in a way that may pass elsewhere. Otherwise failures are left to `Retry` and
            `Fallback`.
        when: Which requests may be sent twice: a plain function of the request. None allows those
            that leave nothing behind: no `store`, no background work, no tools that the provider
            runs.
        namespace: Times and shares are kept by name; another name counts apart.
    """

    targets: tuple[Target, ...] = attrs.field(default=None, converter=_targets)
    quantile: float = attrs.field(default=0.95, validator=number(0.5, 0.999), kw_only=True)
    min_samples: int = attrs.field(default=20, validator=whole(1, SAMPLES), kw_only=True)
    delay: float | None = attrs.field(
        default=None, converter=optional_seconds, validator=span_or_none, kw_only=True
    )
    min_delay: float = attrs.field(default=0.1, converter=seconds, validator=span, kw_only=True)
    max_extra: float = attrs.field(default=0.05, validator=number(0, 1), kw_only=True)
    window: float = attrs.field(default=60.0, converter=seconds, validator=span, kw_only=True)
    pause: float = attrs.field(default=10.0, converter=seconds, validator=span, kw_only=True)
    on_failure: bool = attrs.field(default=False, validator=flag, kw_only=True)
    when: Callable[[Request[Any]], bool] | None = attrs.field(
        default=None, validator=_plain_function, kw_only=True
    )
    namespace: str = attrs.field(default="shared", validator=name, kw_only=True)
    key: tuple[str, ...] = attrs.field(
        init=False, repr=False, default=attrs.Factory(_key_of, takes_self=True)
    )
    load_key: tuple[str, ...] = attrs.field(
        init=False, repr=False, default=attrs.Factory(_load_key_of, takes_self=True)
    )

    async def __call__(self, request: Request[R], call_next: Handler) -> R:
        """Send the request on, twice where that takes unusually long.

        Raises:
            LamellaError: What the first copy failed with, if the second has no answer either.
        """
        if not (stateless(request) if self.when is None else self.when(request)):
            return await call_next(request)
        context = request.context
        ports = context.ports
        local, provider, now = ports.stores.local, context.provider, ports.monotonic()
        load = local.get((*self.load_key, provider, request.operation), self._fresh_load)
        load.called(now)
        # Where an answer comes in one piece its first event is its last: runs are kept apart.
        how = "stream" if request.stream else "run"
        times = local.get((*self.key, how, provider, request.model or ""), FirstEvents)
        delay = times.quantile(self.quantile, now, least=self.min_samples)
        delay = self.delay if delay is None else max(delay, self.min_delay)
        if delay is not None and context.left() <= delay:
            delay = None  # there will be no time for a second copy
        if self.targets and not shared_reading.done:
            await shared_reading.ready(context)  # the second copy's timer cannot wait for it
        return await Race(self, request, call_next, times, load).run(delay)

    def _fresh_load(self) -> Load:
        return Load(self.max_extra, self.window)
