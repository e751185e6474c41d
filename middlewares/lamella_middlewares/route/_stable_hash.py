"""Chance that stays the same: for one key and one salt always the same number."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

_BITS: Final = 53
"""What a float holds exactly."""


def fraction(*texts: str) -> float:
    """A number from 0 to below 1, the same for the same texts in every process and release."""
    digest = blake2b(digest_size=8)
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        # With its length, so that ("ab", "c") is not ("a", "bc").
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return (int.from_bytes(digest.digest(), "big") >> (64 - _BITS)) / (1 << _BITS)
