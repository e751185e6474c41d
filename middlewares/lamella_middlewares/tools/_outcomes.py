"""What became of a call of a tool, and what the model is told where it has no result."""

from __future__ import annotations

from typing import Final

import attrs

from lamella import Message, Part, Text, ToolCall
from lamella_middlewares.tools._results import message_of, size_of


@attrs.frozen
class Answered:
    """A call with its answer.

    Attributes:
        call: The call.
        parts: What the model is told.
        outcome: What became of it, in a word; `"ok"` is a result.
    """

    call: ToolCall
    parts: tuple[Part, ...]
    outcome: str

    @property
    def message(self) -> Message:
        """The message that answers the call."""
        return message_of(self.call.id, self.parts, error=self.outcome != "ok")

    @property
    def size(self) -> int:
        """Bytes of what the model is told."""
        return size_of(self.parts)


def told(call: ToolCall, outcome: str, text: str) -> Answered:
    """A call that has no result, and what the model is told instead."""
    return Answered(call, (Text(text),), outcome)


CANCELLED: Final = "The call was cancelled. Whether it had an effect is not known."
NEVER_RUN: Final = "The call was cancelled before it was run. It had no effect."
CUT_OFF: Final = (
    "Not run: the message was cut off at its limit on length, so that the call may not be whole. "
    "Ask for less at once, with shorter arguments."
)
NOT_FINISHED: Final = "Not run: the message did not end well ({reason})."
LIMIT: Final = "Not run: the limit on {what} is reached. Answer with what is known."
LIMITS: Final = {
    "max_steps": "turns",
    "max_tokens": "tokens",
    "max_cost": "cost",
    "max_seconds": "time",
}
LATE: Final = "Stopped: the limit on time is reached. Whether it had an effect is not known."
TIMED_OUT: Final = (
    "The tool was not done within {seconds:g} s and was stopped. Whether it had an effect is not "
    "known."
)
FAILED: Final = "The tool failed: {error}."
DUPLICATE: Final = "Not run: another call in the same message has the same id."
DECLINED: Final = "Not run: the call was not approved."
NOT_ASKED: Final = "Not run: the call has to be approved, and that could not be asked."
UNKNOWN: Final = "There is no tool of this name. The tools are: {names}."
UNCHECKED: Final = "They could not be checked: {error}."
INVALID: Final = "Not run: the arguments do not fit.\n{why}"
