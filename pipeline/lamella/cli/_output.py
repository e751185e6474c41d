"""Where a command writes: the answer to standard output, all else to standard error.

On a terminal there is colour, and what could steer the terminal is taken out of what models and
providers say. Elsewhere the output is plain text, and an answer is passed on as it is.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_STEERING: Final[Mapping[int, str | None]] = {
    **dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)), "\N{REPLACEMENT CHARACTER}"),
    ord("\n"): "\n",
    ord("\t"): "\t",
    ord("\r"): None,
}

_UNBOUNDED: Final = 10_000
"""Columns enough for every table of ours."""


def prepare() -> None:
    """Let writing never be an error by itself.

    What an encoding lacks is written as a question mark. A stream that was closed before the
    program began is empty, or takes everything and keeps nothing.
    """
    sys.stdin = sys.stdin or _nowhere("r")
    sys.stdout = sys.stdout or _nowhere("w")
    sys.stderr = sys.stderr or _nowhere("w")
    reconfigure: Callable[..., None] | None = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")


def _nowhere(mode: str) -> TextIO:
    return cast("TextIO", Path(os.devnull).open(mode, encoding="utf-8"))


def is_terminal(stream: TextIO) -> bool:
    """Whether a person sees this stream."""
    return stream.isatty()


def harmless(text: str) -> str:
    """Text without the characters that would steer a terminal."""
    return text.translate(_STEERING)


class Page:
    """Standard output, written piece by piece as an answer arrives."""

    def __init__(self) -> None:
        self._stream = sys.stdout
        self.terminal = is_terminal(self._stream)
        self._at_start = True

    def write(self, text: str, *, dim: bool = False) -> None:
        """Write a piece and let it be seen at once."""
        if not text:
            return
        if self.terminal:
            text = harmless(text)
        self._at_start = text.endswith("\n")
        self._stream.write(_dimmed(text) if dim else text)
        self._stream.flush()

    def end_line(self) -> None:
        """Begin a new line unless at the beginning of one."""
        if not self._at_start:
            self.write("\n")

    def end_paragraph(self) -> None:
        """Leave one line empty, if anything has been written."""
        self.end_line()
        self.write("\n")


def _dimmed(text: str) -> str:
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") in {"dumb", "unknown"}
    return text if plain else f"\x1b[2m{text}\x1b[0m"


def console(stream: TextIO, *, width: int | None = None) -> Console:
    """A stream as rich sees it, as wide as the terminal unless `width` says more."""
    from rich.console import Console

    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def show(rich: Callable[[], Any], plain: Callable[[], str], stream: TextIO | None = None) -> None:
    """Print something in the form that suits the stream.

    Args:
        rich: Makes what a terminal shows.
        plain: Makes the text for everything else.
        stream: Where; None is standard output.
    """
    target: TextIO = stream or sys.stdout
    if is_terminal(target):
        page, made = console(target), rich()
        # A name that is cut in pieces can be neither read nor copied: rather let the line be long.
        unbounded = page.options.update_width(_UNBOUNDED)
        page.width = max(page.width, page.measure(made, options=unbounded).minimum)
        page.print(made)
    else:
        target.write(plain() + "\n")
    target.flush()


def say(text: str, *, style: str = "") -> None:
    """Tell the person at the keyboard something that is no answer, on standard error."""
    sys.stdout.flush()

    def styled() -> Text:
        from rich.text import Text

        return Text(harmless(text), style=style)

    show(styled, lambda: text, sys.stderr)


def show_json(value: object) -> None:
    """Print one JSON document."""
    text = json.dumps(value, ensure_ascii=False, indent=2, default=str)
    encoding = sys.stdout.encoding or "ascii"
    if text.encode(encoding, "replace").decode(encoding, "replace") != text:
        text = json.dumps(value, indent=2, default=str)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def give_up_unwritten() -> None:
    """Drop what cannot be written: its reader has gone, or the disk is full.

    Otherwise the interpreter would try once more when it ends, and complain.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
