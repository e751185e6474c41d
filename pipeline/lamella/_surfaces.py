"""Every text of a request that may leave the machine, found and changed in one way.

A layer that looks for something in texts (personal data, forbidden words) must see all that the
provider sees. So the walk takes every field of a request that is not known to be something else,
whatever the operation: a field added tomorrow is walked unless it is listed here.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, Final, Literal, TypeAlias, TypeVar, cast
from urllib.parse import quote, unquote_to_bytes

import attrs

from lamella._messages import Message
from lamella._nothing import NOTHING
from lamella._parts import Audio, File, Image, Opaque, Reasoning, ToolCall, ToolResult
from lamella._requests import Request

V = TypeVar("V")

Form: TypeAlias = Literal["text", "value", "key", "url", "file"]


@attrs.frozen
class Surface:
    """Where a text stands.

    Attributes:
        role: The role of the message that it is in; None outside of messages.
        part: The type of the part that it is in (`"text"`, `"tool_result"` ...), the outermost one
            where parts are nested; None outside of parts.
        field: The field of the request, message, tool or part.
        form: `"text"` for what is read by people; `"value"` and `"key"` for strings and numbers
            inside JSON, given as they are without quotes and escapes; `"url"` for an address;
            `"file"` for the decoded content of a document.
    """

    role: str | None
    part: str | None
    field: str
    form: Form = "text"


Change: TypeAlias = Callable[[str, Surface], str]
"""Gives the text that is to stand there instead; the same text changes nothing."""

Unread: TypeAlias = Callable[[Surface], None]
"""Is told of what holds no text that could be read: pictures, sound, binary documents."""

_SKIPPED: Final[Mapping[type, frozenset[str]]] = {
    Request: frozenset({"model", "context", "target", "stream", "returns"}),
    Message: frozenset({"role", "pinned"}),
    Image: frozenset({"media_type", "detail"}),
    Audio: frozenset({"id", "format"}),
    File: frozenset({"id", "media_type"}),
    ToolCall: frozenset({"id", "kind"}),
    ToolResult: frozenset({"call_id"}),
    Reasoning: frozenset({"id", "signature"}),
    Opaque: frozenset({"provider"}),
}
"""What is no text: ids and seals that must go back as they came, and words of the protocol."""

_SEALS: Final = frozenset(
    {"encrypted_content", "signature", "thoughtSignature", "thought_signature"}
)
_SEAL: Final = re.compile(r"[A-Za-z0-9+/_=-]{40,}")
"""The same inside JSON that only a provider knows: a seal goes by its name and by its looks."""

_LEAST_DIGITS: Final = 6
"""Shorter numbers in JSON identify nobody, and are not looked at."""

_TEXTUAL: Final = re.compile(
    r"text/|application/(?:[\w.+-]*(?:json|xml|yaml|csv|x-ndjson|javascript|sql|rtf))",
    re.IGNORECASE,
)
_TEXTUAL_NAME: Final = re.compile(
    r"\.(?:txt|text|md|rst|csv|tsv|json|jsonl|ndjson|xml|html?|ya?ml|toml|ini|log|sql|eml|vcf|ics|srt"
    r"|py|js|ts|java|c|cc|cpp|h|cs|go|rs|rb|php|sh|tex|rtf)$",
    re.IGNORECASE,
)
_DATA_URL: Final = re.compile(r"data:([^,;]*)((?:;[^,;]*)*),(.*)", re.DOTALL | re.IGNORECASE)
_JSON_TOKEN: Final = re.compile(r'("(?:[^"\\]|\\.)*")(\s*:)?|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)')


def map_texts(request: V, change: Change, unread: Unread | None = None) -> V:
    """A request, message, part or tool with every text changed; itself where nothing changes.

    Args:
        request: Of any operation, or anything that requests are made of.
        change: Called with each text, the values inside JSON and textual documents included.
        unread: Called where there is something that is not text.
    """
    return cast("V", _Walk(change, unread or _ignored).whole(request))


def map_json(value: V, change: Change, surface: Surface) -> V:
    """JSON with every string and every longer number in it changed; itself if nothing changes."""
    return cast("V", _Walk(change, _ignored).json(value, surface))


def map_json_text(text: str, change: Change, surface: Surface) -> str:
    """JSON text with every string and every longer number in it changed.

    Everything else stays as it is written. A number that is changed becomes a string. Text that is
    no JSON is changed as text.
    """
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return change(text, surface)
    value, key = attrs.evolve(surface, form="value"), attrs.evolve(surface, form="key")

    def changed(found: re.Match[str]) -> str:
        quoted, colon, number = found.groups()
        if number is not None:
            new = change(number, value) if len(number) >= _LEAST_DIGITS else number
            return number if new == number else json.dumps(new, ensure_ascii=False)
        old = json.loads(quoted)
        new = change(old, key if colon else value)
        if new == old:
            return found[0]
        return json.dumps(new, ensure_ascii=False) + (colon or "")

    return _JSON_TOKEN.sub(changed, text)


_ESCAPE: Final = re.compile(r'\\(?:u([0-9a-fA-F]{4})|(["\\/bfnrt]))')
_SHORT: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def without_escapes(text: str) -> str:
    """JSON text that is not whole, with the characters that its escapes stand for."""

    def read(found: re.Match[str]) -> str:
        code, short = found.groups()
        return _SHORT.get(short, short) if code is None else chr(int(code, 16))

    made = _ESCAPE.sub(read, text)
    return made.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


_BYTES: Final = (bytes, bytearray, memoryview)

_NONE: Final[tuple[Any, ...]] = ()
_MORE_THAN_THEY_LOOK: Final = frozenset({ToolCall, Image, Audio, File})
"""Parts with JSON in text, addresses, or documents."""

_walked: dict[type, tuple[str, ...]] = {}


def _ignored(_: Surface) -> None:
    """Nobody asked."""


def _kind(thing: object) -> type[object]:
    return type(thing)


def _fields(kind: type[Any]) -> tuple[str, ...]:
    """The fields of a class that are walked."""
    if kind in _walked:
        return _walked[kind]
    skipped: set[str] = set()
    for base, names in _SKIPPED.items():
        if issubclass(kind, base):
            skipped |= names
    walked = tuple([field.name for field in attrs.fields(kind) if field.name not in skipped])
    return _walked.setdefault(kind, walked)


@cache
def _surface(role: str | None, part: str | None, field: str, form: Form) -> Surface:
    return Surface(role, part, field, form)


class _Walk:
    """One walk, and where it is."""

    __slots__ = ("_change", "_part", "_role", "_unread")

    def __init__(self, change: Change, unread: Unread) -> None:
        self._change = change
        self._unread = unread
        self._role: str | None = None
        self._part: str | None = None

    def _at(self, field: str, form: Form = "text") -> Surface:
        return _surface(self._role, self._part, field, form)

    def whole(self, thing: Any) -> Any:
        """An attrs object: a request, message, part, tool, or another's."""
        kind = _kind(thing)
        role, part = self._role, self._part
        if kind is Message:
            self._role = thing.role
        elif part is None:
            self._part = getattr(kind, "type", None) if self._role is not None else None
        try:
            changes = self._own_changes(thing) if kind in _MORE_THAN_THEY_LOOK else {}
            for name in _fields(kind):
                if name not in changes:
                    old = getattr(thing, name)
                    if old is None or old is NOTHING or old is _NONE:
                        continue  # as most fields of most requests
                    new = self._value(old, name)
                    if new is not old:
                        changes[name] = new
            if changes:
                changes = {k: new for k, new in changes.items() if new != getattr(thing, k)}
        finally:
            self._role, self._part = role, part
        if not changes:
            return thing
        if isinstance(thing, Request):
            return cast("Any", thing).evolve(**changes)
        return attrs.evolve(thing, **changes)

    def _own_changes(self, thing: object) -> dict[str, Any]:
        """What becomes of fields that are more than they look: JSON, addresses, documents."""
        if type(thing) is ToolCall:
            surface = self._at("arguments")
            if thing.kind == "function":
                return {"arguments": map_json_text(thing.arguments, self._change, surface)}
            return {"arguments": self._change(thing.arguments, surface)}
        return self._media(cast("Image | Audio | File", thing))

    def _media(self, thing: Image | Audio | File) -> dict[str, Any]:
        changes: dict[str, Any] = {}
        url = getattr(thing, "url", None)
        if url is not None:
            changes["url"] = self._url(url)
        data = thing.data
        if data is not None:
            changes["data"] = data
            media_type = getattr(thing, "media_type", None) or ""
            name = getattr(thing, "filename", None) or ""
            if type(thing) is File and (_TEXTUAL.match(media_type) or _TEXTUAL_NAME.search(name)):
                changes["data"] = self._document(data)
            else:
                self._unread(self._at("data"))
        elif url is None:  # held by the provider
            self._unread(self._at("id"))
        return changes

    def _document(self, data: bytes) -> bytes:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            self._unread(self._at("data"))
            return data
        new = self._change(text, self._at("data", "file"))
        return data if new == text else new.encode("utf-8", "surrogatepass")

    def _url(self, url: str) -> str:
        found = _DATA_URL.fullmatch(url)
        if found is None:
            if url[:5].lower() != "data:":
                self._unread(self._at("url"))  # what it leads to
            return self._change(url, self._at("url", "url"))
        media_type, parameters, payload = found.groups()
        if media_type and not _TEXTUAL.match(media_type):
            self._unread(self._at("url"))
            return url
        in_base64 = parameters.lower().endswith(";base64")
        try:
            data = base64.b64decode(payload) if in_base64 else unquote_to_bytes(payload)
        except (binascii.Error, ValueError):
            return self._change(url, self._at("url", "url"))
        new = self._document(data)
        if new is data:
            return url
        written = base64.b64encode(new).decode("ascii") if in_base64 else quote(new)
        return f"data:{media_type}{parameters},{written}"

    def _value(self, value: Any, field: str) -> Any:
        if isinstance(value, str):
            new = self._change(value, self._at(field)) if value else value
            return value if new == value else new
        kind = _kind(value)
        if kind is tuple:
            return self._items(value, field)
        if value is None or kind is bool or kind is float:
            return value
        if attrs.has(kind):
            return self.whole(value)
        return self.json(value, self._at(field, "value"))

    def _items(self, items: tuple[Any, ...], field: str) -> tuple[Any, ...]:
        new = [self._value(item, field) for item in items]
        return items if _same(items, new) else tuple(new)

    def json(self, value: Any, surface: Surface) -> Any:
        """Nested JSON; objects that somebody put into it are walked as well."""
        if isinstance(value, str):
            new = self._change(value, surface) if value else value
            return value if new == value else new
        if isinstance(value, Mapping):
            return self._mapping(cast("Mapping[object, object]", value), surface)
        if isinstance(value, list | tuple):
            items = cast("list[Any]", value)
            made = [self.json(item, surface) for item in items]
            return items if _same(items, made) else made
        if isinstance(value, int) and not isinstance(value, bool):
            text = str(value)
            new = self._change(text, surface) if len(text) >= _LEAST_DIGITS else text
            return value if new == text else new
        kind = _kind(value)
        return self.whole(value) if attrs.has(kind) else self._stranger(value, surface)

    def _stranger(self, value: object, surface: Surface) -> Any:
        """What is written as JSON although it is none: sets, dataclasses, dates, enumerations."""
        if value is None or isinstance(value, bool | float):
            return value
        import msgspec

        try:
            plain: Any = None if type(value) in _BYTES else msgspec.to_builtins(value)
        except (TypeError, ValueError, RecursionError):
            plain = None  # it cannot be sent either
        if plain is None:
            self._unread(surface)
            return value
        new = self.json(plain, surface)
        return value if new is plain else new

    def _mapping(self, mapping: Mapping[object, object], surface: Surface) -> Any:
        key_surface = _surface(surface.role, surface.part, surface.field, "key")
        made: dict[object, object] = {}
        same = True
        for key, value in mapping.items():
            new_key: object = key
            new_value = value
            if isinstance(key, str):
                changed = self._change(key, key_surface) if key else key
                new_key = key if changed == key else changed
            if not (key in _SEALS and isinstance(value, str) and _SEAL.fullmatch(value)):
                new_value = self.json(value, surface)
            same = same and new_key is key and new_value is value
            made[new_key] = new_value
        return mapping if same else made


def _same(old: Iterable[Any], new: Iterable[Any]) -> bool:
    return all(one is other for one, other in zip(old, new, strict=True))
