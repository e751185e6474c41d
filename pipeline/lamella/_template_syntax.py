"""The plain syntax of prompt templates: `{name}` stands for a variable, `{{` and `}}` for braces.

There is nothing else: no attributes, no formats, no expressions. A text is taken apart once, and
written by joining, so that what a value says is never read as syntax.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Protocol

import attrs

_TOKEN: Final = re.compile(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_]*)\}|[{}]")
_MEANT: Final = re.compile(r"\{[^{}\s]{0,60}\}")

NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
"""What a variable may be called."""


class TooLong(Exception):
    """Raised when a text becomes longer than it may."""


class WriteFailed(Exception):
    """Raised with where and how a text could not be written; never with what it was given."""


class Writer(Protocol):
    """A text with variables in it, taken apart."""

    @property
    def names(self) -> frozenset[str]:
        """The variables in it."""
        ...

    def write(self, values: Mapping[str, Any], most: int) -> str:
        """The text with these values.

        Raises:
            TooLong: If it would have more than `most` characters.
            WriteFailed: If it cannot be written.
        """
        ...


@attrs.frozen
class PlainText:
    """A text in the plain syntax.

    Attributes:
        pieces: Texts and names in turn, a text first and last.
    """

    pieces: tuple[str, ...]

    @property
    def names(self) -> frozenset[str]:
        """The variables in it."""
        return frozenset(self.pieces[1::2])

    def write(self, values: Mapping[str, str], most: int) -> str:
        """The text with these values, which are texts themselves.

        Raises:
            TooLong: If it would have more than `most` characters.
        """
        pieces = list(self.pieces)
        pieces[1::2] = [values[name] for name in pieces[1::2]]
        if sum(map(len, pieces)) > most:
            raise TooLong
        return "".join(pieces)


def plain_text(source: str) -> tuple[PlainText, list[str]]:
    """A text taken apart, and what is wrong with it, a sentence for each place."""
    pieces, wrong = [""], list[str]()
    end = 0
    for token in _TOKEN.finditer(source):
        if token.start() < end:
            continue  # the end of what was told of already
        pieces[-1] += source[end : token.start()]
        end = token.end()
        if token[1] is not None:
            pieces += [token[1], ""]
        elif len(token[0]) == 2:
            pieces[-1] += token[0][0]
        else:
            meant = _MEANT.match(source, token.start())
            wrong.append(_lone_brace(source, token.start(), meant[0] if meant else ""))
            end = meant.end() if meant else end
    pieces[-1] += source[end:]
    return PlainText(tuple(pieces)), wrong


def _lone_brace(source: str, place: int, meant: str) -> str:
    before = source[:place]
    line, column = before.count("\n") + 1, place - before.rfind("\n")
    brace = source[place]
    return (
        f"line {line}, column {column}: {meant or f'a single {brace}'} is no variable: write "
        f"{{name}} with a name of letters, digits and _, or {brace * 2} for the brace itself"
    )
