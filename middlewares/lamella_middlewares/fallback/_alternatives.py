"""Telling the layers inside whether this target is the last one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from lamella import Request, Target
from lamella._evolve import informed
from lamella._provider_state import held_elsewhere, stripped
from lamella._target_fitness import Fitness
from lamella_middlewares.fallback._visits import Visits

if TYPE_CHECKING:
    from lamella_middlewares.fallback._middleware import Fallback

Q = TypeVar("Q", bound=Request[Any])


def more_behind(request: Q, fallback: Fallback, targets: Sequence[Target]) -> Q:
    """The request with those further targets behind it, besides those of layers outside."""
    if not targets:
        return request
    known = partial(_any_suits, request, fallback, targets)
    return informed(request, "other_targets", (*request.context.other_targets, known))


def foreign_state(request: Request[Any], fallback: Fallback, target: Target | None) -> str | None:
    """What of a request keeps it from a target that is not the first; None if nothing does."""
    if target is fallback.primary:
        return None
    held = held_elsewhere(request, target)
    if held is None and fallback.state == "refuse" and stripped(request, target)[1]:
        return "it does not understand state in the conversation"
    return held


def _any_suits(request: Request[Any], fallback: Fallback, targets: Sequence[Target]) -> bool:
    """Whether one of the targets could be asked now, as far as that is known without reading."""
    visits = Visits(request)
    fitness = Fitness(request, fallback.book, require=fallback.require)
    return any(
        foreign_state(request, fallback, target) is None
        and (not fitness.at_hand or fitness.unsuitable(target) is None)
        and visits.asked_already(target) is None
        for target in targets
    )
