"""What one request says about its being compared with earlier ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from lamella import Context, MisuseError
from lamella._keeping_control import ControlReader, KeepingControl
from lamella._options import is_number, refused

LAYER: Final = "semantic_cache"
"""The layer's name, and the attribute of the context with what a request says."""

EXACT: Final = "cache"
"""The attribute with what a request says to an exact cache; what restricts that restricts this."""


def _threshold(control: Any, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (not is_number(value) or not 0 < value <= 1):
        raise refused(control, option, value, "a similarity above 0, at most 1, or None")


@attrs.frozen
class SemanticControl(KeepingControl):
    """What one request says to `SemanticCache`.

    Give it as `Context(attributes={"semantic_cache": SemanticControl(...)})`.

    Args:
        mode: `"use"` takes the answer to a similar question, or keeps the one that is given.
            `"bypass"` does neither, and embeds nothing. `"refresh"` asks, and keeps the answer
            instead of the one to the very same question. `"no_store"` takes an answer, and keeps
            none. `"only_if_cached"` takes an answer, or fails with `CacheMissError`.
        threshold: How near a question must be for this request, above 0, at most 1. It can only
            raise the layer's; None is the layer's.
        always: Whether it is compared whatever the layer's `when` says.
        ttl: Seconds, or a timedelta, for which its answer may be given, above 0, instead of the
            layer's `ttl`; None is the layer's.
        max_age: Seconds, or a timedelta, than which a kept answer must be younger for this request;
            0 takes none, None sets no such bound.
        tags: Words by which its answer can be purged, besides the layer's.

    Raises:
        ConfigurationError: If a value is wrong.
    """

    threshold: float | None = attrs.field(default=None, validator=_threshold, kw_only=True)


_reader: Final = ControlReader(LAYER, "SemanticCache", SemanticControl)

USE: Final = _reader.nothing

missing = _reader.missing

_SHARED: Final = ("mode", "ttl", "max_age", "tags")  # what both kinds of cache understand


def control_of(context: Context) -> SemanticControl:
    """What a request says; what it says to an exact cache, if it says nothing here.

    Raises:
        MisuseError: If it says something else than can be said.
    """
    attributes = context.attributes
    if not attributes:
        return USE
    said: Any = attributes.get(LAYER)
    return _exact(attributes.get(EXACT)) if said is None else _reader.read(said)


def _exact(said: Any) -> SemanticControl:
    """What restricts an exact cache: who wants a fresh answer wants none from here either.

    That a request is to be kept although it is not deterministic is not said of this layer, and
    what is wrong there is for that layer to say.
    """
    if said is None or said is True:
        return USE
    if isinstance(said, KeepingControl | Mapping):
        table: dict[str, Any] = {**said} if isinstance(said, Mapping) else _fields(said)
        found = {name: table.get(name) for name in _SHARED}
        said = {name: one for name, one in found.items() if one is not None}
    try:
        return _reader.read(said)
    except MisuseError:
        return USE


def _fields(said: KeepingControl) -> dict[str, Any]:
    return {name: getattr(said, name) for name in _SHARED}
