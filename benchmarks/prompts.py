"""What is asked: 1 KB of prose without personal data, different each time.

A text that comes again is the exception in real work and the best case of every cache, scan and
count that remembers it; so nobody is asked the same twice.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

SIZE: Final = 1_024

PROSE: Final = (
    "Summarise the notes below for somebody who was not there, in five sentences. The harbour "
    "office moved its berth plan to the new system in spring, after two years of trials with one "
    "pier. Arrivals are now known four hours ahead instead of one, and the tugs are booked before "
    "a ship has left the roads. The pilots were against it at first: the old list had hung in the "
    "hall, where everybody could see who came next and change places over a cup of coffee. What "
    "won them over was the weather page, which says for each berth when wind and tide allow it. "
    "Crane time has fallen by 17 percent, waiting at anchor by a third; fuel was not measured. "
    "Three things are open. The ferry company wants its own view and would pay for it. Small "
    "craft still call by radio, which nobody writes down. And the model that foresees the hour of "
    "arrival is wrong when fog closes the strait, which happens on forty days of the year; "
    "the office asks whether that can be learned from the records of the last twelve winters. "
)


_numbers = itertools.count()


def fresh_prompts(size: int = SIZE) -> Iterator[str]:
    """Texts of one size, no two of which begin alike, whoever asks in this process."""
    long = PROSE * (size // len(PROSE) + 1)
    for number in _numbers:
        begun = f"Note {number:09d}. "
        yield begun + long[: size - len(begun)]
