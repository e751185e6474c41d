"""Embeddings by hashing: texts that share words, or pieces of words, are near each other."""

from __future__ import annotations

import math
import re
from collections import Counter
from hashlib import blake2b

DIMENSIONS = 256
MAX_DIMENSIONS = 4096

_WORD = re.compile(r"\w+")
_PLACES = 8
"""Over how many coordinates one word is spread."""


def embed(text: str, dimensions: int = DIMENSIONS) -> tuple[float, ...]:
    """The vector of a text, of length 1.

    Each word counts once for each time it occurs, less if it has fewer than five letters, and half
    as much for each three letters in it, so that `cloud` and `clouds` are near. Upper and lower
    case are the same.

    Args:
        text: What to embed; one without words is embedded by its characters.
        dimensions: The length of the vector, 1 to `MAX_DIMENSIONS`.
    """
    values = [0.0] * dimensions
    words = Counter(_WORD.findall(text.lower())) or Counter(text or " ")
    for word, times in words.items():
        weight = times * min(len(word), 5) / 5
        _add(values, word, weight)
        framed = f"^{word}$"
        for start in range(len(framed) - 2):
            _add(values, f"/{framed[start : start + 3]}", weight / 2)
    length = math.sqrt(sum(value * value for value in values))
    if length == 0.0:  # everything cancelled out, which takes very few dimensions
        return (1.0, *[0.0] * (dimensions - 1))
    return tuple([value / length for value in values])


def _add(values: list[float], feature: str, weight: float) -> None:
    digest = blake2b(feature.encode("utf-8", "replace"), digest_size=_PLACES * 4).digest()
    for start in range(0, len(digest), 4):
        number = int.from_bytes(digest[start : start + 4])
        values[(number >> 1) % len(values)] += weight if number & 1 else -weight
