"""Reading TOML tables and dicts so that all of a file's mistakes are reported at once.

A `Table` hands out the values of one table by key and type. What is wrong is written down, with the
file, the key path, the value and what was expected, and reading goes on with a default; `Mistakes`
raises one error for all of them at the end. A key that nobody asked for is a mistake too, so that a
misspelt one does not silently do nothing.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import cast

import attrs

from lamella._errors import ConfigurationError

_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")
_SHOWN = 80


def _str_set() -> set[str]:
    return set()


def _str_list() -> list[str]:
    return []


def close_to(name: str, known: Collection[str]) -> str:
    """A sentence that offers the nearest known names, or an empty string if none is near."""
    import difflib

    near = difflib.get_close_matches(name, sorted(known), n=3)
    return f"Did you mean {' or '.join(repr(one) for one in near)}?" if near else ""


@attrs.define
class Mistakes:
    """What is wrong with one file.

    Attributes:
        place: The file, or what stands for it in messages.
        found: One sentence per mistake.
    """

    place: str
    found: list[str] = attrs.field(factory=_str_list)

    def note(self, path: str, value: object, expected: str) -> None:
        """Write down that `path` holds `value` where something else was expected."""
        shown = repr(value)
        if len(shown) > _SHOWN:
            shown = f"{shown[:_SHOWN]}…"
        stop = "" if expected.endswith("?") else "."
        self.add(f"{path} = {shown}: expected {expected}{stop}")

    def add(self, sentence: str) -> None:
        """Write down a mistake, once: a base is read with every table that stands on it."""
        if sentence not in self.found:
            self.found.append(sentence)

    def raise_any(self) -> None:
        """Raise if anything was written down.

        Raises:
            ConfigurationError: With every mistake, one a line.
        """
        if not self.found:
            return
        count = "1 mistake" if len(self.found) == 1 else f"{len(self.found)} mistakes"
        lines = "".join(f"\n  {one}" for one in self.found)
        raise ConfigurationError(f"{self.place}: {count}.{lines}")


@attrs.define
class Table:
    """One table that is being read.

    Attributes:
        values: The table as the TOML parser gave it.
        path: Where it stands in its file; empty for the whole file.
        mistakes: Where mistakes are written down, shared by all tables of a file.
        base: A table that holds for what this one does not state; None without one.
    """

    values: Mapping[str, object]
    path: str
    mistakes: Mistakes
    base: Table | None = None
    _asked: set[str] = attrs.field(factory=_str_set, init=False)

    def at(self, key: str) -> str:
        """The path of one key, in the table that states it."""
        if self.base is not None and key not in self.values and key in self.base.values:
            return self.base.at(key)
        quoted = key if _BARE.match(key) else f'"{key}"'
        return f"{self.path}.{quoted}" if self.path else quoted

    def wrong(self, key: str, expected: str) -> None:
        """Write down that the value of `key` is not what was expected."""
        self.mistakes.note(self.at(key), self.raw(key), expected)

    def has(self, key: str) -> bool:
        """Whether the table, or its base, states `key`."""
        return self.raw(key) is not None

    def raw(self, key: str) -> object:
        """The value as it is; None if neither the table nor its base states it."""
        self._asked.add(key)
        below = None if self.base is None else self.base.raw(key)
        return self.values.get(key, below)

    def text(self, key: str, *, required: bool = False) -> str | None:
        """A string that is not empty."""
        value = self.raw(key)
        if value is None:
            if required:
                self.missing(key, "a string")
            return None
        if isinstance(value, str) and value:
            return value
        self.wrong(key, "a string that is not empty")
        return None

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings; empty if the table does not state it."""
        value = self.raw(key)
        if value is None:
            return ()
        if isinstance(value, list):
            items = cast("list[object]", value)
            strings = tuple(item for item in items if isinstance(item, str) and item)
            if len(strings) == len(items):
                return strings
        self.wrong(key, "a list of strings")
        return ()

    def names(self, key: str, known: Collection[str]) -> frozenset[str]:
        """A list of known names; one with `x-` in front belongs to a plugin and passes."""
        names = self.texts(key)
        for name in names:
            if name not in known and not name.startswith("x-"):
                offer = close_to(name, known) or f"Known are {', '.join(sorted(known))}."
                self.mistakes.add(f"{self.at(key)}: {name!r} is not known. {offer}")
        return frozenset(names)

    def whole(self, key: str, *, least: int = 1) -> int | None:
        """A whole number, `least` or more."""
        value = self.raw(key)
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and value >= least:
            return value
        self.wrong(key, f"a whole number, {least} or more")
        return None

    def number(self, key: str) -> float | None:
        """A finite number, whole or not."""
        value = self.raw(key)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        if isinstance(value, float) and math.isfinite(value):
            return value
        self.wrong(key, "a number")
        return None

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false."""
        value = self.raw(key)
        if isinstance(value, bool):
            return value
        if value is not None:
            self.wrong(key, "true or false")
        return default

    def day(self, key: str, *, required: bool = False) -> dt.date | None:
        """A date such as 2026-11-21."""
        value = self.raw(key)
        if value is None:
            if required:
                self.missing(key, "a date such as 2026-11-21, without quotes")
            return None
        # A datetime is a date to isinstance; a price starts with a day.
        if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
            return value
        self.wrong(key, "a date such as 2026-11-21, without quotes or a time")
        return None

    def table(self, key: str) -> Table | None:
        """The table inside this one; None if it is not stated."""
        value = self.raw(key)
        if value is None:
            return None
        if isinstance(value, Mapping):
            return Table(cast("Mapping[str, object]", value), self.at(key), self.mistakes)
        self.wrong(key, "a table")
        return None

    def tables(self, key: str) -> Iterator[Table]:
        """The tables of a list of tables."""
        value = self.raw(key)
        if value is None:
            return
        if not isinstance(value, list):
            self.wrong(key, "a list of tables")
            return
        for index, item in enumerate(cast("list[object]", value)):
            path = f"{self.at(key)}[{index}]"
            if isinstance(item, Mapping):
                yield Table(cast("Mapping[str, object]", item), path, self.mistakes)
            else:
                self.mistakes.note(path, item, "a table")

    def named(self, key: str) -> Iterator[tuple[str, Table]]:
        """The named tables inside the table `key`."""
        outer = self.table(key)
        if outer is None:
            return
        for name in outer.values:
            inner = outer.table(name)
            if inner is not None:
                yield name, inner

    def missing(self, key: str, expected: str) -> None:
        """Write down that `key` is not there."""
        self.mistakes.add(f"{self.at(key)} is missing: expected {expected}.")

    def finish(self) -> None:
        """Write down the keys that nobody has asked for, in this table and its base.

        Everything that stands on one base is read in one way, so that the first table knows.
        """
        if self.base is not None:
            self.base.finish()
        for key in self.values:
            if key not in self._asked:
                offer = close_to(key, self._asked) or f"Known are {', '.join(sorted(self._asked))}."
                self.mistakes.add(f"{self.at(key)} is not a known key. {offer}")


def on_bases(top: Table, key: str) -> list[tuple[str, Table]]:
    """The named tables under `key`, each on the table under `bases` that its `base` names.

    A base that nothing stands on is a mistake.
    """
    bases = dict(top.named("bases"))
    found: list[tuple[str, Table]] = []
    used: set[str] = set()
    for name, table in top.named(key):
        chosen = table.text("base")
        base = bases.get(chosen) if chosen is not None else None
        if base is not None and chosen is not None:
            used.add(chosen)
            table.base = base
        elif chosen is not None:
            offer = close_to(chosen, bases)
            table.wrong("base", f"the name of a table under [bases]. {offer}".rstrip(" ."))
        found.append((name, table))
    for name, base in bases.items():
        if "base" in base.values:
            base.wrong("base", "none: a base stands on no other")
        if name not in used:
            top.mistakes.add(f"{base.path}: nothing has base = {name!r}.")
    return found
