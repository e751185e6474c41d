"""What an audit record says: who asked what of whom, how it ended, and what it cost.

Facts are written as they are; content never is. Times are whole microseconds, money whole nano
units, so that a record has one canonical form.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, cast

import attrs

from lamella import (
    Attempt,
    Context,
    Ending,
    LamellaError,
    MisuseError,
    Note,
    Outcome,
    Request,
    Response,
    Trace,
    Usage,
)
from lamella._chat_answer import ChatAnswer
from lamella._fingerprints import inside
from lamella_middlewares.audit._keys import DigestKey

Fields = dict[str, Any]

FACTS: Final = frozenset({"context", "model", "returns", "stream", "target"})
"""Fields of a request that are no content: they are written as they are, or change no bytes."""

_EXACT: Final = 2**53 - 1
"""The largest integer that every reader of JSON keeps exact."""

_LONGEST: Final = 200
"""Characters of a name that others make up (a model, a tool), at most."""


def identity_of(context: Context, key: DigestKey | None) -> Fields:
    """Who asks: tenant, user and session, in every record, None where nobody said.

    Args:
        context: Of the request.
        key: What makes digests of them; None writes them as they are.
    """
    tenant, user, session = context.tenant, context.user, context.session
    if key is None:
        return {"tenant": _unicode(tenant), "user": _unicode(user), "session": _unicode(session)}
    named = {"tenant": tenant, "user": user, "session": session}
    return {
        what: None if name is None else key.identity(what, tenant, _unicode(name) or "")
        for what, name in named.items()
    }


def intent_of(request: Request[Any], call_next: Any, who: Fields) -> Fields:
    """What is written before a request goes on, without its content."""
    context = request.context
    return {
        **who,
        "call": context.call_id,
        "parent": context.parent_id,
        "branch": context.branch,
        "operation": request.operation,
        "model": _short(request.model),
        "provider": _short(context.provider),
        "stream": request.stream,
        "layers": inside(call_next),
    }


@attrs.frozen
class Start:
    """Where a request's part of its call's trace begins.

    Attributes:
        at: When it came, in seconds since the call began.
        attempts: How many attempts there had been.
        notes: How many notes.
    """

    at: float
    attempts: int
    notes: int

    @classmethod
    def of(cls, trace: Trace) -> Start:
        """Now."""
        return cls(trace.now(), len(trace.attempts), len(trace.notes))


def outcome_of(
    request: Request[Any], response: Response | None, end: Ending, start: Start, who: Fields
) -> Fields:
    """What is written when it has ended, without the answer.

    Args:
        request: As it came to the layer.
        response: The answer; None if there was none.
        end: How it ended.
        start: When it came to the layer.
        who: Who asked.
    """
    context = request.context
    trace = context.trace
    attempts = _attempts(trace, start, context.branch)
    fields: Fields = {
        **who,
        "call": context.call_id,
        "branch": context.branch,
        "intent": None,
        "outcome": end.outcome.value,
        "finish_reason": _short(end.finish_reason),
        "duration": micros(trace.now() - start.at),
        "attempts": [_attempt(attempt) for attempt in attempts],
        "notes": _notes(trace.notes[start.notes :]),
        **_spent(attempts),
    }
    if response is not None:
        fields["served"] = _served(response, trace.attempts)
    if end.error is not None:
        fields["error"] = _failure(end.error)
    return fields


def _attempts(trace: Trace, start: Start, branch: str) -> Sequence[Attempt]:
    """The attempts of this request: a call may have several, one after another or at once."""
    found = trace.attempts
    if start.attempts or branch:
        found = tuple(
            [
                attempt
                for attempt in found
                if attempt.start >= start.at and _within(attempt.branch, branch)
            ]
        )
    return found


def _within(inner: str, outer: str) -> bool:
    return inner == outer or not outer or inner.startswith(f"{outer}/")


def micros(seconds: float) -> int:
    """Seconds as whole microseconds."""
    return round(seconds * 1_000_000)


# --- parts -------------------------------------------------------------------------------------


def _attempt(attempt: Attempt) -> Fields:
    found: Fields = {
        "branch": attempt.branch,
        "provider": _short(attempt.provider),
        "model": _short(attempt.model),
        "outcome": None if attempt.outcome is None else attempt.outcome.value,
    }
    if attempt.usage is not None:
        found["usage"] = usage_of(attempt.usage)
    if attempt.cost is not None:
        found["cost"] = {attempt.cost.currency: exact(attempt.cost.nano)}
    if attempt.cause is not None:
        found["error"] = attempt.cause
    if attempt.status is not None:
        found["status"] = attempt.status
    if attempt.request_id is not None:
        found["request_id"] = _short(attempt.request_id)
    return found


def _spent(attempts: Sequence[Attempt]) -> Fields:
    """What the attempts have consumed and cost, losers and child calls included.

    `cost` has the known costs by currency, and `unpriced` how many attempts have none.
    """
    usage: Usage | None = None
    cost: dict[str, int] = {}
    unpriced = 0
    for attempt in attempts:
        if attempt.usage is not None:
            usage = attempt.usage if usage is None else usage + attempt.usage
        if attempt.cost is not None:
            currency = attempt.cost.currency
            cost[currency] = cost.get(currency, 0) + attempt.cost.nano
        elif attempt.outcome is not Outcome.NOT_SENT:
            unpriced += 1
    found: Fields = {
        "usage": None if usage is None else usage_of(usage),
        "cost": {currency: exact(nano) for currency, nano in cost.items()},
    }
    return {**found, "unpriced": unpriced} if unpriced else found


def usage_of(usage: Usage) -> Fields:
    """The parts of a usage that are not 0."""
    found: Fields = {}
    for name in _USAGE_FIELDS:
        value = getattr(usage, name)
        if isinstance(value, Mapping):
            parts = cast("Mapping[str, int]", value)
            value = {str(key): exact(count) for key, count in parts.items()}
        if value:
            found[name] = value if isinstance(value, bool | dict) else exact(value)
    return found


_USAGE_FIELDS: Final = tuple(field.name for field in attrs.fields(Usage))


def exact(number: int) -> int | str:
    """A whole number as every reader keeps it: as a text where it is too large."""
    return number if -_EXACT <= number <= _EXACT else str(number)


def _served(response: Response, attempts: Sequence[Attempt]) -> Fields:
    head = response.head
    provider = head.provider
    if provider is None:
        try:
            attempt = response.context.attempt
        except MisuseError:
            attempt = None  # some layer has made the answer by hand
        if attempt is not None and attempt.index < len(attempts):
            provider = attempts[attempt.index].provider
    return {
        "provider": _short(provider),
        "model": _short(head.model),
        "id": _short(head.id),
        "request_id": _short(head.request_id),
        "cached": head.cached,
    }


def _failure(error: BaseException) -> Fields:
    """What an error is, never its message, which may quote the prompt."""
    found: Fields = {"class": type(error).__name__}
    if isinstance(error, LamellaError):
        known = {
            "phase": error.phase,
            "status": error.status,
            "code": _short(error.code),
            "layer": error.layer,
            "committed": error.committed,
        }
        found.update({name: fact for name, fact in known.items() if fact is not None})
    return found


def _notes(notes: Sequence[Note]) -> dict[str, int]:
    """Which notes other layers have left, and how often; never what is in them."""
    return dict(Counter([_short(note.name) or "" for note in notes]))


def _short(text: object) -> str | None:
    return None if text is None else _unicode(str(text)[:_LONGEST])


def _unicode(text: str | None) -> str | None:
    """Text that every reader of JSON can take: halves of characters are written as escapes."""
    if text is None or text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


# --- content -----------------------------------------------------------------------------------


def content_fields(request: Request[Any]) -> Iterator[tuple[str, Any]]:
    """The fields of a request that are content, where they say something."""
    for name, default in _content_of(type(request)):
        value = getattr(request, name)
        if value is not default and value != default:
            yield name, value


_known: dict[type, tuple[tuple[str, Any], ...]] = {}


def _content_of(kind: type[Any]) -> tuple[tuple[str, Any], ...]:
    """The fields of a class of requests that are content, and what they are where nobody said."""
    if kind in _known:
        return _known[kind]
    found = [field for field in attrs.fields(kind) if field.name not in FACTS]
    return _known.setdefault(kind, tuple([(field.name, _default(field)) for field in found]))


def _default(field: attrs.Attribute[Any]) -> Any:
    default: Any = field.default
    if default is attrs.NOTHING:
        return None
    factory: Callable[[], Any] | None = getattr(default, "factory", None)
    return default if factory is None else factory()


def answer_content(answer: Any) -> list[tuple[str, Any]]:
    """The content of an answer by name: the messages of a chat, or what else was answered."""
    if isinstance(answer, ChatAnswer):
        others = [choice.message for choice in answer.choices[1:]]
        return [("messages", (*answer.messages, *others))]
    return [
        (field.name, getattr(answer, field.name))
        for field in attrs.fields(answer.__class__)
        if field.name not in {"finish_reason", "usage"}
    ]


def tool_names(answer: Any) -> list[str]:
    """The names of the tools that an answer asks for, in order, those of earlier turns included."""
    messages: Any = getattr(answer, "messages", ())
    return [_short(call.name) or "" for message in messages for call in message.tool_calls]


def length_of(value: Any) -> int:
    """Characters and bytes of content, roughly: those that are long enough to matter."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, tuple | list):
        items = cast("Sequence[Any]", value)
        return sum([length_of(item) for item in items])
    return sum([length_of(getattr(value, name, "")) for name in _LONG])


_LONG: Final = ("parts", "text", "data", "arguments", "content")
"""What of messages and their parts may be long."""


def plain(value: Any) -> Any:
    """Content as JSON values, for sealing: bytes in base64, objects by the names of their fields.

    Raises:
        TypeError: If it holds what has no such form.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes | bytearray):
        return {"base64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in cast("list[Any]", value)]
    if isinstance(value, type):
        return value.__qualname__
    kind: Any = value.__class__
    if not attrs.has(kind):
        raise TypeError(f"something of the class {kind.__name__!r}")
    given = {"type": getattr(kind, "type", None) or kind.__name__}
    for field in attrs.fields(kind):
        if field.name in FACTS:
            continue
        item = getattr(value, field.name)
        if item is not None and item != _default(field):
            given[field.name] = plain(item)
    return given
