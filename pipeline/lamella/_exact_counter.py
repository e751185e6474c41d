"""Counts tokens with a model's own vocabulary, in bounded pieces, and remembers texts' counts.

A vocabulary is asked for at most 8,192 characters at a time. Byte-pair tokenizers take time that
grows faster than a long run without spaces (a megabyte of one letter: 0.7 s in one piece), and some
fail on it altogether; and one that keeps the interpreter to itself while it encodes must let other
threads have it now and then. A piece ends between a letter or digit and a space or punctuation,
where the patterns of byte-pair vocabularies always cut, so that the sum is the exact count. Where a
piece has no such place the cut may cost a token or two.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence, Sized
from typing import Final, TypeAlias

from lamella._fork_locks import fork_safe_lock

Encode: TypeAlias = Callable[[str], Sized]
"""Gives the tokens of a text, special tokens' names being ordinary text."""

PIECE: Final = 8_192
"""Characters."""

_NEAR_THE_END: Final = 512
_CUT: Final = re.compile(r"[^\W_](?=[ \n,.;:!?)\u3001\u3002\uff01\uff0c\uff1f])")

_FIRST: Final = "Zqxjkvbwpl"
"""A word that has to be put together: splintr-rs reads half of its vocabulary for the first one."""

_REMEMBERED: Final = 4_096
_SHORTEST: Final = 16
"""Characters; shorter texts are counted as quickly as they are looked up."""


class ExactCounter:
    """A token counter with a vocabulary, read by `load` or when the first text is counted.

    Any thread may use it. Of the texts that it remembers (at least the last 4,096 different ones,
    none of less than 16 characters) it keeps a hash, their length and their count.

    Args:
        name: The tokenizer's.
        load: Reads the vocabulary. Raises ConfigurationError if that cannot be done.
    """

    __slots__ = ("__weakref__", "_encode", "_load", "_lock", "_older", "_recent", "name")

    def __init__(self, name: str, load: Callable[[], Encode]) -> None:
        self.name = name
        self._load = load
        self._encode: Encode | None = None
        # Held while a vocabulary is read, 0.3 s once: a fork meanwhile waits, and finds it whole.
        self._lock = fork_safe_lock()
        # Two generations: when the recent one is full it becomes the older one. Each step is one
        # operation on a dict, so that no lock is needed; a race forgets a count, at worst.
        self._recent: dict[tuple[int, int], int] = {}
        self._older: dict[tuple[int, int], int] = {}

    def __reduce__(self) -> tuple[type[ExactCounter], tuple[str, Callable[[], Encode]]]:
        return ExactCounter, (self.name, self._load)

    @property
    def exact(self) -> bool:
        """Always."""
        return True

    def __repr__(self) -> str:
        return f"<exact counter {self.name!r}>"

    def count(self, texts: Sequence[str], /) -> int:
        """How many tokens some texts have together.

        Raises:
            ConfigurationError: If the vocabulary is to be read, and cannot be.
        """
        encode = self._encode or self.load()
        total = 0
        for text in texts:
            if len(text) < _SHORTEST:
                total += len(encode(_clean(text))) if text else 0
                continue
            key = (hash(text), len(text))
            known = self._known(key)
            if known is None:
                known = sum(len(encode(piece)) for piece in pieces(_clean(text)))
                self._remember(key, known)
            total += known
        return total

    def load(self) -> Encode:
        """Read the vocabulary now; what has been read is kept.

        tiktoken and splintr-rs keep all threads of the process waiting for most of that time, so it
        is best done before there is traffic.

        Raises:
            ConfigurationError: If it cannot be read.
        """
        with self._lock:
            if self._encode is None:
                encode = self._load()
                encode(_FIRST)
                self._encode = encode
            return self._encode

    def unseen(self, texts: Sequence[str], /) -> float:
        """How many characters `count` would go through; infinite before the vocabulary is read."""
        if self._encode is None:
            return math.inf
        characters = 0
        for text in texts:
            size = len(text)
            if size < _SHORTEST or self._known((hash(text), size)) is None:
                characters += size
        return characters

    def _known(self, key: tuple[int, int]) -> int | None:
        known = self._recent.get(key)
        if known is None:
            known = self._older.get(key)
            if known is not None:
                self._remember(key, known)
        return known

    def _remember(self, key: tuple[int, int], count: int) -> None:
        if len(self._recent) >= _REMEMBERED:
            self._older, self._recent = self._recent, {}
        self._recent[key] = count


def pieces(text: str) -> list[str]:
    """The text in pieces of at most 8,192 characters whose tokens add up to its own."""
    if len(text) <= PIECE:
        return [text]
    found: list[str] = []
    start = 0
    while len(text) - start > PIECE:
        end = start + PIECE
        cut = _last_cut(text, end - _NEAR_THE_END, end) or _last_cut(text, start, end) or end
        found.append(text[start:cut])
        start = cut
    found.append(text[start:])
    return found


def _last_cut(text: str, start: int, end: int) -> int | None:
    last = None
    for match in _CUT.finditer(text, start, end):
        last = match.end()
    return last


def _clean(text: str) -> str:
    """Without halves of surrogate pairs, which are no text to a vocabulary."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
