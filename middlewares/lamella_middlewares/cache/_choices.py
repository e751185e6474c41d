"""The choices among `Cache`'s options that take more than one line to check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias, cast

import attrs

from lamella import MisuseError, Packing, Request
from lamella._options import is_async, refused
from lamella_middlewares.cache._control import LAYER
from lamella_middlewares.cache._records import Keep, Stale

When: TypeAlias = Literal["deterministic", "all"] | Callable[[Request[Any]], bool]
Tags: TypeAlias = tuple[str, ...] | Callable[[Request[Any]], Iterable[str]]

VARIES: Final = ("user", "session", "priority", "tags")

_NO_TAGS: Final[frozenset[str]] = frozenset()


def when(layer: Any, option: attrs.Attribute[Any], value: Any) -> None:
    """Which requests: two words, or a function."""
    if value in ("deterministic", "all") or (callable(value) and not is_async(value)):
        return
    want = '"deterministic", "all", or a plain function of the request'
    raise refused(layer, option, value, want)


def tenant(layer: Any, option: attrs.Attribute[Any], value: Any) -> None:
    """A tenant's name, or None."""
    if value is not None and (not isinstance(value, str) or not value):
        want = 'the tenant of requests that name none, such as "shared", or None to refuse them'
        raise refused(layer, option, value, want)


def namespace(layer: Any, option: attrs.Attribute[Any], value: Any) -> None:
    """Any text."""
    if not isinstance(value, str):
        raise refused(layer, option, value, "a text; the empty one is a namespace, too")


def listed(value: Any) -> Any:
    """One word, or several, as a tuple; functions as they are."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if hasattr(value, "__iter__") else value


def vary(layer: Any, option: attrs.Attribute[Any], value: Any) -> None:
    """Names of what a context has."""
    if value.__class__ is not tuple or any(name not in VARIES for name in value):
        raise refused(layer, option, value, f"names out of {', '.join(map(repr, VARIES))}")


def tags(layer: Any, option: attrs.Attribute[Any], value: Any) -> None:
    """Words, or a function that finds some."""
    if callable(value) and not is_async(cast("object", value)):
        return
    words: Any = value
    if words.__class__ is not tuple or not all(isinstance(tag, str) and tag for tag in words):
        raise refused(layer, option, value, "words, or a plain function of the request")


def stale(value: Any) -> Any:
    """A `Stale`, or the table of one."""
    return _record("stale", Stale, value)


def keep(value: Any) -> Any:
    """A `Keep`, or the table of one."""
    return _record("keep", Keep, value)


def packing(value: Any) -> Any:
    """A `Packing`, or the table of one."""
    return _record("packing", Packing, value)


def _record(option: str, kind: type[Any], value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    from lamella._structuring import build_option

    return build_option(option, kind, cast("Mapping[str, Any]", value))


def a(kind: type[Any]) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    """An object of a class."""

    def check(layer: Any, option: attrs.Attribute[Any], value: Any) -> None:
        if not isinstance(value, kind):
            want = f"{kind.__name__}(...), or a table of its options"
            raise refused(layer, option, value, want)

    return check


def store(value: Any) -> Any:
    """A store of the layer's own: itself, by name, or by a table; None for the pipeline's."""
    if value is None:
        return None
    from lamella._named_stores import layer_store

    return layer_store("Cache", "blobs", value)


def tags_of(layer: Any, request: Request[Any], more: tuple[str, ...]) -> frozenset[str]:
    """The words by which the answer to a request can be purged.

    Raises:
        MisuseError: If the layer's function gives something else.
    """
    chosen: Any = layer.tags
    if callable(chosen):
        chosen = listed(chosen(request))
        if chosen.__class__ is not tuple or not all(isinstance(tag, str) and tag for tag in chosen):
            raise MisuseError(
                f"Cache(tags=...): the function returned {_kinds(chosen)}.",
                hint="It is to return words, each a text that is not empty.",
                layer=LAYER,
            )
    return frozenset((*chosen, *more)) if chosen or more else _NO_TAGS


def _kinds(found: Any) -> str:
    """What was returned, without its content."""
    if found.__class__ is not tuple:
        return f"a {type(found).__name__}"
    return f"items of {', '.join(sorted({type(tag).__name__ for tag in found}))}, or an empty text"
