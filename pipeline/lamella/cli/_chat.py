"""`lamella chat`: question and answer, until Ctrl-D."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lamella.cli._asking import NO_ASKING, Asking, must_know_model
from lamella.cli._stack import NO_STACK, Stack

if TYPE_CHECKING:
    from lamella.cli._chat_input import Lines
    from lamella.cli._chat_talk import Chat
    from lamella.cli._interrupts import Interrupts


def chat(
    *,
    stack: Stack = NO_STACK,
    asking: Asking = NO_ASKING,
    no_history: bool = False,
) -> int:
    """Talk to a model: each line is a question, and all that was said goes along.

    Ctrl-C stops an answer, Ctrl-D leaves, Alt-Enter begins a new line, /help lists commands.
    Without a terminal the lines come from standard input, Ctrl-C ends the program, and the exit
    code is that of the latest answer that failed.

    Args:
        stack: The pipeline.
        asking: How to answer.
        no_history: Do not keep what is typed for the next time (XDG_STATE_HOME/lamella).
    """
    from lamella.cli._chat_talk import Chat
    from lamella.cli._interrupts import run
    from lamella.cli._output import is_terminal

    interactive = is_terminal(sys.stdin) and is_terminal(sys.stdout)
    pipeline = stack.pipeline(paced=interactive, quiet=interactive)
    must_know_model(pipeline, asking)
    talk = Chat.begin(pipeline, asking)
    if interactive:
        _greet(stack, talk)

    async def work(interrupts: Interrupts) -> None:
        async with pipeline:
            lines = _lines(interactive=interactive, keep=not no_history)
            await _talk(talk, lines, interrupts if interactive else None)

    run(work)
    return 0 if interactive else talk.failure


def _greet(stack: Stack, talk: Chat) -> None:
    from lamella._layers import name_of
    from lamella.cli._output import say

    transport = name_of(talk.pipeline.transport)
    model = talk.model or "its default model"
    words = f"Preset {stack.name}, transport {transport}, {model}."
    say(f"{words} /help lists commands, Ctrl-D leaves.", style="dim")


def _lines(*, interactive: bool, keep: bool) -> Lines:
    from lamella.cli._chat_commands import COMMANDS
    from lamella.cli._chat_input import PipedLines, PromptLines, history_file

    if not interactive:
        return PipedLines()
    return PromptLines(COMMANDS, history_file() if keep else None)


async def _talk(talk: Chat, lines: Lines, interrupts: Interrupts | None) -> None:
    from lamella.cli._chat_commands import LeaveChat, obey
    from lamella.cli._output import Page

    page = Page()
    while (line := await lines.next()) is not None:
        text = line.strip()
        if text.startswith("/") and not text.startswith("//"):
            try:
                obey(text, talk)
            except LeaveChat:
                return
        elif text:
            question = text[1:] if text.startswith("//") else text
            await talk.ask(question, page, interrupts)
            page.end_paragraph()
