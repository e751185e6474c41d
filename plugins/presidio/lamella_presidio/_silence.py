"""Presidio's log says nothing while it looks into a text: some of its lines quote the text."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

_LOGGERS: Final = ("presidio-analyzer", "decision_process", "tldextract", "tldextract.cache")
_heard: ContextVar[list[str] | None] = ContextVar("lamella_presidio_heard", default=None)


class _Silence(logging.Filter):
    """Drops what is logged inside of `silence`, in its thread only."""

    def filter(self, record: logging.LogRecord) -> bool:
        heard = _heard.get()
        if heard is None:
            return True
        error = record.exc_info[0] if isinstance(record.exc_info, tuple) else None
        if error is not None and issubclass(error, TimeoutError):
            heard.append(error.__name__)
        return False


_SILENCE: Final = _Silence()


@contextmanager
def silence() -> Generator[list[str]]:
    """Nothing is logged by Presidio within; the names of errors that it only logs are given.

    A pattern that takes too long is one: Presidio goes on without it, as if nothing had been found.
    """
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_SILENCE)  # once, however often it is said
    heard: list[str] = []
    token = _heard.set(heard)
    try:
        yield heard
    finally:
        _heard.reset(token)
