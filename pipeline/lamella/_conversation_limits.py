"""What of a long conversation is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from lamella._chat import ChatRequest
from lamella._errors import ConfigurationError
from lamella._messages import Message
from lamella._shortening import Size, shortened, target_of
from lamella._shortening_strategies import sliding_window
from lamella._tokens import INLINE_CHARACTERS, input_usage

if TYPE_CHECKING:
    from lamella._ports import ThreadPort

_REMEMBERED: Final = 4096
"""Messages whose tokens are remembered; after that they are counted anew."""

_INLINE_MESSAGES: Final = 300
"""With more it takes milliseconds to find what stays; a thread does it."""


@attrs.define(eq=False)
class SendLimits:
    """How much of a conversation is sent at most: its oldest turns are left out.

    Attributes:
        trigger: How long it may be.
        target: How long it is once it was cut.
    """

    trigger: Size
    target: Size
    _counts: dict[int, tuple[Message, int]] = attrs.field(
        factory=dict[int, tuple[Message, int]], init=False
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

    def fresh(self) -> SendLimits:
        """The same for another conversation, which counts for itself."""
        return SendLimits(self.trigger, self.target)

    async def within(self, request: ChatRequest, thread: ThreadPort) -> ChatRequest:
        """The request with no more of the past than may be sent.

        Instructions, what is pinned, and the last question with all that follows always stay.
        """
        unseen = 0
        if self.trigger.tokens is not None:
            unseen = sum([_characters(m) for m in request.messages if id(m) not in self._counts])
        if unseen > INLINE_CHARACTERS or len(request.messages) > _INLINE_MESSAGES:
            return await thread(self._shortened, request)
        return self._shortened(request)

    def _shortened(self, request: ChatRequest) -> ChatRequest:
        counted = self.trigger.tokens is not None
        found = shortened(
            request.messages,
            [sliding_window],
            trigger=self.trigger,
            target=self.target,
            count=self._count,
            overhead=_tokens(request.evolve(messages=())) if counted else 0,
        )
        if found.messages is request.messages:
            return request
        return request.evolve(messages=found.messages)

    def _count(self, message: Message) -> int:
        known = self._counts.get(id(message))
        if known is not None and known[0] is message:
            return known[1]
        count = _tokens(ChatRequest(messages=(message,)))
        if len(self._counts) >= _REMEMBERED:
            self._counts.clear()
        self._counts[id(message)] = (message, count)
        return count


def _tokens(request: ChatRequest) -> int:
    usage = input_usage(request)
    return 0 if usage is None else usage.input_tokens


def _characters(message: Message) -> int:
    return len(message.text)
