"""What a layer outside makes of an answer, for layers inside that change its texts.

The arguments of a tool are data for a program; the words of an answer are for the caller. Where a
layer hands the arguments of one tool on as the answer, or reads the words as JSON, who looks for
something in them, restores or replaces it has to know.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

if TYPE_CHECKING:
    from lamella._context import Context
    from lamella._requests import Request
    from lamella._text_channels import Channel

F = TypeVar("F")

_ATTRIBUTE: Final = "answer_shape"


@attrs.frozen
class AnswerShape:
    """How the answer to a request is read.

    Attributes:
        tool: The tool whose arguments are the answer; None if its words are.
        json: Whether the words are read as JSON, so that what is put into them must be escaped.
    """

    tool: str | None = None
    json: bool = False


NO_SHAPE: Final = AnswerShape()


def with_shape(context: Context, shape: AnswerShape) -> Context:
    """A context that says how the answer is read."""
    return context.evolve(attributes={**context.attributes, _ATTRIBUTE: shape})


def without_shape(context: Context) -> Context:
    """A context for a question of another kind, whose answer is read as it comes."""
    if _ATTRIBUTE not in context.attributes:
        return context
    rest = {name: said for name, said in context.attributes.items() if name != _ATTRIBUTE}
    return context.evolve(attributes=rest)


def answer_shape(context: Context) -> AnswerShape:
    """What a layer outside has said of the answer."""
    said: Any = context.attributes.get(_ATTRIBUTE)
    return said if isinstance(said, AnswerShape) else NO_SHAPE


def as_read(request: Request[Any] | None, make: Callable[[Channel], F]) -> Callable[[Channel], F]:
    """What makes the filters of an answer's texts, told also of words that are read as JSON.

    Whoever reads those reads what their escapes say, and what is put into them must be escaped.

    Args:
        request: What the answer is to; None if there is none.
        make: Makes the filter of one text.
    """
    if not _asks_for_json(request):
        return make
    return lambda channel: make(
        attrs.evolve(channel, json=True) if channel.kind == "text" else channel
    )


def _asks_for_json(request: Request[Any] | None) -> bool:
    if request is not None and answer_shape(request.context).json:
        return True
    wanted: Any = getattr(request, "response_format", None)
    return bool(wanted) and str(wanted.get("type", "json_object")).startswith("json")
