"""The scrubber in programs' own logging: no planted secret reaches a handler or a renderer."""

from __future__ import annotations

import decimal
import io
import json
import logging
import logging.config
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from lamella import ScrubFilter, Secret, scrub_event
from lamella._scrub_texts import GONE

OPENAI = "sk-proj-abcdefghijklmnopqrstuvwxyz012345"
VALUE = "planted-by-type-a-revealed-value"
FORMAT = "%(levelname)s %(message)s"


@pytest.fixture(autouse=True)
def _planted() -> None:
    Secret.of_value(VALUE).reveal()


def raise_planted() -> None:
    """Both secrets in nested exceptions, in a group, in a note, and in a variable."""
    local = f"local {VALUE}"
    try:
        raise ValueError(f"cause {OPENAI} {VALUE} {local}")
    except ValueError as error:
        inner = OSError(f"member {OPENAI} {VALUE}")
        inner.add_note(f"note {VALUE}")
        raise ExceptionGroup(f"group {OPENAI}", [inner]) from error


class Shown:
    """An object whose words have a secret in them."""

    def __str__(self) -> str:
        return "harmless"

    def __repr__(self) -> str:
        return f"Shown({VALUE})"


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """A logger that nobody else has."""
    made = logging.Logger("test", level=logging.DEBUG)  # noqa: LOG001
    yield made
    for handler in made.handlers:
        handler.close()


NUMBER = "907531.86420864"
"""A number as no record has one of itself."""


class Everything(logging.Formatter):
    """Shows all that a record has: the worst that a handler may do."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{super().format(record)} {vars(record)!r}"


def handled(logger: logging.Logger, formatter: logging.Formatter | None = None) -> io.StringIO:
    """What a handler with the filter writes."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter or Everything(FORMAT))
    handler.addFilter(ScrubFilter())
    logger.addHandler(handler)
    return stream


CALLS: list[Callable[[logging.Logger], object]] = [
    lambda to: to.info(f"in the message {OPENAI} {VALUE}"),
    lambda to: to.info("as arguments %s and %r", OPENAI, VALUE),
    lambda to: to.info("by name %(a)s %(b)s", {"a": OPENAI, "b": VALUE}),
    lambda to: to.info("password=%s; %d", "hunter2", 3),
    lambda to: to.info("password=%s", decimal.Decimal(NUMBER)),
    lambda to: to.info("%s=%s", "api_key", "hunter2"),
    lambda to: to.info("an object %s %r", Shown(), Shown()),
    lambda to: to.info("in a table %s", {"password": "hunter2", "x": [VALUE]}),
    lambda to: to.info("in fields", extra={"field": {"token": "hunter2", "x": VALUE}}),
    lambda to: to.info("in a field by name", extra={"api_key": "hunter2"}),
    lambda to: to.info("a name that has it", extra={VALUE: OPENAI}),
    lambda to: to.info("too few %s %s", VALUE),
    lambda to: to.info("of another kind %d", VALUE),
    lambda to: to.info("too many", VALUE),
    lambda to: to.info("with a stack", stack_info=True, extra={"x": OPENAI}),
    lambda to: to.info(Shown()),
    lambda to: to.info(ValueError(OPENAI)),
]


@pytest.mark.parametrize("call", CALLS, ids=range(len(CALLS)))
def test_a_filter_lets_no_secret_through(
    call: Callable[[logging.Logger], object], logger: logging.Logger
) -> None:
    """Wherever it stands in a record, and whatever a formatter shows of it."""
    stream = handled(logger)
    call(logger)
    shown = stream.getvalue()
    assert shown.startswith("INFO ")
    for secret in (OPENAI, VALUE, "hunter2", NUMBER):
        assert secret not in shown


def test_a_failing_call_is_told_without_secrets(logger: logging.Logger) -> None:
    """`exc_info`: its causes and members, and no object that a handler could look into."""
    stream = handled(logger)
    try:
        raise_planted()
    except ExceptionGroup:
        logger.exception("it failed")
    shown = stream.getvalue()
    for secret in (OPENAI, VALUE):
        assert secret not in shown
    for words in (f"cause {GONE}", f"member {GONE}", f"note {GONE}", "in raise_planted"):
        assert words in shown
    assert "'exc_info': None" in shown


def test_a_text_of_a_failure_that_is_there_already_is_scrubbed(logger: logging.Logger) -> None:
    """An earlier handler without the filter may have made it."""
    logger.addHandler(logging.StreamHandler(io.StringIO()))
    stream = handled(logger)
    try:
        raise_planted()
    except ExceptionGroup:
        logger.exception("it failed with %s", VALUE)
    for secret in (OPENAI, VALUE):
        assert secret not in stream.getvalue()


def test_what_is_harmless_is_passed_on_as_it_is(logger: logging.Logger) -> None:
    """Template and arguments too, for formatters that use them."""
    seen: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = seen.append  # type: ignore[method-assign, assignment]
    handler.addFilter(ScrubFilter())
    logger.addHandler(handler)
    given = ("GET", 200, 1.5, None, decimal.Decimal(2))
    logger.info("%s %d %.1f %s %s", *given, extra={"a": 1, "b": "x", "c": [1, None]})
    (record,) = seen
    assert (record.msg, record.args) == ("%s %d %.1f %s %s", given)
    assert {"a": 1, "b": "x", "c": [1, None]}.items() <= vars(record).items()


