"""Label values: clean, short, and of a bounded number.

Each value of a label is a time series, kept for ever by who scrapes it. Models come with requests,
so there may be any number of them, and anything may stand in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

OTHER: Final = "other"
"""What is beyond the bound."""

NONE: Final = "none"
"""What is not said."""

_LONGEST: Final = 100


class LabelValues:
    """The values that have been seen, by label. Not thread-safe: the recorder's lock covers it.

    Args:
        most: How many values each label may have.
        known: Values that have a place of their own whatever comes first, by label.
        overflowed: Told of the label whenever a value had to be called other.
    """

    def __init__(
        self,
        most: int,
        known: Mapping[str, Iterable[str]],
        overflowed: Callable[[str], object],
    ) -> None:
        self._most = most
        self._overflowed = overflowed
        self._clean: dict[str, dict[str, str]] = {}
        self._kept: dict[str, set[str]] = {}
        for label, values in known.items():
            self._clean[label] = {value: cleaned(value) for value in values}
            self._kept[label] = set(self._clean[label].values())
        self._places = {label: len(kept) + most for label, kept in self._kept.items()}

    def of(self, label: str, value: object) -> str:
        """The value to use; beyond the bound `"other"`, which is counted."""
        known = self._clean.get(label)
        if known is None:
            known = self._clean[label] = {}
            self._kept[label] = set()
        if type(value) is str:
            found = known.get(value)
            if found is not None:
                return found
        return self._new(label, NONE if value is None else str(value))

    def _new(self, label: str, value: str) -> str:
        known, kept, clean = self._clean[label], self._kept[label], cleaned(value)
        most = self._places.get(label, self._most)
        if clean not in kept:
            if len(kept) >= most:
                self._overflowed(label)
                return OTHER
            kept.add(clean)
        if len(known) < 2 * most:  # several spellings may come to the same
            known[value] = clean
        return clean


def cleaned(value: str) -> str:
    """Printable, of one line, and no longer than a label should be."""
    if not value:
        return NONE
    short = value[:_LONGEST]
    if short.isprintable():
        return short
    return "".join([sign if sign.isprintable() else "?" for sign in short])
