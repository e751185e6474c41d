"""The errors of answers that are no values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lamella import StructureError
from lamella._chat_answer import ChatAnswer

if TYPE_CHECKING:
    from lamella._typed_forms import Form
    from lamella_middlewares.structured._verdicts import Verdict

_WHY: Final = {
    "length": (
        "The answer was cut off at the limit on output before it was a whole {name!r}.",
        "Raise max_output_tokens, or ask for less.",
    ),
    "refusal": (
        "The model has refused to answer, so there is no {name!r}.",
        "error.partial.message.refusal has its words, if it said any.",
    ),
    "content_filter": (
        "The provider's content filter has stopped the answer, so there is no {name!r}.",
        "Look at what is asked; asking again would be stopped again.",
    ),
    "tool_calls": (
        "There is no {name!r} yet: the model asks for tools that the caller has to run first.",
        "Run them, append response.messages and their results, and run that; or add Tools([...]).",
    ),
}


def failure(
    form: Form[Any], answer: ChatAnswer, verdict: Verdict, hint: str = ""
) -> StructureError:
    """The error of an answer.

    Args:
        form: What was wanted.
        answer: The answer, with what the turns before it have added.
        verdict: What is wrong with it.
        hint: What to do where it does not fit; the other codes have their own.
    """
    if verdict.code in _WHY:
        message, own = _WHY[verdict.code]
        message, hint = message.format(name=form.name), own
    else:
        more = len(verdict.problems) - 1
        rest = f" (and {more} more)" if more else ""
        message = f"The answer does not fit {form.name!r}: {verdict.problems[0]}{rest}."
    error = StructureError(
        message, code=verdict.code, layer="structured", hint=hint or None, partial=answer,
        usage=answer.usage,
    )  # fmt: skip
    error.problems = verdict.problems
    error.text = verdict.text
    return error
