"""The command line: `lamella`. It needs the extra `cli`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ("main",)

_CTRL_C = 130
_SIGTERM = 143


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        arguments: The command line without the program's name; None takes the process's own.

    Returns:
        The exit code; `lamella --help` lists them.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        from lamella.cli._app import run_program
        from lamella.cli._interrupts import Terminated
    except ModuleNotFoundError as error:
        from lamella.cli._errors import exit_code, lacks_extra, report

        if not lacks_extra(error):
            raise
        report(error)
        return exit_code(error)
    except KeyboardInterrupt:
        return _CTRL_C
    try:
        return run_program(given)
    except KeyboardInterrupt:
        return _CTRL_C
    except Terminated:
        return _SIGTERM
