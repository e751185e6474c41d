"""Patterns and lengths of texts."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal, Unpack

import attrs

from lamella import ConfigurationError
from lamella._normal_text import normal_text, settled
from lamella._safe_patterns import SafePattern, compile_pattern
from lamella_middlewares.guard._rules import About, Direction, Inspection, Rule, checked
from lamella_middlewares.guard._terms import Action, check_action
from lamella_middlewares.guard._verdicts import Edit, Verdict, allow, ask, block, edit

_AROUND: Final = 2
"""Characters behind a match that can decide whether it is one: `$` also matches before a line break
at the end."""


def pattern(  # noqa: PLR0913 - all but the first two by name, and rare
    name: str,
    expression: str,
    *,
    action: Action = "block",
    ignore_case: bool = False,
    replacement: str = "[removed]",
    look_behind: int | None = None,
    direction: Direction = "both",
    roles: Collection[str] | None = None,
) -> Rule:
    """Blocks, redacts or asks about what a regular expression matches.

    Texts are looked at in their compatible form (NFKC), with digits of all scripts as ASCII digits
    and without characters that take no place. The syntax is RE2's, which has no lookaround and no
    backreference. Without google-re2, expressions that could take exponential time are refused.

    Args:
        name: What the rule is called, as a word.
        expression: What to look for. Empty matches do not count.
        action: `"block"`, `"redact"` (`replacement` instead), or `"ask"`.
        ignore_case: Whether case does not matter.
        replacement: What stands there instead; taken as it is.
        look_behind: The most characters that a match has. None takes it from the expression; where
            that has no bound (`+`, `*`), an answer is held back until its end.
        direction: See `Rule`.
        roles: See `Rule`.

    Raises:
        ConfigurationError: If the expression is none, or may take too long.
    """
    check_action(action, f"pattern({name!r}, ...)")
    compiled = compile_pattern(expression, ignore_case=ignore_case)
    longest = compiled.longest if look_behind is None else look_behind
    if type(longest) is int:
        longest += _AROUND
    return checked(PatternRule(name, direction, roles, longest, action, compiled, replacement))


@attrs.frozen
class PatternRule(Rule):
    """The rule that `pattern` makes."""

    name: str
    direction: Direction
    roles: Collection[str] | None
    look_behind: int | None
    action: Action
    pattern: SafePattern
    replacement: str

    def clears(self, text: str, /) -> bool:
        """Whether the pattern is nowhere in it."""
        return self.pattern.search(normal_text(text).text) is None

    def inspect(self, inspection: Inspection, /) -> Verdict:
        """Look for the pattern."""
        text, final = inspection.text, inspection.final
        view = normal_text(text if final else text[: settled(text)])
        size = len(view.text)
        end = size if final else max(size - (self.look_behind or 0), 0)
        start = view.index(inspection.start)
        found: list[tuple[int, int]] = []
        for match in self.pattern.finditer(view.text, start):
            first, last = match.span()
            if first >= end:
                break
            if last == size and not final:  # it may go on
                end = first
                break
            if last > first:
                found.append((first, last))
        sure = len(text) if final else max(view.place(end), inspection.start)
        if not found:
            return allow(settled=sure)
        kinds = (self.name,)
        places = [view.original(first, last) for first, last in found]
        if self.action == "redact":
            edits = [Edit(first, last, self.replacement) for first, last in places]
            return edit(edits, "pattern", kinds=kinds, settled=sure)
        verdict = block if self.action == "block" else ask
        return verdict("pattern", kinds=kinds, at=places[0][0], settled=sure)


def max_length(
    characters: int,
    *,
    action: Literal["block", "cut"] = "block",
    **about: Unpack[About],
) -> Rule:
    """Bounds the length of each text.

    Args:
        characters: The most that one text may have, 0 or more.
        action: `"block"`, or `"cut"`: the rest is left out. A stream that gets too long is blocked
            once it is, when the beginning has been let through.
        **about: `name`, `direction` and `roles`; see `Rule`.

    Raises:
        ConfigurationError: If an option is wrong.
    """
    if type(characters) is not int or characters < 0:
        raise ConfigurationError(f"max_length({characters!r}): give a whole number, 0 or more.")
    check_action(action, "max_length", ("block", "cut"))
    name, direction = about.get("name", "max_length"), about.get("direction", "both")
    return checked(LengthRule(name, direction, about.get("roles"), 0, characters, action))


@attrs.frozen
class LengthRule(Rule):
    """The rule that `max_length` makes."""

    name: str
    direction: Direction
    roles: Collection[str] | None
    look_behind: int | None
    characters: int
    action: Literal["block", "cut"]

    def clears(self, text: str, /) -> bool:
        """Whether it is no longer."""
        return len(text) <= self.characters

    def inspect(self, inspection: Inspection, /) -> Verdict:
        """Count the characters."""
        size = inspection.offset + len(inspection.text)
        if size <= self.characters:
            return allow()
        if self.action == "block":
            return block("too_long", kinds=("length",), most=self.characters)
        first = max(self.characters - inspection.offset, inspection.start)
        return edit([(first, len(inspection.text), "")], "too_long", kinds=("length",))
