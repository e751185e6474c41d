"""Refreshing in the background: once for all who were given the old answer, in every process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import anyio

from lamella import ClosedError, Dimension, Outcome, Request, outcome_of
from lamella._fork_locks import fork_safe_lock
from lamella_middlewares.cache._control import LAYER

if TYPE_CHECKING:
    from lamella_middlewares.cache._lookup import Lookup

REST: Final = 5.0
"""Seconds for which an answer is not asked for again where that has failed, nothing new was kept,
or another process is about it."""

LEASE_SECONDS: Final = 1.0
"""What asking whether another process is about it may take."""

MOST: Final = 10_000


class Refreshes:
    """What this process is refreshing, or has just failed to. Thread-safe."""

    def __init__(self) -> None:
        self._lock = fork_safe_lock()
        self._until: OrderedDict[str, float] = OrderedDict()

    def begin(self, name: str, now: float, seconds: float) -> bool:
        """Whether nobody is about it; then the caller is, for no longer than this."""
        with self._lock:
            if self._until.get(name, now) > now:
                return False
            self._put(name, now + seconds)
        return True

    def end(self, name: str, until: float) -> None:
        """It is over; nobody begins again before that instant."""
        with self._lock:
            self._put(name, until)

    def _put(self, name: str, until: float) -> None:
        self._until[name] = until
        self._until.move_to_end(name)
        if len(self._until) > MOST:
            self._until.popitem(last=False)


def refresh(
    lookup: Lookup,
    name: str,
    renew: Callable[[Request[Any]], Awaitable[bool]],
    *,
    request: Request[Any] | None = None,
) -> None:
    """Start a refresh, unless one is under way. Returns at once, and raises nothing.

    Args:
        lookup: On whose occasion.
        name: Of what is refreshed.
        renew: Does it, given the request in a call of its own; whether something new is kept now.
        request: What is asked for; None is the lookup's own request.
    """
    context = lookup.context
    ports = context.ports
    home = (lookup.layer.namespace or "shared", LAYER, "refreshes", str(id(lookup.kept.tally)))
    refreshes = ports.stores.local.get(home, Refreshes)
    seconds: Any = lookup.layer.stale.refresh_timeout
    if not refreshes.begin(name, ports.monotonic(), seconds):
        return
    detached = (request or lookup.request).detach("refresh", asked_by="cache")
    until = detached.context.clock.now() + seconds
    # What keeps answers further inside is to ask as well, and not to give the old one once more.
    said = {**detached.context.attributes, LAYER: "refresh"}
    detached = detached.evolve(context=detached.context.evolve(deadline=until, attributes=said))
    run = _Refresh(refreshes, lookup.layer.namespace, name, seconds)
    try:
        context.background.spawn(run, detached, renew, name="cache refresh")
    except ClosedError:
        refreshes.end(name, ports.monotonic())
        return
    context.note(LAYER, "cache.refresh", call_id=detached.context.call_id)


class _Refresh:
    """One of them, under way."""

    def __init__(self, refreshes: Refreshes, namespace: str, name: str, seconds: float) -> None:
        self._refreshes = refreshes
        self._namespace = namespace
        self._name = name
        self._seconds = seconds

    async def __call__(
        self, request: Request[Any], renew: Callable[[Request[Any]], Awaitable[bool]]
    ) -> None:
        context = request.context
        lease_id = context.ports.new_id()
        outcome, rest = Outcome.CANCELLED, REST
        try:
            if await self._granted(request, lease_id) and await renew(request):
                rest = 0.0
            outcome = Outcome.COMPLETE
        except BaseException as error:
            outcome = outcome_of(error)
            if not isinstance(error, Exception):
                raise
            # Nobody waits for it. Its attempts are in its trace, with what they failed with.
            context.note(LAYER, "cache.refresh_failed", error=type(error).__name__)
        finally:
            self._refreshes.end(self._name, context.ports.monotonic() + rest)
            with anyio.move_on_after(LEASE_SECONDS, shield=True):
                await self._give_back(request, lease_id)
            await context.call.close(outcome)

    async def _granted(self, request: Request[Any], lease_id: str) -> bool:
        """Whether no other process is about it. One that cannot be asked has no say."""
        ports = request.context.ports
        key = (self._namespace or "shared", LAYER, "refresh", self._name)
        place = Dimension(key, 1, 1, held=True)
        try:
            with anyio.move_on_after(LEASE_SECONDS):
                lease = await ports.stores.leases.reserve(lease_id, (place,), ttl=self._seconds)
                return lease.granted
        except Exception as error:  # noqa: BLE001 - whatever a stranger's store says
            request.context.note(LAYER, "cache.refresh_alone", error=type(error).__name__)
        return True

    async def _give_back(self, request: Request[Any], lease_id: str) -> None:
        try:
            await request.context.ports.stores.leases.refund(lease_id)
        except Exception as error:  # noqa: BLE001 - it ends by itself, a little later
            request.context.note(LAYER, "cache.refresh_held", error=type(error).__name__)
