"""A failure as it may be written down: classes, messages and places, and no value of a variable.

What is needed is copied out of the exception at once, so that neither it nor the frames that it
holds are kept; the source lines are only read when the text is made.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Final, cast

import attrs

MOST_FAILURES: Final = 20
"""Causes and contexts that are told; with the members of groups, twice as many."""

MOST_FRAMES: Final = 40
"""Places of one exception that are told: the last ones."""

_MOST_STEPS: Final = 10_000  # of a traceback that are counted at all
_MOST_LETTERS: Final = 60_000
_SOURCE_LETTERS: Final = 200

_CAUSED: Final = "The above exception was the direct cause of the following exception:"
_DURING: Final = "During handling of the above exception, another exception occurred:"


@attrs.frozen
class _One:
    """One exception: how deep it stands in groups, what leads over to it, and itself."""

    depth: int
    lead: str
    name: str
    message: str
    notes: tuple[str, ...]
    frames: tuple[tuple[str, int, str], ...]
    left_out: int


@attrs.frozen
class FailureText:
    """An exception with its causes and members, ready to be written.

    Attributes:
        name: Its class.
        message: What it says, as it is: to be cleaned before anybody sees it.
    """

    name: str
    message: str
    _all: tuple[_One, ...] = attrs.field(repr=False)

    @classmethod
    def of(cls, error: BaseException) -> FailureText:
        """Copy out of an exception what is told of it; never fails."""
        return cls(type(error).__name__, _said(error), tuple(_told(error, 0, set())))

    def written(self, clean: Callable[[str], str]) -> str:
        """The text, in Python's form, the exception itself last.

        Args:
            clean: Makes one line of a message, a name or a line of source, without secrets.
        """
        lines: list[str] = []
        letters = 0
        for one in self._all:
            for line in _lines(one, clean):
                letters += len(line)
                if letters > _MOST_LETTERS:
                    return "\n".join([*lines, "... (more is left out)"])
                lines.append("  " * one.depth + line)
        return "\n".join(lines)


def _told(error: BaseException, depth: int, seen: set[int]) -> list[_One]:
    """Causes first, then the exception, then its members, as Python orders them."""
    chain: list[tuple[BaseException, str]] = []
    link: BaseException | None = error
    lead = ""
    # Of a long chain what is nearest to the failure; one that leads back to itself ends there.
    while link is not None and id(link) not in seen and len(chain) < MOST_FAILURES:
        seen.add(id(link))
        chain.append((link, lead))
        if link.__cause__ is not None:
            link, lead = link.__cause__, _CAUSED
        else:
            link, lead = (None if link.__suppress_context__ else link.__context__), _DURING
    found: list[_One] = []
    lead = ""
    for member, leads_on in reversed(chain):
        found.append(_one(member, depth, lead))
        lead = leads_on
        if isinstance(member, BaseExceptionGroup):
            group = cast("BaseExceptionGroup[BaseException]", member)
            for each in group.exceptions:
                if len(seen) >= 2 * MOST_FAILURES:
                    break
                found += _told(each, depth + 1, seen)
    return found


def _one(error: BaseException, depth: int, lead: str) -> _One:
    kind = type(error)
    home = kind.__module__
    name = kind.__qualname__ if home in {"builtins", "__main__"} else f"{home}.{kind.__qualname__}"
    given: Any = getattr(error, "__notes__", None)
    listed = cast("list[object]", given[:MOST_FAILURES]) if isinstance(given, list) else []
    notes = tuple([note for note in listed if isinstance(note, str)])
    frames, left_out = _frames(error.__traceback__)
    return _One(depth, lead, name, _said(error), notes, frames, left_out)


def _frames(traceback: TracebackType | None) -> tuple[tuple[tuple[str, int, str], ...], int]:
    found: list[tuple[str, int, str]] = []
    count = 0
    while traceback is not None and count < _MOST_STEPS:
        code = traceback.tb_frame.f_code
        found.append((code.co_filename, traceback.tb_lineno or 0, code.co_qualname))
        if len(found) > MOST_FRAMES:
            del found[0]
        count += 1
        traceback = traceback.tb_next
    return tuple(found), count - len(found)


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - an error that cannot say what it is must not be another one
        return "<no words>"


def _lines(one: _One, clean: Callable[[str], str]) -> Iterator[str]:
    if one.lead:
        yield ""
        yield one.lead
        yield ""
    if one.frames:
        yield "Traceback (most recent call last):"
    if one.left_out:
        yield f"  ({one.left_out} places are left out)"
    for file, number, function in one.frames:
        yield f'  File "{clean(file)}", line {number}, in {clean(function)}'
        source = linecache.getline(file, number).strip()
        if source:
            yield f"    {clean(source[:_SOURCE_LETTERS])}"
    name, message = clean(one.name), clean(one.message)
    yield f"{name}: {message}" if message else name
    for note in one.notes:
        yield clean(note)
