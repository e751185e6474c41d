"""The onion: layers folded around a transport.

One `reversed(...)` loop, made once for each kind of request and kept. It makes no task, no thread
and no context switch; a layer costs one call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from types import FunctionType
from typing import Any, TypeAlias

from lamella._boundary import attempt
from lamella._errors import LamellaError
from lamella._fingerprints import layer_inside, mark, marked
from lamella._layers import LayerInfo
from lamella._provided import remember
from lamella._responses import Response
from lamella._trace import Span

Step: TypeAlias = Callable[[Any], Awaitable[Any]]
"""A handler as the fold sees it: the types are checked where layers are given."""


def fold(
    layers: Sequence[tuple[Any, LayerInfo]],
    terminal: Step,
    place: Callable[[Any], tuple[str, Any] | None],
    *,
    timed: bool,
    size: int,
) -> Step:
    """Fold layers, outermost first, around a transport.

    Args:
        layers: Each with its declaration.
        terminal: The transport.
        place: Finds the transport that a request goes to, and what it is called there; None where
            that is a pipeline, which records its own attempts.
        timed: Whether each layer's time goes into the trace.
        size: How many layers the pipeline has, those that are not for such requests included.
    """
    wire = _wire(layers)
    handler, within = terminal, marked(terminal)
    known: dict[str, Any] = {}
    for depth in range(len(layers), -1, -1):
        inside = tuple([(info.name, layer) for layer, info in layers[depth:]])
        if depth < len(layers):
            layer, info = layers[depth]
            handler = _step(layer, handler, info.name)
            within = layer_inside(layer, info, within)
            if info.provides:
                known = {**known, **dict.fromkeys(info.provides, layer)}
            if timed:
                handler = _timed(handler, info.name, depth - size)
        if depth == wire:
            handler = _bounded(handler, place)
        if within is not None:
            mark(handler, within)
        remember(handler, known, inside)
    return handler


def _wire(layers: Sequence[tuple[Any, LayerInfo]]) -> int:
    """The depth at which the wire phase begins; a function of no phase may stand within it."""
    wire = len(layers)
    for depth in reversed(range(len(layers))):
        phase = layers[depth][1].phase
        if phase == "wire":
            wire = depth
        elif phase is not None:
            break
    return wire


def _step(layer: Callable[[Any, Step], Awaitable[Any]], call_next: Step, name: str) -> Step:
    # A method is called in half of the time of an object that has it.
    given: Any = layer
    method = isinstance(type(given).__call__, FunctionType)
    call: Callable[[Any, Step], Awaitable[Any]] = given.__call__ if method else given

    def step(request: Any) -> Awaitable[Any]:
        return call(request, call_next)

    step.__name__ = name
    return step


def _bounded(call_next: Step, place: Callable[[Any], tuple[str, Any] | None]) -> Step:
    def step(request: Any) -> Awaitable[Any]:
        found = place(request)
        return call_next(request) if found is None else attempt(request, call_next, *found)

    step.__name__ = call_next.__name__
    return step


def _timed(call_next: Step, name: str, place: int) -> Step:
    """A layer whose time is kept.

    Args:
        call_next: The layer.
        name: Its name.
        place: What to add to the depth of its pipeline's transport, to have its own; below 0.
    """

    async def step(request: Any) -> Response:
        context = request.context
        trace, attempt = context.trace, context.attempt
        start, cause = trace.now(), None
        try:
            return await call_next(request)  # type: ignore[no-any-return]
        except BaseException as error:
            cause = error.code or type(error).__name__ if isinstance(error, LamellaError) else None
            cause = cause or type(error).__name__
            raise
        finally:
            index = None if attempt is None else attempt.index
            span = Span(name, context.depth + place, start, trace.now(), cause, index)
            trace.spans.append(span)

    step.__name__ = name
    return step
