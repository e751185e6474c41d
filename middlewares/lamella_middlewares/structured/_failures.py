"""The errors of answers that are no values."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from lamella import LamellaError, StructureError, Usage
from lamella._chat_answer import ChatAnswer
from lamella_middlewares.structured._corrections import before_last

if TYPE_CHECKING:
    from lamella._typed_forms import Form
    from lamella_middlewares.structured._verdicts import Verdict

T = TypeVar("T")

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


async def bearing(work: Awaitable[T], so_far: ChatAnswer | None) -> T:
    """Do something whose errors come with what there is: it is paid, and tools were used.

    Args:
        work: What to do.
        so_far: The last answer, with what the turns before it have added; None if there is none.
    """
    try:
        return await work
    except LamellaError as error:
        if so_far is None:
            raise
        partial = error.partial
        if isinstance(partial, ChatAnswer):
            messages = (*before_last(so_far), *partial.messages)
            partial = attrs.evolve(partial, messages=messages)
        usage = both(so_far.usage, error.usage)
        raise error.copy(partial=partial or so_far, usage=usage) from error.__cause__


def both(one: Usage | None, other: Usage | None) -> Usage | None:
    """What two turns have consumed, as far as it is known."""
    return one + other if one is not None and other is not None else one or other
