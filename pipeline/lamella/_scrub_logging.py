"""The scrubber where programs log by themselves: in `logging`, and in structlog."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from types import TracebackType
from typing import Any, Final, TypeAlias, cast

from lamella._failure_texts import FailureText
from lamella._scrub import GONE, scrub
from lamella._scrub_texts import clean_lines, clean_text

_ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None]

_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has; all else is what the program has added with `extra`."""

_FAILED: Final = "[a record that could not be scrubbed]"


class ScrubFilter(logging.Filter):
    """A filter for handlers of `logging`: every record passes, without what must not be in a log.

    It cleans the message, its arguments, the traceback, the stack and the fields of `extra`, as
    `scrub` does. The exception itself is replaced by its text, as handlers that are given one show
    what they like of it. Line breaks stay in tracebacks and stacks only.

    Records are changed in place: handlers after this one get the cleaned record as well. Add it to
    each handler that writes; a filter of a logger does not see what the loggers below it log.
    """

    def __init__(self) -> None:
        super().__init__()

    def filter(self, record: logging.LogRecord) -> bool:
        """Clean a record. Always True."""
        scrub_record(record)
        return True


def scrub_record(record: logging.LogRecord) -> None:
    """Clean a record in place; never fails."""
    try:
        _clean_message(record)
        _clean_failure(record)
        for name in record.__dict__.keys() - _OWN:
            record.__dict__.update(scrub({name: record.__dict__.pop(name)}))
    except Exception as error:  # noqa: BLE001 - rather no words than those that were to be cleaned
        _empty(record, f"{_FAILED} ({type(error).__name__})")


def _empty(record: logging.LogRecord, message: str) -> None:
    for name in record.__dict__.keys() - _OWN:
        record.__dict__[name] = GONE
    record.msg, record.args = message, ()
    record.exc_info = record.exc_text = record.stack_info = None
    record.__dict__.pop("message", None)


def _clean_message(record: logging.LogRecord) -> None:
    record.__dict__.pop("message", None)  # what an earlier handler's formatter has made of it
    given: Any = record.msg
    args: Any = record.args
    record.msg = clean_text(given) if type(given) is str else clean_text(str(given))
    if not args:
        return
    if isinstance(args, Mapping):
        record.args = scrub(cast("object", args))
    else:
        record.args = tuple([_argument(one) for one in cast("tuple[object, ...]", args)])
    try:
        # Together: a name in the message may say what an argument is.
        whole = clean_text(str(given) % args)
    except Exception:  # noqa: BLE001 - logging would show both in its complaint
        record.msg, record.args = clean_text(f"{given} {record.args}"), ()
        return
    if _formatted(record) != whole:
        record.msg, record.args = whole, ()


def _formatted(record: logging.LogRecord) -> str | None:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - what has been cleaned does not fit the message any more
        return None


def _argument(value: object) -> object:
    """One argument, as it is if its words say nothing that has to go."""
    if type(value) is str:
        return clean_text(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    try:
        for words in (str(value), repr(value)):
            cleaned = clean_text(words)
            if cleaned != words:
                return cleaned
    except Exception:  # noqa: BLE001 - somebody's object must not cost the record
        return f"<{type(value).__name__}>"
    return value


def _clean_failure(record: logging.LogRecord) -> None:
    failure = _failure(record.exc_info)
    if failure is not None:
        record.exc_text = _written(failure)
    elif record.exc_text:
        record.exc_text = clean_lines(record.exc_text)
    record.exc_info = None
    if record.stack_info:
        record.stack_info = clean_lines(record.stack_info)


def _failure(given: object) -> BaseException | None:
    """The exception, in any of the forms that `exc_info` has."""
    if isinstance(given, BaseException):
        return given
    if isinstance(given, tuple):
        return _failure(cast("_ExcInfo", given)[1]) if len(cast("_ExcInfo", given)) > 1 else None
    return sys.exception() if given else None


def _written(error: BaseException) -> str:
    return FailureText.of(error).written(clean_text)


def scrub_event(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A processor for structlog: the event without what must not be in a log.

    Put it last before the renderer. It writes an exception out by itself, as the text `exception`:
    renderers would do so after it, with the values of variables. Line breaks stay in `exception`
    and `stack` only.

    Before structlog 26.1 its `ConsoleRenderer` warns whenever it is given such a text, unless made
    with `exception_formatter=structlog.dev.plain_traceback`.
    """
    failure = _failure(event.get("exc_info"))
    cleaned: dict[str, Any] = {}
    for name, value in event.items():
        if name == "exc_info":
            continue
        if name in {"exception", "stack"} and isinstance(value, str):
            cleaned[name] = clean_lines(value)
        elif name == "exception":
            cleaned[name] = scrub(_without_locals(value, 0))
        elif name == "positional_args" and isinstance(value, tuple):
            args = cast("tuple[object, ...]", value)
            cleaned[name] = tuple([_argument(one) for one in args])
        elif name == "_record" and isinstance(value, logging.LogRecord):
            scrub_record(value)  # structlog's own, which it takes out again
            cleaned[name] = value
        else:
            cleaned.update(scrub({name: value}))
    if failure is not None:
        cleaned["exception"] = _written(failure)
    return cleaned


def _without_locals(value: object, depth: int) -> object:
    """A traceback as a table, as structlog writes it, without the values of variables."""
    if depth > 8:
        return "..."
    if isinstance(value, Mapping):
        table = cast("Mapping[object, object]", value)
        return {
            name: _without_locals(item, depth + 1)
            for name, item in table.items()
            if name != "locals"
        }
    if isinstance(value, list):
        return [_without_locals(item, depth + 1) for item in cast("list[object]", value)]
    return value
