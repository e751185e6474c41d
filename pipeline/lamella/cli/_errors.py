"""Failures as a person reads them, and as the shell sees them.

| exit code | meaning |
|---|---|
| 0 | all is well |
| 1 | the call failed, or the check did |
| 2 | the command line, a preset or a file is wrong; nothing was sent |
| 3 | the provider does not accept the key, or the account may not do this |
| 128 + n | ended by signal n: 130 Ctrl-C, 141 nobody reads the output any more, 143 SIGTERM |
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import Any, Final, cast

from lamella._errors import (
    AuthenticationError,
    ConfigurationError,
    LamellaError,
    PermissionDeniedError,
    QuotaError,
    UnsupportedError,
)
from lamella._failure_texts import FailureText
from lamella._scrub_texts import clean_lines, clean_text

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
REFUSED: Final = 3

EXIT_CODES: Final = """\
Exit codes:

  0    all is well
  1    the call failed, or the check did
  2    the command line, a preset or a file is wrong; nothing was sent
  3    the provider does not accept the key, or the account may not do this
  130  ended by Ctrl-C; 143 by SIGTERM, 141 because nobody reads the output"""

EXTRA: Final = frozenset({"cyclopts", "prompt_toolkit", "rich"})
"""What the extra `cli` brings."""

_REFUSALS: Final = (AuthenticationError, PermissionDeniedError, QuotaError)
_SEE_DEBUG: Final = "Add --debug to see where it comes from."


class UsageError(ConfigurationError):
    """Raised when the command line asks for something that cannot be meant."""


def exit_code_of_signal(number: int) -> int:
    """The exit code that shells give to what a signal has ended."""
    return 128 + number


def exit_code(error: BaseException) -> int:
    """The exit code for an error that has ended a command."""
    if isinstance(error, _REFUSALS):
        return REFUSED
    wrong = isinstance(error, ConfigurationError | UnsupportedError) or lacks_extra(error)
    return USAGE if wrong else FAILED


def lacks_extra(error: BaseException) -> bool:
    """Whether the extra `cli` is not installed, or not whole."""
    return isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in EXTRA


def paragraph(error: BaseException) -> str:
    """What went wrong and what to do about it, in one paragraph."""
    error = _alone(error)
    if isinstance(error, LamellaError):
        return " ".join([str(error).strip(), *_particulars(error)])
    if lacks_extra(error):
        return 'The command line needs packages that are missing: pip install "lamella[cli]"'
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}."
    words = str(error).strip().rstrip(".")
    what = f"{type(error).__name__}: {words}" if words else type(error).__name__
    return f"An error that the library does not know: {what}. {_SEE_DEBUG}"


def _alone(error: BaseException) -> BaseException:
    """The error itself, out of a group that holds no other."""
    inner: Any = getattr(error, "exceptions", ())
    grouped = isinstance(cast("object", error), BaseExceptionGroup) and len(inner) == 1
    return _alone(inner[0]) if grouped else error


def _particulars(error: LamellaError) -> list[str]:
    """What a person who asks for help will be asked for."""
    found: list[str] = []
    if len(error.attempts) > 1:
        found.append(f"({len(error.attempts)} attempts were made.)")
    if error.retry_after is not None and error.retryable:
        found.append(f"(It may work again in {error.retry_after:g} s.)")
    if error.request_id is not None and error.request_id not in str(error):
        found.append(f"(Request {error.request_id}.)")
    return found


debugging: ContextVar[bool] = ContextVar("debugging", default=False)
"""Whether errors are told with their tracebacks: `--debug`."""


def report(error: BaseException) -> None:
    """Tell standard error of an error that has ended a command, or an answer.

    What people paste into a report is written without secrets, as by `lamella.scrub`.
    """
    from lamella.cli._output import say

    if debugging.get():
        sys.stderr.write(FailureText.of(error).written(clean_text) + "\n")
    words = clean_lines(paragraph(error))
    if lacks_extra(error):
        sys.stderr.write(f"lamella: {words}\n")  # what would colour it may be missing
    else:
        say(f"lamella: {words}", style="red")
