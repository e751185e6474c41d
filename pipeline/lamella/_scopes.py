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


_TAG: Final = "tag:"

_CALLER_KEY: Final = "key"
"""The key with which the caller was let in: whoever lets it in puts the key's name, which is no
secret, into the tag of this name."""


def scope_of(layer: str, key: object, *, option: str = "key") -> ScopeOf:
    """What a layer's option asks for. Requests that do not say are counted together.

    Args:
        layer: The layer's class, for messages.
        key: A word, several of them, or a plain function of the request that gives text. Words are
            those of `PARTS`, `"tag:NAME"` for a tag of the context, and `"key"` for the tag `key`.
        option: The option's name, for messages.

    Raises:
        ConfigurationError: If it is none of these.
    """
    if callable(key):
        if is_async(key):
            msg = f"{layer}({option}=...) was given an async function."
            raise ConfigurationError(msg, hint="Give a plain function of the request.")
        return _Asked(layer, cast("Callable[[Request[Any]], object]", key), option)
    words = _words(key)
    if not words or not all(map(_known, words)):
        raise ConfigurationError(
            f"{layer}({option}={key!r}): give one or several of {', '.join(map(repr, PARTS))}, "
            "'tag:NAME' and 'key', or a plain function of the request that returns text."
        )
    return provider_and_model if words == ("provider", "model") else _Words(words)


def scope_words(key: object) -> Scope:
    """What the parts are called of a key that `scope_of` has taken: those of its scopes, in order.

    Args:
        key: The option.
    """
    if callable(key):
        return (getattr(key, "__name__", type(key).__name__),)
    return _words(key)


def scope_name(key: object) -> str:
    """What to call a key that `scope_of` has taken: other parts must not meet under one name.

    Args:
        key: The option.
    """
    if callable(key):
        name = getattr(key, "__qualname__", type(key).__qualname__)
        return f"{getattr(key, '__module__', '')}.{name}"
    return "+".join(_words(key))


def shown_scope(key: object, scope: Scope) -> str:
    """What a scope is called where everybody may see it, out of a bounded number.

    Providers and models go by their names; tenants, users, sessions and what a function makes up
    all go by the name of the key.

    Args:
        key: The option.
        scope: What it gave for a request.
    """
    if callable(key) or not {"provider", "model"}.issuperset(_words(key)):
        return scope_name(key)
    return "/".join(scope)


def provider_and_model(request: Request[Any]) -> Scope:
    """The commonest, written out: it runs on every call."""
    return (request.context.provider, request.model or "")


def _words(key: object) -> tuple[Any, ...]:
    if isinstance(key, str):
        return (key,)
    if isinstance(key, Iterable):
        return tuple(key)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return ()


def _known(word: object) -> bool:
    if not isinstance(word, str):
        return False
    return word in PARTS or word == _CALLER_KEY or (word.startswith(_TAG) and word != _TAG)


def _parts_of(words: _Words) -> tuple[Callable[[Request[Any]], str], ...]:
    return tuple([PARTS.get(word) or _Tag(word.removeprefix(_TAG)) for word in words.words])


@attrs.frozen
class _Words:
    """Parts of the request, by name. An object, so that the layer can be pickled."""

    words: Scope
    _parts: tuple[Callable[[Request[Any]], str], ...] = attrs.field(
        init=False, eq=False, repr=False, default=attrs.Factory(_parts_of, takes_self=True)
    )

    def __call__(self, request: Request[Any]) -> Scope:
        return tuple([part(request) for part in self._parts])

    def __reduce__(self) -> tuple[type[_Words], tuple[Scope]]:
        return _Words, (self.words,)


@attrs.frozen
class _Tag:
    """A tag of the request."""

    name: str

    def __call__(self, request: Request[Any]) -> str:
        return request.context.tags.get(self.name, "")


@attrs.frozen
class _Asked:
    """What the user's function says."""

    layer: str
    function: Callable[[Request[Any]], object]
    option: str = "key"

    def __call__(self, request: Request[Any]) -> Scope:
        found = self.function(request)
        if not isinstance(found, str):
            msg = f"{self.layer}({self.option}=...) returned {type(found).__name__} for a request."
            raise ConfigurationError(msg, hint="It must return text, such as a team's name.")
        return (found,)
