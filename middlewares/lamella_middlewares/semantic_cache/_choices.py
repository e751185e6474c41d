"""The choices among `SemanticCache`'s options that take more than one line to check."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias, cast

import attrs

from lamella import ConfigurationError, MisuseError, Packing, Request, Target
from lamella._named_stores import layer_store
from lamella._options import is_async, is_number, refused
from lamella._structuring import build_option
from lamella._target_forms import as_targets
from lamella_middlewares.semantic_cache._control import LAYER
from lamella_middlewares.semantic_cache._records import Keep, Similar

When: TypeAlias = Literal["deterministic", "all"] | Callable[[Request[Any]], bool]
Tags: TypeAlias = tuple[str, ...] | Callable[[Request[Any]], Iterable[str]]
Verify: TypeAlias = Callable[[Request[Any], Similar], bool | Awaitable[bool]]

VARIES: Final = ("user", "session", "priority", "tags")


def embedder(layer: Any) -> tuple[Target, ...]:
    """The target that embeds; one."""
    found = as_targets(layer.embed, "embed")
    if len(found) != 1:
        raise ConfigurationError(f"SemanticCache(embed=...) takes one embedder, not {len(found)}.")
    return found


def threshold(layer: Any, option: attrs.Attribute[Any], value: Any) -> None:
    """A similarity."""
    if not is_number(value) or not 0 < value <= 1:
        raise refused(layer, option, value, "a similarity above 0, at most 1, such as 0.95")


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


def verify(layer: Any, option: attrs.Attribute[Any], value: Any) -> None:
    """A function of the request and what was found, or None."""
    if value is not None and not callable(value):
        want = "a function of the request and what was found, plain or async, or None"
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
    if callable(value) and not is_async(value):
        return
    words: Any = value
    if words.__class__ is not tuple or not all(isinstance(tag, str) and tag for tag in words):
        raise refused(layer, option, value, "words, or a plain function of the request")


def keep(value: Any) -> Any:
    """A `Keep`, or the table of one."""
    return build_option("keep", Keep, cast("Any", value)) if isinstance(value, Mapping) else value


def packing(value: Any) -> Any:
    """A `Packing`, or the table of one."""
    return (
        build_option("packing", Packing, cast("Any", value))
        if isinstance(value, Mapping)
        else value
    )


def a(kind: type[Any]) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    """An object of a class."""

    def check(layer: Any, option: attrs.Attribute[Any], value: Any) -> None:
        if not isinstance(value, kind):
            want = f"{kind.__name__}(...), or a table of its options"
            raise refused(layer, option, value, want)

    return check


def store(value: Any) -> Any:
    """A store of the layer's own: itself, by name, or by a table; None for the pipeline's."""
    return None if value is None else layer_store("SemanticCache", "blobs", value)


def index(value: Any) -> Any:
    """An index, likewise; None for vectors in memory, which need numpy.

    Raises:
        ConfigurationError: If that is not installed.
    """
    if value is not None:
        return layer_store("SemanticCache", "vectors", value)
    from importlib.util import find_spec

    if find_spec("numpy") is None:
        raise ConfigurationError(
            "SemanticCache compares vectors with numpy, which is not installed.",
            hint="Run: pip install 'lamella[semantic]'; or give another index: index=...",
        )
    return None


def tags_of(layer: Any, request: Request[Any], more: tuple[str, ...]) -> frozenset[str]:
    """The words by which the answer to a request can be purged.

    Raises:
        MisuseError: If the layer's function gives something else.
    """
    chosen: Any = layer.tags
    if callable(chosen):
        found: Any = chosen(request)
        chosen = (found,) if isinstance(found, str) else tuple(found) if found else ()
        if not all(isinstance(tag, str) and tag for tag in chosen):
            kinds = sorted({type(tag).__name__ for tag in chosen})
            raise MisuseError(
                f"SemanticCache(tags=...): the function gave {', '.join(kinds)} (or empty text).",
                hint="It is to return words, each a text that is not empty.",
                layer=LAYER,
            )
    return frozenset((*chosen, *more))
