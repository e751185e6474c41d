"""The commands, and what happens around each of them.

Only the command that is asked for is imported; all of them are for the list that `--help` prints.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any, Final

from cyclopts import App, CycloptsError, Parameter

from lamella._errors import LamellaError
from lamella.cli._errors import (
    EXIT_CODES,
    USAGE,
    debugging,
    exit_code,
    exit_code_of_signal,
    report,
)
from lamella.cli._output import console, give_up_unwritten, is_terminal, prepare

_SIGPIPE: Final = 13

_UNWRAPPED: Final = 2_000
"""Columns of the help where there is no terminal: whoever reads it there wraps it."""

_ABOUT: Final = f"""\
Dependable calls to language models.

{EXIT_CODES}

With --debug, anywhere on the line, failures show where they come from."""

_OPTIONS: Final = Parameter(negative=(), show_default=False)
"""No `--no-x` for flags, and defaults only where an option's own words ask for them."""

_BUILT_IN: Final[Mapping[str, str]] = {
    "run": "_run:run",
    "map": "_map:map_requests",
    "chat": "_chat:chat",
    "explain": "_explain:explain",
    "models": "_models:models",
    "estimate": "_estimate:estimate",
    "plugins": "_plugins:plugins",
    "test-config": "_test_config:check_configuration",
    "mock": "_mock:mock",
    "simulate": "_simulate:simulate",
    "scenarios": "_scenarios:scenarios",
    "trace": "_trace_files:trace",
}


_READING: Final = frozenset({"run", "map", "estimate"})
"""Those for which the word `-` is standard input."""


def is_built_in(name: str) -> bool:
    """Whether a command of that name is one of the program's own."""
    return name in _BUILT_IN


def run_program(arguments: Sequence[str]) -> int:
    """Run one command.

    Args:
        arguments: The command line without the program's name.

    Returns:
        The exit code.
    """
    prepare()
    tokens, debug = _without_debug(arguments)
    debugging.set(debug)
    try:
        return _told(tokens)
    except BrokenPipeError:
        give_up_unwritten()
        return exit_code_of_signal(_SIGPIPE)


def _told(tokens: list[str]) -> int:
    """Run one command, and tell of its failure."""
    try:
        code = _run(tokens)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - a person is told of every failure, in a sentence
        if isinstance(error, OSError):
            give_up_unwritten()  # standard output may be on a full disk
        report(error)
        return exit_code(error)
    return code


def _without_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """The command line, and whether `--debug` stood on it before any `--`."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = [each for each in arguments[:end] if each != "--debug"]
    return [*options, *arguments[end:]], len(options) < end


def _run(tokens: list[str]) -> int:
    app = _app(tokens)
    if tokens and tokens[0] in _READING:
        from lamella.cli._run import STDIN
        from lamella.cli._trace_files import with_trace_file

        words = with_trace_file(tokens) if tokens[0] == "run" else tokens
        tokens = [STDIN if word == "-" else word for word in words]
    try:
        command, bound, _ = app.parse_args(tokens, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        return _refused(error)
    done = command(*bound.args, **bound.kwargs)
    if inspect.isawaitable(done):
        done = _awaited(done)
    return done if isinstance(done, int) else 0


def _awaited(done: Awaitable[Any]) -> Any:
    from lamella.cli._interrupts import run

    async def wait(_: object) -> Any:
        return await done

    return run(wait)


def _refused(error: CycloptsError) -> int:
    from lamella.cli._output import say

    error.verbose = False
    command = " ".join(["lamella", *(error.command_chain or ())])
    say(f"lamella: {error} See {command} --help.", style="red")
    return USAGE


def _app(tokens: Sequence[str]) -> App:
    terminal = is_terminal(sys.stdout)
    app = App(
        name="lamella",
        help=_ABOUT,
        help_format="plaintext",
        help_formatter="default" if terminal else _plain_help(),
        console=console(sys.stdout, width=None if terminal else _UNWRAPPED),
        version=_version,
        result_action="return_value",
    )
    asked = tokens[0] if tokens else ""
    for name in [asked] if is_built_in(asked) else _BUILT_IN:
        app.command(_built_in(name), name=name, default_parameter=_OPTIONS, help_format="markdown")
    if not is_built_in(asked) and asked != "--version":
        _add_plugins_commands(app)
    return app


def _plain_help() -> Any:
    from lamella.cli._help import PlainHelp

    return PlainHelp()


def _built_in(name: str) -> Callable[..., Any]:
    module, _, function = _BUILT_IN[name].partition(":")
    found: Callable[..., Any] = getattr(import_module(f"lamella.cli.{module}"), function)
    return found


def _version() -> str:
    from lamella import __version__

    return str(__version__)


def _add_plugins_commands(app: App) -> None:
    """Add what plugins contribute. One that is broken is listed as such, and says why when run."""
    from lamella._registry import registry

    try:
        names = registry().names("commands")
    except LamellaError as error:
        report(error)
        return
    for name in names:
        if is_built_in(name):
            continue
        try:
            _add(app, name, registry().get("commands", name))
        except Exception as error:  # noqa: BLE001 - a stranger's command must not break the others
            app.command(_broken(error), name=name, help="Cannot be loaded; run it to see why.")


def _add(app: App, name: str, command: Any) -> None:
    """Add a command, or one that has commands of its own; the one without a name is it itself."""
    if not isinstance(command, Mapping):
        app.command(command, name=name)
        return
    parts: Mapping[str, Any] = command  # pyright: ignore[reportUnknownVariableType]
    own = parts.get("")
    about = None if own is not None else f"{_listed(parts)}."
    group = App(name=name, help=about, default_parameter=_OPTIONS, help_format="markdown")
    for part, function in parts.items():
        if part:
            usage = _usage(f"{name} {part}", function)
            group.command(function, name=part, help_format="markdown", usage=usage)
    if own is not None:
        group.default(own)
    app.command(group)


def _usage(name: str, function: Callable[..., Any]) -> str | None:
    """The usage of a command that takes any number of words, which it names; None for others.

    It is written here because those words would be called ARGS.
    """
    named = inspect.signature(function).parameters.values()
    needed = [each.name for each in named if each.kind is each.POSITIONAL_OR_KEYWORD]
    rest = [f"[{each.name.upper()}...]" for each in named if each.kind is each.VAR_POSITIONAL]
    words = [*map(str.upper, needed), *rest]
    return f"Usage: lamella {name} [OPTIONS] {' '.join(words)}\n" if rest else None


def _listed(names: Iterable[str]) -> str:
    """`verify`, `prove` and `head` as `Verify, prove, head`."""
    return ", ".join(names).capitalize()


def _broken(error: Exception) -> Callable[..., Any]:
    def broken(*_: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> None:
        raise error

    return broken
