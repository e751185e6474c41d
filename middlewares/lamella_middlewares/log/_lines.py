"""Records as lines on a text stream: structlog renders them, with a logger of our own.

The program's own structlog configuration is neither read nor changed.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from lamella._text_sinks import TextStream, stream_of, write_text

Format: TypeAlias = Literal["json", "console", "auto"]


class Lines:
    """Writes records as lines. Called by the writer's thread only.

    Args:
        stream: Where to; `"stderr"` and `"stdout"` are looked up for each line, so that they may be
            replaced meanwhile.
        format: `"json"`, `"console"`, or `"auto"`: console on a terminal, else JSON.
    """

    def __init__(self, stream: TextStream | str, format: Format) -> None:
        self._given = stream
        self._format = format
        self._loggers: dict[bool, Any] = {}

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Write one record, and see that it leaves this process."""
        stream = stream_of(self._given)
        fields = dict(record)
        level, event = fields.pop("level"), fields.pop("event")
        instant = dt.datetime.fromtimestamp(fields.pop("at"), dt.UTC)
        stamp = instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        terminal = _is_terminal(stream)
        if "traceback" in fields and not self._is_json(terminal=terminal):
            # Lines of their own, which the renderer puts last; indented, so that none of them can
            # be taken for a record.
            text = str(fields.pop("traceback")).replace("\n", "\n  ")
            fields["exception"] = f"  {text}"
        logger = self._loggers.get(terminal) or self._made(terminal=terminal)
        line: str = getattr(logger, level)(event, timestamp=stamp, **fields)
        write_text(stream, line + "\n")

    def _is_json(self, *, terminal: bool) -> bool:
        return self._format == "json" or (self._format == "auto" and not terminal)

    def _made(self, *, terminal: bool) -> Any:
        import structlog

        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") in {"dumb", "unknown"}
        renderer: Any
        if self._is_json(terminal=terminal):
            renderer = structlog.processors.JSONRenderer(default=str)
        else:
            renderer = structlog.dev.ConsoleRenderer(
                colors=terminal and not plain,
                exception_formatter=structlog.dev.plain_traceback,
                sort_keys=False,
            )
        logger = structlog.wrap_logger(
            structlog.ReturnLogger(),
            processors=[structlog.processors.add_log_level, renderer],
            wrapper_class=structlog.BoundLogger,
            context_class=dict,
            cache_logger_on_first_use=False,
        ).bind()
        self._loggers[terminal] = logger
        return logger


def _is_terminal(stream: object) -> bool:
    ask = getattr(stream, "isatty", None)
    return bool(ask is not None and ask())
