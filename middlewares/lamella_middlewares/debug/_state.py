"""What the layers inside say of themselves at the end of a call: circuits, limits, queues."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from lamella import Handler, PartHealth
from lamella._health import said_at_once
from lamella._provided import layers_inside
from lamella._trace_forms import plain, text_of

if TYPE_CHECKING:
    from lamella import Ports
    from lamella._readings import Reading
    from lamella_middlewares.debug._outline import Rows

_MOST: Final = 10
"""Of one layer: a limit for each of a thousand tenants is no help to read."""


def state_rows(call_next: Handler, ports: Ports) -> Rows:
    """What each layer inside says, of those that can say so at once; nothing is waited for.

    Args:
        call_next: The handler that the layer was given.
        ports: The call's.
    """
    rows: Rows = []
    for name, layer in layers_inside(call_next):
        health = said_at_once(layer, ports)
        if health is not None:
            rows.append((name, _health(health)))
        rows += [(name, said) for said in _levels(layer, ports)]
    return rows


def _health(health: PartHealth) -> str:
    well = {True: "well", False: "unwell", None: ""}[health.well]
    facts = [f"{key}={text_of(plain(value))}" for key, value in health.detail.items()]
    return "  ".join([word for word in (well, *facts) if word]) or "says nothing"


def _levels(layer: Any, ports: Ports) -> Iterable[str]:
    """A layer's numbers, those of one limit or circuit in one line."""
    ask = getattr(layer, "readings", None)
    if ask is None:
        return []
    try:
        found: list[Reading] = list(ask(ports))
    except Exception as error:  # noqa: BLE001 - who looks on harms nobody
        return [f"failed to say how full it is: {type(error).__name__}"]
    lines: dict[str, list[str]] = {}
    for one in found:
        what = " ".join([word for word in (one.resource, one.provider, one.model) if word])
        lines.setdefault(what, []).append(f"{one.name}={one.value:g}")
    told = [f"{what}: {'  '.join(numbers)}" for what, numbers in lines.items()]
    left_out = len(told) - _MOST
    return told if left_out <= 0 else [*told[:_MOST], f"and {left_out} more"]
