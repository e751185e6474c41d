"""What the layers inside provide to a layer, by name.

Layers never know each other. One that needs what another kind of layer can say (what a request will
be billed by) names it; whoever stands inside and provides that name is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lamella._nothing import NOTHING

_MARK: Final = "__lamella_provided__"
_INSIDE: Final = "__lamella_stack_inside__"


def provided(call_next: Any, name: str) -> Any:
    """The nearest layer inside that declares to provide a name; None if there is none.

    Args:
        call_next: The handler that the layer was given.
        name: What is needed.
    """
    found: Mapping[str, Any] = getattr(call_next, _MARK, NOTHING)
    return found.get(name)


def layers_inside(call_next: Any) -> Sequence[tuple[str, Any]]:
    """The layers that a request still passes in this pipeline, outermost first, by name.

    It is for who shows them (their state, their options), not for who needs one: see `provided`.

    Args:
        call_next: The handler that the layer was given.
    """
    found: Sequence[tuple[str, Any]] = getattr(call_next, _INSIDE, ())
    return found


def remember(handler: Any, known: Mapping[str, Any], inside: Sequence[tuple[str, Any]]) -> None:
    """Remember what is provided inside a handler; the core does this where it folds."""
    if known:
        setattr(handler, _MARK, known)
    if inside:
        setattr(handler, _INSIDE, inside)
