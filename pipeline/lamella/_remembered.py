"""What was found out about an object, for as long as the object lives.

It is known by its identity: nothing of it is hashed or compared, so that to ask costs next to
nothing, and nothing of it is kept. Only for objects that cannot change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar
from weakref import ref

from lamella._messages import Message
from lamella._nothing import NOTHING
from lamella._parts import Audio, File, Image, Reasoning, Refusal, Text, ToolCall, ToolResult

V = TypeVar("V")

MOST: Final = 50_000
"""Objects of which something is remembered, for each that remembers; some 15 MB."""

_FIELDS: Final[Mapping[type, tuple[str, ...]]] = {
    Refusal: ("text",),
    Reasoning: ("text", "signature", "id", "redacted"),
    ToolCall: ("id", "name", "arguments", "kind"),
    ToolResult: ("call_id", "error", "listed"),
    Image: ("url", "data", "media_type", "detail"),
    Audio: ("data", "format", "id", "transcript"),
    File: ("data", "id", "url", "filename", "media_type"),
}
"""What parts hold besides `extra`, and other parts."""

_FIXED: Final = frozenset({str, bytes, bool, type(None)})


class Note(ref[Any], Generic[V]):
    """What is remembered of one object, which it does not keep alive."""

    __slots__ = ("key", "value")

    key: int
    value: V


class Remembered(Generic[V]):
    """Values by the objects that they are about. Any thread may use it; a race forgets one.

    Args:
        most: How many are remembered; beyond that all are forgotten.
    """

    __slots__ = ("_forget", "_most", "_notes")

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._notes: dict[int, Note[V]] = {}
        self._forget = _forgetting(self._notes)

    def __reduce__(self) -> tuple[type[Remembered[V]], tuple[int]]:
        """In another process the objects are others."""
        return Remembered, (self._most,)

    def __len__(self) -> int:
        return len(self._notes)

    def get(self, thing: object) -> V | None:
        """What is remembered of it; None if nothing is."""
        note = self._notes.get(id(thing))
        return None if note is None or note() is not thing else note.value

    def put(self, thing: object, value: V) -> None:
        """Remember something of it."""
        notes = self._notes
        if len(notes) >= self._most:
            notes.clear()
        note: Note[V] = Note(thing, self._forget)
        note.key = id(thing)
        note.value = value
        notes[note.key] = note


def _forgetting(notes: dict[int, Note[Any]]) -> Callable[[Any], None]:
    """What forgets an object that is no more. It has no lock: it may run at any time."""

    def forget(note: Note[Any]) -> None:
        if notes.get(note.key) is note:
            notes.pop(note.key, None)  # another thread may have forgotten all meanwhile

    return forget


def is_fixed(message: Message) -> bool:
    """Whether nothing in a message can change.

    Args:
        message: Frozen as it is, it may hold JSON that its maker still writes to.
    """
    if type(message) is not Message or message.extra is not NOTHING:
        return False
    return type(message.name) in _FIXED and _are_fixed(message.parts)


def _are_fixed(parts: tuple[Any, ...]) -> bool:
    if type(parts) is not tuple:
        return False
    for part in parts:
        kind = part.__class__
        if kind is Text and part.extra is NOTHING and type(part.text) is str:
            continue  # as most are
        fields = _FIELDS.get(kind)
        if fields is None or part.extra is not NOTHING:
            return False
        for field in fields:
            if type(getattr(part, field)) not in _FIXED:
                return False
        if kind is ToolResult and not _are_fixed(part.content):
            return False
    return True
