"""Patterns that say the same in two engines, and the detector that is made of them.

RE2 reads a text in time linear in its length, whatever the pattern, and at some hundred MB/s; it
has no lookaround, which is what a finding inside longer words is told apart by. So what may not
stand around a match is given beside the expression: each engine gets it in the way it knows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import attrs

from lamella import Finding
from lamella_middlewares.pii._detect import _engine
from lamella_middlewares.pii._detect._look import Sign
from lamella_middlewares.pii._detect._near import Near

UNLIKE: Final = re.compile(r"(?<!\\)(?:\\\\)*(\\s|\\S|\(\?[=!<]|\\[1-9])")
"""What the engines read differently (`\\s` has \\v or not), or what only one of them has."""


END: Final = {"re": r"\Z", "re2": r"\z"}
"""The end of a text, as each engine writes it."""


@attrs.frozen
class Pattern:
    r"""An expression, and what may not stand directly around its matches.

    Both engines find the same: the leftmost match, the first alternative that fits, then the next
    match behind it. `\d`, `\w` and `\b` are about ASCII; `\s`, lookaround and backreferences
    are refused. Repeat with an upper bound: without RE2 that is what keeps the time linear.

    Args:
        expression: What to find; never the empty text. With a group, group 1 is what was found,
            and the rest of the expression is what must stand around it.
        ignore_case: Whether ASCII letters match in either case. The expression is ASCII then.
        before: The inside of a character class: none of it may stand directly before a match.
        after: The same directly behind it. A shorter match that fits is taken instead.

    Raises:
        ValueError: The expression has what the engines do not share.
    """

    expression: str
    ignore_case: bool = attrs.field(default=False, kw_only=True)
    before: str = attrs.field(default="", kw_only=True)
    after: str = attrs.field(default="", kw_only=True)
    _compiled: dict[str, Any] = attrs.field(
        init=False, factory=dict[str, Any], eq=False, repr=False
    )

    def __attrs_post_init__(self) -> None:
        unlike = UNLIKE.search(self.expression)
        if unlike is not None:
            raise ValueError(
                f"Pattern({self.expression!r}): {unlike[1]!r} is not the same in re and RE2: write "
                "a character class, and before= or after= for what may not stand around."
            )
        if self.ignore_case and not self.expression.isascii():
            raise ValueError(
                f"Pattern({self.expression!r}): the engines fold letters beyond ASCII differently: "
                "write both cases out."
            )

    def finditer(self, text: str) -> Iterator[tuple[int, int]]:
        """Start and end of each match (of group 1 if there is one), from left to right."""
        if _engine.name() == "re2":
            return self._in_bytes(self._by("re2"), text)
        return self._spans(self._by("re"), text)

    def _by(self, engine: str) -> Any:
        compiled = self._compiled.get(engine)
        if compiled is None:
            compiled = self._compiled[engine] = self._compile(engine)
        return compiled

    def _compile(self, engine: str) -> Any:
        # What bounds a match is read with it, as RE2 cannot look around. A line break or tab that
        # is written as an escape bounds as the character would: quoted JSON is full of them.
        before = rf"(?:^|\\[nrt]|[^{self.before}])" if self.before else ""
        after = rf"(?:{END[engine]}|[^{self.after}])" if self.after else ""
        expression = f"{before}({self.expression}){after}"
        if engine == "re":
            return re.compile(expression, re.ASCII | (re.IGNORECASE if self.ignore_case else 0))
        return _engine.compile_bytes(f"(?i){expression}" if self.ignore_case else expression)

    def _spans(self, compiled: Any, text: str | bytes) -> Iterator[tuple[int, int]]:
        # A search begins where the last match ended, not behind the character that bounded it, and
        # a character sooner where that one has to bound the next.
        group = min(compiled.groups, 2)
        position = behind = 0
        while (match := compiled.search(text, position)) is not None:
            if match.start(1) < behind:
                position = behind
                continue
            yield match.span(group)
            position = behind = match.end(1)
            if self.before:
                position -= 1
                while _inside_a_character(text, position):
                    position -= 1

    def _in_bytes(self, compiled: Any, text: str) -> Iterator[tuple[int, int]]:
        # Encoded once: RE2 would do it for each search.
        data = text.encode("utf-8", "replace")
        if len(data) == len(text):
            return self._spans(compiled, data)
        return _in_characters(data, self._spans(compiled, data))


def _inside_a_character(text: str | bytes, position: int) -> bool:
    """Whether a character of UTF-8 began before."""
    return isinstance(text, bytes) and text[position] & 0xC0 == 0x80


def _in_characters(data: bytes, spans: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Spans of UTF-8 as those of the text, in one pass."""
    done = characters = 0
    for start, end in spans:
        first = characters + len(data[done:start].decode())
        characters, done = first + len(data[start:end].decode()), end
        yield first, characters


@attrs.frozen
class PatternDetector:
    """A detector of one kind, made of patterns.

    Args:
        kind: What it finds.
        patterns: Each is looked for by itself: findings of different ones may overlap.
        reach: The most characters from the first of the context to the last of a finding,
            the characters around the match included.
        sign: What a text must have in it: a scanner looks for the signs of all detectors at once.
        valid: How sure a match is, 0 to 1; 0 rejects it. None: every match is sure.
        unless: Words of which none may stand around: "version" before four numbers with dots.
        fits: What else must hold of text[start:end], for what no pattern can say.
        opens: From which index on what is put behind a text may change what is found. None: from
            `reach` before its end.
    """

    kind: str
    patterns: tuple[Pattern, ...]
    reach: int = attrs.field(kw_only=True)
    sign: Sign | None = attrs.field(default=None, kw_only=True)
    valid: Callable[[str], float] | None = attrs.field(default=None, kw_only=True)
    unless: Near | None = attrs.field(default=None, kw_only=True)
    fits: Callable[[str, int, int], bool] | None = attrs.field(default=None, kw_only=True)
    opens: Callable[[str], int] | None = attrs.field(default=None, kw_only=True)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Its one kind."""
        return (self.kind,)

    def find(self, text: str, /) -> Iterable[Finding]:
        """What is in the text; pattern by pattern, each from left to right."""
        found: list[Finding] = []
        for pattern in self.patterns:
            for start, end in pattern.finditer(text):
                confidence = self._confidence(text, start, end)
                if confidence > 0:
                    found.append(Finding(start, end, self.kind, confidence))
        return found

    def _confidence(self, text: str, start: int, end: int) -> float:
        sure = 1.0 if self.valid is None else self.valid(text[start:end])
        if sure <= 0 or (self.fits is not None and not self.fits(text, start, end)):
            return 0.0
        if self.unless is not None and self.unless.around(text, start, end):
            return 0.0
        return sure


def any_of(parts: Sequence[str]) -> str:
    """One expression for any of these literal texts, the longest first."""
    return "|".join(re.escape(part) for part in sorted(set(parts), key=len, reverse=True))
