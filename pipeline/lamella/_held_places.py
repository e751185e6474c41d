"""The places that a request holds already, so that it never waits for one of its own.

A layer may stand around a request several times: in a pipeline and in the one inside it, around an
answer and around a child that is asked while the answer is made. Who holds a place of a limit
further out, and has not given it back, needs no second one under the same limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar
from weakref import ref

from lamella._evolve import informed

if TYPE_CHECKING:
    from collections.abc import Hashable

    from lamella._context import Context
    from lamella._requests import Request
    from lamella._responses import Response

R = TypeVar("R", bound="Response")

HELD: Final = "lamella.held_places"
"""The attribute of the context with the places that layers outside hold, each under its mark."""


class Place(Protocol):
    """What is held."""

    @property
    def ended(self) -> bool:
        """Whether it has been given back."""
        ...


def held(context: Context, mark: Hashable) -> bool:
    """Whether the request holds a place of the limit with this mark, further out."""
    places: tuple[tuple[Hashable, Any], ...] = context.attributes.get(HELD, ())
    for other, reference in places:
        if other == mark:
            place: Place | None = reference()
            if place is not None and not place.ended:
                return True
    return False


def holding(request: Request[R], mark: Hashable, place: Place) -> Request[R]:
    """The request, which knows of its place."""
    # Weak: who remembers the context of a call must not keep its place.
    places: tuple[tuple[Hashable, Any], ...] = ((mark, ref(place)),)
    attributes = request.context.attributes
    if not attributes:  # nearly always
        attributes = {HELD: places}
    else:
        attributes = {**attributes, HELD: (*attributes.get(HELD, ()), *places)}
    return informed(request, "attributes", attributes)
