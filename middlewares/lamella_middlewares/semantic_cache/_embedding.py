"""The vector of a question: a child call, which may fail without the call's failing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import anyio

from lamella import (
    ClosedError,
    DeadlineExceeded,
    EmbeddingRequest,
    EmbeddingResponse,
    Handler,
    Outcome,
    RefusedError,
    Request,
    Target,
)
from lamella._aside import AskedAside
from lamella._targets import send
from lamella_middlewares.semantic_cache._control import EXACT, LAYER

REST: Final = 10.0
"""Seconds between the tries while it fails."""


class Embedder(AskedAside):
    """Embeds questions; and what is known of the model that does."""

    __slots__ = ()
    kind = "embedder"
    rest = REST
    without = "SemanticCache finds nothing and keeps nothing"

    async def vector(
        self, request: Request[Any], text: str, target: Target, call_next: Handler, seconds: float
    ) -> tuple[Sequence[float] | None, str]:
        """The vector of a text, or why there is none.

        Args:
            request: For which it is wanted.
            text: What to embed.
            target: Who embeds it.
            call_next: The handler inside the layer.
            seconds: How long it may take; half of what is left of the deadline, if that is less.

        Raises:
            DeadlineExceeded: If the call's own deadline passes.
            ClosedError: If the pipeline closes meanwhile.
        """
        if not self.breaker.admits():
            return None, "left alone after failures"
        context = request.context
        began = self.monotonic()
        bound = min(seconds, max(context.left(), 0.0) / 2)
        why = f"not over in {bound:g} s"
        hurried = bound < seconds
        tells = not hurried  # whether it says something of the embedder, and not of the caller only
        with anyio.move_on_after(bound):
            try:
                asked = _asked(request, text)
                vector = _one(await (await send(asked, target, call_next)).collect())
            except Exception as error:
                if isinstance(error, DeadlineExceeded | ClosedError) and _is_over(request):
                    raise  # the call is over, and not only the embedding
                why = type(error).__name__
                refused = isinstance(error, RefusedError)  # by a layer: the caller's limits, say
                tells = not refused and not (hurried and isinstance(error, DeadlineExceeded))
            else:
                if vector is not None:
                    self.answered()
                    if _by_another(asked):
                        return None, "another one stood in"
                    return vector, ""
                why, tells = "it gave no vector", True
        if tells:
            self.failed(began, why)
        return None, why


def _asked(request: Request[Any], text: str) -> Request[EmbeddingResponse]:
    child = request.child(EmbeddingRequest.of(text), purpose="embedding", asked_by="semantic_cache")
    attributes = child.context.attributes
    if EXACT in attributes or LAYER in attributes:  # that was said of the request
        rest = {name: said for name, said in attributes.items() if name not in {EXACT, LAYER}}
        child = child.evolve(context=child.context.evolve(attributes=rest))
    return child


def _one(response: EmbeddingResponse) -> Sequence[float] | None:
    vectors = response.vectors
    if len(vectors) != 1 or not vectors[0]:
        return None
    largest = max(map(abs, vectors[0]))
    finite = all(map(math.isfinite, vectors[0]))
    return vectors[0] if finite and largest > 0 else None


def _by_another(asked: Request[Any]) -> bool:
    """Whether the vector is a substitute's: those of two models are not comparable."""
    context = asked.context
    return any(
        attempt.substitute and attempt.outcome is Outcome.COMPLETE
        for attempt in context.trace.of_turn(context.bound)
    )


def _is_over(request: Request[Any]) -> bool:
    return request.context.call.closing or request.context.left() <= 0
