"""What of a long conversation is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from lamella._chat import ChatRequest
from lamella._errors import ConfigurationError
from lamella._message_sizes import Measure
from lamella._shortening import Progress, Size, target_of
from lamella._shortening_strategies import sliding_window
from lamella._token_estimate import ESTIMATOR
from lamella._tokens import INLINE_CHARACTERS

if TYPE_CHECKING:
    from lamella._ports import ThreadPort

_INLINE_MESSAGES: Final = 300
"""With more it takes milliseconds to find what stays; a thread does it."""


def _progress(limits: Any) -> Progress:
    return Progress([sliding_window], limits.trigger, limits.target, limits._measure)  # noqa: SLF001


@attrs.define(eq=False)
class SendLimits:
    """How much of a conversation is sent at most: its oldest turns are left out.

    Attributes:
        trigger: How long it may be.
        target: How long it is once it was cut.
    """

    trigger: Size
    target: Size
    _measure: Measure = attrs.field(factory=lambda: Measure(ESTIMATOR, None), init=False)
    _progress: Progress = attrs.field(
        init=False, repr=False, default=attrs.Factory(_progress, takes_self=True)
    )

    @classmethod
    def of(cls, max_messages: int | None, max_tokens: int | None) -> SendLimits | None:
        """Those that are given; None if none is.

        Raises:
            ConfigurationError: If one cannot be.
        """
        for name, most in (("max_messages", max_messages), ("max_tokens", max_tokens)):
            if most is not None and (type(most) is not int or most < 1):
                msg = f"Conversation({name}={most!r}): give a whole number, 1 or more, or None."
                raise ConfigurationError(msg)
        if max_messages is None and max_tokens is None:
            return None
        trigger = Size(messages=max_messages, tokens=max_tokens)
        return cls(trigger, target_of(trigger, None))

    async def within(self, request: ChatRequest, thread: ThreadPort) -> ChatRequest:
        """The request with no more of the past than may be sent.

        Instructions, what is pinned, and the last question with all that follows always stay.
        """
        if self._takes_long(request):
            return await thread(self._shortened, request)
        return self._shortened(request)

    def _takes_long(self, request: ChatRequest) -> bool:
        counts, measure = self.trigger.tokens is not None, self._measure
        if counts and measure.takes_long(request):
            return True
        new = self._progress.new(request.messages, self._overhead(request))
        if not counts or len(new) > _INLINE_MESSAGES:
            return len(new) > _INLINE_MESSAGES
        _, uncounted = measure.recalled(new)
        return measure.unseen(uncounted) > INLINE_CHARACTERS

    def _shortened(self, request: ChatRequest) -> ChatRequest:
        found = self._progress.shortened(request.messages, self._overhead(request))
        return request if found is request.messages else request.evolve(messages=found)

    def _overhead(self, request: ChatRequest) -> int:
        return 0 if self.trigger.tokens is None else self._measure.overhead(request)
