"""What a tool is told of the call it runs in, and what it can tell the model by failing."""

from __future__ import annotations

from typing import TypeVar

import attrs

from lamella import Context, Handler, Message, Request, Response, ToolCall

R = TypeVar("R", bound=Response)


class ToolFailed(Exception):
    """Raised by a tool to tell the model, in its own words, why it has no result.

    Every other exception is told to the model by its class only. This one's text goes to the model
    and to whoever reads the conversation: write nothing into it that neither may know.

    Args:
        text: What the model is to read, such as `"There is no order of this number."`.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


@attrs.frozen(eq=False)
class ToolContext:
    """The call that a tool runs in. A parameter annotated with it is given it.

    Attributes:
        call: What the model asked for.
        context: Of the request: tenant, user, session, ports, trace.
        turn: Which model turn of the answer asked, from 1; 0 where the conversation had come with
            the call.
        messages: The conversation, up to the message that asks.
        attempt: Which try of this call of the tool it is, from 1.
    """

    call: ToolCall
    context: Context
    turn: int
    messages: tuple[Message, ...] = attrs.field(repr=False)
    attempt: int = 1
    _request: Request[Response] = attrs.field(kw_only=True, repr=False, alias="request")
    _call_next: Handler = attrs.field(kw_only=True, repr=False, alias="call_next")

    async def ask(self, request: Request[R], *, purpose: str = "tool") -> R:
        """Ask a model something, in this call: in its trace, its budgets and its deadline.

        The request passes the layers inside of `Tools`. It is never streamed, and is offered no
        tools but its own.

        Args:
            request: Of any operation.
            purpose: Why, as a word for the branch and for reports of what was spent.

        Raises:
            LamellaError: What it failed with.
        """
        return await self._call_next(self._request.child(request, purpose=purpose))
