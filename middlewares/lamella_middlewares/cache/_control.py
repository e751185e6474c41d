"""What one request says about its being cached."""

from __future__ import annotations

from typing import Any, Final

import attrs

from lamella import Context, Response
from lamella._keeping_control import ControlReader, KeepingControl
from lamella._options import refused

LAYER: Final = "cache"
"""The layer's name, and the attribute of the context with what a request says."""


def _complete(control: Any, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not (isinstance(value, Response) and value.complete):
        raise refused(control, option, value, "a complete response, or None to ask the model")


@attrs.frozen
class CacheControl(KeepingControl):
    """What one request says to `Cache`, as `Context(attributes={"cache": CacheControl(...)})`.

    Args:
        mode: `"use"` takes a kept answer, or keeps the one that is given. `"bypass"` does neither.
            `"refresh"` asks and replaces what was kept. `"no_store"` takes a kept answer, and keeps
            nothing. `"only_if_cached"` takes a kept answer, or fails with `CacheMissError`.
        always: Whether it is cached whatever the layer's `when` says.
        ttl: Seconds, or a timedelta, for which its answer is fresh, above 0, instead of the layer's
            `ttl`; None is the layer's.
        max_age: Seconds, or a timedelta: a kept answer must be younger for this request, even where
            it is fresh or may be served stale. 0 takes none; None sets no such bound.
        tags: Words by which its answer can be purged, besides the layer's.
        answer: What is kept, and answered, where nothing is kept yet, instead of asking; None asks.

    Raises:
        ConfigurationError: If a value is wrong.
    """

    answer: Response | None = attrs.field(
        default=None, validator=_complete, kw_only=True, repr=False
    )


@attrs.frozen
class WarmingUp(CacheControl):
    """What a line says that warms the cache up: nobody looks for its answer, so none is counted."""


_reader: Final = ControlReader(LAYER, "Cache", CacheControl)

USE: Final = _reader.nothing

missing = _reader.missing


def control_of(context: Context) -> CacheControl:
    """What a request says; `USE` if it says nothing.

    Raises:
        MisuseError: If it says something else than can be said.
    """
    said: Any = context.attributes.get(LAYER)
    return USE if said is None else _reader.read(said)
