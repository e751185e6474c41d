"""Where text for people and programs goes: a stream of this process, or anybody's function."""

from __future__ import annotations

import sys
from typing import Any, Protocol, cast

import attrs

from lamella._options import Check, is_async, refused


class TextStream(Protocol):
    """Where text goes: an open text file, `sys.stderr`, `io.StringIO`."""

    def write(self, text: str, /) -> object:
        """Take some text."""
        ...


def usable_sink(what: str) -> Check:
    """Checks an option that says where a writer writes to.

    Args:
        what: What a function would be given.
    """
    want = f"'stderr', 'stdout', an open text stream, or a plain function of {what}"

    def check(layer: object, option: attrs.Attribute[Any], value: Any) -> None:
        if isinstance(value, str):
            if value not in {"stderr", "stdout"}:
                raise refused(layer, option, value, want)
        elif not hasattr(value, "write"):
            if not callable(value):
                raise refused(layer, option, value, want)
            if is_async(value):
                why = "it is called in a thread of its own, so it may block, but cannot be awaited"
                raise refused(layer, option, value, f"{want}; {why}")

    return check


def stream_of(given: TextStream | str) -> TextStream:
    """The stream; `"stderr"` and `"stdout"` are those of now: they may be replaced meanwhile."""
    return cast("TextStream", getattr(sys, given)) if isinstance(given, str) else given


def write_text(stream: TextStream, text: str) -> None:
    """Write text, and see that it leaves this process; what the stream cannot say is escaped."""
    if not text.isascii():
        encoding = getattr(stream, "encoding", None) or "utf-8"
        text = text.encode(encoding, "backslashreplace").decode(encoding)
    stream.write(text)
    flush = getattr(stream, "flush", None)
    if flush is not None:
        flush()
