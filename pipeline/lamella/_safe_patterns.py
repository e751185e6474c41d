r"""Regular expressions that somebody else wrote, on texts of anybody's.

RE2 where it is installed: its time is linear in the text whatever the expression (Cox, "Regular
Expression Matching Can Be Simple And Fast", 2007). Without it Python's own engine, after refusing
what could take it exponential time; it may still take the square or cube of a text's length. Both
read the same dialect, RE2's: no lookaround, no backreference, no possessive repeat; `\d`, `\w`,
`\s` and `\b` mean ASCII.
"""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Iterator
from functools import cache
from reprlib import Repr
from typing import Any, Final, Protocol

from lamella._ambiguity import ambiguity
from lamella._errors import ConfigurationError

_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_MOST_MEMORY: Final = 64 << 20
_LONGEST: Final = 65_536

_SHORT: Final = Repr()
_SHORT.maxstring = 200


class PatternMatch(Protocol):
    """One place that matches."""

    def start(self, group: int = 0, /) -> int:
        """Where a group begins; -1 where it took no part."""
        ...

    def end(self, group: int = 0, /) -> int:
        """The index behind its last character."""
        ...

    def span(self, group: int = 0, /) -> tuple[int, int]:
        """Both."""
        ...

    def group(self, group: int = 0, /) -> Any:
        """The text of a group."""
        ...


class SafePattern:
    """A compiled expression. Made by `compile_pattern`.

    Attributes:
        expression: As it was given.
        groups: How many groups it has.
        longest: The most characters one match can have; None where there is no such number.
        engine: `"re2"` or `"re"`.
    """

    __slots__ = ("_compiled", "_is_re2", "engine", "expression", "groups", "longest")

    def __init__(self, expression: str, compiled: Any, engine: str) -> None:
        self.expression = expression
        self.engine = engine
        self.groups: int = compiled.groups
        self.longest = _longest(expression)
        self._compiled = compiled
        self._is_re2 = engine == "re2"

    def __repr__(self) -> str:
        return f"SafePattern({self.expression!r}, engine={self.engine!r})"

    def finditer(self, text: str, start: int = 0) -> Iterator[PatternMatch]:
        """All matches from `start` on, from left to right; what is before can still be seen."""
        found: Iterator[PatternMatch] = self._compiled.finditer(self._readable(text), start)
        return found

    def search(self, text: str, start: int = 0) -> PatternMatch | None:
        """The first match from `start` on."""
        found: PatternMatch | None = self._compiled.search(self._readable(text), start)
        return found

    def _readable(self, text: str) -> str:
        """RE2 reads UTF-8, which has no words for half a surrogate pair."""
        if self._is_re2 and not text.isascii() and _SURROGATE.search(text):
            return _SURROGATE.sub("\ufffd", text)
        return text


def compile_pattern(
    expression: str, *, ignore_case: bool = False, engine: str | None = None
) -> SafePattern:
    """An expression that is safe on texts of anybody's.

    Args:
        expression: In RE2's syntax. `.` is any character but a line break.
        ignore_case: Whether the case of letters is ignored.
        engine: `"re2"` or `"re"`; None is RE2 where it is installed.

    Raises:
        ConfigurationError: The expression is no regular expression, or uses what RE2 has not; or
            RE2 is not installed and the expression could take exponential time.
    """
    if type(expression) is not str:
        raise ConfigurationError(
            f"A pattern is a regular expression as a str, not {expression!r}.",
            hint="Pass the expression, not a compiled pattern: compile_pattern(r'\\d{4}').",
        )
    re2 = _re2() if engine in (None, "re2") else None
    if re2 is None and engine == "re2":
        raise ConfigurationError(
            "The engine 're2' is not installed.",
            hint='Run: pip install "lamella[pii]" (it brings google-re2).',
        )
    if re2 is not None:
        return SafePattern(expression, _with_re2(re2, expression, ignore_case=ignore_case), "re2")
    return SafePattern(expression, _with_re(expression, ignore_case=ignore_case), "re")


@cache
def _re2() -> Any:
    try:
        return importlib.import_module("re2")
    except ImportError:
        return None


def _with_re2(re2: Any, expression: str, *, ignore_case: bool) -> Any:
    options = re2.Options()
    options.log_errors = False  # it would write to stderr
    options.case_sensitive = not ignore_case
    options.max_mem = _MOST_MEMORY
    try:
        return re2.compile(_ESCAPE.sub(_end_of_text, expression), options)
    except (re2.error, UnicodeEncodeError) as error:
        raise _no_pattern(expression, _said(error)) from None


def _with_re(expression: str, *, ignore_case: bool) -> Any:
    # \b, \d and \w are ASCII, as in RE2; letters of an expression that is not are folded as such.
    flags = re.IGNORECASE if ignore_case else 0
    if not ignore_case or expression.isascii():
        flags |= re.ASCII
    written = _ESCAPE.sub(_end_of_text_in_re, expression)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what Python may read in another way one day
            compiled = re.compile(written, flags)
    except (re.error, Warning, OverflowError, RecursionError) as error:
        raise _no_pattern(expression, _said(error)) from None
    why = ambiguity(written, flags)
    if why is not None:
        raise ConfigurationError(
            f"The pattern {_SHORT.repr(expression)} cannot be used without RE2: {why}.",
            hint='Run: pip install "lamella[pii]" (it brings google-re2), or write the pattern so '
            "that there is one way only to match a text.",
        )
    return compiled


def _no_pattern(expression: str, said: str) -> ConfigurationError:
    return ConfigurationError(
        f"{_SHORT.repr(expression)} is no regular expression that can be used here: {said}.",
        hint="The syntax is RE2's (https://github.com/google/re2/wiki/Syntax): no lookaround, "
        "backreferences, atomic groups or possessive repeats.",
    )


def _said(error: BaseException) -> str:
    said = error.args[0] if error.args else error
    return (said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)).rstrip(".")


def _end_of_text(found: re.Match[str]) -> str:
    return r"\z" if found[1] == "Z" else found[0]


def _end_of_text_in_re(found: re.Match[str]) -> str:
    return r"\Z" if found[1] == "z" else found[0]


def _longest(expression: str) -> int | None:
    """The most characters of a match, as Python's parser sees it."""
    parser: Any = importlib.import_module("re._parser")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            parsed = parser.parse(_ESCAPE.sub(_end_of_text_in_re, expression))
            width = int(parsed.getwidth()[1])
    except (re.error, Warning, OverflowError, RecursionError):
        return None
    return width if width <= _LONGEST else None
