"""What somebody gives to look at a log with: files of heads and proofs, keys, times."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from lamella import ConfigurationError, Secret

if TYPE_CHECKING:
    from lamella_middlewares.audit._envelope import Envelopes

T = TypeVar("T")


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


# --- on the command line -------------------------------------------------------------------------


def heads_of(paths: Sequence[str]) -> list[dict[str, Any]]:
    """What is in files of heads, or of proofs."""
    return [one for path in paths for one in _readable(path, read_heads)]


def _readable(path: str, read: Callable[[Path], T]) -> T:
    """What is read of a file. That it cannot be is a mistake in the command line, not a bad log."""
    try:
        return read(Path(path))
    except OSError as error:
        msg = f"The file {path!r} cannot be read: {error.strerror or type(error).__name__}."
        raise ConfigurationError(msg, hint="Give the path of a file that is there.") from None


def keys_of(given: Sequence[str]) -> tuple[str, ...]:
    """Public keys, each as PEM, in base64, or in a file."""
    from lamella_middlewares.audit._keys import need_cryptography, public_key

    if given:
        need_cryptography("--key")
    found: list[str] = []
    for text in given:
        inside = len(text) < 1000 and "\n" not in text and Path(text).is_file()
        data = _readable(text, Path.read_bytes) if inside else text.encode()
        found.append(public_key(data.decode("utf-8", "replace")))
    return tuple(found)


async def envelopes_of(seal_with: str | None, subject_keys: str | None) -> Envelopes | None:
    """What opens sealed content, if that was asked for."""
    from lamella_middlewares.audit._envelope import Envelopes, KeyFiles
    from lamella_middlewares.audit._keys import need_cryptography

    if seal_with is None and subject_keys is None:
        return None
    if seal_with is None or subject_keys is None:
        msg = "Sealed content needs both --seal-with and --subject-keys."
        raise ConfigurationError(msg, hint="For example: --seal-with env:AUDIT_SEAL.")
    need_cryptography("--seal-with")
    place = os.path.abspath(os.path.expanduser(subject_keys))  # noqa: ASYNC240, PTH100, PTH111
    if not os.path.isdir(place):  # noqa: ASYNC240, PTH112
        msg = f"There is no directory {place!r}: without it all content would seem to be erased."
        hint = "Give with --subject-keys what Audit(subject_keys=...) names."
        raise ConfigurationError(msg, hint=hint)
    return Envelopes(await Secret(seal_with).fetch(), KeyFiles(Path(place)))


def instant_of(option: str, text: str | None) -> int | None:
    """A date or a time in ISO 8601, in microseconds since the epoch; without a zone it is UTC."""
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        msg = f"{option} {text!r} is no time."
        raise ConfigurationError(msg, hint="Write 2026-05-01 or 2026-05-01T12:00:00Z.") from None
    when = when.replace(tzinfo=UTC) if when.tzinfo is None else when
    return round(when.timestamp() * 1_000_000)
