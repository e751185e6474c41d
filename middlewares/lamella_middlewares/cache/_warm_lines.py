"""A line of a file that a cache is warmed with: a request, whose it is, and perhaps its answer.

A line is the body of a request as OpenAI's API takes it, with the library's names beside OpenAI's
where the two differ, and with words of our own about the caching. A name that is neither is
refused: a slip would make a key that nobody ever asks for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

import attrs

from lamella import (
    ChatRequest,
    Context,
    EmbeddingRequest,
    ModerationRequest,
    Request,
    Response,
    request_key,
)
from lamella._options import is_number
from lamella_middlewares.cache._warm_answers import JSON, LineError, kind_of, read_answer, said

_OPERATIONS: Final[Mapping[str, type[Request[Any]]]] = {
    kind.operation: kind for kind in (ChatRequest, EmbeddingRequest, ModerationRequest)
}
_OURS: Final = frozenset({"operation", "tenant", "tags", "ttl", "cache", "answer"})
_NOT_ASKED: Final = frozenset({"stream", "stream_options", "encoding_format"})
"""How an answer comes over the wire, which changes no answer."""
_RENAMED: Final[Mapping[str, str]] = {
    "input": "inputs",
    "max_completion_tokens": "max_output_tokens",
    "max_tokens": "max_output_tokens",
}
_THEIRS: Final = frozenset(
    {"metadata", "modalities", "prediction", "prompt_cache_key", "prompt_cache_retention",
     "safety_identifier", "store", "user", "verbosity", "web_search_options"}
)  # fmt: skip
"""What OpenAI's API takes besides, which nobody has misspelt."""
_NOT_GIVEN: Final = frozenset({"context", "returns", "target", "stream"})


@attrs.frozen
class WarmLine:
    """A line that has been read.

    Attributes:
        request: What is asked, for its tenant.
        tags: Words by which the answer can be purged.
        ttl: Seconds for which it is fresh; None leaves that to the cache.
        always: Whether it is kept although it is not to come out the same each time.
        answer: What is to be kept; None asks the model.
    """

    request: Request[Any]
    tags: tuple[str, ...] = ()
    ttl: float | None = None
    always: bool = False
    answer: Response | None = attrs.field(default=None, repr=False)


def read_line(text: bytes, tenant: str | None = None) -> WarmLine:
    """What a line says.

    Args:
        text: The line.
        tenant: Whose it is if it does not say so.

    Raises:
        LineError: If it makes no sense; the message says what to write.
    """
    given = _table(text)
    whose = _checked(given, "tenant", tenant, _is_tenant, "text that is not empty")
    tags = _checked(given, "tags", (), _are_tags, "a list of words")
    ttl = _checked(given, "ttl", None, _is_ttl, "a number of seconds, above 0")
    always = _checked(given, "cache", False, _is_flag, "true or false")  # noqa: FBT003 - a default
    request = _request(given).evolve(context=Context(tenant=whose))
    answer = given.get("answer")
    return WarmLine(
        request,
        tags=tuple(tags),
        ttl=ttl,
        always=always,
        answer=None if answer is None else read_answer(request, answer),
    )


def _table(text: bytes) -> JSON:
    try:
        found: object = json.loads(text.decode(), parse_constant=_no_number)
    except UnicodeDecodeError:
        msg = "is no UTF-8 text"
        raise LineError(msg) from None
    except LineError:
        raise
    except (ValueError, RecursionError) as error:
        where = f" (column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        msg = f"is no JSON{where}; each line is one object, not spread over several lines"
        raise LineError(msg) from None
    if not isinstance(found, dict):
        msg = f"is no JSON object but {kind_of(found)}"
        raise LineError(msg)
    return cast("JSON", found)


def _no_number(word: str) -> Any:
    msg = f"has {word}, which is no number in JSON"
    raise LineError(msg)


# --- what is asked -------------------------------------------------------------------------------


def _request(given: JSON) -> Request[Any]:
    kind = _class_of(given)
    fields = {name: value for name, value in given.items() if name not in _OURS | _NOT_ASKED}
    if kind is ChatRequest:
        fields = _with_logprobs(fields)
    known = {field.name for field in attrs.fields(kind)} - _NOT_GIVEN
    made: JSON = {}
    for name, value in fields.items():
        field = _RENAMED.get(name, name)
        if field not in known:
            raise LineError(_unknown(name, kind, known))
        if field in made:
            msg = f"has {field!r} twice: as {name!r} too"
            raise LineError(msg)
        if value is not None:
            made[field] = value
    first = "messages" if kind is ChatRequest else "inputs"
    if not made.get(first):
        msg = f"asks nothing: it needs {'messages' if kind is ChatRequest else 'input'!r}"
        raise LineError(msg)
    try:
        of: Callable[..., Request[Any]] = getattr(kind, "of")  # noqa: B009 - not every request's
        request = of(made.pop(first), **made)
        _must_speak(request)
        request_key(request)  # what has no key would be asked, and then not be kept
    except LineError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        msg = f"is no request: {said(error)}"
        raise LineError(msg) from None
    return request


def _must_speak(request: Request[Any]) -> None:
    """Refuse a message without anything in it, as a slip in the name of its content makes it."""
    messages = request.messages if isinstance(request, ChatRequest) else ()
    for number, message in enumerate(messages, 1):
        if not message.parts:
            msg = (
                f"has a message {number} (of the {message.role}) that is empty: it needs 'content'"
            )
            raise LineError(msg)


def _class_of(given: JSON) -> type[Request[Any]]:
    named = given.get("operation")
    if named is None:
        return ChatRequest if "messages" in given or "input" not in given else EmbeddingRequest
    kind = _OPERATIONS.get(named) if isinstance(named, str) else None
    if kind is None:
        msg = f"has the operation {named!r}; there are {', '.join(map(repr, _OPERATIONS))}"
        raise LineError(msg)
    return kind


def _with_logprobs(fields: JSON) -> JSON:
    """With the library's one field for what are two in the API."""
    wanted, most = fields.get("logprobs"), fields.get("top_logprobs")
    rest = {name: value for name, value in fields.items() if name != "top_logprobs"}
    if isinstance(wanted, bool):
        rest["logprobs"] = (most or 0) if wanted else None
    elif most is not None:
        msg = "has 'top_logprobs' without \"logprobs\": true"
        raise LineError(msg)
    return rest


def _unknown(name: str, kind: type[Request[Any]], known: set[str]) -> str:
    from lamella._checked_tables import close_to

    others = {field.name for other in _OPERATIONS.values() for field in attrs.fields(other)}
    if name in (others - _NOT_GIVEN) | set(_RENAMED):
        return f"has a field {name!r}, which there is not in {kind.operation!r}"
    words = {*known, *_OURS, *[word for word, field in _RENAMED.items() if field in known]}
    near = "" if name in _THEIRS else close_to(name, words)
    offer = f"{near} What only one provider knows goes into 'extra'".strip()
    return f"has a field {name!r}, which there is not. {offer}"


# --- words of our own ----------------------------------------------------------------------------


def _checked(given: JSON, name: str, default: Any, good: Callable[[Any], bool], want: str) -> Any:
    value = given.get(name)
    if value is None:
        return default
    if not good(value):
        msg = f"has {name!r} that is {kind_of(value)}; it is {want}"
        raise LineError(msg)
    return value


def _is_tenant(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _are_tags(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(tag, str) and tag for tag in cast("Sequence[object]", value)
    )


def _is_ttl(value: Any) -> bool:
    return is_number(value) and value > 0


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)
