"""How `lamella cache` tells what caches have been good for, and what warming up has come to."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from lamella import Money
from lamella_middlewares.cache._listing import Entry, Kept, print_text, size

if TYPE_CHECKING:
    from lamella._tally import CacheStats
    from lamella_middlewares.cache._shelves import Shelf
    from lamella_middlewares.cache._warmed import Warmed, WarmProgress

_HEADERS: Final = ("tenant", "model", "operation", "answers", "size", "tokens")
_OK, _BAD = 0, 1


async def summarise(shelves: list[Shelf], *, json: bool) -> int:
    """Print what is kept on each shelf, and what it has been good for."""
    from lamella.cli._output import say, show_json
    from lamella.cli._render import show_table

    forms: list[dict[str, Any]] = []
    for number, shelf in enumerate(shelves):
        kept = Kept()
        async for info, answer in shelf.kept.listed():
            kept.add(Entry(shelf, info, answer))
        counts = await shelf.kept.stats()
        if json:
            about = {"layer": shelf.layer, "namespace": shelf.namespace}
            forms.append({**about, **kept.form(), "since": counts.to_dict()})
            continue
        if number:
            print_text("")
        print_text(f"{shelf}: {kept.entries:,} answers, {size(kept.size)}, {kept.stale:,} stale")
        if kept.unreadable:
            print_text(f"{kept.unreadable:,} of them cannot be read with this key and version")
        for line in told(counts):
            print_text(line)
        if kept.groups:
            show_table(_HEADERS, kept.lines())
    if json:
        show_json(forms)
    elif not shelves:
        say("Nothing is kept.")
    return _OK


def told(counts: CacheStats) -> list[str]:
    """What a cache has been good for: of all processes, for thirty days after each has ended."""
    asked = counts.hits + counts.misses
    if not asked:
        return ["nobody has looked anything up, or has told of it: processes do every few seconds"]
    lines = [f"{counts.hits:,} hits of {asked:,} ({counts.hits / asked:.1%})"]
    if counts.stale_hits:
        lines[0] += f", {counts.stale_hits:,} of them stale"
    tokens = counts.saved_input_tokens + counts.saved_output_tokens
    money = [str(Money(nano, currency)) for currency, nano in sorted(counts.saved_money.items())]
    lines.append(f"saved {' and '.join([f'{tokens:,} tokens', *money])}")
    for what, counted in (
        ("misses", counts.missed),
        ("not stored", counts.not_stored),
        ("unreadable", counts.unreadable),
    ):
        if counted:
            most = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
            lines.append(f"{what}: {', '.join(f'{why} {number:,}' for why, number in most)}")
    return lines


class Progress:
    """Tells of lines that are done: problems as they come, and on a terminal how far it is."""

    def __init__(self) -> None:
        self._done = 0

    def tell(self, progress: WarmProgress) -> None:
        """A line is done."""
        from lamella.cli._output import harmless, is_terminal, say

        self._done = progress.done
        if progress.problem is not None:
            clear_line()
            say(str(progress.problem), style="yellow")
        if is_terminal(sys.stderr):
            sys.stderr.write(f"\r{harmless(f'{progress.done:,} done')}")
            sys.stderr.flush()

    def broken_off(self, error: BaseException) -> None:
        """The run has not come to its end; a signal has no words of its own."""
        from lamella.cli._output import say

        clear_line()
        if not isinstance(error, Exception):
            say(f"{self._done:,} lines done. What was kept stays: start it again to go on.")


def clear_line() -> None:
    """Take what shows how far it is off the terminal."""
    from lamella.cli._output import is_terminal

    if is_terminal(sys.stderr):
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def tell_warmed(warmed: Warmed, *, json: bool) -> int:
    """Tell what warming up has come to; the exit code."""
    from lamella.cli._errors import exit_code, report
    from lamella.cli._output import show_json

    clear_line()
    if json:
        show_json(warmed.to_dict())
    else:
        print_text(
            f"{warmed.asked:,} asked, {warmed.kept:,} kept as given, {warmed.fresh:,} kept "
            f"already, {warmed.failed:,} failed"
        )
    if warmed.stopped is not None:
        report(warmed.stopped)
        return exit_code(warmed.stopped)
    return _OK if warmed.ok else _BAD
