"""Hardware addresses (IEEE 802: MAC-48, EUI-64) as systems print them.

Six or eight pairs with `:` or `-`, or three or four groups of four with dots. The broadcast address
and zeros identify nothing. Twelve bare hexadecimal digits are not told from other numbers.
"""

from __future__ import annotations

import re
from typing import Final

from lamella_middlewares.pii._detect._open import in_last_word
from lamella_middlewares.pii._detect._pattern import Pattern, PatternDetector
from lamella_middlewares.pii._detect._signs import MAC_SIGN

_PAIR: Final = "[0-9A-Fa-f]{2}"
_GROUP: Final = "[0-9A-Fa-f]{4}"
_MORE_BEFORE: Final = re.compile(r"(?:^|[^0-9A-Za-z])[0-9A-Fa-f]{2,4}[:.-]\Z")
_MORE_BEHIND: Final = re.compile(r"[:.-][0-9A-Fa-f]{2,4}(?:[^0-9A-Za-z]|\Z)")


def _sure(address: str) -> float:
    digits = set(address.lower()) - set(":-.")
    if digits in ({"f"}, {"0"}):
        return 0.0
    # Four digits with dots between may be any number.
    return float("." not in address or not digits.isdisjoint("abcdef"))


def _alone(text: str, start: int, end: int) -> bool:
    """Whether it is no part of a longer chain of pairs or groups."""
    before = text[max(0, start - 6) : start]
    return not (_MORE_BEFORE.search(before) or _MORE_BEHIND.match(text[end : end + 6]))


MAC: Final = PatternDetector(
    "mac",
    (
        Pattern(
            f"(?:{_PAIR}:){{7}}{_PAIR}|(?:{_PAIR}-){{7}}{_PAIR}"
            f"|(?:{_PAIR}:){{5}}{_PAIR}|(?:{_PAIR}-){{5}}{_PAIR}"
            rf"|(?:{_GROUP}\.){{2,3}}{_GROUP}",
            before="0-9A-Za-z_",
            after="0-9A-Za-z_",
        ),
    ),
    reach=40,
    sign=MAC_SIGN,
    opens=in_last_word(40),
    valid=_sure,
    fits=_alone,
)
"""Finds `mac`."""
