"""Checks of a layer's options, made when the layer is made.

A wrong option must not wait for the first request to show itself, and its message says which layer,
which option, what was given, and what to give instead. Use the functions as attrs converters and
validators; the class that the option belongs to is named by itself.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, TypeAlias, TypeVar

import attrs

from lamella._errors import ConfigurationError

T = TypeVar("T")

Check: TypeAlias = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def seconds(value: float | timedelta) -> float:
    """A span of time given as seconds or as a timedelta, in seconds."""
    return value.total_seconds() if isinstance(value, timedelta) else value


def optional_seconds(value: float | timedelta | None) -> float | None:
    """The same where None stands for no limit."""
    return value.total_seconds() if isinstance(value, timedelta) else value


def refused(
    layer: object, option: attrs.Attribute[Any], value: object, want: str
) -> ConfigurationError:
    """The error of an option that cannot be.

    A class that its users do not call themselves says in `written_as` how its options are given.
    """
    name = option.alias or option.name
    begin = getattr(layer, "written_as", None) or f"{type(layer).__name__}("
    return ConfigurationError(f"{begin}{name}={value!r}): give {want}.")


def each_of(option: str, items: Iterable[Any], make: Callable[[Any], T]) -> list[T]:
    """What each item of an option stands for, made one by one.

    Args:
        option: The option, for messages.
        items: What was given.
        make: Makes one of them.

    Raises:
        ConfigurationError: For all items that are wrong, at once.
    """
    made: list[T] = []
    failed: dict[int, ConfigurationError] = {}
    for place, item in enumerate(items):
        try:
            made.append(make(item))
        except ConfigurationError as error:
            failed[place] = error
    if not failed:
        return made
    from lamella._mistakes import Finding, Misfit

    only = next(iter(failed.values()))
    if len(failed) == 1 and not isinstance(only, Misfit):
        raise only
    findings: list[Finding] = []
    for place, wrong in failed.items():
        whole = (Finding((), str(wrong), error=wrong),)
        inner = wrong.findings if isinstance(wrong, Misfit) else whole
        findings.extend(finding.under(option, place) for finding in inner)
    raise Misfit(findings)


def is_async(function: object) -> bool:
    """Whether calling it gives a coroutine: an async function, part of one, or such an object."""
    if inspect.iscoroutinefunction(function):
        return True
    if not inspect.isroutine(function) and callable(function):
        function = getattr(function, "__call__")  # noqa: B004, B009 - what is called is looked at
    return inspect.iscoroutinefunction(function)


def is_number(value: object) -> bool:
    """Whether it is a finite number; True and False are none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def span(layer: object, option: attrs.Attribute[Any], value: Any) -> None:
    """A span of time above zero, in seconds."""
    if not is_number(value) or value <= 0:
        raise refused(layer, option, value, "seconds above 0, or a timedelta")


def span_or_none(layer: object, option: attrs.Attribute[Any], value: Any) -> None:
    """A span of time above zero, in seconds, or None for no limit."""
    if value is not None and (not is_number(value) or value <= 0):
        want = "seconds above 0, a timedelta, or None for no limit (0 would let nothing pass)"
        raise refused(layer, option, value, want)


def wait_or_none(layer: object, option: attrs.Attribute[Any], value: Any) -> None:
    """How long something may wait: seconds, 0 for not at all, or None for as long as may be."""
    if value is not None and (not is_number(value) or value < 0):
        want = "seconds, a timedelta, 0 to refuse at once, or None to wait as long as the deadline "
        raise refused(layer, option, value, f"{want}allows")


def shares(layer: object, option: attrs.Attribute[Any], value: Any) -> None:
    """Each tenant's share of the turns by name, in proportions that numbers can keep apart."""
    given: list[tuple[Any, Any]] = list(value.items()) if hasattr(value, "items") else [(None, 0)]
    for tenant, weight in given:
        if not (isinstance(tenant, str) and is_number(weight) and 1e-6 <= weight <= 1e6):
            want = "a number above 0 for each tenant's name (0.000001 to 1000000)"
            raise refused(layer, option, value, want)


def number(low: float, high: float = math.inf) -> Check:
    """A number from `low` to `high`."""

    def check(layer: object, option: attrs.Attribute[Any], value: Any) -> None:
        if not is_number(value) or not low <= value <= high:
            want = f"a number from {low:g} to {high:g}" if high < math.inf else f"{low:g} or more"
            raise refused(layer, option, value, want)

    return check


def whole(low: int, high: int | None = None) -> Check:
    """A whole number from `low` to `high`."""

    def check(layer: object, option: attrs.Attribute[Any], value: Any) -> None:
        right = isinstance(value, int) and not isinstance(value, bool)
        if not right or value < low or (high is not None and value > high):
            most = "" if high is None else f", and at most {high}"
            raise refused(layer, option, value, f"a whole number, {low} or more{most}")

    return check


def flag(layer: object, option: attrs.Attribute[Any], value: Any) -> None:
    """True or False, and nothing that merely counts as one: `"no"` would count as True."""
    if not isinstance(value, bool):
        raise refused(layer, option, value, "True or False")


def name(layer: object, option: attrs.Attribute[Any], value: Any) -> None:
    """Text that is not empty."""
    if not isinstance(value, str) or not value:
        raise refused(layer, option, value, "a name, such as 'shared'")


def one_of(*words: str) -> Check:
    """One of some words."""

    def check(layer: object, option: attrs.Attribute[Any], value: Any) -> None:
        if value not in words:
            raise refused(layer, option, value, f"one of {', '.join(map(repr, words))}")

    return check
