"""Detectors of the caller's own: by expression, by a list of terms, or by a function."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import attrs

from lamella import ConfigurationError, Finding
from lamella._normal_text import normal_text
from lamella._safe_patterns import SafePattern, compile_pattern

KIND = compile_pattern("^[a-z][a-z0-9_]{0,39}\\z", engine="re")
"""How a kind is written: it becomes part of placeholders and of notes in the trace."""


def regex_detector(
    kind: str,
    expression: str,
    *,
    ignore_case: bool = False,
    confidence: float = 1.0,
    valid: Callable[[str], bool] | None = None,
) -> _RegexDetector:
    r"""A detector of what matches an expression.

    The time it takes grows with the text alone: by RE2 where it is installed; without it an
    expression that could take exponential time is refused here, when the detector is made.

    Args:
        kind: What it finds: lower-case letters, digits and underscores, 40 at most.
        expression: In RE2's syntax: no lookaround, no backreference; `\d`, `\w` and `\b` are about
            ASCII. With a group, group 1 is what is found. Give repeats an upper bound: then a
            stream is held back by the longest match only, else to its end. The text is looked at
            in compatible form (NFKC), digits of all scripts as ASCII digits.
        ignore_case: Whether the case of letters is ignored.
        confidence: How sure a match is, above 0 to 1.
        valid: Says of a match whether it is one: a checksum.

    Raises:
        ConfigurationError: One of these cannot be.
    """
    who = f"regex_detector({kind!r})"
    _checked_kind(who, kind)
    _checked_confidence(who, confidence)
    pattern = compile_pattern(expression, ignore_case=ignore_case)
    empty = next(iter(pattern.finditer("")), None)
    if empty is not None:
        raise ConfigurationError(
            f"{who}: {expression!r} matches the empty text, which is at every place.",
            hint="Write what must be there: `x+` and not `x*`.",
        )
    return _RegexDetector(kind, pattern, confidence, valid)


@attrs.frozen
class _RegexDetector:
    kind: str
    pattern: SafePattern
    confidence: float
    valid: Callable[[str], bool] | None

    @property
    def kinds(self) -> tuple[str, ...]:
        return (self.kind,)

    @property
    def reach(self) -> int | None:
        # One more on each side, as \b and $ look at what is beside the match.
        longest = self.pattern.longest
        return None if longest is None else longest + 2

    def find(self, text: str, /) -> Iterable[Finding]:
        group = min(self.pattern.groups, 1)
        valid = self.valid
        for match in self.pattern.finditer(text):
            start, end = match.span(group)
            # A group may take no part in a match, or be empty in it.
            if 0 <= start < end and (valid is None or valid(text[start:end])):
                yield Finding(start, end, self.kind, self.confidence)


def dictionary_detector(
    kind: str,
    terms: Iterable[str],
    *,
    ignore_case: bool = True,
    whole_words: bool = True,
    confidence: float = 1.0,
) -> _DictionaryDetector:
    """A detector of the terms of a list: names of customers, of projects, of machines.

    All terms are looked for in one pass (Aho-Corasick), however many there are.

    Args:
        kind: What it finds: lower-case letters, digits and underscores, 40 at most.
        terms: Not empty, none of them blank. They and the text are compared in compatible form
            (NFKC), without characters that take no place.
        ignore_case: Whether case is ignored, by Unicode's folding: `STRASSE` is `straße`.
        whole_words: Whether a letter or digit beside a term makes it another word. Say False for
            languages that put no spaces between words.
        confidence: How sure a finding is, above 0 to 1.

    Raises:
        ConfigurationError: One of these cannot be, or pyahocorasick is not installed.
    """
    who = f"dictionary_detector({kind!r})"
    _checked_kind(who, kind)
    _checked_confidence(who, confidence)
    if isinstance(terms, str):
        raise ConfigurationError(f"{who}: terms is one text; give a list of terms.")
    given: list[Any] = list(terms)
    # No term in a message: such a list is personal data itself.
    if not given or not all(isinstance(term, str) and term.strip() for term in given):
        raise ConfigurationError(f"{who}: terms must be texts, at least one, none of them blank.")
    views = {normal_text(term.strip(), fold_case=ignore_case).text for term in given}
    views.discard("")
    automaton = _automaton(who)
    for view in views:
        automaton.add_word(view, len(view))
    automaton.make_automaton()
    longest = max(map(len, views))
    return _DictionaryDetector(kind, automaton, longest, ignore_case, whole_words, confidence)


def _automaton(who: str) -> Any:
    try:
        ahocorasick = importlib.import_module("ahocorasick")
    except ImportError:
        raise ConfigurationError(
            f"{who}: pyahocorasick is not installed.", hint='Run: pip install "lamella[pii]"'
        ) from None
    return ahocorasick.Automaton()


@attrs.frozen(repr=False, eq=False)
class _DictionaryDetector:
    kind: str
    automaton: Any
    longest: int
    ignore_case: bool
    whole_words: bool
    confidence: float

    @property
    def kinds(self) -> tuple[str, ...]:
        return (self.kind,)

    @property
    def reach(self) -> int:
        return self.longest + 2

    def find(self, text: str, /) -> Iterable[Finding]:
        view = normal_text(text, fold_case=self.ignore_case)
        folded = view.text
        for last, length in self.automaton.iter(folded):
            start, end = last + 1 - length, last + 1
            if not self.whole_words or _whole(folded, start, end):
                yield Finding(*view.original(start, end), self.kind, self.confidence)

    def __repr__(self) -> str:
        return f"dictionary_detector({self.kind!r}, {len(self.automaton)} terms)"


def _whole(text: str, start: int, end: int) -> bool:
    """Whether no word goes on beyond; a term that ends with a sign ends by itself."""
    return not (
        (start > 0 and text[start].isalnum() and text[start - 1].isalnum())
        or (end < len(text) and text[end - 1].isalnum() and text[end].isalnum())
    )


def callable_detector(
    kinds: str | Collection[str],
    function: Callable[[str], Iterable[Finding | tuple[int, int]]],
    *,
    reach: int | None = None,
    blocking: bool = False,
) -> _CallableDetector:
    """A detector that is a function.

    Args:
        kinds: What it may find; the first is what spans without a kind are.
        function: Takes a text, gives findings or (start, end) spans. Thread-safe. What it raises
            means that the text was not inspected.
        reach: The most characters that it looks at around one finding, from the first of the
            context to the last of the finding. None: it needs whole texts, so that an answer's
            stream is held to its end.
        blocking: Whether it takes long, a model or a service: then it runs in a thread.

    Raises:
        ConfigurationError: One of these cannot be.
    """
    named = (kinds,) if isinstance(kinds, str) else tuple(kinds)
    who = f"callable_detector({kinds!r})"
    if not named:
        raise ConfigurationError(f"{who}: name at least one kind.")
    for kind in named:
        _checked_kind(who, kind)
    if not callable(function):
        raise ConfigurationError(f"{who}: {function!r} is no function of a text.")
    if reach is not None and (type(reach) is not int or reach < 1):
        raise ConfigurationError(
            f"{who}: reach={reach!r} must be a whole number of characters, 1 or more, or None."
        )
    return _CallableDetector(named, function, reach, bool(blocking))


@attrs.frozen
class _CallableDetector:
    kinds: tuple[str, ...]
    function: Callable[[str], Iterable[Finding | tuple[int, int]]]
    reach: int | None
    blocking: bool

    def find(self, text: str, /) -> Iterator[Finding]:
        for given in self.function(text):
            found = given if isinstance(given, Finding) else Finding(*given, self.kinds[0])
            if found.kind not in self.kinds:
                raise ValueError(
                    f"A detector of {self.kinds!r} found {found.kind!r}, which is none of them."
                )
            yield found


def allowed_pattern(expression: str, *, ignore_case: bool = False) -> SafePattern:
    """A pattern for values that are let through: the whole of a value must match it."""
    return compile_pattern(rf"^(?:{expression})\z", ignore_case=ignore_case)


def _checked_kind(who: str, kind: object) -> None:
    if not isinstance(kind, str) or KIND.search(kind) is None:
        raise ConfigurationError(
            f"{who}: the kind {kind!r} must be a lower-case letter, then letters, digits and "
            "underscores, 40 at most."
        )


def _checked_confidence(who: str, confidence: object) -> None:
    number = isinstance(confidence, int | float) and not isinstance(confidence, bool)
    if not number or not 0 < confidence <= 1:  # type: ignore[operator]
        raise ConfigurationError(f"{who}: confidence={confidence!r} must be above 0, at most 1.")
