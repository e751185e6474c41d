"""The values that secrets have revealed, found in texts wherever they stand."""

from __future__ import annotations

import json
from typing import Final
from urllib.parse import quote

from lamella._revealed import LEAST_LETTERS, revealed_values

_FEW: Final = 8  # values up to which one search for each is quicker than looking at every place


class _Searcher:
    """Finds values in texts, in time that grows with the text and hardly with how many there are.

    Args:
        values: What to find, each at least `LEAST_LETTERS` long.
    """

    __slots__ = ("_by_end", "_values", "made_of")

    def __init__(self, values: tuple[str, ...]) -> None:
        self.made_of = values
        self._values = tuple({form: None for value in values for form in _forms(value)})
        # By their ends: keys of one vendor begin alike.
        self._by_end: dict[str, list[str]] = {}
        for value in self._values if len(self._values) > _FEW else ():
            self._by_end.setdefault(value[-LEAST_LETTERS:], []).append(value)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where values stand, from start to end; they may overlap."""
        if not self._by_end:
            return sorted([span for value in self._values for span in _each(text, value)])
        found: list[tuple[int, int]] = []
        by_end = self._by_end
        for end in range(LEAST_LETTERS, len(text) + 1):
            for value in by_end.get(text[end - LEAST_LETTERS : end], ()):
                start = end - len(value)
                if start >= 0 and text.startswith(value, start):
                    found.append((start, end))
        return sorted(found)


def _forms(value: str) -> list[str]:
    """The value as it is, in an address, in JSON, and in a `repr`."""
    written = [json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]]
    in_address = quote(value.encode("utf-8", "surrogatepass"), safe="")
    return list(dict.fromkeys([value, in_address, *written, repr(value)[1:-1]]))


def _each(text: str, value: str) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    start = text.find(value)
    while start >= 0:
        found.append((start, start + len(value)))
        start = text.find(value, start + 1)
    return found


_searcher = _Searcher(())


def searched_for() -> tuple[str, ...]:
    """The values that texts are searched for now; the same object until there is another one."""
    return revealed_values()


def without_revealed(text: str, instead: str) -> str:
    """The text with every value that a secret has revealed in this process replaced."""
    global _searcher  # noqa: PLW0603 - made anew only when another value has been revealed
    values = revealed_values()
    if not values or len(text) < LEAST_LETTERS:
        return text
    searcher = _searcher
    if searcher.made_of is not values:
        searcher = _searcher = _Searcher(values)
    spans = searcher.spans(text)
    if not spans:
        return text
    pieces: list[str] = []
    here = 0
    for start, end in spans:
        if start >= here:
            pieces += (text[here:start], instead)
        here = max(here, end)
    return "".join([*pieces, text[here:]])
