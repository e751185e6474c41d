"""Blocked terms: words that are not to be read or said, however they are spelled."""

from __future__ import annotations

import importlib
import unicodedata
from collections.abc import Collection, Iterable
from typing import Any, Final, Literal, Unpack, cast

import attrs

from lamella import ConfigurationError
from lamella._normal_text import NormalText, normal_text, settled
from lamella_middlewares.guard._rules import About, Direction, Inspection, Rule, checked
from lamella_middlewares.guard._verdicts import Edit, Verdict, allow, ask, block, edit

Action = Literal["block", "redact", "ask"]
ACTIONS: Final = ("block", "redact", "ask")

_UNSPACED: Final = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x31FF),  # CJK radicals, kana, bopomofo
    (0x3400, 0x9FFF),  # CJK ideographs
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
"""Scripts that put no spaces between words: there, any place may be the edge of one."""


def blocked_terms(
    terms: Iterable[str],
    *,
    action: Action = "block",
    ignore_case: bool = True,
    whole_words: bool = True,
    replacement: str = "[removed]",
    **about: Unpack[About],
) -> Rule:
    """Blocks, redacts or asks about terms. All are looked for at once (Aho-Corasick, 1975).

    Terms and texts are compared in their compatible form (NFKC), without characters that take no
    place: full-width letters, soft hyphens and zero-width spaces hide nothing.

    Args:
        terms: Words or phrases; a phrase's spaces are as they are written.
        action: `"block"`, `"redact"` (`replacement` instead), or `"ask"`.
        ignore_case: Whether case does not matter.
        whole_words: Whether a term must not be part of a longer word. In scripts without spaces
            between words it may.
        replacement: What stands there instead.
        **about: `name`, `direction` and `roles`; see `Rule`.

    Raises:
        ConfigurationError: If there are no terms, or pyahocorasick is not installed.
    """
    given = [] if isinstance(terms, str) else list(terms)
    if not given or not all(isinstance(term, str) for term in cast("list[object]", given)):
        raise ConfigurationError("blocked_terms() takes a list of terms, one at least.")
    known = sorted({normal_text(term, fold_case=ignore_case).text for term in given})
    if not all(term.strip() for term in known):
        raise ConfigurationError("blocked_terms(): a term is empty, or nothing that can be seen.")
    check_action(action, "blocked_terms")
    look = max(map(len, known)) + 1  # and whether the word goes on
    rule = TermsRule(
        about.get("name", "blocked_terms"),
        about.get("direction", "both"),
        about.get("roles"),
        look,
        action,
        ignore_case,
        whole_words,
        replacement,
        _automaton(known),
    )
    return checked(rule)


def check_action(action: object, rule: str, actions: Collection[str] = ACTIONS) -> None:
    """Refuse an action that there is not."""
    if action not in actions:
        raise ConfigurationError(
            f"{rule}(action={action!r}): give one of {', '.join(map(repr, actions))}."
        )


@attrs.frozen
class TermsRule(Rule):
    """The rule that `blocked_terms` makes."""

    name: str
    direction: Direction
    roles: Collection[str] | None
    look_behind: int | None
    action: Action
    ignore_case: bool
    whole_words: bool
    replacement: str
    _automaton: Any = attrs.field(repr=False, eq=False)

    def clears(self, text: str, /) -> bool:
        """Whether no term is in it, not even as a part of a word."""
        view = normal_text(text, fold_case=self.ignore_case)
        return next(self._automaton.iter(view.text), None) is None

    def inspect(self, inspection: Inspection, /) -> Verdict:
        """Look for the terms."""
        text = inspection.text
        if not inspection.final:
            text = text[: settled(text)]
        view = normal_text(text, fold_case=self.ignore_case)
        end = len(view.text)
        if not inspection.final:
            end = max(end - (self.look_behind or 0), 0)
        sure = len(inspection.text) if inspection.final else view.place(end)
        found = self._found(view, view.index(inspection.start), end)
        if not found:
            return allow(settled=sure)
        kinds = ("term",)
        places = [view.original(first, last) for first, last in found]
        if self.action == "redact":
            edits = [Edit(first, last, self.replacement) for first, last in places]
            return edit(edits, "term", kinds=kinds, settled=sure)
        verdict = block if self.action == "block" else ask
        return verdict("term", kinds=kinds, at=places[0][0], settled=sure)

    def _found(self, view: NormalText, start: int, end: int) -> list[tuple[int, int]]:
        """Where terms begin from `start` to before `end`: leftmost, then longest, not overlapping.

        They begin `look_behind` or more before the end of the view, so that nothing that is still
        to come makes one of them longer, or part of a longer word.
        """
        text = view.text
        if start >= end:
            return []
        places = [
            (last + 1 - length, -length) for last, length in self._automaton.iter(text, start)
        ]
        places.sort()
        found: list[tuple[int, int]] = []
        reached = start
        for first, negative in places:
            last = first - negative
            if first < reached or first >= end:
                continue
            if self.whole_words and not _is_word(text, first, last):
                continue
            found.append((first, last))
            reached = last
        return found


def _automaton(terms: Iterable[str]) -> Any:
    try:
        ahocorasick: Any = importlib.import_module("ahocorasick")
    except ImportError:
        raise ConfigurationError(
            "blocked_terms() needs pyahocorasick, which is not installed.",
            hint='Run: pip install "lamella[guard]".',
        ) from None
    automaton = ahocorasick.Automaton()
    for term in terms:
        automaton.add_word(term, len(term))
    automaton.make_automaton()
    return automaton


def _is_word(text: str, first: int, last: int) -> bool:
    """Whether no word goes on over either edge."""
    return not (
        (first > 0 and _joined(text[first - 1], text[first]))
        or (last < len(text) and _joined(text[last - 1], text[last]))
    )


def _joined(one: str, other: str) -> bool:
    return _in_word(one) and _in_word(other)


def _in_word(character: str) -> bool:
    if character.isascii():
        return character.isalnum() or character == "_"
    code = ord(character)
    if any(low <= code <= high for low, high in _UNSPACED):
        return False
    return character.isalnum() or unicodedata.category(character)[0] == "M"
