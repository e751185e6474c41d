"""When a conversation is too long, and how long it is to be: for each window of a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from lamella._chat import ChatRequest
from lamella._message_sizes import MessageSizes
from lamella._shortening import Size, sizes_within

_WINDOWS: Final = 256
"""Windows for which limits are remembered; beyond that all are worked out anew."""


class SizeLimits:
    """A trigger and a target, which may be shares of a window. Any thread may use it.

    Args:
        trigger: From what size on something is too long.
        target: What it comes down to; None is as for `sizes_within`.
    """

    __slots__ = ("_known", "_shares", "_target", "_trigger")

    def __init__(self, trigger: Size, target: Size | None) -> None:
        self._trigger = trigger
        self._target = target
        self._shares = trigger.share is not None or (
            target is not None and target.share is not None
        )
        self._known: dict[int | None, tuple[Size, Size] | None] = {}

    def within(self, window: int | None) -> tuple[Size, Size] | None:
        """The trigger and the target in tokens and messages; None if there is no trigger then.

        Args:
            window: Tokens that the model takes; None if nobody knows.
        """
        known = self._known
        try:
            return known[window]
        except KeyError:
            found = sizes_within(self._trigger, self._target, window)
        if len(known) >= _WINDOWS:
            known.clear()
        known[window] = found
        return found

    def surely_hold(
        self, sizes: MessageSizes, request: ChatRequest, skipped: Callable[[ChatRequest], None]
    ) -> bool:
        """Whether it needs no counting to know that the request is to be sent as it is.

        Args:
            sizes: Knows how large it is at most.
            request: What is to be sent.
            skipped: Told of it if there is no trigger, since nobody knows the model's window.
        """
        found = sizes.at_most(request, shares=self._shares)
        if found is None:
            return False
        limits = self.within(found[1])
        if limits is None:
            skipped(request)
            return True
        return limits[0].holds(found[0], len(request.messages))
