"""Where in a text that may go on something could be under way.

`reach` alone would hold a whole key's length of every answer back. But what has no white space in
it, a key or an address, is under way only in the last run of other characters.
"""

from __future__ import annotations

from collections.abc import Callable

_SPACES = " \n\t\r"


def last_run(text: str, most: int) -> int:
    """Where the last run of characters without white space begins, at most `most` from the end."""
    first = max(0, len(text) - most)
    return max(first, *(text.rfind(space, first) + 1 for space in _SPACES))


def in_last_run(most: int, *, context: int = 0) -> Callable[[str], int]:
    """For what has no white space in it, with up to `context` characters before that matter."""

    def opens(text: str) -> int:
        return max(0, last_run(text, most) - context)

    return opens
