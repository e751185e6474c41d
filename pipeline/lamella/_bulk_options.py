"""How many rows are run: the options of `Pipeline.map`, checked before anything begins."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeAlias, TypedDict, TypeVar

import attrs

from lamella._bulk_pace import Adaptive, Fixed
from lamella._money import Money
from lamella._options import flag, one_of, optional_seconds, refused, span_or_none, whole
from lamella._requests import Request
from lamella._responses import Response
from lamella._sqlite_paths import absolute, usable

if TYPE_CHECKING:
    from lamella._bulk_pace import Pace
    from lamella._bulk_report import MapProgress
    from lamella._chat import ChatRequest

R = TypeVar("R", bound=Response)

Rows: TypeAlias = (
    Iterable[Request[R]]
    | AsyncIterable[Request[R]]
    | Iterable[tuple[str | int, Request[R]]]
    | AsyncIterable[tuple[str | int, Request[R]]]
)
"""Rows that are requests of one operation."""
_Given: TypeAlias = Mapping[str, Any] | str
AnyRows: TypeAlias = (
    Iterable[_Given]
    | AsyncIterable[_Given]
    | Iterable[tuple[str | int, _Given]]
    | AsyncIterable[tuple[str | int, _Given]]
)
"""Rows that are prompts or mappings."""

MOST: Final = 256
"""Rows under way at once at most, where the number adapts."""


def _places(options: object, option: attrs.Attribute[Any], value: Any) -> None:
    right = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if value != "adaptive" and not right:
        raise refused(options, option, value, "a whole number, 1 or more, or 'adaptive'")


def _ceiling(options: object, option: attrs.Attribute[Any], value: Any) -> None:
    if value is None:
        return
    if isinstance(value, Money):
        right = value.nano > 0
    else:
        right = isinstance(value, int) and not isinstance(value, bool) and value > 0
    if not right:
        want = "money above nothing, such as Money.of('5'), a number of tokens above 0, or None"
        raise refused(options, option, value, want)


def _defaults(options: object, option: attrs.Attribute[Any], value: Any) -> None:
    from lamella._chat import ChatRequest

    if value is not None and not isinstance(value, ChatRequest):
        want = "a ChatRequest, with what holds where a row is silent"
        raise refused(options, option, type(value).__name__, want)


def _journal(options: object, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None:
        usable("map() without a journal")(options, option, value)


class MapGiven(TypedDict, total=False):
    """The options as they are given; see `Pipeline.map`."""

    journal: str | Path | None
    concurrency: int | Literal["adaptive"]
    max_concurrency: int
    returns: Any
    defaults: ChatRequest | None
    budget: Money | int | None
    row_timeout: float | timedelta | None
    retry_failed: bool
    changed: Literal["refuse", "again"]
    restart: bool
    total: int | None
    on_progress: Callable[[MapProgress], object] | None


@attrs.frozen(kw_only=True)
class MapOptions:
    """The options; see `Pipeline.map` for each."""

    written_as: ClassVar[str] = "map("

    journal: Path | None = attrs.field(default=None, converter=absolute, validator=_journal)
    concurrency: int | Literal["adaptive"] = attrs.field(default="adaptive", validator=_places)
    max_concurrency: int = attrs.field(default=MOST, validator=whole(1))
    returns: Any = None
    defaults: ChatRequest | None = attrs.field(default=None, validator=_defaults, repr=False)
    budget: Money | int | None = attrs.field(default=None, validator=_ceiling)
    row_timeout: float | timedelta | None = attrs.field(
        default=None, converter=optional_seconds, validator=span_or_none
    )
    retry_failed: bool = attrs.field(default=False, validator=flag)
    changed: Literal["refuse", "again"] = attrs.field(
        default="refuse", validator=one_of("refuse", "again")
    )
    restart: bool = attrs.field(default=False, validator=flag)
    total: int | None = attrs.field(default=None, validator=attrs.validators.optional(whole(0)))
    on_progress: Callable[[MapProgress], object] | None = attrs.field(default=None, repr=False)

    @property
    def pace(self) -> Pace:
        """A pace of its own for a run."""
        if isinstance(self.concurrency, int):
            return Fixed(self.concurrency)
        return Adaptive(self.max_concurrency)
