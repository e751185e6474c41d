"""What a rule says of what it looked at."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias, get_args

import attrs

from lamella import ConfigurationError, Request
from lamella._nothing import NOTHING

Kind: TypeAlias = Literal["allow", "change", "ask", "block"]

_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.:/-]{0,63}")
_TAKEN: Final = frozenset({"layer", "name", "rule", "reason", "kinds", "direction"})
"""What a note says of every verdict."""


@attrs.frozen
class Edit:
    """A place of a text, and what is to stand there.

    Attributes:
        start: The index of its first character.
        end: The index behind its last; `start` where something is put in.
        text: What stands there instead.
    """

    start: int
    end: int
    text: str


@attrs.frozen
class Verdict:
    """What a rule decides. Made by `allow`, `change`, `edit`, `ask` and `block`.

    Attributes:
        kind: `"allow"`, `"change"`, `"ask"` or `"block"`, the strictest last.
        reason: Why, as a word: it stands in errors and notes, so never what was found.
        kinds: Of what kinds something was found, as words.
        text: With `"change"`: the whole text as it is to be.
        edits: With `"change"`: the places that change, in order, not overlapping.
        request: With `"change"`, of a rule that reviews requests: the request as it is to be.
        at: With `"ask"` and `"block"`: where in the text the first finding begins. While a text is
            still arriving, a finding that is not settled yet is looked at again with more of it.
        settled: While a text is still arriving: the index up to which the verdict stays as it is,
            whatever comes. None leaves it to the rule's `look_behind`.
        numbers: Counts and limits that say more about the reason.
    """

    kind: Kind
    reason: str = ""
    kinds: tuple[str, ...] = ()
    text: str | None = None
    edits: tuple[Edit, ...] = ()
    request: Request[Any] | None = None
    at: int | None = None
    settled: int | None = None
    numbers: Mapping[str, int] = NOTHING


_ALLOWED: Final = Verdict("allow")


def allow(
    note: str = "", *, kinds: Iterable[str] = (), settled: int | None = None, **numbers: int
) -> Verdict:
    """It may pass.

    Args:
        note: A word for the trace where something is remarkable all the same; empty for none.
        kinds: See `Verdict`.
        settled: See `Verdict`.
        **numbers: Counts for the trace.
    """
    if not note:
        return _ALLOWED if settled is None else Verdict("allow", settled=settled)
    reason = _word(note, "note") if note else ""
    return Verdict("allow", reason, _kinds(kinds), settled=settled, numbers=_numbers(numbers))


def change(
    new: str | Request[Any], reason: str = "changed", *, kinds: Iterable[str] = (), **numbers: int
) -> Verdict:
    """It may pass as `new`.

    Args:
        new: The whole text, as it is to be; or the request, from a rule that reviews requests.
        reason: Why, as a word.
        kinds: See `Verdict`.
        **numbers: Counts for the trace.
    """
    found, words, counts = _word(reason, "reason"), _kinds(kinds), _numbers(numbers)
    if isinstance(new, Request):
        return Verdict("change", found, words, request=new, numbers=counts)
    if not isinstance(new, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        msg = f"change() takes the whole new text or request, not {type(new).__name__}."
        raise ConfigurationError(msg)
    return Verdict("change", found, words, text=new, numbers=counts)


def edit(
    edits: Iterable[tuple[int, int, str] | Edit],
    reason: str = "changed",
    *,
    kinds: Iterable[str] = (),
    settled: int | None = None,
) -> Verdict:
    """It may pass with some places changed; for streams this is more exact than `change`.

    Args:
        edits: `(start, end, text)` of each place, in order, not overlapping.
        reason: Why, as a word.
        kinds: See `Verdict`.
        settled: See `Verdict`.
    """
    made = tuple([one if isinstance(one, Edit) else Edit(*one) for one in edits])
    if not _are_in_order(made):
        msg = "edit() takes places in order that do not overlap, each (start, end, text)."
        raise ConfigurationError(msg)
    return Verdict("change", _word(reason, "reason"), _kinds(kinds), edits=made, settled=settled)


def ask(
    reason: str,
    *,
    kinds: Iterable[str] = (),
    at: int | None = None,
    settled: int | None = None,
    **numbers: int,
) -> Verdict:
    """It may pass if somebody agrees.

    Args:
        reason: Why, as a word.
        kinds: See `Verdict`.
        at: See `Verdict`.
        settled: See `Verdict`.
        **numbers: Counts for the trace and the approver.
    """
    found, words, counts = _word(reason, "reason"), _kinds(kinds), _numbers(numbers)
    return Verdict("ask", found, words, at=at, settled=settled, numbers=counts)


def block(
    reason: str,
    *,
    kinds: Iterable[str] = (),
    at: int | None = None,
    settled: int | None = None,
    **numbers: int,
) -> Verdict:
    """It does not pass.

    Args:
        reason: Why, as a word.
        kinds: See `Verdict`.
        at: See `Verdict`.
        settled: See `Verdict`.
        **numbers: Counts for the trace and the error.
    """
    found, words, counts = _word(reason, "reason"), _kinds(kinds), _numbers(numbers)
    return Verdict("block", found, words, at=at, settled=settled, numbers=counts)


def is_word(value: object) -> bool:
    """Whether it is a word that can stand in errors and notes."""
    return isinstance(value, str) and _WORD.fullmatch(value) is not None


def fault_of(verdict: Verdict, of: str) -> str:
    """What is wrong with a verdict that somebody has made by hand; empty if nothing is.

    Args:
        verdict: What a rule has given.
        of: `"text"` or `"request"`: what it was to judge.
    """
    kind, why = verdict.kind, ""
    if kind == "allow" and not verdict.reason:
        return why
    if kind not in get_args(Kind):
        why = "it returned a verdict of no known kind"
    elif not is_word(verdict.reason) or not all(map(is_word, verdict.kinds)):
        why = "its reason or kinds are no words"  # they may be the very text
    elif not _are_counts(verdict.numbers):
        why = "its counts are no numbers, or are called like something else"
    elif not _are_in_order(verdict.edits):
        why = "its edits overlap, or are not in order"
    elif kind == "change" and (of == "request") != (verdict.request is not None):
        why = f"it was to judge a {of}, and changed something else"
    return why


def _word(value: str, what: str) -> str:
    if not is_word(value):
        # What was given may be the very text: it is not repeated.
        msg = f"The {what} of a verdict is a word of at most 64 letters, digits and ._:/- signs."
        hint = "It stands in errors and notes, so it says what kind of thing was found, never what."
        raise ConfigurationError(msg, hint=hint)
    return value


def _kinds(kinds: Iterable[str]) -> tuple[str, ...]:
    given = (kinds,) if isinstance(kinds, str) else kinds
    return tuple(sorted({_word(kind, "kind") for kind in given}))


def _numbers(numbers: Mapping[str, int]) -> Mapping[str, int]:
    if not _are_counts(numbers):
        msg = f"A verdict's counts are numbers: {', '.join(map(repr, numbers))} are not all."
        hint = f"None can be called {', '.join(sorted(_TAKEN))}."
        raise ConfigurationError(msg, hint=hint)
    return numbers or NOTHING


def _are_counts(numbers: Mapping[str, Any]) -> bool:
    return all(type(value) in {int, float} for value in numbers.values()) and not (
        _TAKEN & numbers.keys()
    )


def _are_in_order(edits: Iterable[Edit]) -> bool:
    before = 0
    for one in edits:
        if not before <= one.start <= one.end:
            return False
        before = one.end
    return True
