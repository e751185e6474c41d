"""What a target's prompt cache takes: how its transport tells the layer that makes use of it.

Providers bill less for the beginning of a request that they have seen before. Some keep it unasked;
some want to be told up to where, by marks in the request; some take a key that brings requests with
one beginning to one cache. Only the transport that a request goes to knows which.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from lamella._errors import MisuseError
from lamella._layers import name_of

if TYPE_CHECKING:
    from lamella._requests import Request

CACHE_MARK: Final = "cache_control"
"""In the `extra` of a part or tool: a prompt cache may keep the request up to its end. As Anthropic
spells it, `{"type": "ephemeral", "ttl": "5m"}`; each dialect writes it in its own way."""

LEAST_TOKENS: Final = 1_024
"""The least length of what most providers keep, where the model's card says no other."""

PLACES: Final = frozenset({"tools", "system", "messages"})
"""Where in a request marks may stand, in the order in which a model reads it."""


@attrs.frozen(kw_only=True)
class PromptCaching:
    """What one target takes for one request.

    Attributes:
        marks: How many marks a request may have; 0 for none.
        lifetimes: How long what is marked may be kept.
        places: Where marks may stand; see `PLACES`.
        texts_only: Whether marks stand on texts only: for a tool's result, on a text inside of it.
        results: Whether marks stand on tools' results, or on what is in them.
        minimum: How many tokens the beginning of a request must have to be kept.
        key_field: The field of `extra` that takes a key; None if there is none.
        retention_field: The field of `extra` that takes how long to keep all of it; None if there
            is none.
    """

    marks: int = 0
    lifetimes: tuple[str, ...] = ("5m",)
    places: frozenset[str] = PLACES
    texts_only: bool = False
    results: bool = True
    minimum: int = LEAST_TOKENS
    key_field: str | None = None
    retention_field: str | None = None


async def prompt_caching_of(transport: object, request: Request[Any]) -> PromptCaching | None:
    """What a transport says that the target of a request takes; None if it says nothing.

    A transport says so by an async method `prompt_caching(request)`. What is wrapped around another
    one, which it holds as its `transport`, may leave the answer to that; but nobody answers for a
    pipeline, whose layers may send the request to somebody else.

    Raises:
        MisuseError: If a transport gives something else than `PromptCaching` or None.
    """
    from lamella._pipeline import Pipeline

    while transport is not None and not isinstance(transport, Pipeline):
        ask: Any = getattr(transport, "prompt_caching", None)
        if ask is not None:
            found: object = await ask(request)
            if found is None or isinstance(found, PromptCaching):
                return found
            msg = f"{name_of(transport)}.prompt_caching gave a {type(found).__name__}."
            raise MisuseError(msg, hint="Give lamella.PromptCaching(...), or None.")
        transport = getattr(transport, "transport", None)
    return None
