"""Files of heads and of proofs, as somebody gives them: JSON, one to a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from lamella import ConfigurationError


def read_heads(path: str | Path) -> list[dict[str, Any]]:
    """The heads in a file: JSON, one to a line, or a single one over several lines.

    Raises:
        ConfigurationError: If it holds something else; the message names the line.
        OSError: If it cannot be read.
    """
    text = Path(path).read_bytes()
    whole = _table(text)
    if whole is not None:
        return [whole]
    found: list[dict[str, Any]] = []
    for number, line in enumerate(text.split(b"\n"), 1):
        if line.strip():
            head = _table(line)
            if head is None:
                raise _wrong(path, f"line {number} is no JSON object")
            found.append(head)
    if not found:
        raise _wrong(path, "it is empty")
    return found


def _table(text: bytes) -> dict[str, Any] | None:
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def _wrong(path: str | Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"{str(path)!r} does not hold heads, or proofs, of an audit log: {why}.",
        hint="Give what a sink of heads was given, or what `lamella audit` printed. A line that a "
        "full disk has left half written can be taken out.",
    )
