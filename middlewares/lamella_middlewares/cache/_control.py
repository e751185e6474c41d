"""What one request says about its being cached."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, Literal, TypeAlias, cast, get_args

import attrs

from lamella import CacheMissError, ConfigurationError, Context, MisuseError, Response
from lamella._options import flag, is_number, one_of, optional_seconds, refused, span_or_none

LAYER: Final = "cache"
"""The layer's name, and the attribute of the context with what a request says."""

Mode: TypeAlias = Literal["use", "bypass", "refresh", "no_store", "only_if_cached"]

MODES: Final[tuple[str, ...]] = get_args(Mode)


def _age(control: Any, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (not is_number(value) or value < 0):
        want = "seconds, a timedelta, 0 for no kept answer at all, or None for any that is fresh"
        raise refused(control, option, value, want)


def _words(value: Any) -> Any:
    if isinstance(value, str):
        return (value,)
    return tuple(value) if hasattr(value, "__iter__") else value


def _texts(control: Any, option: attrs.Attribute[Any], value: Any) -> None:
    if value.__class__ is not tuple or any(not isinstance(word, str) or not word for word in value):
        raise refused(control, option, value, "a list of words, none of them empty")


def _complete(control: Any, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not (isinstance(value, Response) and value.complete):
        raise refused(control, option, value, "a complete response, or None to ask the model")


@attrs.frozen
class CacheControl:
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

    mode: Mode = attrs.field(default="use", validator=one_of(*MODES))
    always: bool = attrs.field(default=False, validator=flag, kw_only=True)
    ttl: float | timedelta | None = attrs.field(
        default=None, converter=optional_seconds, validator=span_or_none, kw_only=True
    )
    max_age: float | timedelta | None = attrs.field(
        default=None, converter=optional_seconds, validator=_age, kw_only=True
    )
    tags: tuple[str, ...] = attrs.field(
        default=(), converter=_words, validator=_texts, kw_only=True
    )
    answer: Response | None = attrs.field(
        default=None, validator=_complete, kw_only=True, repr=False
    )


@attrs.frozen
class WarmingUp(CacheControl):
    """What a line says that warms the cache up: nobody looks for its answer, so none is counted."""


USE: Final = CacheControl()
ALWAYS: Final = CacheControl(always=True)
BYPASS: Final = CacheControl("bypass")

_SHORT: Final[dict[Any, CacheControl]] = {
    True: ALWAYS,
    False: BYPASS,
    **{word: CacheControl(word) for word in get_args(Mode)},
}


def control_of(context: Context) -> CacheControl:
    """What a request says; `USE` if it says nothing.

    Raises:
        MisuseError: If it says something else than can be said.
    """
    said: Any = context.attributes.get(LAYER)
    if said is None:
        return USE
    kind = said.__class__
    if kind is CacheControl or kind is WarmingUp:
        return said  # type: ignore[no-any-return]
    if kind is bool or kind is str:
        found = _SHORT.get(said)
        if found is not None:
            return found
    if isinstance(said, Mapping):
        return _of_table(cast("Mapping[str, Any]", said))
    raise _misuse(f"{said!r}")


def _of_table(said: Mapping[str, Any]) -> CacheControl:
    try:
        return CacheControl(**said)
    except ConfigurationError as error:
        raise _misuse(f"a table that is wrong: {error.message}") from None
    except TypeError:
        names = ", ".join(sorted(map(str, said)))
        raise _misuse(f"a table with {names}") from None


def _misuse(what: str) -> MisuseError:
    words = ", ".join(map(repr, MODES))
    return MisuseError(
        f'Context(attributes={{"cache": ...}}) says {what}, which Cache cannot understand.',
        hint=f"Say True, False, one of {words}, or CacheControl(...).",
        layer=LAYER,
    )


def missing(why: str) -> CacheMissError:
    """The error of a request that may only be answered from the cache, and cannot."""
    return CacheMissError(
        f"Only a kept answer was wanted, and there is none: {why}.",
        hint='Ask with CacheControl("use"), which calls the model where nothing is kept.',
        code="cache_miss",
        layer=LAYER,
    )
