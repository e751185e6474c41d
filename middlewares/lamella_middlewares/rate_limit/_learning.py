"""What a provider's answers say of its limits: they only ever lower what is let through.

Most providers tell with each answer what remains of a limit, and when it is whole again. The server
counted the request at about the moment at which it was reserved here, so what it says remains is
compared with what remained here just then; comparing it with what is there now would punish slow
answers. What is missing is held back by a lease of its own, which lapses at the reset.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import attrs

from lamella import Dimension, RateLimitError
from lamella._fork_locks import fork_safe_lock
from lamella.transports._retry_hints import reset_after
from lamella_middlewares.rate_limit._limits import Kind

LONGEST_PAUSE: Final = 3600.0
"""Seconds that a hint may stop a limit for: then one request finds out whether it still holds."""

NO_HINT: Final = 1.0
"""Seconds to pause where a refusal names none."""

FIRST_OUTPUT: Final = 512.0
"""Tokens that an answer is expected to have before there was one."""

_SMOOTHING: Final = 0.1

NONE: Final[Mapping[tuple[str, ...], int]] = MappingProxyType({})

_NOISE: Final = 0.01
"""The share of a limit by which two honest counts of tokens may differ."""

_HEADERS: Final[Mapping[Kind, tuple[tuple[str, str], ...]]] = {
    "requests": (
        ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
        ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
        ("x-ratelimit-remaining", "x-ratelimit-reset"),
        ("ratelimit-remaining", "ratelimit-reset"),
    ),
    "tokens": (
        ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
        ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    ),
    "input_tokens": (
        ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
        ("x-ratelimit-remaining-input-tokens", "x-ratelimit-reset-input-tokens"),
    ),
    "output_tokens": (
        ("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"),
        ("x-ratelimit-remaining-output-tokens", "x-ratelimit-reset-output-tokens"),
    ),
}


@attrs.frozen
class Stated:
    """What an answer says of one limit.

    Attributes:
        remaining: What is left of it, by the server's count.
        reset: Seconds until it is whole again.
    """

    remaining: int
    reset: float


def stated(headers: Mapping[str, str], kind: Kind, wall: Callable[[], float]) -> Stated | None:
    """What the headers say of a kind of limit; None if nothing that makes sense.

    Args:
        headers: With lower-case names.
        kind: Of the limit.
        wall: The wall clock, for resets given as instants.
    """
    for name, reset_name in _HEADERS.get(kind, ()):
        text = headers.get(name)
        if text is None:
            continue
        try:
            remaining = float(text)
        except ValueError:
            continue
        reset = reset_after(headers.get(reset_name), headers, wall())
        if math.isfinite(remaining) and reset is not None and 0 < reset < math.inf:
            return Stated(max(0, math.floor(remaining)), min(reset, LONGEST_PAUSE))
    return None


class Learned:
    """What this process has learnt for one key. Thread-safe.

    Attributes:
        has_held: Whether anything was ever held back.
        has_paused: Whether the provider has ever refused.
    """

    __slots__ = ("_held", "_lock", "_output", "_until", "has_held", "has_paused")

    def __init__(self) -> None:
        self._lock = fork_safe_lock()
        self._until = -math.inf
        self._output = FIRST_OUTPUT
        self._held: dict[tuple[str, ...], int] = {}
        self.has_held = False
        self.has_paused = False

    @property
    def output(self) -> int:
        """How many tokens an answer has on the average."""
        return math.ceil(self._output)

    def saw_output(self, tokens: int) -> None:
        """An answer had so many tokens."""
        with self._lock:
            self._output += _SMOOTHING * (tokens - self._output)

    def pause(self, error: RateLimitError, now: float) -> float:
        """The provider has refused: let nothing through until its hint; the seconds that is."""
        hint = error.retry_after
        seconds = NO_HINT if hint is None or not hint > 0 else min(hint, LONGEST_PAUSE)
        with self._lock:
            self._until = max(self._until, now + seconds)
            self.has_paused = True
        return seconds

    def paused(self, monotonic: Callable[[], float]) -> float:
        """Seconds for which nothing is let through; 0 for none."""
        if self._until == -math.inf:
            return 0.0
        left = self._until - monotonic()
        if left <= 0:
            return 0.0
        return left

    def marks(self) -> Mapping[tuple[str, ...], int]:
        """How much of each limit has been held back so far, in all."""
        return dict(self._held) if self._held else NONE

    def missing(
        self, dimension: Dimension, remaining: int, said: Stated, marks: Mapping[Any, int]
    ) -> int:
        """How much more remained here than at the server, as far as it is not held back yet.

        Args:
            dimension: What was reserved.
            remaining: What remained of it here just after.
            said: What the server says.
            marks: What had been held back by then.
        """
        since = self._held.get(dimension.key, 0) - marks.get(dimension.key, 0)
        found = remaining - said.remaining - since
        return found if found > _NOISE * dimension.capacity else 0

    def hold(self, dimension: Dimension, amount: int) -> None:
        """So much more is held back."""
        with self._lock:
            self.has_held = True
            self._held[dimension.key] = self._held.get(dimension.key, 0) + amount
