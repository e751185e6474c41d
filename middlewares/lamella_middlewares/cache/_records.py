"""Options of `Cache` that belong together."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import attrs

from lamella._options import flag, is_number, optional_seconds, refused, seconds, span, span_or_none


def _window(record: Any, option: attrs.Attribute[Any], value: Any) -> None:
    if not is_number(value) or value < 0:
        raise refused(record, option, value, "seconds, a timedelta, or 0 for not at all")


@attrs.frozen
class Stale:
    """How long answers are still good for something once they are no longer fresh.

    Both spans are counted from when an answer ceased to be fresh; it is kept that much longer.

    Args:
        while_revalidate: Seconds, or a timedelta, for which an answer is given at once, while a new
            one is asked for in the background; 0 never does.
        if_error: Seconds, or a timedelta, for which an answer is given where asking for a new one
            has failed for a reason that is not the caller's; 0 never does.
        refresh_timeout: Seconds, or a timedelta, that asking in the background may take, above 0.
    """

    while_revalidate: float | timedelta = attrs.field(
        default=0.0, converter=seconds, validator=_window
    )
    if_error: float | timedelta = attrs.field(default=0.0, converter=seconds, validator=_window)
    refresh_timeout: float | timedelta = attrs.field(
        default=60.0, converter=seconds, validator=span
    )


@attrs.frozen
class Keep:
    """What is kept besides answers that ended well.

    Args:
        truncated: Whether answers are kept that ended because they were long enough (`"length"`).
        substitutes: Whether answers are kept that came from another target than the one meant.
        refusals_for: Seconds, or a timedelta, for which this process remembers that a request was
            refused before anybody was asked: it is malformed, too long, or more than the model can
            do. Above 0; None remembers no refusal.
    """

    truncated: bool = attrs.field(default=False, validator=flag)
    substitutes: bool = attrs.field(default=False, validator=flag)
    refusals_for: float | timedelta | None = attrs.field(
        default=None, converter=optional_seconds, validator=span_or_none
    )
