"""The facts of a call that travel inward with the request, explicitly.

Layers pass facts inward on the context and outward on the trace, never otherwise. Each step gets
its own copy; the trace, the call and the bound on attempts are shared between the copies.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

import anyio
import attrs

from lamella._attempts import AttemptBound, OpenAttempt
from lamella._calls import closed_error
from lamella._errors import DeadlineExceeded, NotBegunError
from lamella._evolve import Evolvable
from lamella._limits import NO_LIMITS, Limits
from lamella._nothing import NOTHING

if TYPE_CHECKING:
    from lamella._background import Background
    from lamella._calls import Call
    from lamella._clock import Clock
    from lamella._observers import AttemptObserver
    from lamella._ports import Ports
    from lamella._trace import Trace

T = TypeVar("T")


def _must_be_limits(_: object, __: object, value: object) -> None:
    if not isinstance(value, Limits):
        msg = f"Context(limits=...) takes Limits, such as Limits(attempt=30), not {value!r}."
        raise TypeError(msg)


class NotBegun:
    """Stands for what only a running call has; says so when it is used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        msg = f"This request belongs to no call yet, so it has no {self._name}."
        raise NotBegunError(
            msg, hint="Begin a call with pipeline.run(request) or .stream(request)."
        )

    def __repr__(self) -> str:
        return "<not begun>"


def _given_by_call(name: str) -> Any:
    return attrs.field(default=cast("Any", NotBegun(name)), repr=False)


