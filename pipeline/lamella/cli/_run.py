"""`lamella run`: one question, one answer."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final

import attrs
from cyclopts import Parameter

from lamella._layers import name_of
from lamella.cli._stack import NO_STACK, Stack

if TYPE_CHECKING:
    from lamella import ChatRequest, ChatResponse
    from lamella.cli._output import Page
    from lamella.cli._stack import WatchedPipeline

STDIN: Final = "\0stdin"
"""Stands for the word `-`, which the parser of options would not let through."""

_EMBEDDED: Final = "(To ask a real model: --transport openai --model gpt-4o-mini.)"

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
    """

    model: Annotated[str | None, Parameter(alias="-m")] = None
    system: Annotated[str | None, Parameter(alias="-s")] = None
    temperature: float | None = None
    max_output_tokens: int | None = None

    def request(self, messages: Any) -> ChatRequest:
        """A request with these options.

        Raises:
            UsageError: If one of them is out of range.
        """
        from lamella import ChatRequest, Context, Message
        from lamella.cli._errors import UsageError

        start = [] if self.system is None else [Message.system(self.system)]
        try:
            return ChatRequest(
                messages=[*start, *messages],
                model=self.model,
                temperature=self.temperature,
                max_output_tokens=self.max_output_tokens,
                context=Context(timed=True),
            )
        except ValueError as error:
            raise UsageError(str(error)) from error


NO_ASKING: Final = Asking()


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Showing:
    """What is shown of an answer.

    Attributes:
        json: Print one JSON object: text, usage, cost, model, attempts, notes, error.
        trace: Draw the call after the answer, on standard error: layers, attempts, waits, notes.
        no_stream: Show the answer when it is complete.
    """

    json: bool = False
    trace: bool = False
    no_stream: bool = False


_NO_SHOWING: Final = Showing()


def run(
    *prompt: str,
    stack: Stack = NO_STACK,
    asking: Asking = NO_ASKING,
    showing: Showing = _NO_SHOWING,
) -> int:
    """Ask once; the answer streams to standard output.

    Args:
        prompt: What to ask. Words are joined with spaces, and - stands for what comes from standard
            input; without any word it is all that comes from there.
        stack: The pipeline.
        asking: How to answer.
        showing: What to show.
    """
    from lamella import Message
    from lamella.cli._interrupts import Interrupts
    from lamella.cli._interrupts import run as run_loop
    from lamella.cli._output import Page

    request = asking.request([Message.user(_prompt(prompt))])
    page = Page()
    pipeline = stack.pipeline(paced=page.terminal and not showing.json)
    must_know_model(pipeline, asking)

    async def work(_: Interrupts) -> ChatResponse:
        async with pipeline:
            if showing.json or showing.no_stream:
                return await pipeline.run(request)
            return await stream(pipeline, request, page)

    try:
        response = run_loop(work)
    except Exception as error:
        _failed(error, pipeline, page, showing)
        raise
    except BaseException:
        page.end_line()
        raise
    _show(response, page, showing, embedded=stack.embedded)
    return 0


def _prompt(words: tuple[str, ...]) -> str:
    from lamella.cli._errors import UsageError

    if not words and sys.stdin.isatty():
        msg = "There is nothing to ask."
        raise UsageError(msg, hint='Write lamella run "Why is the sky blue?", or pipe text in.')
    given = words or (STDIN,)
    read = sys.stdin.read().strip() if STDIN in given else ""
    prompt = " ".join([read if word == STDIN else word for word in given]).strip()
    if not prompt:
        what = "Standard input is empty" if STDIN in given else "The prompt is empty"
        raise UsageError(f"{what}, so there is nothing to ask.")
    return prompt


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


async def stream(
    pipeline: WatchedPipeline,
    request: ChatRequest,
    page: Page,
    opened: Callable[[ChatResponse], object] | None = None,
) -> ChatResponse:
    """Write an answer as it arrives.

    Args:
        pipeline: What answers.
        request: What to ask.
        page: Where to write.
        opened: Given the response as soon as it is open, for whoever needs it if it is cut short.

    Raises:
        LamellaError: What ended it; what had arrived is written.
    """
    from lamella import ReasoningDelta, RefusalDelta, TextDelta, Turn, UsageReport

    thinking = False
    async with pipeline.stream(request) as response:
        if opened is not None:
            opened(response)
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
                page.end_line()  # before the call ends: what is logged then begins a line of its own
    return response


def _show(response: ChatResponse, page: Page, showing: Showing, *, embedded: bool) -> None:
    from lamella.cli._json_forms import answer_form
    from lamella.cli._output import is_terminal, show_json
    from lamella.cli._render import show_trace

    if showing.json:
        show_json(answer_form(response))
    else:
        if showing.no_stream:
            page.write(response.text or response.refusal or "")
        page.end_line()
        remark(response)
    if showing.trace:
        _leave_line(page)
        show_trace(response.trace)
    if embedded and is_terminal(sys.stderr):
        _leave_line(page)
        _say(_EMBEDDED)


def remark(response: ChatResponse) -> None:
    """Say why an answer is not simply over, if there is something to say."""
    text = _ENDINGS.get(response.finish_reason or "")
    if text is not None:
        _say(text.format(tools=", ".join(call.name for call in response.tool_calls) or "?"))


def _failed(error: Exception, pipeline: WatchedPipeline, page: Page, showing: Showing) -> None:
    """Show what there is of a call that has failed; who called says why it has."""
    from lamella.cli._json_forms import failure_form
    from lamella.cli._output import show_json
    from lamella.cli._render import show_trace

    page.end_line()
    if showing.json:
        show_json(failure_form(error, pipeline.trace))
    if showing.trace and pipeline.trace is not None:
        show_trace(pipeline.trace)


def _leave_line(page: Page) -> None:
    if page.terminal:
        _say("")


def _say(text: str) -> None:
    from lamella.cli._output import say

    say(text, style="dim")
