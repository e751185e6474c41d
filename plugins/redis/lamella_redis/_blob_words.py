"""Values as the scripts are told them and tell them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

from lamella import Blob, BlobInfo
from lamella_redis._limits import MICROSECONDS, span
from lamella_redis._texts import decoded

MEBIBYTE: Final = 1024 * 1024

ANSWER: Final = 4 * MEBIBYTE
"""Bytes after which an answer ends, and the rest is asked for; likewise of what is told."""

KEYS: Final = 200
"""How many one script is told, so that none takes long."""


def portions(values: Sequence[tuple[bytes, bytes]]) -> Iterator[list[tuple[bytes, bytes]]]:
    """Keys and values, in as many at a time as one script is told."""
    some: list[tuple[bytes, bytes]] = []
    size = 0
    for key, data in values:
        more = len(key) + len(data)
        if some and (len(some) == KEYS or size + more > ANSWER):
            yield some
            some, size = [], 0
        some.append((key, data))
        size += more
    if some:
        yield some


def cursor_of(given: str, kind: str) -> bytes:
    """The server's cursor in one of ours.

    Raises:
        ValueError: If it is none.
    """
    number = given[1:]
    if not given:
        return b"0"
    if given[0] == kind and number.isascii() and number.isdecimal() and int(number) < 2**64:
        return number.encode()
    raise ValueError(
        f"RedisBlobs.entries: {given!r} is no cursor of such a listing; give the last page's, with "
        "the same prefix and tag, or none to begin."
    )


def blobs_of(now: bytes, found: Sequence[Any]) -> dict[str, Blob]:
    """The values that a script has found, by key."""
    instant = int(now)
    blobs: dict[str, Blob] = {}
    for key, data, at, tags in found:
        age = max(0.0, (instant - int(at)) / MICROSECONDS)
        with suppress(UnicodeDecodeError):  # what others have put there
            blobs[decoded(key)] = Blob(data, age, frozenset([decoded(tag) for tag in tags]))
    return blobs


def infos_of(now: bytes, found: Sequence[Any]) -> list[BlobInfo]:
    """What a script has found to be known of values."""
    instant = int(now)
    infos: list[BlobInfo] = []
    for key, size, at, ends, tags in found:
        age = max(0.0, (instant - int(at)) / MICROSECONDS)
        left = (int(ends) - instant) / MICROSECONDS if ends else None
        with suppress(UnicodeDecodeError):  # what others have put there
            words = frozenset([decoded(tag) for tag in tags])
            infos.append(BlobInfo(decoded(key), int(size), age, left, words))
    return infos


def life_of(ttl: float | None) -> str:
    """A time to live as scripts are told it; empty if it does not end."""
    if ttl is None or ttl == math.inf:
        return ""
    return span(ttl) if ttl > 0 else "0"
