"""Operations that batch: one request of many inputs, in pieces, and their answers put together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import attrs

from lamella._requests import Request
from lamella._responses import NO_HEAD, Head, Response
from lamella._usage import Usage

B = TypeVar("B", bound=Request[Any])


def pieces(request: B, inputs: Sequence[Any], size: int) -> tuple[B, ...]:
    """Requests of at most `size` of the inputs, together the same."""
    return tuple(
        [
            request.evolve(inputs=inputs[start : start + size])
            for start in range(0, len(inputs), size)
        ]
    )


def together(answers: Iterable[Response]) -> tuple[Usage | None, Head]:
    """What answers to the pieces used, replayed ones apart, and the head of the first."""
    usage: Usage | None = None
    head = NO_HEAD
    for answer in answers:
        if answer.usage is not None and not answer.head.cached:
            usage = answer.usage if usage is None else usage + answer.usage
        head = head if head is not NO_HEAD else answer.head
    return usage, attrs.evolve(head, raw=None)
