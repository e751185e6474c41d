"""The blocks of Anthropic's messages as the library's own parts, without loss.

What has a noun becomes it, with its further fields in `extra`; all else becomes `Opaque`.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from json import dumps
from typing import Any, Final, cast

import attrs

from lamella._nothing import NOTHING
from lamella._parts import (
    File,
    Image,
    JSONObject,
    Opaque,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
)
from lamella.testing._mock_anthropic._fields import (
    BLOCKS,
    CITATIONS,
    FOUND,
    RESULT_BLOCKS,
    Fields,
    checked,
    mapping,
    tag,
    wrong,
)
from lamella.testing._mock_openai._requests import JSON

NAME: Final = "anthropic"
"""Whose the parts are that only this API knows."""

MARK: Final = "cache_control"
UNKNOWN: Final = "mock_unknown"
"""The kind of block that the fault `unknown` mixes in; it comes back as every block does."""

PICTURES: Final = ("image/jpeg", "image/png", "image/gif", "image/webp")
_ID: Final = re.compile(r"[a-zA-Z0-9_-]+")

_IMAGE_SOURCES: Final[Mapping[str, Fields]] = {
    "base64": {"data": "string", "media_type": "string"},
    "url": {"url": "string"},
    "file": {"file_id": "string"},
}
_DOCUMENT_SOURCES: Final[Mapping[str, Fields]] = {
    "base64": {"data": "string", "media_type": "string"},
    "text": {"data": "string", "media_type": "string"},
    "content": {"content": "any"},
    "url": {"url": "string"},
    "file": {"file_id": "string"},
}


@attrs.frozen
class BlockReader:
    """Reads the blocks of one request.

    Attributes:
        loose: Whether there may be kinds and fields that nobody here knows, as in betas.
    """

    loose: bool = False

    def content(self, given: Any, where: str) -> tuple[Part, ...]:
        """The content of a message: a text, or blocks.

        Raises:
            Rejection: If a provider would not accept it.
        """
        if isinstance(given, str):
            return (Text(given),) if given else ()
        if not isinstance(given, list):
            raise wrong(where, "Input should be a valid string or list")
        blocks = cast("Sequence[Any]", given)
        return tuple([self.block(each, f"{where}.{n}") for n, each in enumerate(blocks)])

    def block(self, given: Any, where: str, known: Mapping[str, Fields] = BLOCKS) -> Part:
        """One block.

        Args:
            given: What was sent.
            where: Its place in the request.
            known: The kinds of blocks that there may be.

        Raises:
            Rejection: If a provider would not accept it.
        """
        told = mapping(given, where)
        kind = tag(told, known, where, loose=self.loose or told.get("type") == UNKNOWN)
        fields = known.get(kind)
        if fields is None:
            return Opaque(told, NAME)
        place = f"{where}.{kind}"
        checked(told, fields, place, loose=self.loose)
        check_mark(told.get(MARK), f"{place}.{MARK}")
        return self._read(told, kind, place)

    def _read(self, told: JSON, kind: str, where: str) -> Part:
        match kind:
            case "text":
                self._listed(told.get("citations"), CITATIONS, f"{where}.citations")
                return Text(told["text"], _rest(told, "text"))
            case "image":
                return self._image(told, where)
            case "document":
                return self._document(told, where)
            case "thinking" | "redacted_thinking":
                return _thought(told)
            case "tool_use":
                return _call(told, where)
            case "tool_result":
                return self._result(told, where)
            case _:
                return self._other(told, kind, where)

    # --- the kinds ---------------------------------------------------------------------------

    def _image(self, told: JSON, where: str) -> Part:
        source = self._source(told, _IMAGE_SOURCES, where)
        rest = _rest(told, "source")
        match source["type"]:
            case "base64":
                if source["media_type"] not in PICTURES:
                    kinds = ", ".join(f"'{each}'" for each in PICTURES)
                    place = f"{where}.source.base64.media_type"
                    raise wrong(place, f"Input should be {kinds}")
                data = _bytes(source["data"], f"{where}.source.base64.data")
                return Image(data=data, media_type=source["media_type"], extra=rest)
            case "url":
                return Image(url=_address(source["url"], f"{where}.source.url.url"), extra=rest)
            case _:
                return Opaque(told, NAME)

    def _document(self, told: JSON, where: str) -> Part:
        source = self._source(told, _DOCUMENT_SOURCES, where)
        rest, title = _rest(told, "source", "title"), told.get("title")
        match source["type"]:
            case "base64":
                _media_type(source, "application/pdf", f"{where}.source.base64.media_type")
                data = _bytes(source["data"], f"{where}.source.base64.data")
                return File(data, filename=title, media_type="application/pdf", extra=rest)
            case "text":
                _media_type(source, "text/plain", f"{where}.source.text.media_type")
                data = source["data"].encode("utf-8", "surrogatepass")
                return File(data, filename=title, media_type="text/plain", extra=rest)
            case "url":
                url = _address(source["url"], f"{where}.source.url.url")
                return File(url=url, filename=title, extra=rest)
            case "file":
                return File(id=source["file_id"], filename=title, extra=rest)
            case _:
                if not isinstance(source.get("content"), str):
                    self.content(source.get("content"), f"{where}.source.content")
                return Opaque(told, NAME)

    def _source(self, told: JSON, known: Mapping[str, Fields], where: str) -> JSON:
        source = mapping(told["source"], f"{where}.source")
        kind = tag(source, known, f"{where}.source", loose=self.loose)
        checked(source, known.get(kind, {}), f"{where}.source.{kind}", loose=self.loose)
        return source

    def _result(self, told: JSON, where: str) -> Part:
        _check_id(told["tool_use_id"], f"{where}.tool_use_id")
        given = told.get("content")
        parts: tuple[Part, ...] = ()
        if isinstance(given, str):
            parts = (Text(given),) if given else ()
        elif isinstance(given, list):
            blocks = enumerate(cast("Sequence[Any]", given))
            parts = tuple(
                [self.block(each, f"{where}.content.{n}", RESULT_BLOCKS) for n, each in blocks]
            )
        elif given is not None:
            raise wrong(f"{where}.content", "Input should be a valid string or list")
        rest = _rest(told, "tool_use_id", "content", "is_error")
        listed = isinstance(given, list)
        error = bool(told.get("is_error"))
        return ToolResult(told["tool_use_id"], parts, error=error, extra=rest, listed=listed)

    def _other(self, told: JSON, kind: str, where: str) -> Part:
        """A block that only this API knows: it stays as it is."""
        if kind == "search_result":
            for number, each in enumerate(told["content"]):
                place = f"{where}.content.{number}"
                self.block(each, place, {"text": BLOCKS["text"]})
        elif kind == "web_search_tool_result" and isinstance(told["content"], list):
            self._listed(told["content"], FOUND, f"{where}.content")
        return Opaque(told, NAME)

    def _listed(self, given: Any, known: Mapping[str, Fields], where: str) -> None:
        """Check a list of objects that have kinds."""
        for number, each in enumerate(given or ()):
            place = f"{where}.{number}"
            kind = tag(mapping(each, place), known, place, loose=self.loose)
            checked(each, known.get(kind, {}), f"{place}.{kind}", loose=self.loose)


def _thought(told: JSON) -> Reasoning:
    hidden = told["type"] == "redacted_thinking"
    text, seal = ("", told["data"]) if hidden else (told["thinking"], told["signature"])
    rest = _rest(told, "thinking", "signature", "data")
    return Reasoning(text, seal, redacted=hidden, extra={**rest, "provider": NAME})


def _call(told: JSON, where: str) -> ToolCall:
    _check_id(told["id"], f"{where}.id")
    if not told["name"]:
        raise wrong(f"{where}.name", "String should have at least 1 character")
    arguments = dumps(told["input"], ensure_ascii=False, separators=(",", ":"))
    rest = _rest(told, "id", "name", "input")
    return ToolCall(told["id"], told["name"], arguments, extra=rest)


def _rest(told: JSON, *taken: str) -> JSONObject:
    """The fields that a noun has no place for; the mark of a cache is everybody's."""
    found = {
        name: value
        for name, value in told.items()
        if value is not None and name != "type" and name not in taken
    }
    if found.keys() - {MARK}:
        found["provider"] = NAME
    return found or NOTHING


def check_mark(given: Any, where: str) -> None:
    """Refuse a mark for the prompt cache that is none.

    Raises:
        Rejection: If a provider would not accept it.
    """
    if given is None:
        return
    mark = checked(given, {"ttl": "string?"}, where)
    tag(mark, {"ephemeral": None}, where)
    if mark.get("ttl") not in {None, "5m", "1h"}:
        raise wrong(f"{where}.ttl", "Input should be '5m' or '1h'")


def _check_id(given: str, where: str) -> None:
    if _ID.fullmatch(given) is None:
        raise wrong(where, f"String should match pattern '^{_ID.pattern}$'")


def _media_type(source: JSON, wanted: str, where: str) -> None:
    if source["media_type"] != wanted:
        raise wrong(where, f"Input should be '{wanted}'")


def _bytes(given: str, where: str) -> bytes:
    try:
        data = b64decode(given, validate=True)
    except (binascii.Error, ValueError):
        raise wrong(where, "Invalid base64 data") from None
    if not data:
        raise wrong(where, "The data cannot be empty")
    return data


def _address(given: str, where: str) -> str:
    if not given.startswith(("https://", "http://")):
        raise wrong(where, "Only HTTP and HTTPS URLs are supported")
    return given
