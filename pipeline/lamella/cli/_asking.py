"""Asking a model: with which options, and how its answer is written as it arrives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import attrs
from cyclopts import Parameter

from lamella._layers import name_of

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from lamella import ChatRequest, ChatResponse
    from lamella.cli._output import Page
    from lamella.cli._stack import WatchedPipeline

_ENDINGS: Final = {
    "length": "(The answer stops here because it has reached its limit of tokens.)",
    "content_filter": "(The provider's content filter stopped the answer here.)",
    "tool_calls": "(The model asks for tools to be called: {tools}.)",
}


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Asking:
    """How the model is to answer.

    Attributes:
        model: The model, as the provider names it. Without it the transport's default.
        system: Instructions that stand before the conversation.
        temperature: Randomness, 0 or more. Without it the provider's default.
        max_output_tokens: The most tokens of the answer, reasoning included.
        tenant: Whose request it is, for caches, limits and placeholders.
    """

    model: Annotated[str | None, Parameter(alias="-m")] = None
    system: Annotated[str | None, Parameter(alias="-s")] = None
    temperature: float | None = None
    max_output_tokens: int | None = None
    tenant: str | None = None

    def request(self, messages: Any) -> ChatRequest:
        """A request with these options.

        Raises:
            UsageError: If one of them is out of range.
        """
        from lamella import ChatRequest, Context, Message
        from lamella.cli._errors import UsageError

        start = [] if self.system is None else [Message.system(words_of(self.system))]
        try:
            return ChatRequest(
                messages=[*start, *messages],
                model=self.model,
                temperature=self.temperature,
                max_output_tokens=self.max_output_tokens,
                context=Context(timed=True, tenant=self.tenant),
            )
        except ValueError as error:
            raise UsageError(str(error)) from error


NO_ASKING: Final = Asking()


def words_of(argument: str) -> str:
    """What somebody wrote on the command line, whatever the locale has made of it.

    Raises:
        UsageError: If it is not in UTF-8.
    """
    from lamella.cli._errors import UsageError

    try:
        # Bytes that the locale cannot read come as lone surrogates; in LC_ALL=C all letters do.
        return argument.encode("utf-8", "surrogateescape").decode()
    except UnicodeError:
        raise UsageError("The command line is no UTF-8 text.") from None


def must_know_model(pipeline: WatchedPipeline, asking: Asking) -> None:
    """Refuse a question to nobody.

    Raises:
        UsageError: If no model is named and the transport has no default.
    """
    from lamella.cli._errors import UsageError

    transport = pipeline.transport
    if asking.model is None and getattr(transport, "model", asking) is None:
        msg = f"The transport {name_of(transport)!r} has no default model."
        raise UsageError(msg, hint="Add --model NAME; `lamella models` lists some.")


async def stream(block: AbstractAsyncContextManager[ChatResponse], page: Page) -> ChatResponse:
    """Write an answer as it arrives.

    Args:
        block: Where its events can be read: `pipeline.stream(request)`, for instance.
        page: Where to write.

    Raises:
        LamellaError: What ended it; what had arrived is written.
    """
    from lamella import ReasoningDelta, RefusalDelta, TextDelta, Turn, UsageReport

    thinking = False
    async with block as response:
        async for event in response:
            if isinstance(event, ReasoningDelta):
                if page.terminal:  # elsewhere only the answer itself is wanted
                    page.write(event.text, dim=True)
                    thinking = True
                continue
            if thinking and isinstance(event, TextDelta | RefusalDelta):
                page.end_paragraph()
                thinking = False
            if isinstance(event, TextDelta | RefusalDelta):
                page.write(event.text)
            elif isinstance(event, Turn | UsageReport):
                page.end_line()  # what is logged when the call ends then has a line of its own
    return response


def remark(response: ChatResponse) -> None:
    """Say why an answer is not simply over, if there is something to say."""
    from lamella.cli._output import say

    text = _ENDINGS.get(response.finish_reason or "")
    if text is not None:
        tools = ", ".join(call.name for call in response.tool_calls)
        say(text.format(tools=tools), style="dim")
