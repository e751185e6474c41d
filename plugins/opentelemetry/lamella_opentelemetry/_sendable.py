"""What exporters can send: one value that they cannot encode costs a whole batch of signals.

They write UTF-8 and integers of 64 bits. Names of models, sessions and settings come with requests,
and what answers say comes from providers: anything may stand in them.
"""

from __future__ import annotations

from typing import Any, Final, cast

LONGEST: Final = 1_000
"""Letters of a name; signals are no archive."""

_MOST: Final = 2**63 - 1


def text(given: str, most: int = LONGEST) -> str:
    """A text that can be encoded, and that is not too long."""
    short = given[:most]
    return short if short.isascii() else short.encode("utf-8", "replace").decode("utf-8")


def facts(found: dict[str, Any]) -> dict[str, Any]:
    """Attributes that can be sent: the same ones, mended where they are. Content is not cut off."""
    for name, value in found.items():
        if isinstance(value, str):
            if len(value) > LONGEST or not value.isascii():
                found[name] = text(value)
        elif isinstance(value, tuple):
            several = cast("tuple[object, ...]", value)
            found[name] = tuple([text(str(each)) for each in several])
        elif isinstance(value, int) and not -_MOST <= value <= _MOST:
            found[name] = str(value)[:LONGEST]
    return found
