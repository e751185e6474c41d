"""What is limited: the parts of a request that make up a limit's key."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, cast

import attrs

from lamella import ConfigurationError, Request
from lamella._options import is_async

Key: TypeAlias = tuple[str, ...]
KeyFunction: TypeAlias = Callable[[Request[Any]], Key]

_PARTS: dict[str, Callable[[Request[Any]], str]] = {
    "provider": lambda request: request.context.provider,
    "model": lambda request: request.model or "",
    "tenant": lambda request: request.context.tenant or "",
    "user": lambda request: request.context.user or "",
    "session": lambda request: request.context.session or "",
}


def key_function(key: object) -> KeyFunction:
    """The function that `Concurrency(key=...)` asks for.

    Args:
        key: A word, several of them, or a plain function of the request that gives text.

    Raises:
        ConfigurationError: If it is none of these.
    """
    if callable(key):
        if is_async(key):
            msg = "Concurrency(key=...) was given an async function."
            raise ConfigurationError(msg, hint="Give a plain function of the request.")
        return _Asked(cast("Callable[[Request[Any]], object]", key))
    words: tuple[Any, ...] = ()
    if isinstance(key, str):
        words = (key,)
    elif isinstance(key, Iterable):
        words = tuple(key)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if not words or any(not isinstance(word, str) or word not in _PARTS for word in words):
        raise ConfigurationError(
            f"Concurrency(key={key!r}): give one or several of {', '.join(map(repr, _PARTS))}, or "
            "a plain function of the request that returns text."
        )
    return provider_and_model if words == ("provider", "model") else _Words(words)


def key_name(key: object) -> str:
    """What to call a key that `key_function` has taken: other parts must not meet under one name.

    Args:
        key: The option.
    """
    if callable(key):
        name = getattr(key, "__qualname__", type(key).__qualname__)
        return f"{getattr(key, '__module__', '')}.{name}"
    return key if isinstance(key, str) else "+".join(cast("Iterable[str]", key))


def provider_and_model(request: Request[Any]) -> Key:
    """The default, written out: it runs on every call."""
    return (request.context.provider, request.model or "")


@attrs.frozen
class _Words:
    """Parts of the request, by name. An object, so that the layer can be pickled."""

    words: Key

    def __call__(self, request: Request[Any]) -> Key:
        return tuple([_PARTS[word](request) for word in self.words])


@attrs.frozen
class _Asked:
    """What the user's function says."""

    function: Callable[[Request[Any]], object]

    def __call__(self, request: Request[Any]) -> Key:
        found = self.function(request)
        if not isinstance(found, str):
            msg = f"Concurrency(key=...) returned {type(found).__name__} for a request."
            raise ConfigurationError(msg, hint="It must return text, such as a team's name.")
        return (found,)
