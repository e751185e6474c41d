"""What somebody has decided about calls of tools, by the id of each question."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias, cast

from lamella._errors import MisuseError

APPROVED: Final = "approvals"
"""Under which attribute of the context the ids stand that somebody has agreed to."""

DECLINED: Final = "declined"
"""Under which attribute of the context the ids stand that somebody has declined, or their words."""

Declined: TypeAlias = Iterable[str] | Mapping[str, str | None]
"""Ids that were declined; or, by each, what the model is told: None says that it was declined."""


def approved_ids(given: Iterable[str]) -> tuple[str, ...]:
    """The ids of what was agreed to.

    Raises:
        TypeError: If it is one text, any part of which would be an id.
    """
    _must_be_several("approvals", given)
    return tuple(given)


def declined_words(given: Declined) -> dict[str, str]:
    """What the model is told of each id that was declined; empty where nobody has said.

    The calls of an `ApprovalRequired` are as good as their ids.

    Raises:
        TypeError: If they are neither ids nor words by id.
    """
    _must_be_several("declined", given)
    if not isinstance(given, Mapping):
        return {_text(identity, "an id"): "" for identity in cast("Iterable[object]", given)}
    words = cast("Mapping[object, Any]", given)
    return {
        _text(identity, "an id"): "" if _is_wordless(value) else _text(value, "the words of one")
        for identity, value in words.items()
    }


def must_be_either(approved: Iterable[str], declined: Iterable[str]) -> None:
    """See that nothing is both approved and declined.

    Raises:
        MisuseError: If something is.
    """
    both = sorted({*approved}.intersection(declined))
    if both:
        msg = f"{both[0]!r} is both approved and declined."
        raise MisuseError(msg, hint="Give the id of each question in one of the two.")


def _is_wordless(value: object) -> bool:
    from lamella._parts import ToolCall

    return value is None or isinstance(value, ToolCall)


def _must_be_several(name: str, given: object) -> None:
    if isinstance(given, str):
        msg = f"{name}= is one text: give all ids, as in {name}=error.calls, or in a list."
        raise TypeError(msg)
    if not isinstance(given, Iterable):
        msg = f"{name}= is of the type {type(given).__name__}: give ids, as in {name}=error.calls."
        raise TypeError(msg)


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        msg = (
            f"declined= has {what} of the type {type(value).__name__}, not text: give ids, or what "
            "the model is told by each id."
        )
        raise TypeError(msg)
    return value
