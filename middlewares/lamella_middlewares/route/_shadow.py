"""Shadow: a share of the requests is sent to a second target as well, and its answer thrown away.

It shows what a candidate would cost and how it would stand the traffic, at no risk: a copy is sent
in the background, once the caller has an answer, and whatever becomes of it, the caller does not
notice. It is a call of its own, so that what it spends is its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import attrs

from lamella import (
    ClosedError,
    ConfigurationError,
    Handler,
    Outcome,
    Request,
    Target,
    Trace,
    outcome_of,
)
from lamella._options import is_async, number, refused, seconds, span, whole
from lamella._repeatable import stateless
from lamella._structuring import build_option
from lamella._target_forms import shown
from lamella._targets import send
from lamella_middlewares.route._board import Board

SECONDS: Final = 120.0


def _listener(shadow: Any, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (not callable(value) or is_async(value)):
        raise refused(shadow, option, value, "a plain function of the copy's trace, or None")


@attrs.define(eq=False)
class Shadow:
    """A second target that gets copies. `percent` may be set at any time, from any thread.

    Args:
        target: Where copies go: anything that is a target.
        percent: How many of a hundred requests are copied, 0 to 100.
        concurrency: How many copies may be under way at once, 1 or more; others are not made.
        seconds: How long a copy may take, above 0.
        on_end: Told the trace of each copy once it is over: its attempts, usage and cost. A plain
            function, which should return quickly.
    """

    target: Any = attrs.field(on_setattr=attrs.setters.frozen, repr=shown)
    percent: float = attrs.field(default=100.0, validator=number(0, 100))
    concurrency: int = attrs.field(
        default=8, validator=whole(1), on_setattr=attrs.setters.frozen, kw_only=True
    )
    seconds: float = attrs.field(
        default=SECONDS,
        converter=seconds,
        validator=span,
        on_setattr=attrs.setters.frozen,
        kw_only=True,
    )
    on_end: Callable[[Trace], object] | None = attrs.field(
        default=None, validator=_listener, on_setattr=attrs.setters.frozen, kw_only=True
    )

    def start(
        self, request: Request[Any], target: Target, call_next: Handler, board: Board
    ) -> None:
        """Perhaps send a copy. Returns at once and raises nothing.

        Args:
            request: What was sent, as the layer got it.
            target: Where the copy goes.
            call_next: The handler inside the layer.
            board: Where the copies under way are counted.
        """
        context = request.context
        percent = self.percent
        if percent == 0 or (percent < 100 and 100 * context.ports.random.random() >= percent):
            return
        why = "a copy would do it twice"
        if stateless(request):
            copy = request.detach("shadow", asked_by="route")
            until = copy.context.clock.now() + self.seconds
            copy = copy.evolve(context=copy.context.evolve(deadline=until))
            why = self._spawned(copy, target, call_next, board)
            if not why:
                call_id = copy.context.call_id
                context.note("route", "route.shadow", target=target.name, call_id=call_id)
                return
        context.note("route", "route.shadow_skipped", target=target.name, why=why)

    def _spawned(self, copy: Request[Any], target: Target, call_next: Handler, board: Board) -> str:
        """Start a copy; why not, if it was not."""
        trace = copy.context.trace
        if not board.cast(target.name, trace, self.concurrency):
            return "concurrency"
        try:
            copy.context.background.spawn(self._run, copy, target, call_next, board, name="shadow")
        except ClosedError:
            board.fade(target.name, trace)
            return "closing"
        return ""

    async def _run(
        self, request: Request[Any], target: Target, call_next: Handler, board: Board
    ) -> None:
        outcome = Outcome.COMPLETE
        try:
            response = await send(request, target, call_next)
            await response.collect()
        except BaseException as error:
            outcome = outcome_of(error)
            if not isinstance(error, Exception):
                raise
            # Its attempts are in its trace; a refusal before any attempt is in nobody else's.
            request.context.note("route", "route.shadow_failed", error=type(error).__name__)
        finally:
            board.fade(target.name, request.context.trace)
            await request.context.call.close(outcome)
            if self.on_end is not None:
                self.on_end(request.context.trace)


def shadow_of(given: Any) -> Shadow | None:
    """The shadow that an option asks for: a table, or a `Shadow`.

    Raises:
        ConfigurationError: If it is neither.
    """
    if given is None or isinstance(given, Shadow):
        return given
    if isinstance(given, Mapping):
        return build_option("shadow", Shadow, cast("Any", given))
    raise ConfigurationError(
        f"Route(shadow={given!r}): give a Shadow, or a table such as "
        "{'target': 'gpt-4o-mini', 'percent': 5}."
    )
