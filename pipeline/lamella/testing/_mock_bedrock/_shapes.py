"""Checks of JSON against the shapes of Amazon's models, with Amazon's words for what does not fit.

A check takes a value and where it stands, and raises. `null` is the same as leaving out.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

from lamella._mock_rejections import Rejection
from lamella.testing._mock_bedrock._errors import wrong

Check: TypeAlias = Callable[[Any, str], None]


def unfit(value: Any, path: str, constraint: str) -> Rejection:
    """A value that breaks a constraint of its shape.

    Args:
        value: Named if it is short.
        path: Where it stands.
        constraint: What it must do, in Amazon's words.
    """
    shown = f"'{value}'" if len(str(value)) <= 64 else "that is there"
    return wrong(
        f"1 validation error detected: Value {shown} at '{path}' failed to satisfy constraint: "
        f"Member must {constraint}"
    )


def _unreadable(path: str, wanted: str) -> Rejection:
    message = f"Unexpected value at '{path}': {wanted} is expected."
    return Rejection(400, "SerializationException", message)


def anything(value: Any, path: str) -> None:
    """Any JSON."""


def boolean(value: Any, path: str) -> None:
    """True or false."""
    if not isinstance(value, bool):
        raise _unreadable(path, "a boolean")


def text(least: int = 0, most: int | None = None, pattern: str | None = None) -> Check:
    """A text of so many characters that fits a pattern."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, str):
            raise _unreadable(path, "a string")
        if len(value) < least:
            raise unfit(value, path, f"have length greater than or equal to {least}")
        if most is not None and len(value) > most:
            raise unfit(value, path, f"have length less than or equal to {most}")
        if pattern is not None and not re.fullmatch(pattern, value):
            raise unfit(value, path, f"satisfy regular expression pattern: {pattern}")

    return check


def one_of(*words: str) -> Check:
    """One of several words."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, str):
            raise _unreadable(path, "a string")
        if value not in words:
            raise unfit(value, path, f"satisfy enum value set: [{', '.join(words)}]")

    return check


def number(low: float, high: float | None = None, *, whole: bool = False) -> Check:
    """A number within bounds."""

    def check(value: Any, path: str) -> None:
        kinds = int if whole else int | float
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise _unreadable(path, "an integer" if whole else "a number")
        if value < low:
            raise unfit(value, path, f"have value greater than or equal to {low}")
        if high is not None and value > high:
            raise unfit(value, path, f"have value less than or equal to {high}")

    return check


def blob(least: int = 0) -> Check:
    """Bytes, as base64."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, str):
            raise _unreadable(path, "a string of base64")
        try:
            data = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise _unreadable(path, "base64") from None
        if len(data) < least:
            raise unfit("", path, f"have length greater than or equal to {least}")

    return check


def listed(item: Check, least: int = 0, most: int | None = None) -> Check:
    """A list whose items fit."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, list):
            raise _unreadable(path, "a list")
        items = cast("Sequence[Any]", value)
        if len(items) < least:
            raise unfit("[]", path, f"have length greater than or equal to {least}")
        if most is not None and len(items) > most:
            raise unfit("[...]", path, f"have length less than or equal to {most}")
        for place, each in enumerate(items):
            item(each, f"{path}.{place + 1}.member")

    return check


def mapping(value: Check, least: int = 0, most: int | None = None) -> Check:
    """An object with any names, whose values fit."""

    def check(given: Any, path: str) -> None:
        found = _object(given, path)
        if len(found) < least or (most is not None and len(found) > most):
            raise unfit("{...}", path, f"have {least} to {most} entries")
        for name, each in found.items():
            value(each, f"{path}.{name}")

    return check


def record(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """An object with these members and no others."""
    known = {**required, **(optional or {})}

    def check(value: Any, path: str) -> None:
        found = _members(value, path, known)
        for name in required:
            if name not in found:
                raise unfit("null", _at(path, name), "not be null")
        for name, each in found.items():
            known[name](each, _at(path, name))

    return check


def union(members: Mapping[str, Check]) -> Check:
    """An object with exactly one of these members."""

    def check(value: Any, path: str) -> None:
        found = _members(value, path, members)
        if len(found) != 1:
            given = ", ".join(found) or "none"
            known = ", ".join(members)
            raise wrong(f"Exactly one member of '{path}' must be set ({known}); {given} given.")
        for name, each in found.items():
            members[name](each, _at(path, name))

    return check


def _members(value: Any, path: str, known: Mapping[str, Check]) -> Mapping[str, Any]:
    found = {name: each for name, each in _object(value, path).items() if each is not None}
    unknown = sorted(found.keys() - known.keys())
    if unknown:
        raise wrong(
            f"There is no member {unknown[0]!r} in '{path or 'the request'}'; "
            f"there are {', '.join(known)}."
        )
    return found


def _object(value: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _unreadable(path or "the body", "an object")
    return cast("Mapping[str, Any]", value)


def _at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
