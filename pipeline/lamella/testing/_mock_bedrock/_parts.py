"""From the blocks of Converse to the library's parts; what has no word there stays as it is."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from lamella._chat import ChatRequest
from lamella._messages import Message
from lamella._parts import (
    Audio,
    File,
    Image,
    Opaque,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
)
from lamella._tools import Tool
from lamella.testing._mock_bedrock._content import DOCUMENTS, VIDEOS
from lamella.testing._mock_openai._requests import JSON
from lamella.testing._mock_sse import json_text

NAME: Final = "bedrock"
MARK: Final = "cache_control"
OWN: Final[Mapping[str, str]] = {"provider": NAME}


def members(given: Mapping[str, Any]) -> JSON:
    """What an object says; `null` is the same as leaving out."""
    return {name: value for name, value in given.items() if value is not None}


def inner(given: Mapping[str, Any], name: str) -> JSON:
    """An object in an object; empty if there is none."""
    return members(given.get(name) or {})


def several(given: Mapping[str, Any], name: str) -> list[JSON]:
    """The objects in a list of an object; empty if there is none."""
    return [members(each) for each in given.get(name) or ()]


def opaque(block: Mapping[str, Any]) -> Opaque:
    """A block that only this API knows."""
    return Opaque(dict(block), NAME)


def parts_of(blocks: Sequence[Mapping[str, Any]]) -> list[Part]:
    """The parts that blocks stand for; a cache point marks the part before it."""
    found: list[Part] = []
    for block in blocks:
        given = members(block)
        point = given.get("cachePoint")
        if point is not None and found and may_mark(found[-1]):
            found[-1] = marked(found[-1], point)
        else:
            found.append(part_of(given))
    return found


def may_mark(part: Part | Tool) -> bool:
    """Whether a part can carry a mark, and has none."""
    return not isinstance(part, Opaque) and MARK not in part.extra


def marked(part: Any, point: Mapping[str, Any]) -> Any:
    """A part or a tool up to whose end a prompt cache may keep the request."""
    ttl: JSON = {} if point.get("ttl") is None else {"ttl": point["ttl"]}
    return attrs.evolve(part, extra={**part.extra, MARK: {"type": "ephemeral", **ttl}})


def part_of(block: JSON) -> Part:
    """The part that one block stands for."""
    ((kind, given),) = block.items()
    match kind:
        case "text":
            return Text(given)
        case "image":
            return _image(given) or opaque(block)
        case "document":
            return _document(given) or opaque(block)
        case "video" | "audio":
            return _recording(kind, given) or opaque(block)
        case "toolUse" if given.get("type") is None:
            return ToolCall(given["toolUseId"], given["name"], json_text(given["input"]))
        case "toolResult" if given.get("type") is None:
            content = tuple(parts_of(given["content"]))
            return ToolResult(given["toolUseId"], content, given.get("status") == "error")
        case "reasoningContent":
            return _reasoning(members(given))
        case _:
            return opaque(block)


def _recording(kind: str, given: Mapping[str, Any]) -> File | Audio | None:
    """A film, or sound whose bytes are there."""
    source = inner(given, "source")
    if kind == "video":
        return File(media_type=VIDEOS[given["format"]], **_content(source))
    if "bytes" not in source or given.get("error") is not None:
        return None
    return Audio(base64.b64decode(source["bytes"]), given["format"])


def _image(given: Mapping[str, Any]) -> Image | None:
    if given.get("error") is not None:
        return None
    return Image(media_type=f"image/{given['format']}", **_content(members(given["source"])))


def _document(given: Mapping[str, Any]) -> File | None:
    """A document by content or address; None for the forms that only this API has."""
    source, kind = members(given["source"]), given.get("format")
    if kind is None or not source.keys() & {"bytes", "s3Location"}:
        return None
    fields = _content(source)
    own = {name: given[name] for name in ("context", "citations") if given.get(name) is not None}
    if own:
        fields["extra"] = {**fields.get("extra", {}), **own, **OWN}
    return File(filename=given["name"], media_type=DOCUMENTS[kind], **fields)


def _content(source: Mapping[str, Any]) -> JSON:
    """The bytes, or where they are."""
    if "bytes" in source:
        return {"data": base64.b64decode(source["bytes"])}
    place = members(source["s3Location"])
    fields: JSON = {"url": place["uri"]}
    if "bucketOwner" in place:
        fields["extra"] = {"bucketOwner": place["bucketOwner"], **OWN}
    return fields


def _reasoning(given: Mapping[str, Any]) -> Reasoning:
    if "redactedContent" in given:
        return Reasoning("", given["redactedContent"], redacted=True, extra=OWN)
    shown = given["reasoningText"]
    return Reasoning(shown["text"], shown.get("signature"), extra=OWN)


# --- in words ----------------------------------------------------------------------------------


def in_words(request: ChatRequest) -> ChatRequest:
    """The request with the words in this API's own blocks as texts, for who knows nothing of it."""
    changed = [_message_in_words(message) for message in request.messages]
    return request.evolve(messages=tuple(changed))


def _message_in_words(message: Message) -> Message:
    if not any(isinstance(part, Opaque | ToolResult) for part in message.parts):
        return message
    return attrs.evolve(message, parts=tuple([part_in_words(part) for part in message.parts]))


def part_in_words(part: Part) -> Part:
    """A part as text, if it is a block of this API's own that has words; else the part itself."""
    if isinstance(part, ToolResult):
        return attrs.evolve(part, content=tuple([part_in_words(each) for each in part.content]))
    if not isinstance(part, Opaque):
        return part
    match dict(part.data):
        case {"json": value}:
            return Text(json_text(value))
        case {"guardContent": {"text": {"text": str(words)}}}:
            return Text(words)
        case {"citationsContent": said}:
            return Text("".join([piece.get("text", "") for piece in several(said, "content")]))
        case _:
            return part