def test_no_line_can_be_forged(logger: logging.Logger) -> None:
    """A message is one line; only a traceback has several."""
    stream = handled(logger, logging.Formatter(FORMAT))
    logger.info("one\nERROR %s", "two\rthree\x1b[31m\u2028")
    assert stream.getvalue() == "INFO one\\x0aERROR two\\x0dthree\\x1b[31m\\u2028\n"


def test_nothing_that_a_record_holds_breaks_logging(logger: logging.Logger) -> None:
    """Objects that cannot say what they are; what cannot be scrubbed is not written."""

    class Mute:
        def __str__(self) -> str:
            raise ZeroDivisionError

        __repr__ = __str__

    stream = handled(logger, logging.Formatter(FORMAT))
    logger.info("%s", Mute())
    logger.info(Mute(), extra={"x": VALUE})
    logger.info("%s", "next")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "INFO %s ('<Mute>',)"
    assert lines[1] == "INFO [a record that could not be scrubbed] (ZeroDivisionError)"
    assert lines[2] == "INFO next"


def test_a_configuration_can_name_it() -> None:
    """`logging.config.dictConfig`, as programs do it."""
    stream = io.StringIO()
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {"scrub": {"()": "lamella.ScrubFilter"}},
            "handlers": {
                "out": {"class": "logging.StreamHandler", "stream": stream, "filters": ["scrub"]}
            },
            "loggers": {"lamella-test-scrub": {"handlers": ["out"], "propagate": False}},
        }
    )
    logging.getLogger("lamella-test-scrub.below").error("key %s", OPENAI)
    assert stream.getvalue() == f"key {GONE}\n"
    logging.getLogger("lamella-test-scrub").handlers.clear()


# --- structlog --------------------------------------------------------------------------------

RENDERERS: dict[str, Any] = {
    "json": structlog.processors.JSONRenderer(default=repr),
    "key-value": structlog.processors.KeyValueRenderer(),
    "console": structlog.dev.ConsoleRenderer(colors=False),
}
EARLIER: dict[str, list[Any]] = {
    "nothing": [],
    "text": [structlog.processors.format_exc_info],
    "tables": [structlog.processors.dict_tracebacks],
    "stack": [structlog.processors.StackInfoRenderer()],
}


def bound(renderer: str, *earlier: Any) -> Any:
    """A logger of structlog that returns its lines."""
    processors = [structlog.processors.add_log_level, *earlier, scrub_event, RENDERERS[renderer]]
    return structlog.wrap_logger(
        structlog.ReturnLogger(), processors=processors, wrapper_class=structlog.BoundLogger
    )


# As structlog's console does before 26.1; it shows the text all the same.
WARNS_OF_TEXT = pytest.mark.filterwarnings("ignore:Remove `format_exc_info`:UserWarning")
TABLES_HAVE_MEMBERS = "exceptions" in structlog.tracebacks.Stack.__dataclass_fields__


@WARNS_OF_TEXT
@pytest.mark.parametrize("earlier", EARLIER)
@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_processor_lets_no_secret_through(renderer: str, earlier: str) -> None:
    """In the event, in fields, in names, in what renderers make of an exception."""
    if (renderer, earlier) == ("console", "tables"):
        pytest.skip("structlog's own console knows no tables")
    say = bound(renderer, *EARLIER[earlier]).bind(bound=VALUE).error
    lines: list[str] = []
    try:
        raise_planted()
    except ExceptionGroup as error:
        lines = [
            say(f"it failed {OPENAI}", exc_info=True, password="hunter2", stack_info=True),
            say("it failed", exc_info=error, table={"token": "hunter2", VALUE: [OPENAI]}),
            say("it failed", exc_info=sys.exc_info(), shown=Shown(), object=[Shown()]),
        ]
    for line in lines:
        assert "member" in line or (earlier == "tables" and not TABLES_HAVE_MEMBERS)
        assert "cause" in line
        for secret in (OPENAI, VALUE, "hunter2"):
            assert secret not in line


def test_a_processor_leaves_what_is_harmless() -> None:
    """Numbers are numbers, tables are tables."""
    line = bound("json").info("event", a=1, b=1.5, c=None, d={"e": [True]}, f="x")
    expected = {"a": 1, "b": 1.5, "c": None, "d": {"e": [True]}, "f": "x"}
    assert json.loads(line) == {"event": "event", "level": "info", **expected}


@WARNS_OF_TEXT
def test_structlog_and_logging_together(logger: logging.Logger) -> None:
    """Structlog's formatter renders records of `logging`, which come to its processors whole."""
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[
            structlog.stdlib.PositionalArgumentsFormatter(),
            scrub_event,
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            RENDERERS["console"],
        ]
    )
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger.addHandler(handler)
    try:
        raise_planted()
    except ExceptionGroup:
        logger.exception("it failed with %s", VALUE)
    assert "member" in stream.getvalue()
    for secret in (OPENAI, VALUE):
        assert secret not in stream.getvalue()


# --- the command line -------------------------------------------------------------------------


@pytest.mark.parametrize("debug", [False, True])
def test_the_command_line_shows_no_secret(debug: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither in the sentence about a failure nor in what `--debug` adds."""
    from lamella.cli._errors import debugging, report

    token = debugging.set(debug)
    try:
        raise_planted()
    except ExceptionGroup as error:
        report(error)
    finally:
        debugging.reset(token)
    shown = capsys.readouterr().err
    assert ("in raise_planted" in shown) is debug
    assert f"member {GONE}" in shown
    for secret in (OPENAI, VALUE):
        assert secret not in shown
