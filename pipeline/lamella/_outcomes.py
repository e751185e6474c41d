"""How an attempt, an answer or a callback's response ended."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, TypeAlias

ErrorPhase: TypeAlias = Literal["local", "connect", "send", "first_event", "stream", "decode"]
"""Where an error arose: in this process, while connecting, while sending, before the first
semantic event, while reading the answer, or while making sense of its bytes."""


class Outcome(StrEnum):
    """The end of one attempt or one answer."""

    NOT_SENT = "not_sent"
    """Nothing reached the provider: free, and safe to send again."""
    COMPLETE = "complete"
    """The protocol's own terminal signal was seen."""
    TRUNCATED = "truncated"
    """The answer stopped without its terminal signal."""
    FAILED = "failed"
    """The provider, or a layer, said no."""
    TIMED_OUT = "timed_out"
    """A limit of `Timeout` or `Deadline` ended it."""
    CANCELLED = "cancelled"
    """The caller was cancelled."""
    LEFT = "left"
    """The consumer stopped reading: neutral for breakers, never cached."""
    UNKNOWN = "unknown"
    """It was sent, and nothing says whether it was processed: possibly billed."""
