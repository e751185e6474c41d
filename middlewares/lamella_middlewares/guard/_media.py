"""What is fetched by its address: pictures and documents of a request, wherever they stand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias, TypeVar, cast

import attrs

from lamella import File, Image, Message, Opaque, Request, ToolResult

V = TypeVar("V")

Medium: TypeAlias = Image | File

_HOLDERS: Final = (Message, ToolResult, Request, tuple)
_NOT_SENT: Final = frozenset({"context", "extra", "returns", "stream", "target"})


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
    if isinstance(thing, Image | File):
        return change(thing)
    if isinstance(thing, tuple):
        items = cast("tuple[Any, ...]", thing)
        made = tuple([_mapped(item, change) for item in items])
        return made if any(new is not old for new, old in zip(made, items, strict=True)) else items
    if not isinstance(thing, _HOLDERS):
        return thing
    holder = cast("Any", thing)
    changes: dict[str, Any] = {}
    for field in attrs.fields(cast("type[Any]", type(holder))):
        old = None if field.name in _NOT_SENT else getattr(holder, field.name)
        if isinstance(old, (*_HOLDERS, Image, File)):
            new = _mapped(old, change)
            if new is not old:
                changes[field.name] = new
    if not changes:
        return holder
    return (
        holder.evolve(**changes) if isinstance(thing, Request) else attrs.evolve(holder, **changes)
    )


def foreign_texts(request: Request[Any]) -> Iterator[str]:
    """The strings inside parts that only a provider knows, except those of answers.

    An answer's own (found pages, citations) are not fetched again where they are sent back.
    """
    messages = getattr(request, "messages", ())
    for message in messages:
        if isinstance(message, Message) and message.role != "assistant":
            for part in message.parts:
                inner = part.content if isinstance(part, ToolResult) else (part,)
                for one in inner:
                    if isinstance(one, Opaque):
                        yield from _strings(one.data)


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in cast("Mapping[Any, Any]", value).values():
            yield from _strings(inner)
    elif isinstance(value, list | tuple):
        for inner in cast("list[Any]", value):
            yield from _strings(inner)
