"""How Google writes its streams: server-sent events, or one JSON array that grows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from json import dumps, loads
from typing import TypeAlias

import attrs

from lamella.testing._http_body import Chunk
from lamella.testing._mock_faults import MockFaults
from lamella.testing._mock_openai._requests import JSON
from lamella.testing._mock_sse import Frame, json_text, render

ARRAY = "application/json; charset=UTF-8"
EVENTS = "text/event-stream"

_ERROR = "error"
_END = Frame("]")

_Written: TypeAlias = Callable[[Sequence[Frame], MockFaults, float], list[Chunk]]


def error_frame(document: JSON) -> Frame:
    """The provider's error in the middle of a stream."""
    return Frame(json_text(document), event=_ERROR)


def as_array(frames: Sequence[Frame], faults: MockFaults) -> list[Frame]:
    """The elements of a stream that is one JSON array, with its end unless that is to lack."""
    return [*frames] if faults.no_done else [*frames, _END]


def events_written(ping: str) -> _Written:
    """Writes server-sent events with CR LF, as Google does.

    An error comes bare, as indented JSON without `data:`, and ends the stream.

    Args:
        ping: What comes before each event where signs of life are asked for.
    """

    def written(frames: Sequence[Frame], faults: MockFaults, pause: float) -> list[Chunk]:
        plain = attrs.evolve(faults, pings=False, line_end=faults.line_end or "crlf")
        sound = [frame for frame in frames if frame.event != _ERROR]
        chunks = render(sound, plain, pause)
        if faults.pings:
            (sign,) = render([Frame(ping)], attrs.evolve(plain, bom=False, ids=False))
            first = 1 if faults.bom else 0  # nothing may precede a byte order mark
            chunks = [*chunks[:first], *_preceded(chunks[first:], sign)]
        bare = [_indented(frame) for frame in frames if frame.event == _ERROR]
        return [*chunks, *bare]

    return written


def array_written(ping: str) -> _Written:
    """Writes one JSON array, an element for each event.

    Args:
        ping: The element that comes before each where signs of life are asked for.
    """

    def written(frames: Sequence[Frame], faults: MockFaults, pause: float) -> list[Chunk]:
        texts: list[Frame] = []
        for place, frame in enumerate(frames):
            if frame is _END:
                texts.append(attrs.evolve(_END, data="]" if texts else "[]"))
                continue
            sign = f"{ping}\r\n,\r\n" if faults.pings and frame.event is None else ""
            data = dumps(loads(frame.data), indent=2, ensure_ascii=False)
            end = "]" if frame.event == _ERROR else ""
            texts.append(attrs.evolve(frame, data=f"{',' if place else '['}{sign}{data}\r\n{end}"))
        return _bytes(texts, pause)

    return written


def _bytes(texts: Sequence[Frame], pause: float) -> list[Chunk]:
    """The texts as they are, with the pauses that server-sent events would have."""
    encoded = iter([frame.data.encode("utf-8", "replace") for frame in texts])
    rendered = render(texts, MockFaults(), pause)
    return [next(encoded) if isinstance(chunk, bytes) else chunk for chunk in rendered]


def _preceded(chunks: Sequence[Chunk], sign: Chunk) -> list[Chunk]:
    assert isinstance(sign, bytes)  # noqa: S101 - one frame is one chunk of bytes
    return [sign + chunk if isinstance(chunk, bytes) else chunk for chunk in chunks]


def _indented(frame: Frame) -> bytes:
    return dumps(loads(frame.data), indent=2, ensure_ascii=False).encode() + b"\n"
