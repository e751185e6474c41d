"""What is written in place of what was found."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

Strategy: TypeAlias = Literal["placeholder", "redact", "mask", "hash", "block"]
"""What is done with what was found; see `PII`."""

STRATEGIES: Final = ("placeholder", "redact", "mask", "hash", "block")

_WORD: Final = re.compile(r"[^\W_]")
_KEPT: Final = 4


def redacted(kind: str) -> str:
    """Only what it was: `[EMAIL]`."""
    return f"[{kind.upper()}]"


def masked(kind: str, value: str) -> str:
    """The value with most of it starred out.

    Where something is found in that again (an address with one letter), it is masked as it is.

    Args:
        kind: What it is; some have a part by which people know it.
        value: What was found.
    """
    make = _MASKS.get(kind)
    return redacted(kind) if make is None else make(value)


def _email(value: str) -> str:
    name, at, domain = value.rpartition("@")
    return f"{name[:1]}***{at}{domain}"


def _tail(value: str) -> str:
    """All letters and digits starred but the last four, where those are less than half of it."""
    places = [found.start() for found in _WORD.finditer(value)]
    kept = _KEPT if len(places) >= 2 * _KEPT else 0
    starred = set(places[: len(places) - kept])
    return "".join(["*" if index in starred else one for index, one in enumerate(value)])


def _ip(value: str) -> str:
    separator = ":" if ":" in value else "."
    first, *rest = value.split(separator)
    return separator.join([first, *["*" for _ in rest]])


_MASKS: Final[dict[str, Callable[[str], str]]] = {
    "card": _tail,
    "crypto_address": _tail,
    "email": _email,
    "iban": _tail,
    "ip": _ip,
    "mac": _tail,
    "phone": _tail,
    "us_itin": _tail,
    "us_ssn": _tail,
    "uk_nhs": _tail,
}
"""The kinds of which a part says little; of names, dates, addresses and keys it says much."""
