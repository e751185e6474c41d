"""Watch: for people who only want to look."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar, cast

import anyio
import attrs

from lamella import (
    ConfigurationError,
    Context,
    Ending,
    Event,
    Finish,
    Handler,
    LamellaError,
    Outcome,
    Phase,
    Request,
    Response,
    middleware,
)
from lamella._options import is_async, refused

R = TypeVar("R", bound=Response)

RequestWatcher: TypeAlias = Callable[[Any], Awaitable[object] | object]
EventWatcher: TypeAlias = Callable[[Event], object]
ResponseWatcher: TypeAlias = Callable[[Any], Awaitable[object] | object]
ErrorWatcher: TypeAlias = Callable[[Any], Awaitable[object] | object]

WATCH_SECONDS = 0.5
"""How long an async watcher may take; then it is cancelled, and the request goes on."""

_NOT_FAILED = frozenset({Outcome.COMPLETE, Outcome.CANCELLED, Outcome.LEFT})


def _callable(watch: Any, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not callable(value):
        raise refused(watch, option, value, "a function, plain or async, or None")


def _plain(watch: Any, option: attrs.Attribute[Any], value: object) -> None:
    _callable(watch, option, value)
    if is_async(value):
        raise ConfigurationError(
            "Watch(on_event=...) was given an async function. Events pass synchronously: waiting "
            "for a watcher at each of them would hold up the stream.",
            hint="Give a plain function; let it put events into a queue that a task reads.",
        )


@middleware(phase="observe", rank=90)
@attrs.frozen(eq=False)
class Watch:
    """Calls functions of yours with what passes. They can look, and change nothing.

    A watcher that raises, or takes too long, is noted in the trace (`watch.failed`) and never
    disturbs the request. A caller who cancels or stops reading is no error.

    Args:
        on_request: Gets the request before it goes on. Plain or async.
        on_event: Gets each event as it passes, `Finish` last; those of a complete answer at once.
            Plain only. After it has raised once it is left out for the rest of that answer.
        on_response: Gets the response once it is complete. Plain or async.
        on_error: Gets the error of a request that failed, a copy of it where it is the library's
            own. Plain or async.
        phase: Where it stands for `arrange` and the checks of order; None is `"observe"`, the
            caller's view. `"wire"` sees what goes to the provider.

    An async watcher is waited for, at most half a second; `on_request` not past the deadline.
    """

    on_request: RequestWatcher | None = attrs.field(default=None, validator=_callable)
    on_event: EventWatcher | None = attrs.field(default=None, validator=_plain)
    on_response: ResponseWatcher | None = attrs.field(default=None, validator=_callable)
    on_error: ErrorWatcher | None = attrs.field(default=None, validator=_callable)
    phase: Phase | None = None

    def __attrs_post_init__(self) -> None:
        """Refuse to watch nothing."""
        hooks = (self.on_request, self.on_event, self.on_response, self.on_error)
        if all(hook is None for hook in hooks):
            raise ConfigurationError(
                "Watch() watches nothing.",
                hint="Give it a function: on_request=, on_event=, on_response= or on_error=.",
            )

    async def __call__(self, request: Request[R], call_next: Handler) -> R:
        """Pass the request on; the watchers see it, its events, and how it ends."""
        context = request.context
        if self.on_request is not None:
            # A deadline is not put off by somebody who looks.
            within = min(WATCH_SECONDS, context.left())
            await _tell(self.on_request, request, "on_request", context, within)
        try:
            response = await call_next(request)
        except Exception as error:
            await self._failed(error, context)
            raise
        tap = None
        if self.on_event is not None:
            tap = _Tap(self.on_event, context)
            if response.open:
                response = response.transform(tap)
            else:
                tap.see_all(response.events)
        await response.on_end(_Ended(self, response, context, tap))
        return response

    async def _failed(self, error: BaseException | None, context: Context) -> None:
        if self.on_error is None or not isinstance(error, Exception):
            return
        # A copy: what a watcher does to an error must not reach the caller.
        shown = error.copy() if isinstance(error, LamellaError) else error
        await _tell(self.on_error, shown, "on_error", context)

    async def ended(self, end: Ending, response: Response, context: Context) -> None:
        """An answer has ended after it was handed on."""
        if end.outcome is Outcome.COMPLETE:
            if self.on_response is not None:
                await _tell(self.on_response, response, "on_response", context)
        elif end.outcome not in _NOT_FAILED:
            await self._failed(end.error, context)


class _Ended:
    """Told of the end of one answer."""

    __slots__ = ("_context", "_response", "_tap", "_watch")

    def __init__(
        self, watch: Watch, response: Response, context: Context, tap: _Tap | None
    ) -> None:
        self._watch = watch
        self._response = response
        self._context = context
        self._tap = tap

    def __call__(self, end: Ending) -> Awaitable[None] | None:
        if self._tap is not None:
            self._tap.see_finish(end.events)
        if self._watch.on_response is None and self._watch.on_error is None:
            return None  # an async callback costs a shield
        return self._watch.ended(end, self._response, self._context)


class _Tap:
    """Lets events through as they are, and shows each to the watcher."""

    __slots__ = ("_broken", "_context", "_finished", "_watcher")

    def __init__(self, watcher: EventWatcher, context: Context) -> None:
        self._watcher = watcher
        self._context = context
        self._broken = False
        self._finished = False

    def feed(self, event: Event) -> Iterable[Event]:
        self.see(event)
        return (event,)

    def flush(self) -> Iterable[Event]:
        return ()

    def see_all(self, events: Iterable[Event]) -> None:
        """Show the events of an answer that is complete."""
        for event in events:
            self.see(event)

    def see_finish(self, events: Sequence[Event]) -> None:
        """Show the last event, which transforms are not fed."""
        if events and type(events[-1]) is Finish and not self._finished:
            self.see(events[-1])

    def see(self, event: Event) -> None:
        """Show one event; a watcher that has failed sees no more of them."""
        self._finished = self._finished or type(event) is Finish
        if self._broken:
            return
        try:
            found = self._watcher(event)
        except Exception as error:  # noqa: BLE001 - a watcher never disturbs the request
            self._broken = True
            _note(self._context, "on_event", type(error).__name__)
        else:
            if inspect.iscoroutine(found):
                cast("Coroutine[Any, Any, object]", found).close()
                self._broken = True
                _note(self._context, "on_event", "it returned a coroutine: give a plain function")


async def _tell(
    watcher: Callable[[Any], Awaitable[object] | object],
    what: object,
    hook: str,
    context: Context,
    within: float = WATCH_SECONDS,
) -> None:
    try:
        found = watcher(what)
        if not inspect.isawaitable(found):
            return
        with anyio.move_on_after(within) as scope:
            await found
        if scope.cancelled_caught:
            _note(context, hook, f"it took longer than {max(within, 0):.3g} s")
    except Exception as error:  # noqa: BLE001 - a watcher never disturbs the request
        _note(context, hook, type(error).__name__)


def _note(context: Context, hook: str, error: str) -> None:
    context.note("watch", "watch.failed", hook=hook, error=error)
