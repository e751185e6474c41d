"""What an audit record says: who asked what of whom, how it ended, and what it cost.

Facts are written as they are; content never is. Times are whole microseconds, money whole nano
units, so that a record has one canonical form.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, cast

import attrs

from lamella import (
    Attempt,
    Context,
    Ending,
    LamellaError,
    MisuseError,
    Money,
    Note,
    Request,
    Response,
    Trace,
    Usage,
)
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


def outcome_of(
    request: Request[Any], response: Response | None, end: Ending, began: float, who: Fields
) -> Fields:
    """What is written when it has ended, without the answer.

    Args:
        request: As it came to the layer.
        response: The answer; None if there was none.
        end: How it ended.
        began: When it came to the layer, in seconds since the call began.
        who: Who asked.
    """
    context = request.context
    trace = context.trace
    attempts = trace.attempts
    fields: Fields = {
        **who,
        "call": context.call_id,
        "branch": context.branch,
        "outcome": end.outcome.value,
        "finish_reason": _short(end.finish_reason),
        "duration": micros(trace.now() - began),
        "attempts": [_attempt(attempt) for attempt in attempts],
        "notes": _notes(trace.notes),
        **_spent(trace, attempts),
    }
    if response is not None:
        fields["served"] = _served(response, attempts)
    if end.error is not None:
        fields["error"] = _failure(end.error)
    return fields


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
        found["cost"] = cost_of(attempt.cost)
    if attempt.cause is not None:
        found["error"] = attempt.cause
    if attempt.status is not None:
        found["status"] = attempt.status
    if attempt.request_id is not None:
        found["request_id"] = _short(attempt.request_id)
    return found


def _spent(trace: Trace, attempts: Sequence[Attempt]) -> Fields:
    """What the whole call has consumed and cost so far, losers and child calls included."""
    usage = attempts[0].usage if len(attempts) == 1 else trace.usage
    cost = trace.cost
    return {
        "usage": None if usage is None else usage_of(usage),
        "cost": None if cost is None else cost_of(cost),
    }


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


def cost_of(cost: Money) -> Fields:
    """Money in whole nano units."""
    return {"nano": exact(cost.nano), "currency": cost.currency}


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


def _short(text: str | None) -> str | None:
    return None if text is None else _unicode(text[:_LONGEST])


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


@cache
def _content_of(kind: type[Any]) -> tuple[tuple[str, Any], ...]:
    found = [field for field in attrs.fields(kind) if field.name not in FACTS]
    return tuple([(field.name, _default(field)) for field in found])


def _default(field: attrs.Attribute[Any]) -> Any:
    default: Any = field.default
    if default is attrs.NOTHING:
        return None
    factory: Callable[[], Any] | None = getattr(default, "factory", None)
    return default if factory is None else factory()


def tool_names(answer: Any) -> list[str]:
    """The names of the tools that an answer asks for, in order, those of earlier turns included."""
    messages: Any = getattr(answer, "messages", ())
    return [_short(call.name) or "" for message in messages for call in message.tool_calls]


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
        pairs = cast("Mapping[Any, Any]", value)
        return {str(key): plain(item) for key, item in pairs.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in cast("list[Any]", value)]
    if isinstance(value, type):
        return value.__qualname__
    kind: Any = type(value)
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
