"""One text on its way through the rules, piece by piece.

Each rule is a stage of its own: what one lets through, the next gets. A stage keeps what its rule
may still object to, and gives its rule a window: what is kept, and before it what the rule has to
see of what went through. So pieces come out as they would if the text had come whole, and nothing
that went through is ever taken back.

The stages ask for verdicts by yielding, and do not know who gives them, or how long that takes:
`Scene.decide` answers at once, `Scene.decide_later` awaits.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs

from lamella import Channel, Surface
from lamella._normal_text import beginning
from lamella._surfaces import map_json_text, without_escapes
from lamella_middlewares.guard._rules import Inspection, Rule
from lamella_middlewares.guard._verdicts import Edit, Verdict

if TYPE_CHECKING:
    from lamella_middlewares.guard._scene import Scene

_LONG: Final = 2048
"""From this length on, a window is looked at only when an eighth of it is new: otherwise a rule
with a long look-behind would read everything again for each token."""


@attrs.frozen
class Question:
    """Somebody has to agree to a text, or to a request as a whole.

    Attributes:
        rule: Who asks.
        verdict: Why.
        text: What it is about.
        direction: Whether that is a request or an answer.
        whole: What names the request, where the question is about all of it.
    """

    rule: Rule
    verdict: Verdict
    text: str
    direction: Literal["in", "out"]
    whole: str = ""


@attrs.frozen
class Query:
    """A rule is to judge."""

    rule: Rule
    inspection: Inspection


Steps: TypeAlias = "Generator[Query | Question, Verdict | None, str]"
"""Yields what is to be decided, gets the verdict (None: the rule failed, and that may pass), and
returns what may be let through."""


@attrs.frozen
class Place:
    """Whose text it is."""

    scene: Scene
    direction: Literal["in", "out"]
    surface: Surface | None = None
    channel: Channel | None = None


class Stage:
    """A text before one rule."""

    __slots__ = ("_before", "_fresh", "_held", "_length", "_off", "_offset", "_place", "asking",
                 "rule")  # fmt: skip

    def __init__(self, rule: Rule, place: Place) -> None:
        self.rule = rule
        self._place = place
        self._before = ""  # what went through and has to be seen
        self._held: list[str] = []
        self._length = 0  # of what is held
        self._fresh = 0  # how much of that the rule has not seen
        self._offset = 0  # where `_before` begins in the text
        self._off = False
        self.asking: Verdict | None = None

    def feed(self, text: str) -> Steps:
        """What may go on of the text so far."""
        if self._off:
            return text
        self._held.append(text)
        self._length += len(text)
        self._fresh += len(text)
        behind = self.rule.look_behind
        if behind is None or self.asking is not None or self._length <= behind:
            return ""  # none of it could go on
        size = len(self._before) + self._length
        if size > _LONG and self._fresh * 8 < size:
            return ""
        return (yield from self._judge(final=False))

    def close(self, text: str) -> Steps:
        """What may go on of the rest, at the end of the text."""
        if self._off:
            return text
        if text:
            self._held.append(text)
        if not self._held:
            return ""
        return (yield from self._judge(final=True))

    def _judge(self, *, final: bool) -> Steps:
        window = self._before + "".join(self._held)
        start = len(self._before)
        self._held = [window[start:]]
        self._fresh = 0
        place = self._place
        inspection = Inspection(
            window,
            start,
            self._offset,
            final,
            place.direction,
            place.surface,
            place.channel,
            place.scene,
        )
        verdict = yield Query(self.rule, inspection)
        if verdict is None:
            self._off = True
            self._held = []
            return window[start:]
        text, reached = self.let_through(verdict, inspection)
        if not final:
            self._keep(window, reached)
        return text

    def let_through(self, verdict: Verdict, inspection: Inspection) -> tuple[str, int]:
        """What goes on, and up to where in the window that is."""
        window, start = inspection.text, inspection.start
        limit = len(window)
        if not inspection.final:
            behind = self.rule.look_behind or 0
            settled = verdict.settled if verdict.settled is not None else limit - behind
            limit = min(max(settled, start), limit)
        if verdict.kind == "allow":
            return window[start:limit], limit
        scene = self._place.scene
        if verdict.kind == "change":
            edits = _edits(verdict, window)
            if edits and (edits[0].start < start or edits[-1].end > len(window)):
                why = "it changed what is outside of its look-behind"
                raise scene.broken(self.rule, why, inspection.direction)
            text, reached = _edited(inspection, edits, limit, whole=verdict.text is not None)
            if text != window[start:reached]:
                scene.note("changed", self.rule, verdict, inspection.direction)
            return text, reached
        if not inspection.final and verdict.at is not None and verdict.at >= limit:
            return window[start:limit], limit
        if verdict.kind == "block":
            raise scene.blocked(self.rule, verdict, inspection.direction)
        self.asking = verdict
        return (window[start:], len(window)) if inspection.final else ("", start)

    def _keep(self, window: str, reached: int) -> None:
        """Remember what is held, and as much before it as the rule has to see."""
        rest = window[reached:]
        self._held = [rest] if rest else []
        self._length = len(rest)
        behind = self.rule.look_behind or 0
        first = beginning(window, reached - behind - 1) if reached > behind else 0
        self._before = window[first:reached]
        self._offset += first


class Lane:
    """A text of an answer before all rules."""

    __slots__ = ("_place", "_seen", "_stages")

    def __init__(self, rules: Sequence[Rule], place: Place) -> None:
        self._place = place
        self._stages = [Stage(rule, place) for rule in rules]
        self._seen: list[str] = []

    def feed(self, text: str) -> Steps:
        """What may be let through now."""
        self._seen.append(text)
        for stage in self._stages:
            text = yield from stage.feed(text)
            if not text:
                return ""
        return text

    def close(self) -> Steps:
        """What was held back, at the end, once everybody who has to has agreed."""
        text = ""
        for stage in self._stages:
            text = yield from stage.close(text)
        yield from self.questions()
        return text

    def questions(self) -> list[Question]:
        """What somebody has to agree to."""
        asking = [(stage, stage.asking) for stage in self._stages if stage.asking is not None]
        if not asking:
            return []
        whole, direction = "".join(self._seen), self._place.direction
        return [Question(stage.rule, verdict, whole, direction) for stage, verdict in asking]

    def whole(self, text: str) -> Steps:
        """A text that is there as a whole; `questions` says what is still to be asked."""
        self._seen.append(text)
        for stage in self._stages:
            text = yield from stage.close(text)
        return text


class JSONLane:
    r"""JSON text, such as a tool call's arguments: each string in it is a text of its own.

    Its strings can be written in many ways (`\\u0061` is `a`), and nobody can use half of it: so it
    is let through at its end.
    """

    __slots__ = ("_parts", "_place", "_rules")

    def __init__(self, rules: Sequence[Rule], place: Place) -> None:
        self._rules = rules
        self._place = place
        self._parts: list[str] = []

    def feed(self, text: str) -> Steps:
        """Nothing yet."""
        self._parts.append(text)
        return ""
        yield  # a generator, as that of other lanes is

    def close(self) -> Steps:
        """The whole."""
        written = "".join(self._parts)
        surface = Surface("assistant", "tool_call", "arguments")
        found: list[str] = []

        def collect(text: str, _: Surface) -> str:
            found.append(text)
            return text

        map_json_text(written, collect, surface)
        if found == [written] and (read := without_escapes(written)) != written:
            # No JSON: it breaks off, and who reads it all the same will read the escapes.
            text = yield from self._whole(read)
            if text != read:
                return text
        made: list[str] = []
        for text in found:
            made.append((yield from self._whole(text)))  # noqa: PERF401 - none can yield
        if made == found:
            return written
        left = iter(made)
        return map_json_text(written, lambda _, __: next(left), surface)

    def _whole(self, text: str) -> Steps:
        lane = Lane(self._rules, self._place)
        new = (yield from lane.whole(text)) if text else text
        yield from lane.questions()
        return new


def _edits(verdict: Verdict, window: str) -> tuple[Edit, ...]:
    if verdict.text is None:
        return verdict.edits
    new = verdict.text
    if new == window:
        return ()
    shorter = min(len(new), len(window))
    first = 0
    while first < shorter and new[first] == window[first]:
        first += 1
    last = 0
    while last < shorter - first and new[-1 - last] == window[-1 - last]:
        last += 1
    return (Edit(first, len(window) - last, new[first : len(new) - last]),)


def _edited(
    inspection: Inspection, edits: Sequence[Edit], limit: int, *, whole: bool
) -> tuple[str, int]:
    """The window up to `limit` with its edits, and up to where that is.

    A place that begins before the limit is settled, and goes as a whole. Not so where the rule gave
    the whole text: what differs may be several places, of which some are not settled.
    """
    window, reached = inspection.text, inspection.start
    pieces: list[str] = []
    for one in edits:
        if not inspection.final and one.start >= limit:
            break
        if whole and not inspection.final and one.end > limit:
            limit = one.start
            break
        pieces += (window[reached : one.start], one.text)
        reached = one.end
    if limit > reached:
        pieces.append(window[reached:limit])
        reached = limit
    return "".join(pieces), reached
