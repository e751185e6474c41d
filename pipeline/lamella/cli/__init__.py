"""The command line: `lamella`. It needs the extra `cli`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ("main",)

_EXTRA = frozenset({"cyclopts", "prompt_toolkit", "rich"})
_USAGE = 2
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
        return _without_extra(error)
    except KeyboardInterrupt:
        return _CTRL_C
    try:
        return run_program(given)
    except KeyboardInterrupt:
        return _CTRL_C
    except Terminated:
        return _SIGTERM


def _without_extra(error: ModuleNotFoundError) -> int:
    if (error.name or "").partition(".")[0] not in _EXTRA:
        raise error
    words = f'The command line needs {error.name}: pip install "lamella[cli]"'
    sys.stderr.write(f"{words}\n")
    return _USAGE
