"""The strategies that need no model: results of tools, long texts, old turns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, ClassVar, Final, TypeAlias, cast

import attrs

from lamella._errors import ConfigurationError
from lamella._history import Group
from lamella._messages import Message
from lamella._options import is_async, whole
from lamella._parts import Audio, File, Image, Opaque, Part, Reasoning, Text, ToolResult
from lamella._shortening import History, Shortener
from lamella._text_cutting import cut_text

_WORTH: Final = 200
"""Characters. A result this short is no longer than what would be said in its place."""
_MARKED: Final = 200
"""Characters above the limit that a text has before it is cut: the mark needs some of them."""


def _whole_or_none(least: int) -> Any:
    return attrs.validators.optional(whole(least))


@attrs.frozen
class DropToolResults:
    """Old results of tools are replaced by a line that says how long they were.

    The call and its result both stay, so the model still sees what it asked for. The oldest go
    first; results of up to 200 characters stay.

    Attributes:
        current: Of the turn that is being answered, too, the results of all but so many of its last
            calls: for agents that work long on one question. None leaves that turn whole.
    """

    current: int | None = attrs.field(default=None, kw_only=True, validator=_whole_or_none(1))

    @property
    def name(self) -> str:
        """What the trace calls it."""
        return "drop_tool_results"

    @property
    def only_past(self) -> bool:
        """Whether it leaves the turn that is being answered alone."""
        return self.current is None

    def shorten(self, history: History, /) -> History:
        """The history with as few results replaced as will do."""
        return _replacing(history, self._shorter(history))

    def _shorter(self, history: History) -> Iterable[tuple[int, Message]]:
        for group in self._groups(history):
            for place, message in enumerate(group.messages, group.start):
                for part in message.parts:  # gone through often, and seldom with something found
                    if isinstance(part, ToolResult) and _is_long(part):
                        parts = [_without_content(one) for one in message.parts]
                        yield place, attrs.evolve(message, parts=parts)
                        break

    def _groups(self, history: History) -> Sequence[Group]:
        past = history.past
        if self.current is None:
            return past
        begun = history.under_way
        calls = [
            group
            for group in history.groups
            if group.start >= begun and len(group.messages) > 1 and not group.pinned
        ]
        return (*past, *calls[: -self.current])


@attrs.frozen
class Truncate:
    """Of long texts the beginning and the end stay, with a mark between them; the longest first.

    A text is cut between words, and never inside of what is read as one character.

    Attributes:
        characters: How many characters of a text stay; at least 100.
    """

    only_past: ClassVar[bool] = True

    characters: int = attrs.field(default=4_000, validator=whole(100))

    @property
    def name(self) -> str:
        """What the trace calls it."""
        return "truncate"

    def shorten(self, history: History, /) -> History:
        """The history with as few texts cut as will do."""
        most = self.characters + _MARKED
        found: list[tuple[int, int, Message]] = []
        for group in history.past:
            for place, message in enumerate(group.messages, group.start):
                longest = _longest_text(message.parts)
                if longest > most and not _bound(message.parts):
                    found.append((-longest, place, message))
        found.sort(key=_first_two)
        return _replacing(
            history,
            (
                (place, attrs.evolve(message, parts=self._cut_parts(message.parts, most)))
                for _, place, message in found
            ),
        )

    def _cut_parts(self, parts: Sequence[Part], most: int) -> tuple[Part, ...]:
        return tuple([self._cut_part(part, most) for part in parts])

    def _cut_part(self, part: Part, most: int) -> Part:
        if isinstance(part, Text) and len(part.text) > most:
            return attrs.evolve(part, text=cut_text(part.text, self.characters))
        if isinstance(part, ToolResult):
            return attrs.evolve(part, content=self._cut_parts(part.content, most))
        return part


@attrs.frozen
class SlidingWindow:
    """The oldest turns go: a question goes with its answer, a call of a tool with its results.

    What stays of the past begins with a user's message, as providers want it.
    """

    only_past: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """What the trace calls it."""
        return "sliding_window"

    def shorten(self, history: History, /) -> History:
        """The history without as many of its oldest turns as have to go."""
        tokens, messages, target = history.tokens, len(history.messages), history.target
        past = {group.start for group in history.past}
        if not past:
            return history
        gone: list[Group] = []
        unasked = False  # the question of this turn has gone, so its answers go too
        for group in history.groups:
            fits = target.holds(tokens, messages)
            if group.role == "user":
                unasked = group.start in past
            if fits and (group.role == "user" or not unasked):
                break
            if group.start not in past:
                continue
            gone.append(group)
            messages -= len(group.messages)
            if target.tokens is not None:
                tokens -= sum(map(history.count, group.messages))
        return history.without(gone)


_NAMED: Final[dict[str, Shortener]] = {
    strategy.name: strategy for strategy in (DropToolResults(), Truncate(), SlidingWindow())
}

drop_tool_results: Final = _NAMED["drop_tool_results"]
truncate: Final = _NAMED["truncate"]
sliding_window: Final = _NAMED["sliding_window"]


Strategies: TypeAlias = Shortener | str | Iterable[Shortener | str]
"""What may be given: a strategy's name, an object with `shorten`, or several."""


