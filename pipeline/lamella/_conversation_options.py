"""What a conversation is made with: wrong options are told when it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from lamella._chat import ChatRequest
from lamella._context import Context
from lamella._conversation_records import is_text
from lamella._errors import ConfigurationError
from lamella._messages import Content, Message
from lamella._nothing import NOTHING
from lamella._pipeline import Pipeline

_OWN: Final = {
    "messages": "Give it as messages= when the conversation is made, and say(...) after that.",
    "context": "Give it as context= when the conversation is made.",
    "returns": "Give it to say(...).",
    "target": "A layer such as Route chooses the target.",
    "stream": "Use say_stream(...).",
}


def a_pipeline(given: object) -> Pipeline:
    """The pipeline.

    Raises:
        ConfigurationError: If it is something else.
    """
    if not isinstance(given, Pipeline):
        msg = f"A conversation is over a Pipeline, not {type(given).__name__}."
        raise ConfigurationError(msg, hint="Write Conversation(Pipeline([...], transport), ...).")
    return given


def a_word(name: str, value: object) -> str:
    """Text that is not empty.

    Raises:
        ConfigurationError: If it is something else.
    """
    if not is_text(value) or not value:
        msg = f"Conversation({name}={value!r}) is no text, or an empty one."
        raise ConfigurationError(msg, hint="Give text, such as 's-1', or leave it out.")
    return cast("str", value)


def tags_of(tags: Mapping[str, str]) -> Mapping[str, str]:
    """Labels, which are texts by name.

    Raises:
        ConfigurationError: If it is something else.
    """
    given: Any = tags.items() if hasattr(tags, "items") else [(None, None)]
    if not all(is_text(name) and is_text(value) for name, value in given):
        msg = "Conversation(tags=...) is a table of texts by name."
        raise ConfigurationError(msg, hint='Write tags={"team": "support"}.')
    return dict(tags) if tags else NOTHING


def a_flag(name: str, value: object) -> bool:
    """True or False.

    Raises:
        ConfigurationError: If it is something else.
    """
    if not isinstance(value, bool):
        raise ConfigurationError(f"Conversation({name}={value!r}): give True or False.")
    return value


def system_of(content: Content | Message | None) -> Message | None:
    """Instructions as a message."""
    if content is None or isinstance(content, Message):
        return content
    if isinstance(content, Mapping) and "role" in content:
        return Message.of(cast("Mapping[str, Any]", content))
    return Message.system(cast("Content", content))


def fields_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `ChatRequest` that a conversation does not set itself.

    Raises:
        ConfigurationError: If one is not to be given here.
        TypeError: If one is none.
    """
    for name, hint in _OWN.items():
        if name in fields:
            msg = f"{name}= is no field that can be given here."
            raise ConfigurationError(msg, hint=hint)
    return ChatRequest.known(dict(fields))


def context_of(
    context: Context,
    new_id: Callable[[], str],
    session: object,
    tenant: object,
    user: object,
    tags: Mapping[str, str],
) -> Context:
    """The context of every call; what is not given is the context's own.

    Raises:
        ConfigurationError: If something is wrong, or would be the same for calls that differ.
    """
    if context.idempotency_key is not None:
        msg = "Context(idempotency_key=...) was given to a conversation, and is for one call."
        raise ConfigurationError(
            msg, hint="Leave it out; Retry(mint_idempotency_key=True) has one."
        )
    found = {
        "session": context.session or new_id() if session is None else session,
        "tenant": context.tenant if tenant is None else tenant,
        "user": context.user if user is None else user,
    }
    words = {n: None if value is None else a_word(n, value) for n, value in found.items()}
    return context.evolve(**words, tags=tags_of(tags or context.tags))
