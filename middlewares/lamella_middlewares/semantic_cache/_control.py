"""What one request says about its being compared with earlier ones."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final, Literal, TypeAlias, cast, get_args

import attrs

from lamella import ConfigurationError, Context, MisuseError
from lamella._options import flag, is_number, one_of, optional_seconds, refused, span_or_none

LAYER: Final = "semantic_cache"
"""The layer's name, and the attribute of the context with what a request says."""

EXACT: Final = "cache"
"""The attribute with what a request says to an exact cache; what restricts that restricts this."""

Mode: TypeAlias = Literal["use", "bypass", "refresh", "no_store", "only_if_cached"]

MODES: Final[tuple[str, ...]] = get_args(Mode)


def _age(control: Any, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (not is_number(value) or value < 0):
        want = "seconds, a timedelta, 0 for no kept answer at all, or None for any that is fresh"
        raise refused(control, option, value, want)


def _threshold(control: Any, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (not is_number(value) or not 0 < value <= 1):
        raise refused(control, option, value, "a similarity above 0, at most 1, or None")


def _words(value: Any) -> Any:
    if isinstance(value, str):
        return (value,)
    return tuple(value) if hasattr(value, "__iter__") else value


def _texts(control: Any, option: attrs.Attribute[Any], value: Any) -> None:
    if value.__class__ is not tuple or any(not isinstance(word, str) or not word for word in value):
        raise refused(control, option, value, "a list of words, none of them empty")


@attrs.frozen
class SemanticControl:
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

    mode: Mode = attrs.field(default="use", validator=one_of(*MODES))
    threshold: float | None = attrs.field(default=None, validator=_threshold, kw_only=True)
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


USE: Final = SemanticControl()

_SHARED: Final = ("mode", "ttl", "max_age", "tags")  # what both kinds of cache understand

_SHORT: Final[dict[Any, SemanticControl]] = {
    True: SemanticControl(always=True),
    False: SemanticControl("bypass"),
    **{word: SemanticControl(word) for word in get_args(Mode)},
}


def control_of(context: Context) -> SemanticControl:
    """What a request says; what it says to an exact cache, if it says nothing here.

    Raises:
        MisuseError: If it says something else than can be said.
    """
    attributes = context.attributes
    if not attributes:
        return USE
    said: Any = attributes.get(LAYER)
    if said is None:
        return _exact(attributes.get(EXACT))
    kind = said.__class__
    if kind is SemanticControl:
        return said  # type: ignore[no-any-return]
    if kind is bool or kind is str:
        found = _SHORT.get(said)
        if found is not None:
            return found
    if isinstance(said, dict):
        return _of_table(cast("dict[str, Any]", said))
    raise _misuse(f"{said!r}")


def _exact(said: Any) -> SemanticControl:
    """What restricts an exact cache: who wants a fresh answer wants none from here either.

    That a request is to be kept although it is not deterministic is not said of this layer, and
    what is wrong there is for that layer to say.
    """
    if said is None or said is True:
        return USE
    if isinstance(said, str | bool):
        return _SHORT.get(said, USE)
    table: dict[str, Any] = {**said} if said.__class__ is dict else _fields(said)
    found = {name: table.get(name) for name in _SHARED}
    try:
        return SemanticControl(**{name: one for name, one in found.items() if one is not None})
    except (ConfigurationError, TypeError):
        return USE


def _fields(said: object) -> dict[str, Any]:
    return {name: getattr(said, name, None) for name in _SHARED}


def _of_table(said: dict[str, Any]) -> SemanticControl:
    try:
        return SemanticControl(**said)
    except ConfigurationError as error:
        raise _misuse(f"a table that is wrong: {error.message}") from None
    except TypeError:
        names = ", ".join(sorted(map(str, said)))
        raise _misuse(f"a table with {names}") from None


def _misuse(what: str) -> MisuseError:
    words = ", ".join(map(repr, MODES))
    return MisuseError(
        f'Context(attributes={{"semantic_cache": ...}}) says {what}, which SemanticCache cannot '
        "understand.",
        hint=f"Say True, False, one of {words}, or SemanticControl(...).",
        layer=LAYER,
    )
