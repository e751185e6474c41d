"""What one request says to a layer that keeps answers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar, cast, get_args

import attrs

from lamella._errors import CacheMissError, ConfigurationError, MisuseError
from lamella._keeping import listed, words
from lamella._options import flag, is_number, one_of, optional_seconds, refused, span_or_none

Mode: TypeAlias = Literal["use", "bypass", "refresh", "no_store", "only_if_cached"]

MODES: Final[tuple[str, ...]] = get_args(Mode)


def _age(control: Any, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (not is_number(value) or value < 0):
        want = "seconds, a timedelta, 0 for no kept answer at all, or None for any that is fresh"
        raise refused(control, option, value, want)


@attrs.frozen
class KeepingControl:
    """What all such layers understand; each has a class of its own that says what it means there.

    Attributes:
        mode: Whether a kept answer is taken, and the one that is given kept.
        always: Whether the request is looked up whatever the layer's `when` says.
        ttl: Seconds for which its answer is fresh; None is the layer's.
        max_age: Seconds than which a kept answer must be younger; None sets no such bound.
        tags: Words by which its answer can be purged, besides the layer's.
    """

    mode: Mode = attrs.field(default="use", validator=one_of(*MODES))
    always: bool = attrs.field(default=False, validator=flag, kw_only=True)
    ttl: float | timedelta | None = attrs.field(
        default=None, converter=optional_seconds, validator=span_or_none, kw_only=True
    )
    max_age: float | timedelta | None = attrs.field(
        default=None, converter=optional_seconds, validator=_age, kw_only=True
    )
    tags: tuple[str, ...] = attrs.field(default=(), converter=listed, validator=words, kw_only=True)


C = TypeVar("C", bound=KeepingControl)


class ControlReader(Generic[C]):
    """Reads what requests say to one layer.

    Args:
        layer: Its name, which is the attribute of the context.
        called: Its class's name, for messages.
        kind: What can be said.
    """

    def __init__(self, layer: str, called: str, kind: type[C]) -> None:
        self.nothing = kind()
        self._layer = layer
        self._called = called
        self._kind = kind
        self._short: dict[Any, C] = {
            True: kind(always=True),
            False: kind("bypass"),
            **{word: kind(word) for word in get_args(Mode)},
        }

    def read(self, said: Any) -> C:
        """What is meant: True, False, a word, a table, or what can be said itself.

        Raises:
            MisuseError: If it is something else.
        """
        kind = said.__class__
        if kind is bool or kind is str:
            found = self._short.get(said)
            if found is not None:
                return found
        elif isinstance(said, self._kind):
            return said
        elif isinstance(said, Mapping):
            return self._of_table(cast("Mapping[str, Any]", said))
        raise self._misuse(f"{said!r}")

    def missing(self, why: str) -> CacheMissError:
        """The error of a request that may only be given a kept answer, and cannot."""
        return CacheMissError(
            f"Only a kept answer was wanted, and there is none: {why}.",
            hint='Leave out "only_if_cached" to have the model asked where nothing is kept.',
            code="cache_miss",
            layer=self._layer,
        )

    def _of_table(self, said: Mapping[str, Any]) -> C:
        try:
            return self._kind(**said)
        except ConfigurationError as error:
            raise self._misuse(f"a table that is wrong: {error.message}") from None
        except TypeError:
            names = ", ".join(sorted(map(str, said)))
            raise self._misuse(f"a table with {names}") from None

    def _misuse(self, what: str) -> MisuseError:
        return MisuseError(
            f'Context(attributes={{"{self._layer}": ...}}) says {what}, which {self._called} '
            "cannot understand.",
            hint=f"Say True, False, one of {', '.join(map(repr, MODES))}, or "
            f"{self._kind.__name__}(...).",
            layer=self._layer,
        )
