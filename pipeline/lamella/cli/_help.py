"""Help where there is no terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cyclopts.help.formatters.plain import PlainFormatter

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions


class PlainHelp(PlainFormatter):
    """Help in plain text, whose lines end where their words do: markdown fills them with blanks."""

    def render_description(
        self, console: Console, options: ConsoleOptions, description: Any
    ) -> None:
        """Write what a command is for."""
        with console.capture() as captured:
            super().render_description(console, options, description)
        lines = captured.get().split("\n")
        text = "\n".join(line.rstrip() for line in lines)
        console.print(text, end="", soft_wrap=True)