def strategies_of(
    given: Strategies, *, option: str, offered: Sequence[str] = ()
) -> tuple[Shortener, ...]:
    """Strategies from what a user gives: a name, an object with `shorten`, or several.

    Args:
        given: What was given.
        option: Whose option it is, for messages: `Trim(strategies=...)`.
        offered: The names that messages offer, where it does not take all of them.

    Raises:
        ConfigurationError: If one of them is none, or there is none.
    """
    several: tuple[object, ...]
    names = ", ".join(map(repr, offered or _NAMED))
    if isinstance(given, Mapping | AbstractSet):
        msg = f"{option}: {given!r} is no list of strategies: they are tried in their order."
        hint = f"Give a list, of {names} or, in code, objects: Truncate(characters=2_000)."
        raise ConfigurationError(msg, hint=hint)
    if isinstance(given, str) or not isinstance(given, Iterable):
        several = (given,)
    else:
        several = tuple(given)
    if not several:
        msg = f"{option}: no strategy is given, so nothing could become shorter."
        raise ConfigurationError(msg, hint=f"Give one or several of {names}.")
    return tuple([_strategy(one, option, names) for one in several])


def _strategy(given: object, option: str, names: str) -> Shortener:
    found: object = _NAMED.get(given) if isinstance(given, str) else given
    shorten: Any = getattr(found, "shorten", None)
    named = isinstance(getattr(found, "name", None), str) and not isinstance(found, type)
    if not named or not callable(shorten) or is_async(shorten):
        msg = f"{option}: {given!r} is no strategy."
        hint = f"Give one of {names}, or an object with a name and a plain shorten(history)."
        raise ConfigurationError(msg, hint=hint)
    return cast("Shortener", found)


# --- replacing -----------------------------------------------------------------------------------


def _first_two(found: tuple[int, int, Message]) -> tuple[int, int]:
    return found[:2]


def _replacing(history: History, shorter: Iterable[tuple[int, Message]]) -> History:
    """The history with messages replaced one after the other, until it fits.

    One that would not have fewer tokens stays as it is.
    """
    target, tokens = history.target, history.tokens
    messages = len(history.messages)
    if target.tokens is None or target.holds(tokens, messages):
        return history  # fewer tokens make no fewer messages
    changed: dict[int, Message] = {}
    for place, message in shorter:
        saved = history.count(history.messages[place]) - history.count(message)
        if saved <= 0:
            continue
        changed[place] = message
        tokens -= saved
        if tokens <= target.tokens:
            break
    return history.replacing(changed)


def _is_long(result: ToolResult) -> bool:
    """Whether a line in the place of what a tool has answered is worth it."""
    content = result.content
    if len(content) == 1 and isinstance(content[0], Text) and len(content[0].text) <= _WORTH:
        return False
    return not result.extra and (_letters(content) > _WORTH or _media(content) > 0)


def _without_content(part: Part) -> Part:
    """A tool's long result with a line in the place of its content."""
    if not isinstance(part, ToolResult) or not _is_long(part):
        return part
    media = _media(part.content)
    said = f"{_letters(part.content):,} characters"
    said += f" and {media} files or pictures" if media else ""
    line = f"[An older result, left out because of its length: {said}.]"
    return attrs.evolve(part, content=(Text(line),), listed=False)


def _letters(content: Sequence[Part]) -> int:
    return sum([len(one.text) for one in content if isinstance(one, Text)])


def _media(content: Sequence[Part]) -> int:
    return sum([isinstance(one, Image | Audio | File) for one in content])


def _longest_text(parts: Sequence[Part]) -> int:
    longest = 0
    for part in parts:
        if isinstance(part, Text):
            longest = max(longest, len(part.text))
        elif isinstance(part, ToolResult):
            longest = max(longest, _longest_text(part.content))
    return longest


def _bound(parts: Sequence[Part]) -> bool:
    """Whether something in a message holds only together with the rest as it is.

    Sealed reasoning vouches for the turn that it belongs to, and in `extra` providers put seals of
    single parts.
    """
    for part in parts:
        if isinstance(part, Opaque):
            return True
        if isinstance(part, Reasoning) and (part.signature or part.id or part.redacted):
            return True
        if getattr(part, "extra", None):
            return True
        if isinstance(part, ToolResult) and _bound(part.content):
            return True
    return False
