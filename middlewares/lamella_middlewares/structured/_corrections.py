"""What a model is told after a wrong answer, and when there is no sense in telling it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import msgspec

from lamella import ChatResponse, Message
from lamella._chat_answer import ChatAnswer
from lamella._shortening import turn_under_way
from lamella._typed_forms import WRAPPED
from lamella._typed_problems import Problem
from lamella_middlewares.structured._words import correction, part_at

if TYPE_CHECKING:
    from lamella._typed_forms import Form
    from lamella_middlewares.structured._modes import Asked
    from lamella_middlewares.structured._verdicts import Verdict

_NOT_CALLED = "Not called: the answer was given in the same turn."


class Corrections:
    """The further questions of one call.

    A further turn has the conversation, the tools that were used on the way, the last wrong answer
    and what is wrong with it. Wrong answers before the last are left out: they would grow the
    question each time and say nothing.

    Args:
        form: What is wanted.

    Attributes:
        kept: What the turns so far have added to the conversation for good: uses of tools.
    """

    def __init__(self, form: Form[Any]) -> None:
        self._form = form
        self.kept: tuple[Message, ...] = ()
        self._last = ""
        self._again = 0

    def saw(self, response: ChatResponse, verdict: Verdict) -> None:
        """Take note of a wrong answer, as it came from inside, that is asked for again."""
        self.kept = (*self.kept, *before_last(response.answer))
        self._again = self._times(verdict)
        self._last = verdict.text

    def hopeless(self, verdict: Verdict) -> bool:
        """Whether the model gives the same answer whatever it is told."""
        return self._times(verdict) > 1

    def messages(
        self, asked: Asked, response: ChatResponse, verdict: Verdict
    ) -> tuple[Message, ...]:
        """The conversation of the next turn.

        Args:
            asked: What was asked first.
            response: The wrong answer, as it came from inside.
            verdict: What is wrong with it. If it is the last wrong answer once more, the schema of
                that place is said again.
        """
        repeated = self._times(verdict) > 0
        schema = part_at(self._form.schema, verdict.problems[0]) if repeated else None
        said = before_last(response.answer)
        if response.message.text or response.tool_calls:  # an empty message is refused by some
            said = (*said, response.message)
        problems = _as_written(self._form, verdict)
        replies = _replies(response.message, asked.tool, problems, schema)
        return (*_with_question_pinned(asked.request.messages), *self.kept, *said, *replies)

    def _times(self, verdict: Verdict) -> int:
        """How often the model has repeated itself with this answer."""
        return self._again + 1 if verdict.text and verdict.text == self._last else 0


def _with_question_pinned(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The conversation whose last question no layer inside leaves out.

    The correction is what the user seems to say last; without the question it would have the model
    make something up.
    """
    place = turn_under_way(messages)
    question = attrs.evolve(messages[place], pinned=True)
    return (*messages[:place], question, *messages[place + 1 :])


def before_last(answer: ChatAnswer) -> tuple[Message, ...]:
    """What an answer adds to the conversation before its last message, which may be none."""
    messages = answer.messages
    return messages[:-1] if messages and messages[-1] is answer.message else messages


def _as_written(form: Form[Any], verdict: Verdict) -> tuple[Problem, ...]:
    """The problems by the paths of what the model wrote: perhaps with an object around it."""
    if not form.wrapped:
        return verdict.problems
    try:
        written = msgspec.json.decode(verdict.text)
    except (msgspec.DecodeError, RecursionError):
        return verdict.problems
    if form.unwrapped(written) is written:
        return verdict.problems
    return tuple([problem.under(WRAPPED) for problem in verdict.problems])


def _replies(
    answer: Message, tool: str | None, problems: tuple[Problem, ...], schema: Any
) -> list[Message]:
    calls = answer.tool_calls
    own = next((call for call in calls if call.name == tool), None)
    words = correction(problems, tool=tool, schema=schema)
    if own is None:
        return [Message.user(words)]
    return [
        Message.tool(call.id, words if call is own else _NOT_CALLED, error=True) for call in calls
    ]
