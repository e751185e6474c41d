"""The answer that stands on a line of a file that a cache is warmed with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, TypeAlias, cast

import attrs

from lamella import (
    ChatRequest,
    ChatResponse,
    EmbeddingRequest,
    LamellaError,
    Message,
    Request,
    Response,
)

JSON: TypeAlias = dict[str, Any]

_GOOD_ENDS: Final = frozenset({"stop", "tool_calls"})


class LineError(ValueError):
    """A line is no request, or its answer none. The message shows no content."""


def read_answer(request: Request[Any], given: Any) -> Response:
    """The answer that is written on the line.

    A chat's is its text, the assistant's message, or a whole answer as the API gives it; that of
    another operation is a whole answer.
    """
    try:
        found = _read(request, given)
    except LineError:
        raise
    except (AttributeError, LamellaError, LookupError, TypeError, ValueError) as error:
        msg = f"has an answer that is none: {said(error)}"
        raise LineError(msg) from None
    if isinstance(request, ChatRequest):
        _must_be_kept(request, found)
    return found


def _must_be_kept(request: ChatRequest, answer: Any) -> None:
    """Refuse an answer that would not be kept if the model had given it."""
    wanted = request.n or 1
    if len(answer.choices) != wanted:
        msg = f"has an answer with {len(answer.choices)} choices, and asks for {wanted}"
        raise LineError(msg)
    for choice in answer.choices:
        if choice.finish_reason not in _GOOD_ENDS:
            reason = choice.finish_reason
            msg = f"has an answer that ended with {reason!r}; kept are those that ended well"
            raise LineError(msg)
        if choice.message.refusal:
            msg = "has an answer that is a refusal, which is not kept"
            raise LineError(msg)
        if not choice.message.parts:
            msg = "has an answer that is empty"
            raise LineError(msg)


def _read(request: Request[Any], given: Any) -> Response:
    if isinstance(request, ChatRequest):
        if isinstance(given, str):
            return cast("Response", ChatResponse.of(given))
        if isinstance(given, Mapping) and "choices" not in given:
            message = Message.of({"role": "assistant", **cast("JSON", given)})
            if message.role != "assistant":
                msg = f"has an answer of the role {message.role!r}; it is the assistant's"
                raise LineError(msg)
            return cast("Response", ChatResponse.of(message))
    if not isinstance(given, Mapping):
        msg = f"has an answer that is {kind_of(given)}; give {_forms(request)}"
        raise LineError(msg)
    events, head = _dialect(request).decode(
        json.dumps(given).encode(), None if isinstance(request, ChatRequest) else request
    )
    return cast("Response", request.answer(events, attrs.evolve(head, raw=None)))


def _forms(request: Request[Any]) -> str:
    if isinstance(request, ChatRequest):
        return "text, a message, or a whole answer"
    return "a whole answer, as the API gives it"


def _dialect(request: Request[Any]) -> Any:
    if isinstance(request, ChatRequest):
        from lamella.transports._openai_chat import OpenAIChat

        return OpenAIChat()
    if isinstance(request, EmbeddingRequest):
        from lamella.transports._openai_embeddings import OpenAIEmbeddings

        return OpenAIEmbeddings()
    from lamella.transports._openai_moderation import OpenAIModeration

    return OpenAIModeration()


def said(error: Exception) -> str:
    """What an error says, unless it would show what was asked."""
    if isinstance(error, TypeError | ValueError) and len(text := str(error)) < 300:
        return text.rstrip(".")
    return f"{type(error).__name__} while it was read"


def kind_of(value: object) -> str:
    """What a value is, without showing it: what is asked stands in the file too."""
    return _KINDS.get(type(value), "null" if value is None else "a number")


_KINDS: Final[Mapping[type[Any], str]] = {
    dict: "an object",
    list: "a list",
    str: "text",
    bool: "true or false",
}
