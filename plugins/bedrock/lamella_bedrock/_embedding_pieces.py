"""Embeddings of many texts: the requests that a model takes, asked at once within one attempt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio

from lamella._embeddings import EmbeddingRequest, EmbeddingResponse
from lamella._errors import LamellaError
from lamella_bedrock._models import ModelNames

EMBEDDINGS_AT_ONCE: Final = 8
"""Requests under way at once for one embedding request that had to be divided."""

_COHERE_BATCH: Final = 96


def pieces_of(request: EmbeddingRequest, names: ModelNames) -> tuple[EmbeddingRequest, ...]:
    """A request as those that the model takes; itself alone where it is small enough."""
    most = _COHERE_BATCH if names.family(request.model) == "cohere" else 1
    return (request,) if len(request.inputs) <= most else request.split(most)


async def answer_all(
    pieces: tuple[EmbeddingRequest, ...],
    ask: Callable[[EmbeddingRequest], Awaitable[EmbeddingResponse]],
) -> list[EmbeddingResponse]:
    """The answers to all, in order; the first error ends the others.

    Raises:
        LamellaError: The first error, with what the pieces that were answered have cost.
    """
    found: list[EmbeddingResponse | None] = [None] * len(pieces)
    left = iter(enumerate(pieces))
    failed: list[Exception] = []

    async def work(scope: anyio.CancelScope) -> None:
        for index, piece in left:
            try:
                found[index] = await ask(_keyed(piece, index))
            except Exception as error:  # noqa: BLE001 - it is raised below, and in no group
                failed.append(error)
                scope.cancel()
                return

    async with anyio.create_task_group() as group:
        for _ in range(min(EMBEDDINGS_AT_ONCE, len(pieces))):
            group.start_soon(work, group.cancel_scope)
    answers = [answer for answer in found if answer is not None]
    if failed:
        first = failed[0]
        raise _with_spent(first, answers) if isinstance(first, LamellaError) else first
    return answers


def _keyed(piece: EmbeddingRequest, index: int) -> EmbeddingRequest:
    """A piece under an idempotency key of its own, which promises that requests are the same."""
    context = piece.context
    key = context.idempotency_key
    if key is None:
        return piece
    return piece.evolve(context=context.evolve(idempotency_key=f"{key}/{index}"))


def _with_spent(error: LamellaError, answers: list[EmbeddingResponse]) -> LamellaError:
    """The error, with what the pieces that were answered have cost."""
    spent: Any = error.usage
    for answer in answers:
        if answer.usage is not None:
            spent = answer.usage if spent is None else spent + answer.usage
    return error if spent is None else error.copy(usage=spent)
