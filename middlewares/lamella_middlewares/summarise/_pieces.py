"""What is summarised, in pieces that a model can read at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from lamella._history import Group
from lamella._token_estimate import ESTIMATOR
from lamella_middlewares.summarise._transcript import line

LEAST_CHARACTERS: Final = 200
"""What stays of a text at least, however many have to go into one piece."""


@attrs.frozen
class Piece:
    """Groups that are summarised at once.

    Attributes:
        lines: Their messages.
        groups: How many groups that are.
    """

    lines: str
    groups: int


def pieces(covered: Sequence[Group], tokens: int) -> list[Piece]:
    """Groups as pieces of at most so many tokens, as estimated; at least one group in each.

    Of the texts of a group that is longer by itself, the beginning and the end stay.

    Args:
        covered: What is summarised.
        tokens: How many a piece may have.
    """
    found: list[Piece] = []
    lines: list[str] = []
    size = groups = 0
    for group in covered:
        more, taken = _group(group, tokens)
        if lines and size + taken > tokens:
            found.append(Piece("\n".join(lines), groups))
            lines, size, groups = [], 0, 0
        lines.extend(more)
        size += taken
        groups += 1
    if lines:
        found.append(Piece("\n".join(lines), groups))
    return found


def _group(group: Group, tokens: int) -> tuple[list[str], int]:
    most = 4 * tokens  # characters: what takes fewer tokens each is cut a little early, and no more
    while True:
        lines = [line(message, most=most) for message in group.messages]
        taken = ESTIMATOR.count(lines) + len(lines)
        if taken <= tokens or most <= LEAST_CHARACTERS:
            return lines, taken
        most = max(LEAST_CHARACTERS, most // 4)
