"""Records as lines on a text stream: JSON for programs; for people, structlog renders them.

It does so with a logger of our own: the program's own structlog configuration is neither read nor
changed. A line of JSON is what structlog would write, for a fraction of the time.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import os
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

from lamella._text_sinks import TextStream, stream_of, write_text

Format: TypeAlias = Literal["json", "console", "auto"]

_encode: Final = json.JSONEncoder(default=str).encode
"""Made once; `json.dumps` with an option makes an encoder for each text."""


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
        self._stream: TextStream | None = None  # of the latest line
        self._terminal = False
        self._second = -1
        self._stamp = ""
        self._loggers: dict[bool, Any] = {}

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Write one record, and see that it leaves this process."""
        stream = stream_of(self._given)
        if stream is not self._stream:
            self._stream, self._terminal = stream, _is_terminal(stream)
        as_json = self._format == "json" or (self._format == "auto" and not self._terminal)
        line = self._as_json(record) if as_json else self._for_people(record)
        write_text(stream, line + "\n")

    def _as_json(self, record: Mapping[str, Any]) -> str:
        fields = {"timestamp": self._timestamp(record["at"]), **record}
        del fields["at"]
        # Where they would stand if structlog had put them there.
        fields["event"], fields["level"] = fields.pop("event"), fields.pop("level")
        return _encode(fields)

    def _for_people(self, record: Mapping[str, Any]) -> str:
        fields = dict(record)
        level, event = fields.pop("level"), fields.pop("event")
        stamp = self._timestamp(fields.pop("at"))
        if "traceback" in fields:
            # Lines of their own, which the renderer puts last; indented, so that none of them can
            # be taken for a record.
            text = str(fields.pop("traceback")).replace("\n", "\n  ")
            fields["exception"] = f"  {text}"
        logger = self._loggers.get(self._terminal) or self._made(terminal=self._terminal)
        line: str = getattr(logger, level)(event, timestamp=stamp, **fields)
        return line

    def _timestamp(self, at: float) -> str:
        """An instant in words, to the millisecond; many records are of the same second."""
        second = math.floor(at)
        micro = round((at - second) * 1_000_000)  # of the exact rest, as `datetime` rounds it
        if micro == 1_000_000:
            second, micro = second + 1, 0
        if second != self._second:
            self._stamp = dt.datetime.fromtimestamp(second, dt.UTC).isoformat()[:19]
            self._second = second
        return f"{self._stamp}.{micro // 1000:03}Z"

    def _made(self, *, terminal: bool) -> Any:
        import structlog

        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") in {"dumb", "unknown"}
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
