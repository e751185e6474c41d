"""Embeddings as providers answer them: what stands for a vector, and what an answer amounts to."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence
from typing import Any

from lamella._embeddings import EmbeddingRequest
from lamella._events import Event, Finish, UsageReport, Vector
from lamella._usage import Usage
from lamella.transports._estimated_usage import estimated_tokens
from lamella.transports._wire_json import is_list, nonsense


def numbers(given: Any, *, provider: str, usage: Usage | None = None) -> tuple[float, ...]:
    """The coordinates in a JSON array.

    Args:
        given: What stands where a vector belongs.
        provider: Who sent it.
        usage: What the answer has cost, for the error.

    Raises:
        ProtocolError: If it is no array, is empty, or holds anything but finite numbers.
    """
    if is_list(given) and set(map(type, given)) <= {int, float}:  # a bool is of another type
        with contextlib.suppress(OverflowError):
            return finite(map(float, given), provider=provider, usage=usage)
    raise nonsense("a vector", "something else than numbers", provider=provider, usage=usage)


def finite(
    given: Iterable[float], *, provider: str, usage: Usage | None = None
) -> tuple[float, ...]:
    """The coordinates, which are at least one, and finite: an index cannot compare others.

    Raises:
        ProtocolError: If there are none, or one is infinite or no number.
    """
    vector = tuple(given)
    if not vector or not all(map(math.isfinite, vector)):
        found = "something else than numbers" if vector else "nothing"
        raise nonsense("a vector", found, provider=provider, usage=usage)
    return vector


def vector_events(
    vectors: Sequence[Vector],
    request: EmbeddingRequest | None,
    usage: Usage | None,
    *,
    provider: str,
) -> list[Event]:
    """The events of an answer: its vectors, what was consumed, the end.

    Args:
        vectors: One for each input, in their order.
        request: What was asked. With it, the number of vectors is checked, and usage that the
            provider left out is estimated.
        usage: What the provider states.
        provider: Who sent it.

    Raises:
        ProtocolError: If there are more or fewer vectors than inputs.
    """
    if request is not None:
        if len(vectors) != len(request.inputs):
            found = f"{len(vectors)} vectors for {len(request.inputs)} inputs"
            raise nonsense("an answer", found, provider=provider, usage=usage)
        usage = usage or Usage(uncached_input=estimated_tokens(request.inputs), estimated=True)
    report = [UsageReport(usage)] if usage is not None else []
    return [*vectors, *report, Finish("stop")]
