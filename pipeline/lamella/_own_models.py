"""The model that a request is for: its own word, or else that of the transport which sends it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lamella._nothing import NOTHING

if TYPE_CHECKING:
    from lamella._requests import Request


def model_of(request: Request[Any], transport: object) -> str | None:
    """The model that a transport sends a request to; None if nobody says.

    A transport has models for requests that name none: those of its `default_models`, by operation,
    and its `model` for the others. A request whose operation takes a model of its own kind (a
    moderation) never gets the latter.

    Args:
        request: The request.
        transport: What sends it; None where that is not known.
    """
    if request.model is not None:
        return request.model
    known: Mapping[str, object] = getattr(transport, "default_models", NOTHING)
    model = known.get(request.operation) if known else None
    if model is None and not request.own_model:
        model = getattr(transport, "model", None)
    return model if isinstance(model, str) else None
