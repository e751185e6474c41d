"""For whom is counted: the parts of a request that make up the key of a limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias, cast

import attrs

from lamella._errors import ConfigurationError
from lamella._options import is_async
from lamella._requests import Request

Scope: TypeAlias = tuple[str, ...]
ScopeOf: TypeAlias = Callable[[Request[Any]], Scope]

PARTS: Final[dict[str, Callable[[Request[Any]], str]]] = {
    "provider": lambda request: request.context.provider,
    "model": lambda request: request.model or "",
    "tenant": lambda request: request.context.tenant or "",
    "user": lambda request: request.context.user or "",
    "session": lambda request: request.context.session or "",
}


def scope_of(layer: str, key: object) -> ScopeOf:
    """What a layer's option `key` asks for. Requests that do not say are counted together.

    Args:
        layer: The layer's class, for messages.
        key: A word, several of them, or a plain function of the request that gives text.

    Raises:
        ConfigurationError: If it is none of these.
    """
    if callable(key):
        if is_async(key):
            msg = f"{layer}(key=...) was given an async function."
            raise ConfigurationError(msg, hint="Give a plain function of the request.")
        return _Asked(layer, cast("Callable[[Request[Any]], object]", key))
    words = _words(key)
    if not words or any(not isinstance(word, str) or word not in PARTS for word in words):
        raise ConfigurationError(
            f"{layer}(key={key!r}): give one or several of {', '.join(map(repr, PARTS))}, or "
            "a plain function of the request that returns text."
        )
    return provider_and_model if words == ("provider", "model") else _Words(words)


def scope_name(key: object) -> str:
    """What to call a key that `scope_of` has taken: other parts must not meet under one name.

    Args:
        key: The option.
    """
    if callable(key):
        name = getattr(key, "__qualname__", type(key).__qualname__)
        return f"{getattr(key, '__module__', '')}.{name}"
    return "+".join(_words(key))


def provider_and_model(request: Request[Any]) -> Scope:
    """The commonest, written out: it runs on every call."""
    return (request.context.provider, request.model or "")


def _words(key: object) -> tuple[Any, ...]:
    if isinstance(key, str):
        return (key,)
    if isinstance(key, Iterable):
        return tuple(key)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return ()


@attrs.frozen
class _Words:
    """Parts of the request, by name. An object, so that the layer can be pickled."""

    words: Scope

    def __call__(self, request: Request[Any]) -> Scope:
        return tuple([PARTS[word](request) for word in self.words])


@attrs.frozen
class _Asked:
    """What the user's function says."""

    layer: str
    function: Callable[[Request[Any]], object]

    def __call__(self, request: Request[Any]) -> Scope:
        found = self.function(request)
        if not isinstance(found, str):
            msg = f"{self.layer}(key=...) returned {type(found).__name__} for a request."
            raise ConfigurationError(msg, hint="It must return text, such as a team's name.")
        return (found,)
