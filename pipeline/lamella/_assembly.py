"""What a pipeline is put together from: the things it is given, by name or themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lamella._errors import ConfigurationError
from lamella._fingerprints import mark, transport_inside
from lamella._fold import Step
from lamella._layers import must_be_async, name_of


def is_pipeline(item: object) -> bool:
    """Whether it is a pipeline, which is a handler and no transport."""
    from lamella._pipeline import Pipeline

    return isinstance(item, Pipeline)


def listed(layers: Any) -> Sequence[Any]:
    """The layers that were given, unless they are no list."""
    if isinstance(layers, str) or callable(layers):
        given = layers if isinstance(layers, str) else name_of(layers)
        msg = f"`layers` is a list, not {given!r}."
        raise ConfigurationError(msg, hint="Put the one layer into brackets: Pipeline([...]).")
    return tuple(layers)


def as_layer(item: Any) -> Any:
    """A layer from one, or from the name of a registered one."""
    if isinstance(item, str):
        from lamella._registry import registry

        item = registry().make("middlewares", item)
    if is_pipeline(item):
        msg = "A Pipeline stands among the layers."
        hint = (
            "A pipeline is a handler: give it as transport=, or as a target of Fallback or Route."
        )
        raise ConfigurationError(msg, hint=hint)
    must_be_async(item, name_of(item), "middleware")
    return item


def as_transport(item: Any) -> Any:
    """A transport from one, or from the name of a registered one."""
    if isinstance(item, str):
        from lamella._registry import registry

        return registry().make("transports", item)
    if not is_pipeline(item):
        must_be_async(item, name_of(item), "transport")
    return item


def place_of(transport: Any) -> Callable[[Any], tuple[str, Any] | None]:
    """Finds where a request goes: the name and the transport, None if that is a pipeline."""
    own = None if is_pipeline(transport) else (name_of(transport), transport)

    def place(request: Any) -> tuple[str, Any] | None:
        target = request.target
        if target is None or target.transport is None:
            return own
        return None if target.nested else (target.name, target.transport)

    return place


def terminal_of(transport: Any) -> Step:
    """The transport, unless a choose layer has sent the request elsewhere."""

    def terminal(request: Any) -> Any:
        target = request.target
        if target is None or target.transport is None:
            return transport(request)
        return target.transport(request)

    terminal.__name__ = name_of(transport)
    mark(terminal, transport_inside(transport))
    return terminal
