"""What a layer's memory has been good for: counted in this process, and told to others."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any, Final
from weakref import WeakSet

import attrs
import msgspec

from lamella._answer_codec import KeptAnswer
from lamella._fork_locks import fork_safe_lock
from lamella._nothing import NOTHING

EVERY: Final = 5.0
"""Seconds between two writings of a process's counts."""


def _counts() -> Mapping[str, int]:
    return attrs.field(default=NOTHING, hash=False)


@attrs.frozen
class CacheStats:
    """What kept answers have been good for, over some time and some processes.

    Attributes:
        hits: How many answers were used instead of a call, stale ones included.
        stale_hits: How many of them were stale.
        missed: How often there was none to use, by why: `"absent"`, `"corrupt"`, `"foreign"`,
            `"outdated"`, `"unavailable"`, or a layer's own word.
        stored: How many answers were stored.
        stored_bytes: What those took, packed.
        not_stored: How many were not, by why.
        unreadable: What was found and could not be read, by why; counted as missed too.
        saved_input_tokens: Tokens of requests that were not sent.
        saved_output_tokens: Tokens of answers that were not made.
        saved_money: What those would have cost, by currency, in billionths of it; only of answers
            whose cost was known.
    """

    hits: int = 0
    stale_hits: int = 0
    missed: Mapping[str, int] = _counts()
    stored: int = 0
    stored_bytes: int = 0
    not_stored: Mapping[str, int] = _counts()
    unreadable: Mapping[str, int] = _counts()
    saved_input_tokens: int = 0
    saved_output_tokens: int = 0
    saved_money: Mapping[str, int] = _counts()

    @property
    def misses(self) -> int:
        """How often there was none to use."""
        return sum(self.missed.values())

    @property
    def hit_rate(self) -> float | None:
        """The share of hits, from 0 to 1; None while nobody has asked."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else None

    def __add__(self, other: CacheStats) -> CacheStats:
        return CacheStats(
            **{name: _sum(getattr(self, name), getattr(other, name)) for name in _NAMES}
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain values, with `misses` and `hit_rate`."""
        fields = attrs.asdict(self)
        return {**fields, "misses": self.misses, "hit_rate": self.hit_rate}


_NAMES = tuple([field.name for field in attrs.fields(CacheStats)])


decode_stats: Final = msgspec.json.Decoder(CacheStats).decode
"""Made at once: when the class is known by its public address, its annotations mean nothing."""


def _sum(one: Any, other: Any) -> Any:
    if not isinstance(one, Mapping):
        return one + other
    return {key: one.get(key, 0) + other.get(key, 0) for key in sorted({**one, **other})}  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType, reportUnknownArgumentType]


class Tally:
    """What a layer's memory has been good for: counts, tokens and money. Thread-safe.

    One for each (layer, namespace, store) of a process. `KeptAnswers` counts what it does not find,
    what it stores and what fails; a layer counts hits, for it knows whether it used what was found.
    A forked child begins at nothing, for what was counted before is its parent's.
    """

    __slots__ = (
        "__weakref__",
        "_changed",
        "_counts",
        "_lock",
        "_next",
        "_number",
        "_tables",
        "_written",
    )

    def __init__(self) -> None:
        self._lock = fork_safe_lock()
        self._begin()
        with _guard:
            _all.add(self)

    def _begin(self) -> None:
        self._counts = dict.fromkeys(_NUMBERS, 0)
        self._tables: dict[str, dict[str, int]] = {name: {} for name in _TABLES}
        self._changed = 0
        self._written = 0
        self._next = -math.inf
        self._number: str | None = None

    def hit(
        self, answer: KeptAnswer, *, stale: bool = False, tokens: tuple[int, int] | None = None
    ) -> None:
        """An answer has been used instead of a call.

        Args:
            answer: The answer.
            stale: Whether it was.
            tokens: The answer's, if they are known.
        """
        sent, made = answer.tokens if tokens is None else tokens
        cost = answer.cost
        with self._lock:
            self._changed += 1
            counts = self._counts
            counts["hits"] += 1
            counts["stale_hits"] += stale
            counts["saved_input_tokens"] += sent
            counts["saved_output_tokens"] += made
            if cost is not None:
                money = self._tables["saved_money"]
                money[cost.currency] = money.get(cost.currency, 0) + cost.nano

    def miss(self, why: str) -> None:
        """There was none that could be used.

        Args:
            why: One of few words: each is counted apart.
        """
        with self._lock:
            counts = self._tables["missed"]
            if why in counts:  # as mostly
                counts[why] += 1
                self._changed += 1
                return
        self._count("missed", why)

    def stored(self, size: int) -> None:
        """An answer of so many bytes has been stored."""
        with self._lock:
            self._changed += 1
            self._counts["stored"] += 1
            self._counts["stored_bytes"] += size

    def not_stored(self, why: str, answers: int = 1) -> None:
        """Answers have not been stored, for a reason in one of few words."""
        self._count("not_stored", why, answers)

    def unreadable(self, why: str) -> None:
        """What was found could not be read."""
        self._count("unreadable", why)

    @property
    def stats(self) -> CacheStats:
        """What has been counted."""
        with self._lock:
            found: dict[str, Any] = {name: dict(table) for name, table in self._tables.items()}
            found.update(self._counts)
            return CacheStats(**found)

    def _count(self, table: str, why: str, times: int = 1) -> None:
        with self._lock:
            self._changed += 1
            counts = self._tables[table]
            if why not in counts and len(counts) >= _MOST_WORDS:
                why = "other"
            counts[why] = counts.get(why, 0) + times

    # --- telling others ------------------------------------------------------------------------

    def number(self, new_id: Callable[[], str]) -> str:
        """What this process's counts are kept under."""
        new = self._number or new_id()
        with self._lock:
            if self._number is None:
                self._number = new
            return self._number

    def due(self, now: float) -> bool:
        """Whether it is time to write again; not before some seconds are over, once it is."""
        with self._lock:
            if now < self._next:
                return False
            self._next = now + EVERY
            return True

    @property
    def changed(self) -> bool:
        """Whether anything was counted since it was last written."""
        return self._changed != self._written

    def begin_writing(self) -> tuple[CacheStats, int]:
        """What is to be written, and how much that is of what was counted."""
        with self._lock:
            changed = self._changed
        return self.stats, changed

    def written(self, changed: int) -> None:
        """So much of it has been written, over whatever was there."""
        with self._lock:
            # Not the most of all writings: an earlier one that has ended last is what is there.
            self._written = changed


_TABLES = ("missed", "not_stored", "unreadable", "saved_money")
_NUMBERS = tuple([name for name in _NAMES if name not in _TABLES])
_MOST_WORDS = 50

_all: WeakSet[Tally] = WeakSet()
_guard = fork_safe_lock()


def _begin_anew() -> None:
    for tally in list(_all):
        tally._begin()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_begin_anew)
