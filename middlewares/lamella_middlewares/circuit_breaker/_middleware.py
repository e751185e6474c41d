"""The layer: asks the circuit before each attempt, and tells it how the attempt ended."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, TypeVar

import attrs

from lamella import (
    Handler,
    PartHealth,
    Ports,
    Reading,
    Request,
    Response,
    ending,
    middleware,
)
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
from lamella._ports import default_ports
from lamella_middlewares.circuit_breaker._circuit import CircuitChange, Refusal, Rules
from lamella_middlewares.circuit_breaker._circuits import Circuits, CircuitState
from lamella_middlewares.circuit_breaker._guarded_call import GuardedCall
from lamella_middlewares.circuit_breaker._judgement import Judge

R = TypeVar("R", bound=Response)

logger = logging.getLogger("lamella")

_NUMBERS: Final = {"closed": 0, "half_open": 1, "open": 2, "isolated": 2}


def _at_least_open_for(breaker: Any, option: attrs.Attribute[Any], value: Any) -> None:
    span(breaker, option, value)
    if value < breaker.open_for:
        raise refused(breaker, option, value, f"open_for={breaker.open_for!r} or more")


def _share(breaker: Any, option: attrs.Attribute[Any], value: Any) -> None:
    number(0, 1)(breaker, option, value)
    if value == 0:
        raise refused(breaker, option, value, "a share above 0: without failures nothing opens")


def _plain_function(breaker: Any, option: attrs.Attribute[Any], value: object) -> None:
    if value is not None and (not callable(value) or isinstance(value, type) or is_async(value)):
        raise refused(breaker, option, value, "a plain function, or None")


def _rules_of(breaker: Any) -> Rules:
    attrs.validate(breaker)  # attrs itself does so only once all fields are there
    return Rules(
        ratio=float(breaker.ratio),
        min_calls=breaker.min_calls,
        window=float(breaker.window),
        open_for=float(breaker.open_for),
        max_open=float(breaker.max_open),
        probes=breaker.probes,
        probe_ttl=float(breaker.probe_ttl),
    )


def _key_of(breaker: Any) -> tuple[str, ...]:
    numbers = ",".join(map(repr, attrs.astuple(breaker.rules)))
    return (breaker.namespace, "circuit_breaker", numbers)


@middleware(phase="attempt", rank=60, effects=("short-circuits",))
@attrs.frozen
class CircuitBreaker:
    """Leaves a provider alone that keeps failing, and finds out by single probes when it is back.

    While the circuit of a provider and model is open, calls are refused here, at once and for
    nothing, with `CircuitOpenError`: `Fallback` and `Route` then go elsewhere. All pipelines of the
    process share the circuits.

    Args:
        ratio: The share of failures that opens the circuit, above 0 to 1.
        min_calls: How many calls within `window` it takes to judge; 1 or more.
        window: For how many seconds a call counts, above 0.
        open_for: For how many seconds the circuit is open at first, above 0. Twice as long after
            each probe that fails, and up to a fifth longer by chance. A provider's `retry_after` is
            not undercut, up to an hour.
        max_open: The longest that it is open after probes that failed, in seconds; `open_for` or
            more.
        probes: How many calls may find out at once whether it can close; 1 or more.
        probe_ttl: Seconds after which a probe that is still under way makes room for another one,
            above 0.
        slow_after: Seconds to the first event of a stream after which an answer counts as a
            failure, even if it ends well; above 0. None does not look at it.
        count_throttles: Whether 429 is a failure. By default it says nothing about the provider:
            that is for `Retry` and `RateLimit`.
        judge: A plain function of an error: True if the provider has failed, False if it has not,
            None to leave it to the layer. None judges nothing.
        on_change: A plain function that is told of each change of a circuit that this layer brings
            about, as a `CircuitChange`. It should return quickly. None tells nobody.
        namespace: Circuits are shared by name; another name counts apart. So do other numbers.
    """

    ratio: float = attrs.field(default=0.5, validator=_share)
    min_calls: int = attrs.field(default=10, validator=whole(1))
    window: float = attrs.field(default=30.0, converter=seconds, validator=span)
    open_for: float = attrs.field(default=5.0, converter=seconds, validator=span)
    max_open: float = attrs.field(default=60.0, converter=seconds, validator=_at_least_open_for)
    probes: int = attrs.field(default=1, validator=whole(1))
    probe_ttl: float = attrs.field(default=60.0, converter=seconds, validator=span)
    slow_after: float | None = attrs.field(
        default=None, converter=optional_seconds, validator=span_or_none
    )
    count_throttles: bool = attrs.field(default=False, validator=flag)
    judge: Judge | None = attrs.field(default=None, validator=_plain_function)
    on_change: Callable[[CircuitChange], object] | None = attrs.field(
        default=None, validator=_plain_function
    )
    namespace: str = attrs.field(default="shared", validator=name)
    rules: Rules = attrs.field(
        init=False, eq=False, repr=False, default=attrs.Factory(_rules_of, takes_self=True)
    )
    key: tuple[str, ...] = attrs.field(
        init=False, eq=False, repr=False, default=attrs.Factory(_key_of, takes_self=True)
    )

    async def __call__(self, request: Request[R], call_next: Handler) -> R:
        """Send the request on if the circuit lets it pass.

        Raises:
            CircuitOpenError: If it does not; nothing is sent.
        """
        context = request.context
        ports = context.ports
        circuit = self._circuits(ports).circuit(context.provider, request.model or "")
        permit, change = circuit.admit(ports.monotonic())
        call = GuardedCall(self, request, circuit)
        if change is not None:
            call.tell(change)
        if isinstance(permit, Refusal):
            raise call.refused(permit)
        call.permit = permit
        if self.slow_after is None or not request.stream:
            return await ending(call_next, request, call.ended)
        with call.watched(self.slow_after):
            return await ending(call_next, request, call.ended)

    def _circuits(self, ports: Ports) -> Circuits:
        return ports.stores.local.get(self.key, self._fresh)

    def _fresh(self) -> Circuits:
        return Circuits(self.rules)

    def states(self, ports: Ports | None = None) -> tuple[CircuitState, ...]:
        """How the circuits are that calls have asked for.

        Args:
            ports: Those of the pipeline, where it has its own. None takes the process's.
        """
        ports = ports or default_ports()
        return self._circuits(ports).states(ports.monotonic())

    def isolate(
        self, provider: str, model: str | None = None, *, ports: Ports | None = None
    ) -> None:
        """Let nothing go to a provider until `reset`, whether or not anything has gone there yet.

        Args:
            provider: Its name, as in `response.served_by`: of a target, or of the transport.
            model: Only this model of it. None isolates all.
            ports: As for `states`.
        """
        self._by_hand(self._circuits(ports or default_ports()).isolate(provider, model))

    def reset(self, provider: str, model: str | None = None, *, ports: Ports | None = None) -> None:
        """Close a provider's circuits, and forget what they have seen.

        Args:
            provider: Its name.
            model: Only this model of it; it stays isolated while its provider is. None closes all.
            ports: As for `states`.
        """
        self._by_hand(self._circuits(ports or default_ports()).reset(provider, model))

    def _by_hand(self, changes: list[CircuitChange]) -> None:
        for change in changes:
            self.announce(change)

    def health(self, ports: Ports | None = None) -> PartHealth:
        """Whether every circuit is closed; the others by name. `Pipeline.health()` asks for it."""
        unwell = {
            f"{one.provider}/{one.model}" if one.model else one.provider: one.state
            for one in self.states(ports)
            if one.state != "closed"
        }
        return PartHealth(not unwell, unwell)

    def readings(self, ports: Ports) -> list[Reading]:
        """How each circuit is, as numbers: see `lamella.Reading`."""
        return [
            Reading(
                "circuit_breaker",
                "state",
                _NUMBERS[one.state],
                provider=one.provider,
                model=one.model,
                source=(id(ports.stores.local), self.key),
            )
            for one in self.states(ports)
        ]

    def announce(self, change: CircuitChange) -> Exception | None:
        """Log a change, and tell `on_change`; what that raised, if it did."""
        where = f"{change.provider}/{change.model}" if change.model else change.provider
        if change.state == "open":
            logger.warning(
                "circuit %s: %s -> open for %.3g s, %d of %d calls failed",
                where, change.before, change.seconds, change.failures, change.calls,
            )  # fmt: skip
        else:
            logger.info("circuit %s: %s -> %s", where, change.before, change.state)
        if self.on_change is not None:
            try:
                self.on_change(change)
            except Exception as failure:
                logger.exception("CircuitBreaker(on_change=...) failed")
                return failure
        return None
