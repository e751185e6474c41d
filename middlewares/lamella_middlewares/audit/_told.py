"""How the commands of `lamella audit` tell a person what they have found."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lamella_middlewares.audit._verify import Report


def tell(report: Report) -> None:
    """Tell of a verification: each segment, what is wrong, and what is worth knowing."""
    from lamella.cli._render import show_table

    signed = f", signed by {', '.join(report.keys)}" if report.keys else ""
    print_text(
        f"audit log {report.log or '(without an id)'}: {report.records} records of "
        f"{report.calls} calls in {len(report.segments)} segments{signed}"
    )
    rows = [
        (
            _harmless(one.segment),
            str(one.records),
            str(one.heads),
            f"{one.covered}",
            "good" if one.ok else "BAD",
        )
        for one in report.segments
    ]
    show_table(("segment", "records", "heads", "covered", ""), rows)
    for problem in report.problems:
        print_text(f"BAD   {problem}.")
    for remark in report.remarks:
        print_text(f"note  {remark.rstrip('.')}.")
    words = "good: every record is there as it was written, as far as heads and keys can show"
    print_text(words if report.ok else "BAD: this log is not what was written")


def print_line(value: Mapping[str, Any]) -> None:
    """Print a line of JSON."""
    sys.stdout.write(json.dumps(value, sort_keys=True, separators=(",", ":")) + "\n")


def print_text(text: str) -> None:
    """Print a line of text."""
    sys.stdout.write(f"{_harmless(text)}\n")


def say(text: str) -> None:
    """Say something beside what is printed."""
    from lamella.cli._output import say as tell_of

    tell_of(_harmless(text))


def _harmless(text: str) -> str:
    """One line that steers no terminal: names in a log, and of its files, can be anybody's."""
    from lamella.cli._output import harmless

    return harmless(text).replace("\n", " ")
