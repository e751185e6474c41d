"""Where a choose layer sends a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from lamella._nothing import NOTHING

if TYPE_CHECKING:
    from lamella._handlers import Handler


@attrs.frozen(eq=False)
class Target:
    """A place that can answer: a transport, a change to the request, or both.

    A choose layer sends it on through `call_next` as `request.aim(target)`, so that every inner
    layer applies to it and limits, breakers and prices see it. A target whose transport is a
    pipeline is called itself instead: it has a stack of its own.

    Attributes:
        name: What it is called in the trace and in `served_by`, and what limits and breakers are
            counted under.
        transport: Replaces the pipeline's transport. None keeps it.
        changes: Fields of the request to change, for example `{"model": "gpt-4o-mini"}`.
    """

    name: str
    transport: Handler | None = None
    changes: Mapping[str, Any] = NOTHING
