"""What addresses of machines, keys and tokens begin with, wherever it stands in a text."""

from __future__ import annotations

import re
from typing import Final

from lamella_middlewares.pii._detect._key_formats import BLOCK, FORMATS, NAME_WORDS
from lamella_middlewares.pii._detect._look import Sign
from lamella_middlewares.pii._detect._pattern import any_of

_INSIDE: Final = [BLOCK, *(n[1:] for needles, _ in FORMATS for n in needles if n[0] == "*")]
_FIRST: Final = [n for needles, _ in FORMATS for n in needles if n[0] != "*"]


def _of_formats() -> str:
    """Any text that one of the formats has in it, where it stands there."""
    inside, first = any_of(_INSIDE), any_of(_FIRST)
    return f"{inside}|(?:^|\\\\[nrt]|[^0-9A-Za-z])(?:{first})"


def _any_format(text: str) -> bool:
    return any(needle in text for needle in _FIRST) or any(needle in text for needle in _INSIDE)


def _any_name(text: str) -> bool:
    lower = text.lower()
    return any(word in lower for word in ("bearer", "basic", *NAME_WORDS))


_POINTS: Final = re.compile(r"\.[0-9]{1,3}\.[0-9]|:[0-9A-Fa-f]{0,4}:")
_PAIRS: Final = re.compile(":[0-9A-Fa-f]{2}:|-[0-9A-Fa-f]{2}-|[.][0-9A-Fa-f]{4}[.]")
"""The same from the first separator on, which is rarer than a digit: Python's engine is quicker."""

IP_SIGN: Final = Sign(
    r"[0-9]\.[0-9]{1,3}\.[0-9]|:[0-9A-Fa-f]{0,4}:",
    plain=lambda text: _POINTS.search(text) is not None,
)
MAC_SIGN: Final = Sign(
    "[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}:|[0-9A-Fa-f]{2}-[0-9A-Fa-f]{2}-[0-9A-Fa-f]{2}-"
    "|[0-9A-Fa-f]{4}[.][0-9A-Fa-f]{4}[.]",
    plain=lambda text: _PAIRS.search(text) is not None,
)
JWT_SIGN: Final = Sign("ey[JA][A-Za-z0-9_-]|ew[o0k][A-Za-z0-9_-]")
LONG_WORD: Final = Sign("[0-9A-Za-z]{25}")

FORMAT_SIGN: Final = Sign(_of_formats(), plain=_any_format)
"""What the key of some service has in it."""

NAME_SIGN: Final = Sign(
    f"(?i:bearer|basic) |(?i:{any_of(NAME_WORDS)})[Ss]?[\"'`\\]]{{0,2}} {{0,3}}(?:[:=]|is )",
    plain=_any_name,
)
"""What a key is called, and a sign behind it that gives it."""

KEY_SIGN: Final = Sign(
    f"{FORMAT_SIGN.expression}|{NAME_SIGN.expression}",
    plain=lambda text: _any_format(text) or _any_name(text),
)
"""Either."""
