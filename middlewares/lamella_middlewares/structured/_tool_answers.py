"""What a model says by calling the layer's tool, as the text of its answer.

The arguments of the call are the value. They go on as text while they come, so that whoever reads
the answer sees JSON in every mode, and no call that nobody answers gets into a history.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import attrs

from lamella._events import Event, Finish, TextDelta, ToolCallDelta, Turn

_Begun = Literal["", "own", "other"]


class ToolAnswers:
    """A transform that makes text of the first call of one tool in each model turn.

    Words before the call are held back until the turn says what it is: they go on if no call
    comes, or another tool's, and are dropped before the value. Once the value has begun, other
    calls are dropped. One that comes after others of the same turn replaces them at its end.

    Args:
        tool: The tool's name.

    Attributes:
        found: Whether the last turn has called it.
    """

    __slots__ = ("_begun", "_calls", "_held", "_late", "_tool", "_unnamed", "found")

    def __init__(self, tool: str) -> None:
        self._tool = tool
        self._reset()

    def _reset(self) -> None:
        self.found = False
        self._begun: _Begun = ""
        self._calls: dict[int, tuple[str | None, _Begun | None]] = {}  # by index: id, whose
        self._unnamed: dict[int, list[ToolCallDelta]] = {}
        self._held: list[TextDelta] = []
        self._late: list[str] | None = None

    def feed(self, event: Event) -> Iterable[Event]:
        """The events to let through in place of `event`."""
        if isinstance(event, ToolCallDelta):
            return self._call(event)
        if isinstance(event, TextDelta):
            if self._begun == "":
                self._held.append(event)
            return (event,) if self._begun == "other" else ()
        if isinstance(event, Turn):
            held = self._held  # the turn's own messages say what counts
            self._reset()
            return (*held, event)
        return (event,)

    def flush(self) -> list[Event]:
        """What was held back, at the end of the answer."""
        events: list[Event] = [*self._held] if self._begun == "" else []
        for pieces in self._unnamed.values():
            events += [] if self._begun == "own" else pieces
        if self._late is not None:
            self.found = True
            events = [Turn(()), TextDelta("".join(self._late))]  # the other calls are taken back
        self._held, self._unnamed, self._late = [], {}, None
        return events

    # --- calls ---------------------------------------------------------------------------------

    def _call(self, event: ToolCallDelta) -> Iterable[Event]:
        known = self._calls.get(event.index)
        another = known is not None and None not in (event.id, known[0]) and event.id != known[0]
        if known is None or another:
            if event.name is None and not another:
                self._unnamed.setdefault(event.index, []).append(event)
                return ()
            waiting = self._unnamed.pop(event.index, [])
            whose = self._whose(event.name)
            call_id = next((one.id for one in (*waiting, event) if one.id is not None), None)
            self._calls[event.index] = (call_id, whose)
            return [one for piece in (*waiting, event) for one in self._piece(piece, whose)]
        self._calls[event.index] = (known[0] or event.id, known[1])
        return self._piece(event, known[1])

    def _whose(self, name: str | None) -> _Begun | None:
        """Whether a call that begins is the value or another tool's; None for one to drop."""
        if name != self._tool:
            if self._begun != "own":
                self._begun = "other"
                return "other"
            return None
        if self.found or self._late is not None:
            return None
        if self._begun == "":
            self._begun, self.found = "own", True
        else:
            self._late = []
        return "own"

    def _piece(self, event: ToolCallDelta, whose: _Begun | None) -> Iterable[Event]:
        if whose == "other":
            held, self._held = self._held, []
            return (*held, event)
        if whose == "own" and event.arguments:
            if self._late is None:
                return (TextDelta(event.arguments),)
            self._late.append(event.arguments)
        return ()


def ended(finish: Finish, tool_answers: ToolAnswers | None) -> Finish:
    """The end of an answer whose call has become text."""
    if tool_answers is None or not tool_answers.found or finish.reason != "tool_calls":
        return finish
    return attrs.evolve(finish, reason="stop", reasons=())
