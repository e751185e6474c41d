"""Limits as the server counts them: whole numbers within 2**53, in which its scripts are exact.

Time is counted in ticks and a token in shares, so that what flows back in a tick is whole. A tick
is a microsecond, the resolution of the server's clock. Where `capacity * per` is so large and so
uneven that a full bucket would have more than 2**52 shares, it is ten of them, or a hundred, up to
a second. In any window a bucket lets through no more than its capacity and what flows back in the
window lengthened by one tick; nothing adds up over time.
"""

from __future__ import annotations

import json
from functools import lru_cache
from hashlib import blake2b
from math import gcd
from typing import Final

import attrs

from lamella import Dimension

MOST: Final = 2**53
"""The largest amount, the largest total, and the most that is counted as out of one."""

MOST_SHARES: Final = 2**52
"""The most shares of a rate's full bucket: as much again may be owed."""

MICROSECONDS: Final = 1_000_000
_TICKS: Final = tuple(10**power for power in range(7))
_LONGEST: Final = 10**15  # microseconds, some 30 years
_READABLE: Final = 200  # characters of a key; longer ones are hashed


@attrs.frozen
class Limit:
    """One limit on the server.

    Attributes:
        hash: The key of its numbers.
        set: The key of their order.
        words: What the scripts are told about it: capacity, shares per token, shares that flow back
            in a tick, microseconds of a tick.
    """

    hash: str
    set: str
    words: tuple[str, str, str, str]


@lru_cache(maxsize=10_000)
def limit_of(prefix: str, key: tuple[str, ...], capacity: int, per: float) -> Limit:
    """The limit that a dimension means: a rate with its numbers, a total by its key alone.

    Args:
        prefix: What all keys of the store begin with.
        key: As of `Dimension`.
        capacity: As of `Dimension`.
        per: As of `Dimension`.

    Raises:
        ValueError: If it cannot be counted exactly.
    """
    unit, flow, tick = 1, 0, 1
    named = "".join(key[-1:])  # the rest may say who somebody is
    if per and capacity:
        unit, flow, tick = _shares(named, capacity, per)
    elif capacity > MOST:
        raise ValueError(
            f"RedisLeases: a capacity of {capacity!r} {named} is more than the server counts "
            f"exactly, {MOST}; count in larger units."
        )
    named_by = [*key, capacity, float(per)] if per else list(key)
    name = json.dumps(named_by, ensure_ascii=False, separators=(",", ":"))
    if len(name) > _READABLE:
        name = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()
    words = (str(capacity), str(unit), str(flow), str(tick))
    return Limit(f"{prefix}limit:{name}", f"{prefix}order:{name}", words)


def _shares(named: str, capacity: int, per: float) -> tuple[int, int, int]:
    """Shares per token, shares that flow back in a tick, and microseconds of a tick."""
    numerator, denominator = per.as_integer_ratio()
    for tick in _TICKS:
        # Rounded up: nothing flows back too early.
        ticks = -(-numerator * MICROSECONDS // (denominator * tick))
        common = gcd(capacity, ticks)
        unit, flow = ticks // common, capacity // common
        if capacity * unit <= MOST_SHARES and flow <= MOST_SHARES:
            return unit, flow, tick
    raise ValueError(
        f"RedisLeases: {capacity!r} {named} per {per!r} s is more than the server counts exactly: "
        f"capacity times seconds may be {MOST_SHARES} at most. Give a rounder capacity, count in "
        "larger units, or limit a shorter time."
    )


def amounts_of(amounts: tuple[int, ...]) -> tuple[int, ...]:
    """The amounts themselves.

    Raises:
        ValueError: If one cannot be counted exactly.
    """
    if any(amount > MOST for amount in amounts):
        raise ValueError(
            f"RedisLeases: amounts {amounts!r} go beyond what the server counts exactly, {MOST}."
        )
    return amounts


def span(seconds: float) -> str:
    """A span of time in microseconds, rounded up; at most some 30 years."""
    numerator, denominator = float(min(seconds, 1e12)).as_integer_ratio()
    return str(min(_LONGEST, -(-numerator * MICROSECONDS // denominator)))


def written(dimensions: tuple[Dimension, ...]) -> str:
    """Dimensions as text, from which `read` makes the same ones."""
    listed: list[list[object]] = []
    for each in dimensions:
        listed.append([list(each.key), each.amount, each.capacity, each.per, each.held])
        if each.keep is not None:
            listed[-1].append(each.keep)
    return json.dumps(listed, separators=(",", ":"))


def read(text: str | bytes) -> tuple[Dimension, ...]:
    """The dimensions that were written."""
    return tuple([Dimension(tuple(key), *numbers) for key, *numbers in json.loads(text)])
