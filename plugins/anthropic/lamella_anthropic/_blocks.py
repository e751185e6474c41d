"""The Messages API: how the parts of a message are written as content blocks."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import msgspec

from lamella._message_dicts import from_data_url
from lamella._parts import (
    Audio,
    File,
    Image,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from lamella.transports._dialect import JSON
from lamella.transports._losses import Losses
from lamella.transports._wire_json import is_object, mended
from lamella.transports._wire_parts import fitting_id, unsupported

_CALL_ID = re.compile("[a-zA-Z0-9_-]+")
_PDF = "application/pdf"
_SUFFIXES = {
    "pdf": _PDF,
    "txt": "text/plain",
    "md": "text/plain",
    "csv": "text/plain",
    "json": "text/plain",
    "html": "text/plain",
    "xml": "text/plain",
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
}
_TEXTUAL = frozenset({"application/json", "application/xml", "application/yaml"})


class BlockWriter:
    """Writes parts for one request.

    Args:
        provider: Who is asked, for messages.
        losses: Where what is left out is noted.
    """

    __slots__ = ("_losses", "_provider")

    def __init__(self, provider: str, losses: Losses) -> None:
        self._provider = provider
        self._losses = losses

    def system(self, parts: Iterable[Part]) -> list[JSON]:
        """The blocks of a system message: text, and what is this provider's own."""
        blocks: list[JSON] = []
        for part in parts:
            if isinstance(part, Text):
                self._text(part, blocks)
            elif isinstance(part, Opaque):
                blocks.append(self._opaque(part))
            else:
                self._refuse(part, "in a system message", "Put it into a user message.")
        return blocks

    def user(self, parts: Iterable[Part]) -> list[JSON]:
        """The blocks of a user's message, or of a tool's result."""
        blocks: list[JSON] = []
        for part in parts:
            match part:
                case Text():
                    self._text(part, blocks)
                case Image():
                    blocks.append(self._image(part))
                case File():
                    blocks.append(self._file(part))
                case ToolResult():
                    blocks.append(self._result(part))
                case Opaque():
                    blocks.append(self._opaque(part))
                case Audio():
                    hint = "Transcribe it, or choose a provider whose models hear."
                    self._refuse(part, "to Claude", hint)
                case _:
                    hint = "It belongs into an assistant's message."
                    self._refuse(part, "in a user's message", hint)
        return blocks

    def assistant(self, parts: Iterable[Part]) -> list[JSON]:
        """The blocks of what the model said before, in place."""
        blocks: list[JSON] = []
        for part in parts:
            match part:
                case Text():
                    self._text(part, blocks)
                case ToolCall():
                    blocks.append(self._tool_use(part))
                case Reasoning():
                    self._thinking(part, blocks)
                case Opaque():
                    self._earlier(part, blocks)
                case Refusal():
                    self._losses.add("Refusal", "this API takes it back as plain text")
                    self._text(Text(part.text), blocks)
                case _:
                    hint = "Put it into a user message, or leave it out of the conversation."
                    self._refuse(part, "in an assistant's message of the Messages API", hint)
        return blocks

    # --- parts -------------------------------------------------------------------------------

    def _text(self, part: Text, blocks: list[JSON]) -> None:
        if not part.text.strip():  # the API refuses it
            if part.text or part.extra:
                self._losses.add("Text", "this API takes none without a word in it")
            return
        block: JSON = {"type": "text", "text": part.text}
        if part.extra:
            block.update(self._losses.own(part.extra, "Text"))
        blocks.append(block)

    def _image(self, part: Image) -> JSON:
        media_type, data = part.media_type, part.data
        if part.url is not None and part.url.startswith("data:"):
            media_type, data = self._from_data_url(part.url)
        if part.detail is not None:
            self._losses.add("Image.detail", "this API has no such choice")
        if data is None:
            source: JSON = {"type": "url", "url": part.url}
        elif media_type is None:
            hint = "Say what it is: Image(data=..., media_type='image/png')."
            self._refuse("An Image with `data` but no `media_type`", "to a provider", hint)
        else:
            source = _base64(media_type, data)
        return {"type": "image", "source": source, **self._losses.own(part.extra, "Image")}

    def _from_data_url(self, url: str) -> tuple[str | None, bytes]:
        found = from_data_url(url)
        if found is None:
            hint = "Give its bytes instead: Image(data=..., media_type='image/png')."
            self._refuse("An Image with a malformed data URL", "to Claude", hint)
        return found

    def _file(self, part: File) -> JSON:
        kind = _media_type(part)
        if part.id is not None:
            source: JSON = {"type": "file", "file_id": part.id}
        elif part.url is not None:
            source = {"type": "url", "url": part.url}
        else:
            source = self._content(kind, part.data or b"")
        extra = self._losses.own(part.extra, "File")
        if kind is not None and kind.startswith("image/"):
            return {"type": "image", "source": source, **extra}
        title: JSON = {} if part.filename is None else {"title": part.filename}
        return {"type": "document", "source": source, **title, **extra}

    def _content(self, kind: str | None, data: bytes) -> JSON:
        if kind == _PDF or (kind is None and data.startswith(b"%PDF-")):
            return _base64(_PDF, data)
        if kind is not None and kind.startswith("image/"):
            return _base64(kind, data)
        if kind is not None and (kind.startswith("text/") or kind in _TEXTUAL):
            with contextlib.suppress(UnicodeDecodeError):
                return {"type": "text", "media_type": "text/plain", "data": data.decode("utf-8")}
        name = "of an unknown kind" if kind is None else f"of type {kind!r}"
        hint = "Documents are PDF or text in UTF-8. Say which: File(media_type='application/pdf')."
        return self._refuse(f"A File {name}", "to Claude", hint)

    def _result(self, part: ToolResult) -> JSON:
        call = fitting_id(part.call_id, _CALL_ID)
        block: JSON = {"type": "tool_result", "tool_use_id": call}
        content = part.content
        for inner in content:
            if isinstance(inner, ToolResult):
                self._refuse(inner, "inside a tool's result", "Send each result by itself.")
        written = self.user(content)
        if written:
            block["content"] = plain(written, listed=part.listed)
        if part.error:
            block["is_error"] = True
            block.setdefault("content", "The tool failed.")  # the API wants it to say something
        block.update(self._losses.own(part.extra, "ToolResult"))
        return block

    def _tool_use(self, call: ToolCall) -> JSON:
        if call.kind != "function":
            hint = "The Messages API has tools with JSON arguments only; choose another provider."
            self._refuse(f"A tool call of kind {call.kind!r}", "to Claude", hint)
        block: JSON = {
            "type": "tool_use",
            "id": fitting_id(call.id, _CALL_ID),
            "name": call.name,
            "input": self._arguments(call),
        }
        if call.extra:
            block.update(self._losses.own(call.extra, "ToolCall"))
        return block

    def _arguments(self, call: ToolCall) -> Mapping[str, Any]:
        found = _parsed(call.arguments)
        if not is_object(found):
            self._refuse(
                f"The call {call.id!r} of the tool {call.name!r}, whose arguments are no JSON "
                "object,",
                "to Claude",
                "Answer it with a failed result and leave the call out, or mend its arguments.",
            )
        return found

    def _thinking(self, part: Reasoning, blocks: list[JSON]) -> None:
        if part.signature is None or not self._losses.is_own(part):
            self._losses.thought(part)
        elif part.redacted:
            extra = self._losses.own(part.extra, "Reasoning")
            blocks.append({"type": "redacted_thinking", "data": part.signature, **extra})
        else:
            extra = self._losses.own(part.extra, "Reasoning")
            block = {"type": "thinking", "thinking": part.text, "signature": part.signature}
            blocks.append({**block, **extra})

    def _earlier(self, part: Opaque, blocks: list[JSON]) -> None:
        """A block of an earlier answer: back to its provider, and to nobody else."""
        if not self._losses.is_own(part):
            self._losses.foreign("Opaque")
        else:
            blocks.append(dict(part.data))

    def _opaque(self, part: Opaque) -> JSON:
        if not self._losses.is_own(part):
            self._refuse(
                f"An Opaque part of {part.provider!r}",
                f"to {self._provider!r}",
                "Take it out of the request, or send the request to the provider that made it.",
            )
        return dict(part.data)

    def _refuse(self, part: object, where: str, hint: str) -> NoReturn:
        raise unsupported(part, where, hint, provider=self._provider)


def plain(blocks: list[JSON], *, listed: bool = False) -> str | list[JSON]:
    """A string where one plain text says all, otherwise the blocks."""
    if len(blocks) == 1 and not listed and blocks[0].keys() == {"type", "text"}:
        text: str = blocks[0]["text"]
        return text
    return blocks


def _base64(media_type: str, data: bytes) -> JSON:
    encoded = base64.b64encode(data).decode()
    return {"type": "base64", "media_type": media_type, "data": encoded}


def _media_type(part: File) -> str | None:
    if part.media_type is not None:
        return part.media_type.partition(";")[0].strip().lower()
    return _SUFFIXES.get((part.filename or "").rpartition(".")[2].lower())


def _parsed(arguments: str) -> Any:
    """What arguments say; None if they are no JSON. Nothing at all is no arguments."""
    if not arguments.strip():
        return {}
    with contextlib.suppress(msgspec.MsgspecError, ValueError, RecursionError):
        return msgspec.json.decode(arguments.encode())
    with contextlib.suppress(ValueError, RecursionError):
        return mended(json.loads(arguments, parse_constant=_number, parse_float=_number))
    return None


def _number(text: str) -> float:
    """A number that JSON can say again."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number
