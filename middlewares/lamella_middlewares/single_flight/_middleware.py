"""The layer: who flies together with whom."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, TypeAlias, TypeVar, cast

import attrs

from lamella import (
    AttemptLimitError,
    DeadlineExceeded,
    Handler,
    LamellaError,
    Outcome,
    PerLoop,
    Request,
    Response,
    _keeping,
    middleware,
    request_key,
)
from lamella._canonical import encode, form
from lamella._options import whole
from lamella._repeatable import deterministic, repeatable
from lamella_middlewares.single_flight._flight import LAYER, Flight

R = TypeVar("R", bound=Response)


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
            a seed; embeddings and moderation), for programs that ask the same several times at once
            to get different answers; or a plain function of the request.
        vary: What of the context separates calls besides the tenant: names out of `"user"`,
            `"session"`, `"priority"` and `"tags"`.
        read_ahead: Bytes of a streamed answer that are read ahead of its quickest reader, 1 or
            more. Beyond that the provider has to wait; slower readers hold nobody back.

    A request can decide for itself: `Context(attributes={"single_flight": False})` flies alone, and
    True shares whatever `when` says. Calls that change something at the provider never share,
    unless their idempotency keys say that they are one.
    """

    when: _keeping.When = attrs.field(default="all", validator=_keeping.when)
    vary: tuple[str, ...] = attrs.field(
        default=(), converter=_keeping.listed, validator=_keeping.vary
    )
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
        flights = context.ports.stores.local.get(_HOME, _flights).get()
        also_streamed, bound_of_others = True, True
        while True:
            if context.left() <= 0:
                msg = "The call's deadline had passed before it could share an answer."
                raise DeadlineExceeded(msg, phase="local", outcome=Outcome.NOT_SENT, layer=LAYER)
            flight = flights.get((key, request.stream))
            if flight is None and also_streamed and not request.stream:
                flight = flights.get((key, True))  # a run can share a stream
            own = flight is None
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
                if bound_of_others and not own and isinstance(error, AttemptLimitError):
                    # It was another's attempts that were used up; once, for it may be the stack's.
                    bound_of_others = False
                elif not request.stream and flight.streamed and flight.events and error.retryable:
                    # A stream's error after its first event is final, but not for who saw nothing
                    # of it: what stands inside would have tried again for this caller.
                    also_streamed = False
                else:
                    raise
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
            vary = (
                encode([form(getattr(context, name)) for name in self.vary]) if self.vary else b""
            )
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            why = str(error) if isinstance(error, TypeError) else type(error).__name__
            context.note(LAYER, "single_flight.alone", why=why)
            return None
        # The handler stands for the place in the stack, all options inside included; and a flight
        # ends with the pipeline that it belongs to.
        aimed = None if request.target is None else id(request.target.transport)
        return key, context.idempotency_key, vary, aimed, call_next, context.background

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
        context, place = request.context, (key, request.stream)

        def forget(flight: Flight) -> None:
            if flights.get(place) is flight:
                del flights[place]

        detached = request.detach(
            "flight",
            stream=request.stream,
            idempotency_key=context.idempotency_key,
            bound=context.bound,  # it is the first caller's model turn that makes the attempts
        )
        flight = Flight(detached, call_next, read_ahead=self.read_ahead, forget=forget)
        flight.start()
        flights[place] = flight
        return flight


Flights: TypeAlias = dict[tuple[Hashable, bool], Flight]
"""The flights under way on one event loop, by what they are asked and whether as a stream."""

_HOME = ("shared", LAYER, "flights")


def _flights() -> PerLoop[Flights]:
    return PerLoop(dict)
