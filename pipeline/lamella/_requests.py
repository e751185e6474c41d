"""A request: what every operation shares."""

# pyright: reportPrivateUsage=false
# A response, its cursors and its makers are one thing in several classes; ruff marks each access.
from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, cast

import attrs

from lamella._answer_shape import without_shape
from lamella._attempts import AttemptBound
from lamella._calls import Call
from lamella._clock import Clock
from lamella._context import NO_CONTEXT, Context
from lamella._evolve import Evolvable, put
from lamella._nothing import NOTHING
from lamella._parts import JSONObject
from lamella._responses import NO_HEAD, Head, Response
from lamella._trace import Trace

if TYPE_CHECKING:
    from lamella._events import Event
    from lamella._guards import Guard
    from lamella._messages import Message
    from lamella._targets import Target
    from lamella._transforms import Source

R = TypeVar("R", bound=Response)
R_co = TypeVar("R_co", bound=Response, covariant=True)


@attrs.frozen(slots=False, kw_only=True)
class Request(Evolvable, Generic[R_co]):
    """The base of every operation's request, typed by the response it gets.

    Frozen; `evolve` makes a changed copy. Freezing is shallow: nested JSON is shared, and no layer
    may write to it. One request may be run many times, and at once.

    Attributes:
        model: The model's name as the provider spells it. None takes the transport's default.
        extra: What only one provider knows, sent to it verbatim.
        context: Who asks, what for, and by when.
        target: Where a choose layer sends it; None for the pipeline's own transport.
        stream: Whether the caller wants a stream. Set by the pipeline alone.
    """

    operation: ClassVar[str] = ""
    response_type: ClassVar[type[Response]] = Response
    streams: ClassVar[bool] = False  # whether providers answer it event by event
    own_model: ClassVar[bool] = False  # whether it takes another than the transport's own

    model: str | None = None
    extra: JSONObject = attrs.field(default=NOTHING, hash=False)
    context: Context = attrs.field(default=NO_CONTEXT, repr=False, eq=False)
    target: Target | None = attrs.field(default=None, repr=False, eq=False)
    stream: bool = attrs.field(default=False, init=False, repr=False, eq=False)

    def answer(self, events: Iterable[Event], /, head: Head = NO_HEAD) -> R_co:
        """A complete response to this request, made of events that end with `Finish`."""
        response: Any = self.response_type(tuple(events), head)
        response._context = self.context  # noqa: SLF001 - the two are made for each other
        return response  # type: ignore[no-any-return]

    def open(self, source: Source, /, head: Head = NO_HEAD, guard: Guard | None = None) -> R_co:
        """An open response to this request. Transports use `begin`, which ends in this."""
        return cast("R_co", self.response_type.opened(source, self.context, head, guard))

    def child(
        self, other: Request[R], /, *, purpose: str, asked_by: str | None = None
    ) -> Request[R]:
        """Place another request, of any operation, in this call.

        It shares the trace, clock, deadline and tenant, has a branch and a bound on attempts of its
        own, and is never streamed. It does not share the idempotency key, which promises that the
        provider gets the same request. It runs through the handler that it is given to.

        Args:
            other: What to ask.
            purpose: Why, as a word for the branch: `"summary"`, `"judge"`.
            asked_by: The layer that asks, for reports of what was spent; None takes the purpose.
        """
        context = without_shape(self.context)
        bound = AttemptBound(context.bound.limit)
        branch = f"{context.branch}/{purpose}"
        if self.target is not None:  # the child goes to the pipeline's own transport again
            from lamella._layers import name_of

            context = context.evolve(provider=name_of(context.transport))
        return other.evolve(
            context=context.evolve(
                branch=branch,
                asked_by=purpose if asked_by is None else asked_by,
                bound=bound,
                attempt=None,
                idempotency_key=None,
                other_targets=(),  # those are for the request, not for what is asked about it
                spare_credentials=0,
                substitute=False,
            ),
            stream=False,
            target=None,
        )

    def branch(self, name: str, *, asked_by: str | None = None) -> Self:
        """This request as one of several that a layer makes of it: `/try2`, `/hedge1`.

        Args:
            name: A further step of the branch.
            asked_by: The layer that makes it, for reports of what was spent; None leaves that to
                who has made the request that it is one of.
        """
        context = self.context
        facts = {"branch": f"{context.branch}/{name}"}
        if asked_by is not None:
            facts["asked_by"] = asked_by
        return self.evolve(context=context.evolve(**facts))

    def turn(self, number: int, *, asked_by: str | None = None) -> Self:
        """This request as a further model turn: a fresh bound on attempts, a key of its own.

        Args:
            number: Which, from 2.
            asked_by: The layer that makes it, for reports of what was spent; None leaves that to
                who has made the request before it.
        """
        context = self.context
        key = context.idempotency_key
        return self.evolve(
            context=context.evolve(
                asked_by=context.asked_by if asked_by is None else asked_by,
                branch=f"{context.branch}/turn{number}",
                bound=AttemptBound(context.bound.limit),
                idempotency_key=None if key is None else f"{key}/turn{number}",
            )
        )

    def detach(
        self,
        purpose: str,
        *,
        stream: bool = False,
        idempotency_key: str | None = None,
        bound: AttemptBound | None = None,
        asked_by: str | None = None,
    ) -> Self:
        """This request as a call of its own, for work that outlives the caller's.

        It is linked to this call by `parent_id`, and has no deadline and a fresh trace. Run it in
        `context.background.spawn(...)`, and end it with `context.call.close(outcome)`.

        Args:
            purpose: Why, as a word for the branch: `"flight"`, `"refresh"`.
            stream: Whether a stream is wanted.
            idempotency_key: Its key: this call's only where the provider is to take them for one.
            bound: The bound on attempts that its own count in; None for one of its own.
            asked_by: The layer that asks, for reports of what was spent. None leaves that to who
                has made the request: the work is done in its stead.
        """
        context, ports = self.context, self.context.ports
        call_id = ports.new_id()
        trace = Trace(
            call_id, monotonic=ports.monotonic, wall=ports.wall(), parent_id=context.call_id
        )
        fresh = put(
            context,
            {
                "call_id": call_id,
                "parent_id": context.call_id,
                "trace": trace,
                "clock": Clock(ports.monotonic),
                "call": Call(trace),
                "deadline": None,
                "branch": f"/{purpose}",
                "asked_by": context.asked_by if asked_by is None else asked_by,
                "attempt": None,
                "bound": bound or AttemptBound(context.bound.limit),
                "idempotency_key": idempotency_key,
            },
        )
        return put(self, {"context": fresh, "stream": stream})

    @property
    def unwritten(self) -> Message | None:
        """What stands for messages that a layer is to make, without which it is not sent."""
        return None

    @property
    def needs(self) -> frozenset[str]:
        """The capabilities that it asks of a model, in the words of the model cards."""
        return frozenset()

    def aim(self, target: Target, *, branch: str | None = None) -> Self:
        """This request on its way to `target`, as the target changes it.

        A target with a transport of its own is another provider, and counted as one. A target
        without stays where the request was going. An idempotency key promises a provider that two
        requests are the same, so a target gets one of its own, made from the caller's.

        Args:
            target: Where to.
            branch: A further step of the branch, as for `branch`; None stays on it.
        """
        changes, renames = target.changes, target.renames
        if changes and self.own_model:
            changes = target.changes_for(self)
        context = self.context
        key = context.idempotency_key
        facts: dict[str, object] = {}
        if branch is not None:
            facts["branch"] = f"{context.branch}/{branch}"
        if key is not None:
            facts["idempotency_key"] = f"{key}/{target.name}"
        if target.transport is None:
            if self.target is not None:
                target = self.target  # aimed at a transport already: there, with these changes
        else:
            here = context.transport if self.target is None else self.target.transport
            if target.name == context.provider and target.transport is not here:
                target = target.but(name=f"{target.name}#1")  # another one of the same name
            facts.update(provider=target.name, spare_credentials=0)
        context = put(context, facts) if facts else context
        if renames or not changes:  # the name of a model needs no conversion
            return put(self, {"target": target, "context": context, **changes})
        return self.evolve(target=target, context=context, **changes)
