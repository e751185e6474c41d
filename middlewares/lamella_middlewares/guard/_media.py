"""What is fetched by its address: pictures and documents of a request, wherever they stand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from operator import is_not
from typing import Any, Final, TypeAlias, TypeVar, cast

import attrs

from lamella import File, Image, Message, Opaque, Part, Request, Text, ToolResult

V = TypeVar("V")

Medium: TypeAlias = Image | File

_NOT_SENT: Final = frozenset(
    {"call_id", "context", "error", "extra", "listed", "model", "name", "returns", "role", "stream"}
    | {"target", "tools"}
)


def media_of(request: Request[Any]) -> list[Medium]:
    """All pictures and documents of a request, of any operation, in order."""
    found: list[Medium] = []

    def collect(medium: Medium) -> Medium:
        found.append(medium)
        return medium

    map_media(request, collect)
    return found


def map_media(thing: V, change: Callable[[Medium], Medium]) -> V:
    """A request, or a part of one, with its media changed; itself where nothing changes."""
    return cast("V", _mapped(thing, change))


def _mapped(thing: Any, change: Callable[[Medium], Medium]) -> Any:
    kind = thing.__class__
    if kind is Text:
        return thing
    if kind is tuple:
        made = [_mapped(item, change) for item in thing]
        return tuple(made) if any(map(is_not, made, thing)) else thing
    if isinstance(thing, Image | File):
        return change(thing)
    if not isinstance(thing, Message | ToolResult | Request):
        return thing
    changes: dict[str, Any] = {}
    holder = cast("Any", thing)
    for name in _names.get(kind) or _learned(kind):
        old = getattr(holder, name)
        new = _mapped(old, change)
        if new is not old:
            changes[name] = new
    if not changes:
        return holder
    return (
        holder.evolve(**changes) if isinstance(thing, Request) else attrs.evolve(holder, **changes)
    )


_names: dict[type, tuple[str, ...]] = {}


def _learned(kind: type[Any]) -> tuple[str, ...]:
    """The fields of a class in which media can be."""
    found = [field.name for field in attrs.fields(kind) if field.name not in _NOT_SENT]
    return _names.setdefault(kind, tuple(found))


def foreign_texts(request: Request[Any]) -> Iterator[str]:
    """The strings inside of what only a provider knows, except those of answers.

    They are whole parts, and `extra` of messages and parts, which is written over what stands
    there. An answer's own (found pages, citations) are not fetched again where they are sent back.
    """
    messages = getattr(request, "messages", ())
    for message in messages:
        if isinstance(message, Message) and message.role != "assistant":
            yield from _strings(message.extra)
            for part in message.parts:
                yield from _foreign_in(part)


def _foreign_in(part: Part) -> Iterator[str]:
    if isinstance(part, Opaque):
        yield from _strings(part.data)
    else:
        yield from _strings(part.extra)
    if isinstance(part, ToolResult):
        for one in part.content:
            yield from _foreign_in(one)


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        several = cast("Any", value)
        for inner in several.values() if isinstance(value, Mapping) else several:
            yield from _strings(inner)
