"""Whether a complete answer is a value, and if not, why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from lamella import Context
from lamella._chat_answer import ChatAnswer
from lamella._typed_problems import FormError, Problem
from lamella_middlewares.structured._near_json import fenced, mended

if TYPE_CHECKING:
    from lamella._typed_forms import Form

MISMATCH: Final = "mismatch"
"""The one code after which asking again may help."""

WAITING: Final = "tool_calls"
"""The model asks for tools that are the caller's to run: there is no value yet, and no mistake."""

_INLINE: Final = 200_000
"""Characters that are read on the event loop, in about 6 ms; more than this takes a thread."""

NO_ANSWER: Final = Problem((), "JSON", "an empty answer")


@attrs.frozen
class Verdict:
    """What an answer amounts to.

    Attributes:
        value: The value; only where `code` is empty.
        code: Why it is none; see `StructureError`. Empty where it is one.
        problems: Where it does not fit.
        text: What was read.
        repaired: What had to be mended to read it: `"fence"` or `"json"`; empty for nothing.
    """

    value: Any = None
    code: str = ""
    problems: tuple[Problem, ...] = ()
    text: str = attrs.field(default="", repr=False)
    repaired: str = ""

    @property
    def good(self) -> bool:
        """Whether there is a value."""
        return not self.code

    @property
    def is_json(self) -> bool:
        """Whether it could be read as JSON, if there was anything to read."""
        return not any(each.expected == "JSON" and each is not NO_ANSWER for each in self.problems)


async def judge(answer: ChatAnswer, form: Form[Any], context: Context, *, repair: bool) -> Verdict:
    """What a complete answer amounts to; what was the call of our tool is text in it.

    Args:
        answer: The answer.
        form: What is wanted.
        context: Of the call: long texts are read and mended in a thread.
        repair: Whether what is nearly JSON is mended.
    """
    text = answer.text
    if not text.strip():
        code = _ending(answer)
        return Verdict(None, code or MISMATCH, () if code else (NO_ANSWER,), text)
    code = _ending(answer)
    if code in {"length", "content_filter"} and text[-1].isdigit():  # 36 may be 365 cut off
        return Verdict(None, code, (), text)
    try:
        return Verdict(await _decoded(text, form, context), text=text)
    except FormError as error:
        problems = error.problems
    if code:  # what was cut off would be mended to half a value
        return Verdict(None, code, (), text)
    inner, how = fenced(text), "fence"
    whole = None if not repair else await mended(text if inner is None else inner, context)
    if whole is not None:
        inner, how = whole, "json"
    if inner is not None:
        try:
            return Verdict(await _decoded(inner, form, context), text=text, repaired=how)
        except FormError as error:
            problems = error.problems
    return Verdict(None, MISMATCH, problems, text)


async def _decoded(text: str, form: Form[Any], context: Context) -> Any:
    if len(text) <= _INLINE:
        return form.decode(text)
    return await context.wait(
        lambda: context.ports.thread(form.decode, text), what="an answer was read"
    )


def _ending(answer: ChatAnswer) -> str:
    """Why an answer without a value is not to be asked for again; empty where it is."""
    message, reason = answer.message, answer.finish_reason
    if message.refusal is not None or reason == "refusal":
        return "refusal"
    if reason in {"length", "content_filter"}:
        return str(reason)
    return WAITING if message.tool_calls else ""
