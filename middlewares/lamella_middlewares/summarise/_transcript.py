"""Messages as lines that are read as data: one JSON object for each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

import msgspec

from lamella import Audio, File, Image, Message, Refusal, Text, ToolCall, ToolResult
from lamella._parts import Part, Reasoning
from lamella._text_cutting import cut_text

RESULT_CHARACTERS: Final = 2_000
"""What stays of a tool's result; the answer that was made of it is there as well."""

_MEDIA: Final = ((Image, "image"), (Audio, "audio"), (File, "file"))


def line(message: Message, *, most: int) -> str:
    """A message as one line.

    Thoughts are left out, for they are of use to the model only that has had them. Of pictures,
    sound and files it says that they were there.

    Args:
        message: Any message.
        most: Characters that stay of each of its texts, the beginning and the end.
    """
    row: dict[str, Any] = {"role": message.role}
    if message.name:
        row["name"] = message.name
    result = message.parts[0] if message.role == "tool" else None
    if isinstance(result, ToolResult):
        if result.error:
            row["error"] = True
        _add(row, result.content, min(most, RESULT_CHARACTERS))
    else:
        _add(row, message.parts, most)
    return _encoded(row)


def record_line(text: str) -> str:
    """The record of still earlier messages as one line."""
    return _encoded({"record_of_earlier_messages": text})


def _add(row: dict[str, Any], parts: Sequence[Part], most: int) -> None:
    """Put the content of some parts into a row."""
    text = "\n".join(_texts(parts))
    if text:
        row["text"] = cut_text(text, most)
    calls = [
        {"tool": part.name, "arguments": cut_text(part.arguments, most)}
        for part in parts
        if isinstance(part, ToolCall)
    ]
    if calls:
        row["calls"] = calls
    media = [word for part in parts for kind, word in _MEDIA if isinstance(part, kind)]
    if media:
        row["with"] = media


def _texts(parts: Iterable[Part]) -> Iterable[str]:
    for part in parts:
        if isinstance(part, Text | Refusal):
            yield part.text
        elif isinstance(part, Audio):
            yield part.transcript or ""
        elif isinstance(part, ToolResult):
            yield cut_text("\n".join(_texts(part.content)), RESULT_CHARACTERS)
        elif not isinstance(part, Reasoning | ToolCall | Image | File):
            yield f"[{part.type}]"


def _encoded(row: dict[str, Any]) -> str:
    try:
        return msgspec.json.encode(row).decode()
    except UnicodeEncodeError:  # half of a surrogate pair, as a stream may have cut it
        return msgspec.json.encode(_whole(row)).decode()


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {name: _whole(item) for name, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_whole(item) for item in cast("Iterable[Any]", value)]
    return value
