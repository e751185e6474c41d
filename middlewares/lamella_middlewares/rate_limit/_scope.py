"""For whom is counted: what of a request makes up the key of its limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias, cast

import attrs

from lamella import ConfigurationError, Request
from lamella._options import is_async

Scope: TypeAlias = tuple[str, ...]
ScopeOf: TypeAlias = Callable[[Request[Any]], Scope]

WORDS: Final[dict[str, Callable[[Request[Any]], str | None]]] = {
    "provider": lambda request: request.context.provider,
    "model": lambda request: request.model,
    "tenant": lambda request: request.context.tenant,
    "user": lambda request: request.context.user,
    "session": lambda request: request.context.session,
}


def scope_of(key: object, phase: str) -> ScopeOf:
    """What `RateLimit(key=...)` asks for.

    Args:
        key: A word, several of them, a plain function of the request, or None for the default.
        phase: Where the layer stands, which decides the default.

    Raises:
        ConfigurationError: If it is none of these.
    """
    if key is None:
        if phase in ("attempt", "wire"):
            return _provider_and_model
        return _Words(("tenant",))
    if callable(key):
        if is_async(key):
            msg = "RateLimit(key=...) was given an async function."
            raise ConfigurationError(msg, hint="Give a plain function of the request.")
        return _Asked(cast("Callable[[Request[Any]], object]", key))
    words: tuple[Any, ...] = ()
    if isinstance(key, str):
        words = (key,)
    elif isinstance(key, Iterable):
        words = tuple(key)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if not words or any(not isinstance(word, str) or word not in WORDS for word in words):
        raise ConfigurationError(
            f"RateLimit(key={key!r}): give one or several of {', '.join(map(repr, WORDS))}, or "
            "a plain function of the request that returns text."
        )
    return _Words(words)


def _provider_and_model(request: Request[Any]) -> Scope:
    return ("provider", request.context.provider, "model", request.model or "")


@attrs.frozen
class _Words:
    """Parts of the request by name, each behind its name: user `x` is not tenant `x`."""

    words: tuple[str, ...]

    def __call__(self, request: Request[Any]) -> Scope:
        scope: list[str] = []
        for word in self.words:
            scope += word, WORDS[word](request) or ""
        return tuple(scope)


@attrs.frozen
class _Asked:
    """What the user's function says."""

    function: Callable[[Request[Any]], object]

    def __call__(self, request: Request[Any]) -> Scope:
        found = self.function(request)
        if not isinstance(found, str):
            msg = f"RateLimit(key=...) returned {type(found).__name__} for a request."
            raise ConfigurationError(msg, hint="It must return text, such as a team's name.")
        return ("key", found)
