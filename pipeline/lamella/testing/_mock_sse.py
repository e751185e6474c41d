"""Server-sent events as bytes, in every way in which they may lawfully be written."""

from __future__ import annotations

from collections.abc import Sequence
from json import dumps, loads
from typing import Any

import attrs

from lamella.testing._http_body import Chunk, Pause
from lamella.testing._mock_faults import MockFaults

_LINE_ENDS = {"lf": "\n", "crlf": "\r\n", "cr": "\r"}


@attrs.frozen
class Frame:
    """One event of a stream.

    Attributes:
        data: Its data, on one line.
        event: Its name, where the API gives events names.
        token: Whether the model has to work for it, so that its time per token passes first.
    """

    data: str
    event: str | None = None
    token: bool = False


def json_text(document: Any) -> str:
    """A document on one line, in UTF-8 where its texts can be."""
    text = dumps(document, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which only an escape can carry
        return dumps(document, separators=(",", ":"))
    return text


def render(frames: Sequence[Frame], faults: MockFaults, pause: float = 0.0) -> list[Chunk]:
    """The bytes of a stream, one chunk for each event, with the pauses between them.

    Args:
        frames: The events.
        faults: Says how they are written.
        pause: Seconds before each event that is a token, except the first.
    """
    chunks: list[Chunk] = []
    tokens = 0
    for number, frame in enumerate(frames):
        if frame.token:
            if tokens and pause > 0:
                chunks.append(Pause(pause))
            tokens += 1
        text = _written(frame, number, faults)
        if faults.bom and number == 0:
            text = f"\ufeff{text}"
        chunks.append(text.encode())
    return chunks


def _written(frame: Frame, number: int, faults: MockFaults) -> str:
    lines: list[str] = [": ping", ""] if faults.pings else []
    if faults.ids:
        lines += [f"id: {number}", "retry: 3000"]
    if frame.event is not None:
        lines.append(f"event: {frame.event}")
    space = "" if faults.no_space else " "
    data = _spread(frame.data) if faults.multiline else [frame.data]
    lines += [f"data:{space}{line}" for line in data]
    end = _LINE_ENDS[faults.line_end or "lf"]
    return "".join(line + end for line in (*lines, ""))


def _spread(data: str) -> list[str]:
    if not data.startswith("{"):
        return [data]
    return dumps(loads(data), ensure_ascii=not data.isascii(), indent=0).splitlines()


def reset_place(chunks: Sequence[Chunk], events: int) -> int:
    """After how many bytes so many events are out."""
    sizes = [len(chunk) for chunk in chunks if isinstance(chunk, bytes)]
    return sum(sizes[:events])
