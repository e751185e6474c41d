"""What the layers inside say of themselves at the end of a call: circuits, limits, queues."""

from __future__ import annotations

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


class State:
    """What each layer inside says, of those that can say so at once; nothing is waited for.

    How they are is asked when this is made, on the event loop. Their numbers may be those of a
    thousand limits, and take longer than a loop has: they are asked for where they are told.

    Args:
        call_next: The handler that the layer was given.
        ports: The call's.
    """

    __slots__ = ("_ports", "_rows", "_said")

    def __init__(self, call_next: Handler, ports: Ports) -> None:
        inside = layers_inside(call_next)
        self._said = [(name, layer, said_at_once(layer, ports)) for name, layer in inside]
        self._ports = ports
        self._rows: Rows | None = None

    def rows(self) -> Rows:
        """All of it, as it stands when this is called first. From any thread."""
        if self._rows is None:
            self._rows = []
            for name, layer, health in self._said:
                if health is not None:
                    self._rows.append((name, _health(health)))
                self._rows += [(name, said) for said in _levels(layer, self._ports)]
        return self._rows


def _health(health: PartHealth) -> str:
    well = {True: "well", False: "unwell", None: ""}[health.well]
    facts = [f"{key}={text_of(plain(value))}" for key, value in health.detail.items()]
    return "  ".join([word for word in (well, *facts) if word]) or "says nothing"


def _levels(layer: Any, ports: Ports) -> list[str]:
    """A layer's numbers, those of one limit or circuit in one line."""
    ask = getattr(layer, "readings", None)
    if ask is None:
        return []
    lines: dict[str, list[str]] = {}
    try:
        found: list[Reading] = list(ask(ports))
        for one in found:
            what = " ".join([word for word in (one.resource, one.provider, one.model) if word])
            lines.setdefault(what, []).append(f"{one.name}={one.value:g}")
    except Exception as error:  # noqa: BLE001 - who looks on harms nobody
        return [f"failed to say how full it is: {type(error).__name__}"]
    told = [f"{what}: {'  '.join(numbers)}" for what, numbers in lines.items()]
    left_out = len(told) - _MOST
    return told if left_out <= 0 else [*told[:_MOST], f"and {left_out} more"]
