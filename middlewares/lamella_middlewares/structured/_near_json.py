"""Text that is nearly JSON: in a fence, with words around it, with a comma too many."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Final

import msgspec

from lamella import ConfigurationError, Context

_FENCE: Final = "```"
_LANGUAGE: Final = re.compile(r"[\w+-]*")

_INLINE: Final = 20_000
"""Characters that are mended on the event loop; more than this takes a thread."""


def fenced(text: str) -> str | None:
    """What stands in the fence that is all of a text; None if there is none, or more than one."""
    text = text.strip()
    if not (text.startswith(_FENCE) and text.endswith(_FENCE) and text.count(_FENCE) == 2):
        return None
    first, line, inner = text[len(_FENCE) : -len(_FENCE)].partition("\n")
    return inner if line and _LANGUAGE.fullmatch(first.strip()) else None


def _is_json(text: str) -> bool:
    """Whether a text is JSON, of whatever shape."""
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def must_be_mendable() -> None:
    """Refuse where what mends is not installed.

    Raises:
        ConfigurationError: With the command that installs it.
    """
    if find_spec("json_repair") is None:
        msg = "Structured(repair=True) needs the package json-repair, which is not installed."
        raise ConfigurationError(msg, hint='Run: pip install "lamella[structured]"')


async def mended(text: str, context: Context) -> str | None:
    """The JSON that a text was to be; None if it is JSON, or nothing of it can be told.

    Raises:
        DeadlineExceeded: If the call's deadline passes meanwhile.
        ClosedError: If the pipeline closes meanwhile.
    """
    if len(text) <= _INLINE:
        return _mended(text)
    return await context.wait(
        lambda: context.ports.thread(_mended, text), what="an answer was mended"
    )


def _mended(text: str) -> str | None:
    if _is_json(text):
        return None
    from json_repair import repair_json

    found = repair_json(text, ensure_ascii=False)
    return found or None  # it returns an empty text where it finds no JSON
