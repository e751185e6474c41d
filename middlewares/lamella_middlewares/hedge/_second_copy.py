"""The second copy: of what request, and where it goes."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

import attrs

from lamella import Request
from lamella._provider_state import held_elsewhere, stripped
from lamella._target_fitness import Fitness
from lamella._targets import Target, send

if TYPE_CHECKING:
    from lamella import Handler
    from lamella_middlewares.hedge._middleware import Hedge


@attrs.frozen
class SecondCopy:
    """What would be sent.

    Attributes:
        request: The copy, on a branch of its own.
        target: Where to; None for wherever the layers inside send it.
        why: Why it cannot be sent; None if it can.
        parts: From how many parts state of another provider was left out.
    """

    request: Request[Any]
    target: Target | None = None
    why: str | None = None
    parts: int = 0

    def send(self, call_next: Handler) -> Awaitable[Any]:
        """Send it."""
        if self.target is None:
            return call_next(self.request)
        if self.parts:
            note = self.request.context.note
            note("hedge", "hedge.stripped", target=self.target.name, parts=self.parts)
        return send(self.request, self.target, call_next)


def second_copy(hedge: Hedge, request: Request[Any]) -> SecondCopy:
    """The second copy of a request, and the first target that can take it."""
    context = request.context
    key = context.idempotency_key
    copy = request.branch("hedge2", asked_by="hedge")
    if key is not None:
        # The key says that two requests are one; these are two, and both are to be answered.
        copy = copy.evolve(context=copy.context.evolve(idempotency_key=f"{key}/hedge2"))
    if not hedge.targets:
        return SecondCopy(copy)
    fitness, why = Fitness(copy), ""
    tried = {
        (attempt.provider, model)
        for attempt in context.trace.of_turn(context.bound)
        for model in (attempt.named_model, attempt.model)
    }
    for target in hedge.targets:
        if _place(copy, target) in tried:
            why = f"{target.name!r} has been asked already"
        else:
            reason = held_elsewhere(request, target) or fitness.unsuitable(target)
            if reason is None:
                copy, parts = stripped(copy, target)
                return SecondCopy(copy, target, parts=parts)
            why = f"{target.name!r}: {reason}"
    return SecondCopy(copy, why=why)


def _place(request: Request[Any], target: Target) -> tuple[str, str | None]:
    """Where a target's attempt would go, as the trace has it."""
    provider = request.context.provider if target.transport is None else target.name
    return provider, target.model or request.model
