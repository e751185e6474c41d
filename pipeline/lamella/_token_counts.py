"""Token counts: a conversation in, how many tokens its provider will bill for it out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import attrs

from lamella._chat import ChatRequest
from lamella._context import NO_CONTEXT
from lamella._events import Event, Finish, TokenCount, UsageReport
from lamella._messages import Message
from lamella._nothing import NOTHING
from lamella._requests import Request
from lamella._responses import Head, Response
from lamella._usage import Usage


@attrs.frozen
class TokenCountAnswer:
    """What the events of a count amount to.

    Attributes:
        tokens: How many tokens the request has; None until it is known.
        finish_reason: `"stop"` once it is complete.
        usage: What the counting consumed; providers count for nothing.
    """

    tokens: int | None = None
    finish_reason: str | None = None
    usage: Usage | None = None

    @property
    def text(self) -> str:
        """Empty: a count has none."""
        return ""


class TokenCountResponse(Response):
    """How many tokens a conversation has."""

    operation: ClassVar[str] = "token_count"

    __slots__ = ()

    @classmethod
    def of(cls, tokens: int, *, model: str | None = None) -> TokenCountResponse:
        """A complete answer, so that a plain async function is a transport in one line."""
        return TokenCountResponse(token_count_events(tokens), Head(model=model))

    @classmethod
    def _fold(cls, events: Sequence[Event]) -> TokenCountAnswer:
        tokens, usage, reason = None, None, None
        for event in events:
            if isinstance(event, TokenCount):
                tokens = event.tokens
            elif isinstance(event, UsageReport):
                usage = event.usage
            elif isinstance(event, Finish):
                reason = event.reason
        return TokenCountAnswer(tokens, reason, usage)

    @property
    def answer(self) -> TokenCountAnswer:
        """What all its events amount to."""
        answer = super().answer
        assert isinstance(answer, TokenCountAnswer)  # noqa: S101 - _fold gives nothing else
        return answer

    @property
    def tokens(self) -> int:
        """How many tokens the conversation has, tools and pictures included."""
        return self.answer.tokens or 0


def token_count_events(tokens: int) -> tuple[Event, ...]:
    """The events of a count. It is billed by nobody, so that its usage is nothing."""
    return (TokenCount(tokens), UsageReport(Usage()), Finish("stop"))


def _said(chat: ChatRequest) -> ChatRequest:
    """The conversation alone, without the call that it may be of."""
    return chat.evolve(model=None, extra=NOTHING, context=NO_CONTEXT, target=None, stream=False)


@attrs.frozen(slots=False, kw_only=True, hash=False)
class TokenCountRequest(Request[TokenCountResponse]):
    """Asks a provider how many tokens a conversation has, without having it answered.

    It is counted by the model's own tokenizer, tools, pictures and documents included, which no
    count on this side is sure to match. It goes through the same layers as any request.

    Attributes:
        chat: The conversation, as it would be sent to be answered, without its model, `extra` and
            context: those of this request hold.
    """

    operation: ClassVar[str] = "token_count"
    response_type: ClassVar[type[Response]] = TokenCountResponse

    chat: ChatRequest = attrs.field(converter=_said)

    @classmethod
    def of(
        cls,
        content: ChatRequest | str | Message | Iterable[Message | Mapping[str, Any]],
        **fields: Any,
    ) -> Self:
        """A request from a chat request, or from what one is made of.

        Args:
            content: What would be asked.
            **fields: Fields of this request: `model=`, `extra=`, `context=`. Those of the chat
                request hold where they are not given.
        """
        chat = content if isinstance(content, ChatRequest) else ChatRequest.of(content)
        given: dict[str, Any] = {"model": chat.model, "extra": chat.extra, **cls.known(fields)}
        return cls(chat=chat, **given)

    @property
    def conversation(self) -> ChatRequest:
        """The chat request that is counted, of this request's model and call."""
        return self.chat.evolve(model=self.model, extra=self.extra, context=self.context)

    @property
    def unwritten(self) -> Message | None:
        """The first message of the conversation that is still to be made. None if there is none."""
        return self.chat.unwritten

    @property
    def needs(self) -> frozenset[str]:
        """The capabilities that it asks of a model, in the words of the model cards."""
        return self.chat.needs
