"""The layer: who flies together with whom."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Literal, TypeAlias, TypeVar, cast

import attrs

from lamella import (
    ChatRequest,
    DeadlineExceeded,
    EmbeddingRequest,
    Handler,
    LamellaError,
    Outcome,
    PerLoop,
    Request,
    Response,
    middleware,
    request_key,
)
from lamella._options import is_async, refused, whole
from lamella._repeatable import repeatable
from lamella_middlewares.single_flight._flight import LAYER, Flight

R = TypeVar("R", bound=Response)

When: TypeAlias = Literal["all", "deterministic"] | Callable[[Request[Any]], bool]

VARIES = ("user", "session", "priority", "tags")


def _when(layer: Any, option: attrs.Attribute[Any], value: Any) -> None:
    if value in ("all", "deterministic") or (callable(value) and not is_async(value)):
        return
    want = '"all", "deterministic", or a plain function of the request'
    raise refused(layer, option, value, want)


def _names(value: Any) -> tuple[Any, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _known_names(layer: Any, option: attrs.Attribute[Any], value: tuple[Any, ...]) -> None:
    if not set(value) <= set(VARIES):
        raise refused(layer, option, value, f"names out of {', '.join(map(repr, VARIES))}")


@middleware(
    phase="remember",
    rank=90,
    effects=("short-circuits",),
    inside={
        "tools": "calls that share an answer would share the effects of its tools as well",
    },
    outside={
        "cost": "every call that shares an answer would be billed for it",
    },
)
@attrs.frozen
class SingleFlight:
    """Lets identical calls that run at the same time share one call upstream.

    Two calls are identical if they ask the same, in every field, for the same tenant. The shared
    call goes on as long as anybody waits for it, whoever started it; each waiter keeps its own
    deadline and gets its own answer or its own copy of the error. Nothing is kept afterwards. The
    cost is one caller's: the first one's, or that of who waits on when it leaves.

    Args:
        when: Which calls share. `"all"` that leave nothing behind at the provider;
            `"deterministic"` shares only what is to come out the same each time (temperature 0 or
            a seed, and embeddings), for programs that ask the same several times at once to get
            different answers; or a plain function of the request.
        vary: What of the context separates calls besides the tenant: names out of `"user"`,
            `"session"`, `"priority"` and `"tags"`.
        read_ahead: Bytes of a streamed answer that are read ahead of its quickest reader, 1 or
            more. Beyond that the provider has to wait; slower readers hold nobody back.

    A request can decide for itself: `Context(attributes={"single_flight": False})` flies alone, and
    True shares whatever `when` says. Calls that change something at the provider never share,
    unless their idempotency keys say that they are one.
    """

    when: When = attrs.field(default="all", validator=_when)
    vary: tuple[str, ...] = attrs.field(default=(), converter=_names, validator=_known_names)
    read_ahead: int = attrs.field(default=1_048_576, validator=whole(1))

    async def __call__(self, request: Request[R], call_next: Handler) -> R:
        """Answer a request by a call that is under way already, or by one that others may join.

        Raises:
            LamellaError: What ended the shared call, as this caller's own copy.
            DeadlineExceeded: When this call's deadline passes; the shared call goes on for others.
        """
        key = self._key(request, call_next)
        if key is None:
            return await call_next(request)
        context = request.context
        flights = context.ports.stores.local.get(_HOME, Flights)
        also_streamed = True
        while True:
            if context.left() <= 0:
                msg = "The call's deadline had passed before it could share an answer."
                raise DeadlineExceeded(msg, phase="local", outcome=Outcome.NOT_SENT, layer=LAYER)
            flight = flights.of(key, request, also_streamed=also_streamed)
            if flight is None:
                flight = self._start(flights, key, request, call_next)
            elif flight.has_call(context.call_id):
                # Who asks the same twice in one call wants two answers: a vote, or a hedge.
                context.note(LAYER, "single_flight.alone", why="its own call has asked already")
                return await call_next(request)
            passenger = flight.board(request)
            try:
                return cast("R", await passenger.response())
            except LamellaError as error:
                await passenger.leave()
                # A stream's error after its first event is final, but not for who saw nothing of
                # it: what stands inside would have tried again for this caller.
                if request.stream or not (flight.streamed and flight.events and error.retryable):
                    raise
                also_streamed = False
            except BaseException:
                await passenger.leave()
                raise

    def _key(self, request: Request[Any], call_next: Handler) -> Hashable | None:
        """What it shares under; None if it shares with nobody."""
        context = request.context
        if context.attempt is not None or not self._wants(request) or not repeatable(request):
            return None
        try:
            key = request_key(request)
        except TypeError as error:
            context.note(LAYER, "single_flight.alone", why=str(error))
            return None
        more = tuple([_hashable(getattr(context, name)) for name in self.vary])
        # The handler stands for the place in the stack, all options inside included; and a flight
        # ends with the pipeline that it belongs to.
        return key, context.idempotency_key, more, call_next, context.background

    def _wants(self, request: Request[Any]) -> bool:
        said = request.context.attributes.get(LAYER)
        if said is not None:
            return bool(said)
        if self.when == "all":
            return True
        if self.when == "deterministic":
            return deterministic(request)
        return self.when(request)

    def _start(
        self, flights: Flights, key: Hashable, request: Request[Any], call_next: Handler
    ) -> Flight:
        context = request.context
        detached = request.detach("flight")
        detached = detached.evolve(
            stream=request.stream,
            context=detached.context.evolve(
                idempotency_key=context.idempotency_key,
                bound=context.bound,  # it is the first caller's model turn that makes the attempts
            ),
        )
        flight = Flight(
            detached,
            call_next,
            read_ahead=self.read_ahead,
            forget=lambda flight: flights.remove(key, flight),
        )
        context.background.spawn(flight.fly, name=LAYER)
        flights.add(key, flight)
        return flight


def deterministic(request: Request[Any]) -> bool:
    """Whether the same request is to have the same answer each time."""
    seen: object = request
    if isinstance(seen, ChatRequest):
        return seen.temperature == 0 or seen.seed is not None
    return isinstance(seen, EmbeddingRequest)


def _hashable(value: Any) -> Hashable:
    return value if isinstance(value, Hashable) else tuple(sorted(value.items()))


class Flights:
    """The flights under way, on each event loop its own."""

    def __init__(self) -> None:
        self._flights: PerLoop[dict[tuple[Hashable, bool], Flight]] = PerLoop(dict)

    def of(self, key: Hashable, request: Request[Any], *, also_streamed: bool) -> Flight | None:
        """The flight that a request can join. A stream needs a streamed one; a run takes any."""
        flights = self._flights.get()
        found = flights.get((key, request.stream))
        if found is None and also_streamed and not request.stream:
            found = flights.get((key, True))
        return found

    def add(self, key: Hashable, flight: Flight) -> None:
        """A flight has been started."""
        self._flights.get()[key, flight.streamed] = flight

    def remove(self, key: Hashable, flight: Flight) -> None:
        """A flight takes no more passengers. Called on its own loop, more than once."""
        flights = self._flights.get()
        if flights.get((key, flight.streamed)) is flight:
            del flights[key, flight.streamed]


_HOME = ("shared", LAYER, "flights")