@attrs.frozen(slots=False, kw_only=True, eq=False)
class Context(Evolvable):
    """Who asks, what for, and by when.

    The first group is the caller's to set, on `request.context`; the rest is filled in when a
    pipeline begins a call, and using it before raises `NotBegunError`.

    Attributes:
        tenant: Whose data and limits these are. Caches and limits never mix tenants.
        user: The end user. Not sent to providers unless a transport is told to.
        session: The conversation this belongs to.
        tags: Free labels for reports and budgets.
        priority: Higher is more important; 0 is normal. Load is shed from below.
        idempotency_key: One per logical call; reused verbatim by every retry of it.
        attributes: Facts that layers pass inward, by name.
        timed: Whether each layer's time is kept in `trace.spans`. A layer may ask for it too.
        ports: The doors to the world; the pipeline's unless set.
        call_id: The call's id; empty while no call has begun.
        parent_id: The call that this one was detached from.
        deadline: The instant on `clock` by which the call must be over; None for none.
        limits: Limits in time on each attempt.
        depth: How many layers stand between the caller and the transport of the pipeline that the
            request is in, those of the pipelines outside included.
        branch: The path of this request in its call, such as `/hedge2/try1/turn2`.
        provider: Where the request is about to go: the name of the target with a transport of its
            own that a choose layer has aimed it at, or else of the pipeline's transport. What is
            counted for each provider (limits, breakers, budgets of retries) is counted under it.
        transport: The transport of the pipeline that the request is in.
        other_targets: Of each choose layer outside that goes elsewhere after a failure, what says
            whether it has another target for the request; see `alternatives`.
        spare_credentials: How many other credentials of the same provider a choose layer outside
            can still turn to. With one, waiting for a throttled or used-up credential is a loss.
        substitute: Whether a choose layer has sent the request to another target than the one that
            was meant, since that had failed or could not take it: an answer that is worth less.
        asked_by: Which layer makes the request, where it is another one than the caller's own: a
            further try, a copy that races it, a child. The caller's own has an empty text.
        observers: What sees every attempt of the call begin and end; see `observed`.
        attempt: The attempt under way; None outside the wire phase.
        bound: How many attempts this model turn may still make.
        clock: The call's own time.
        background: Where detached work is started.
        trace: What has happened in the call.
        call: The core's record of the call.
    """

    tenant: str | None = None
    user: str | None = None
    session: str | None = None
    tags: Mapping[str, str] = NOTHING
    priority: int = 0
    idempotency_key: str | None = attrs.field(default=None, repr=False)
    attributes: Mapping[str, Any] = attrs.field(default=NOTHING, repr=False)
    timed: bool = False
    ports: Ports = _given_by_call("ports")
    call_id: str = ""
    parent_id: str | None = None
    deadline: float | None = None
    limits: Limits = attrs.field(default=NO_LIMITS, validator=_must_be_limits)
    depth: int = 0
    branch: str = ""
    provider: str = ""
    transport: Any = attrs.field(default=None, repr=False)
    other_targets: tuple[Callable[[], bool], ...] = attrs.field(default=(), repr=False)
    spare_credentials: int = 0
    substitute: bool = False
    asked_by: str = ""
    observers: tuple[AttemptObserver, ...] = attrs.field(default=(), repr=False)
    attempt: OpenAttempt | None = attrs.field(default=None, repr=False)
    bound: AttemptBound = attrs.field(factory=AttemptBound, repr=False)
    clock: Clock = _given_by_call("clock")
    background: Background = _given_by_call("background")
    trace: Trace = _given_by_call("trace")
    call: Call = _given_by_call("call")

    @property
    def begun(self) -> bool:
        """Whether a pipeline has begun a call with it."""
        return self.call_id != ""

    @property
    def alternatives(self) -> bool:
        """Whether a choose layer outside can turn to another target that may take the request.

        With one, waiting long for this target is a loss, or asking it again once it has let a limit
        in time pass. Not asked before that: the answer may cost some microseconds.
        """
        return any(known() for known in self.other_targets)

    def left(self) -> float:
        """Seconds until the deadline, infinite without one; 0 or less once it has passed."""
        if self.deadline is None:
            return math.inf
        return self.deadline - self.clock.now()

    def note(self, layer: str, name: str, **fields: Any) -> None:
        """Write a fact into the trace. Never prompt text, personal data or keys."""
        self.trace.note(layer, name, **fields)

    async def sleep(self, seconds: float, *, what: str = "waiting") -> None:
        """Wait, but never past the deadline, and not at all if the wait would pass it.

        Args:
            seconds: How long.
            what: What is waited for, for the error's message.

        Raises:
            DeadlineExceeded: At once, if less than `seconds` is left.
            ClosedError: If the pipeline closes meanwhile.
        """
        left = self.left()
        if seconds > left:
            msg = f"{what} would take {seconds:.3g} s, and only {max(left, 0):.3g} s are left."
            raise DeadlineExceeded(msg, phase="local", retry_after=seconds)
        await self.wait(lambda: self.ports.sleep(seconds), what=what)

    async def wait(self, function: Callable[[], Awaitable[T]], *, what: str = "waiting") -> T:
        """Await `function()`, ended by the deadline and by a closing pipeline.

        Every wait a layer makes itself goes through here: queues, leases, tools, other waiters.
        After the deadline `function` is not even called.

        Raises:
            DeadlineExceeded: When the deadline passes, or has passed.
            ClosedError: If the pipeline closes meanwhile.
        """
        call = self.call
        if call.closing:
            raise closed_error(what)
        left = self.left()
        if left <= 0:
            msg = f"The call's deadline had passed before {what}."
            raise DeadlineExceeded(msg, phase="local")
        # By the call's loop: anyio looks for the backend, which costs more than the scope.
        until = math.inf if left == math.inf else anyio.current_time() + left
        with call.loop.scope(deadline=until) as scope:
            call.enter(scope)
            try:
                return await function()
            finally:
                call.leave(scope)
        if call.closing:
            raise closed_error(what)
        msg = f"The call's deadline passed while {what}."
        raise DeadlineExceeded(msg, phase="local")


def is_given(port: object) -> bool:
    """Whether a context's field has been set, by a call or by the caller."""
    return not isinstance(port, NotBegun)


NO_CONTEXT = Context()
"""What a request has that nobody has said anything about. Frozen, so that all can share it."""
