"""The answer of a simulated provider, piece by piece, each piece with its name on it.

The text of an answer is a pure function of its mark and its length, so that a reader can tell
without any record whether what it got is the beginning of exactly one answer: `primary17.0 lorem
lorem primary17.1 lorem !`. The words are such that the token estimator counts one token for each,
so that what is estimated of a broken answer can be compared with what was really handed out.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import anyio

from lamella._errors import ClosedError
from lamella._events import Event, Finish, TextDelta, UsageReport
from lamella._usage import Usage

if TYPE_CHECKING:
    from lamella.testing._simulated_ledger import Ledger, Record

MOST_TOKENS: Final = 4_000
_WORD: Final = "lorem "
_WORDS: Final = _WORD * MOST_TOKENS
_PIECE: Final = re.compile(r"([a-z]+\d+)\.(\d+) (?:lorem )*(!?)")


def marked_tokens(mark: str, place: int) -> int:
    """How many tokens the mark on a piece has: a word, the digits by three, and the point."""
    digits = len(mark.lstrip("abcdefghijklmnopqrstuvwxyz"))
    return 2 + -(-digits // 3) + -(-len(str(place)) // 3)


def misread(text: str, *, complete: bool) -> str | None:
    """Why a text is not the beginning of exactly one answer; None if it is.

    Args:
        text: What a reader got, joined.
        complete: Whether it is said to be the whole.
    """
    at, expected, mark, ended = 0, 0, "", False
    for found in _PIECE.finditer(text):
        if found.start() != at or ended:
            break
        if expected == 0:
            mark = found[1]
        if found[1] != mark:
            return f"pieces of two answers: {mark} and {found[1]}"
        if int(found[2]) != expected:
            return f"piece {found[2]} of {mark} where piece {expected} belongs"
        at, expected, ended = found.end(), expected + 1, bool(found[3])
    if at != len(text):
        return f"text after piece {expected} of {mark or 'no answer'} that nobody sent"
    if complete and not ended:
        return f"a complete answer that lacks the end of {mark or 'its text'}"
    return None


def mark_of(text: str) -> str | None:
    """The name of the answer that a text begins."""
    found = _PIECE.match(text)
    return None if found is None else found[1]


class SimulatedSource:
    """Hands out one answer.

    Args:
        record: What it writes its progress down in.
        ledger: The provider's sums.
        tokens: How many tokens each piece has.
        pace: Seconds a token; 0 hands everything out at once.
        sleep: Waits for seconds.
    """

    __slots__ = ("_ledger", "_pace", "_place", "_record", "_scope", "_sleep", "_tokens",
                 "cut_at", "lost", "stall_at", "tells_usage")  # fmt: skip

    def __init__(
        self,
        record: Record,
        ledger: Ledger,
        tokens: tuple[int, ...],
        pace: float,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._record = record
        self._ledger = ledger
        self._tokens = tokens
        self._pace = pace
        self._sleep = sleep
        self._place = 0
        self._scope: anyio.CancelScope | None = None
        self.cut_at: int | None = None
        self.stall_at: int | None = None
        self.lost: Callable[[], Exception] | None = None
        self.tells_usage = True

    @property
    def pieces(self) -> int:
        """In how many pieces its text comes."""
        return len(self._tokens)

    async def __anext__(self) -> Event:
        """The next event.

        Raises:
            ClosedError: If it has been closed.
            StopAsyncIteration: If the answer is cut off without an error.
            LamellaError: If it is cut off with one.
        """
        place, record = self._place, self._record
        if not record.open:
            raise ClosedError("The simulated answer has been closed.")
        tokens = self._tokens
        if place == self.stall_at:
            self._ledger.answers["stalled"] += 1
            await self._wait(None)
        if place and place < len(tokens) and self._pace:
            await self._wait(tokens[place] * self._pace)
        if place == self.cut_at:
            self._ledger.answers["cut"] += 1
            raise self.lost() if self.lost is not None else StopAsyncIteration
        self._place = place + 1
        return self._event(place)

    def _event(self, place: int) -> Event:
        tokens, record = self._tokens, self._record
        count = len(tokens)
        if place < count:
            size = tokens[place]
            record.given += size
            self._ledger.output_tokens += size
            last = place == count - 1
            words = size - marked_tokens(record.mark, place) - last
            end = "!" if last else ""
            return TextDelta(f"{record.mark}.{place} {_WORDS[: len(_WORD) * words]}{end}")
        if place == count and self.tells_usage:
            return UsageReport(Usage(uncached_input=record.input_tokens, text_output=record.given))
        self._ledger.answers["complete"] += 1
        return Finish("stop")

    async def _wait(self, seconds: float | None) -> None:
        with anyio.CancelScope() as scope:
            self._scope = scope
            try:
                await (anyio.sleep_forever() if seconds is None else self._sleep(seconds))
            finally:
                self._scope = None
        if not self._record.open:
            raise ClosedError("The simulated answer was closed while its next event was awaited.")

    async def aclose(self) -> None:
        """Close the connection; a read that is waiting raises."""
        self._record.close()
        if self._scope is not None:
            self._scope.cancel()
