"""Calls in files: a page for people, JSON for programs, and `lamella trace`, which reads that."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lamella._trace import Trace
    from lamella._trace_records import TraceRecord

_PAGES: Final = frozenset({".html", ".htm"})
_JSON: Final = ".json"
_OPTION: Final = "--trace"


def with_trace_file(tokens: Sequence[str]) -> list[str]:
    """A command line in which `--trace FILE.html` is written in full.

    `--trace` alone is a flag, and so only a name that can be that of such a file is taken for one.
    """
    found: list[str] = []
    rest = list(tokens)
    while rest and rest[0] != "--":
        word = rest.pop(0)
        if word == _OPTION and rest and _form_of(rest[0]) is not None:
            word = f"{_OPTION}-file={rest.pop(0)}"
        elif word.startswith(f"{_OPTION}="):
            word = word.replace("=", "-file=", 1)
        found.append(word)
    return [*found, *rest]


def _form_of(name: str) -> str | None:
    suffix = Path(name).suffix.lower()
    return suffix if suffix in _PAGES or suffix == _JSON else None


def must_be_writable(file: Path, option: str) -> None:
    """Refuse a file that no trace can be written to, before a call has cost something.

    Args:
        file: Where a trace is to go.
        option: What it was given with.

    Raises:
        UsageError: If its name does not say what it is to hold, if it is a folder, or if that in
            which it is to be is not there.
    """
    from lamella.cli._errors import UsageError

    given = f"{option} {str(file)!r}"
    if _form_of(file.name) is None:
        msg = f"{given}: the name does not say what to write."
        raise UsageError(msg, hint="FILE.html is a page for people, FILE.json is for programs.")
    if file.is_dir():
        raise UsageError(f"{given} is a folder.", hint="Name a file in it.")
    if not file.parent.is_dir():
        msg = f"{given}: there is no folder {str(file.parent)!r}."
        raise UsageError(msg, hint="Make it first.")


def write_trace(trace: Trace | TraceRecord, file: Path) -> None:
    """Write a call to a file, as its name says; what is there is replaced.

    Raises:
        LamellaError: If it cannot be written.
    """
    from lamella._errors import LamellaError
    from lamella._whole_files import write_whole

    text = trace.to_json(indent=2) + "\n" if _form_of(file.name) == _JSON else trace.page()
    try:
        write_whole(file, text)
    except OSError as error:
        raise LamellaError(f"{file} cannot be written: {error.strerror or error}.") from error


def trace(file: Path, *, html: Path | None = None) -> int:
    """Draw a call that was written to a file with --trace FILE.json, or by trace.to_json().

    Args:
        file: The file.
        html: Write the call to this file instead, as a page.
    """
    from lamella._trace_records import TraceRecord
    from lamella.cli._errors import UsageError
    from lamella.cli._render import show_trace

    if html is not None:
        if _form_of(html.name) not in _PAGES:
            raise UsageError(f"--html {str(html)!r} is no name of a page.", hint="End it in .html.")
        must_be_writable(html, "--html")
    try:
        record = TraceRecord.from_json(file.read_bytes())
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise UsageError(f"{file}: {error}") from None
    if html is not None:
        write_trace(record, html)
    else:
        show_trace(record, sys.stdout)
    return 0
