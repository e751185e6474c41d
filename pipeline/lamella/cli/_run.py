"""`lamella run`: one question, one answer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
from cyclopts import Parameter

from lamella._errors import LamellaError
from lamella.cli._asking import NO_ASKING, Asking, must_know_model, remark, stream, words_of
from lamella.cli._errors import FAILED, report
from lamella.cli._stack import NO_STACK, Stack

if TYPE_CHECKING:
    from lamella import ChatResponse
    from lamella.cli._output import Page
    from lamella.cli._stack import WatchedPipeline

STDIN: Final = "\0stdin"
"""Stands for the word `-`, which the parser of options would not let through."""

_EMBEDDED: Final = "(To ask a real model: --transport openai --model gpt-4o-mini.)"


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Showing:
    """What is shown of an answer.

    Attributes:
        json: Print one JSON object: text, usage, cost, model, attempts, notes, error.
        trace: Draw the call after the answer, on standard error: layers, attempts, waits, notes.
        trace_file: Write the call to this file, also if it fails: FILE.html is a page for people,
            FILE.json is for programs. For short: --trace FILE.html
        no_stream: Show the answer when it is complete.
    """

    json: bool = False
    trace: bool = False
    trace_file: Path | None = None
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
    from lamella.cli._trace_files import must_be_writable

    request = asking.request([Message.user(prompt_of(prompt))])
    page = Page()
    pipeline = stack.pipeline(paced=page.terminal and not showing.json)
    must_know_model(pipeline, asking)
    if showing.trace_file is not None:
        must_be_writable(showing.trace_file, "--trace-file")

    async def work(_: Interrupts) -> ChatResponse:
        async with pipeline:
            if showing.json or showing.no_stream:
                return await pipeline.run(request)
            return await stream(pipeline.stream(request), page)

    try:
        response = run_loop(work)
    except Exception as error:
        _failed(error, pipeline, page, showing)
        raise
    except BaseException:
        page.end_line()
        _write_down(pipeline, showing)
        raise
    _show(response, page, showing, embedded=stack.embedded)
    return 0 if _write_down(pipeline, showing) else FAILED


def prompt_of(words: tuple[str, ...]) -> str:
    """What somebody wrote on the command line, and piped in.

    Raises:
        UsageError: If that is nothing.
    """
    from lamella.cli._errors import UsageError

    if not words and sys.stdin.isatty():
        msg = "There is nothing to ask."
        raise UsageError(msg, hint='Write lamella run "Why is the sky blue?", or pipe text in.')
    given = words or (STDIN,)
    read = _standard_input() if STDIN in given else ""
    prompt = " ".join([read if word == STDIN else words_of(word) for word in given]).strip()
    if not prompt:
        what = "Standard input is empty" if STDIN in given else "The prompt is empty"
        raise UsageError(f"{what}, so there is nothing to ask.")
    return prompt


def _standard_input() -> str:
    from lamella.cli._errors import UsageError

    stream: Any = sys.stdin
    if stream.errors == "surrogateescape":  # the locale C: it reads bytes as no text at all
        stream.reconfigure(encoding="utf-8", errors="strict")
    try:
        return str(stream.read()).strip()
    except UnicodeDecodeError as error:
        msg = f"Standard input is no {error.encoding} text: byte {error.start + 1} of it is none."
        raise UsageError(msg) from None


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
    _write_down(pipeline, showing)


def _write_down(pipeline: WatchedPipeline, showing: Showing) -> bool:
    """Write the call to the file that was named; whether that went well.

    A file that cannot be written is told of, and hides neither an answer nor another failure.
    """
    from lamella.cli._trace_files import write_trace

    if showing.trace_file is None or pipeline.trace is None:
        return True
    try:
        write_trace(pipeline.trace, showing.trace_file)
    except LamellaError as error:
        report(error)
        return False
    return True


def _leave_line(page: Page) -> None:
    if page.terminal:
        _say("")


def _say(text: str) -> None:
    from lamella.cli._output import say

    say(text, style="dim")
