"""The choices among `SemanticCache`'s options that no other layer has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import attrs

from lamella import ConfigurationError, Packing, Request, Target
from lamella._keeping import of_table
from lamella._named_stores import layer_store
from lamella._options import is_number, refused
from lamella._target_forms import as_targets
from lamella_middlewares.semantic_cache._records import Keep, Similar

Verify: TypeAlias = Callable[[Request[Any], Similar], bool | Awaitable[bool]]


def keep(value: Any) -> Any:
    """A `Keep`, or the table of one."""
    return of_table("keep", Keep, value)


def packing(value: Any) -> Any:
    """A `Packing`, or the table of one."""
    return of_table("packing", Packing, value)


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


def verify(layer: Any, option: attrs.Attribute[Any], value: Any) -> None:
    """A function of the request and what was found, or None."""
    if value is not None and not callable(value):
        want = "a function of the request and what was found, plain or async, or None"
        raise refused(layer, option, value, want)


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
