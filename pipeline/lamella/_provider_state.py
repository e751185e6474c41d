"""State in a conversation that only the provider that made it understands.

Reasoning that is sealed, parts that no other provider knows, ids of what a provider keeps. On the
way to another provider it is left out, or the target is; it is never sent where it means nothing.
Which target is another provider is for the choose layer to say: the one that a request was written
for is not, whoever that may be.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar

import attrs

from lamella._chat import ChatRequest
from lamella._layers import name_of
from lamella._messages import Message
from lamella._parts import Audio, File, Opaque, Reasoning, ToolResult
from lamella._requests import Request
from lamella._responses import Response
from lamella._targets import Target

R = TypeVar("R", bound=Response)

_KEPT_THERE: Final = ("previous_response_id", "conversation")
"""Fields with which a provider is told to go on from what it keeps."""

_ORIGIN: Final = "provider"
"""In the `extra` of a part: who made it."""


def held_elsewhere(request: Request[Any], target: Target | None) -> str | None:
    """What of a request stands for content that the target cannot have; None if nothing does."""
    seen: object = request
    if not _is_another(target) or not isinstance(seen, ChatRequest):
        return None
    for name in _KEPT_THERE:
        if request.extra.get(name):
            return f"it cannot have what {name!r} stands for"
    names = (name_of(_transport(target)),)  # an id is known to one account alone
    for part in _parts(seen.messages):
        by_id = isinstance(part, File | Audio) and part.id is not None
        if by_id and not _own(part.extra.get(_ORIGIN), names):
            return f"it does not have the {type(part).__name__.lower()} that an id stands for"
    for tool in seen.tools:
        if isinstance(tool, Opaque) and tool.provider and not _own(tool.provider, names):
            return f"it does not have a tool that {tool.provider!r} hosts"
    return None


def stripped(request: Request[R], target: Target | None) -> tuple[Request[R], int]:
    """The request without sealed state of other providers, and how many parts that concerned."""
    seen: object = request
    if not _is_another(target) or not isinstance(seen, ChatRequest):
        return request, 0
    transport = _transport(target)
    names = (name_of(transport), getattr(transport, "origin", None))
    if not any(_bound(part, names) for part in _parts(seen.messages)):
        return request, 0
    count = 0
    messages: list[Message] = []
    for message in seen.messages:
        bound = [part for part in message.parts if _bound(part, names)]
        if not bound:
            messages.append(message)
            continue
        count += len(bound)
        parts = [left for part in message.parts if (left := _without_seal(part, names)) is not None]
        if parts:
            messages.append(attrs.evolve(message, parts=tuple(parts)))
    return request.evolve(messages=tuple(messages)), count


def _is_another(target: Target | None) -> bool:
    return target is not None and target.transport is not None


def _transport(target: Target | None) -> Any:
    transport: Any = None if target is None else target.transport
    while (inner := getattr(transport, "transport", None)) is not None:
        transport = inner
    return transport


def _parts(messages: Sequence[Message]) -> list[Any]:
    found: list[Any] = []
    for message in messages:
        for part in message.parts:
            found.append(part)
            if isinstance(part, ToolResult):
                found.extend(part.content)
    return found


def _own(origin: object, names: Iterable[object]) -> bool:
    """Whether a part was made there: by the provider or one of its APIs (`openai-responses`)."""
    if not isinstance(origin, str):
        return False
    return any(origin == name or origin.startswith(f"{name}-") for name in names)


def _bound(part: object, names: Iterable[object]) -> bool:
    if isinstance(part, Reasoning):
        sealed = part.signature is not None or part.id is not None or part.redacted
        return sealed and not _own(part.extra.get(_ORIGIN), names)
    # Of unknown origin it may be anybody's, such as a kind of content that we have no word for.
    return isinstance(part, Opaque) and bool(part.provider) and not _own(part.provider, names)


def _without_seal(part: Any, names: Iterable[object]) -> Any:
    """The part as another provider may see it; None if nothing is left."""
    if not _bound(part, names):
        return part
    if isinstance(part, Reasoning) and part.text:
        return Reasoning(part.text)
    return None
