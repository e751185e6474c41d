"""What a line that begins with a slash does in a conversation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

import attrs

from lamella import LamellaError
from lamella._checked_tables import close_to
from lamella.cli._chat_talk import Chat
from lamella.cli._errors import report
from lamella.cli._output import say
from lamella.cli._render import columns, show_trace
from lamella.cli._trace_files import write_trace

Action: TypeAlias = Callable[[Chat, str], None]


class LeaveChat(Exception):
    """Raised by `/quit`."""


@attrs.frozen
class Command:
    """One command.

    Attributes:
        usage: How it is written.
        help: What it does, in a sentence.
        action: Does it, given what stands behind its name.
    """

    usage: str
    help: str
    action: Action


def obey(line: str, chat: Chat) -> None:
    """Do what a line says that begins with a slash.

    Raises:
        LeaveChat: If it is `/quit`.
    """
    word, _, rest = line.partition(" ")
    command = COMMANDS.get(word.lower())
    if command is None:
        offer = close_to(word, COMMANDS) or "/help lists the commands."
        say(f"There is no command {word}. {offer} Two slashes begin a question with one.")
        return
    try:
        command.action(chat, rest.strip())
    except LamellaError as error:
        report(error)


def _help(_: Chat, __: str) -> None:
    listed = [(command.usage, command.help) for command in COMMANDS.values()]
    say(columns(("", ""), listed).strip("\n"))


def _clear(chat: Chat, _: str) -> None:
    chat.conversation.clear()
    say("Everything said so far is forgotten.")


def _system(chat: Chat, text: str) -> None:
    if text:
        chat.conversation.system = None if text == "off" else text
    now = chat.conversation.system
    say("There are no instructions." if now is None else f"Instructions: {now.text}")


def _model(chat: Chat, name: str) -> None:
    if name:
        chat.model = None if name == "default" else name
    say(f"Model: {chat.model or 'the default of the transport'}")


_TRACE: Final = (
    "/trace draws the latest call, and /trace FILE.html or FILE.json writes it to that file; "
    "/trace on and /trace off do and do not draw each call after its answer."
)


def _trace(chat: Chat, word: str) -> None:
    if word in {"on", "off"}:
        chat.draws = word == "on"
        say(f"Calls are {'' if chat.draws else 'not '}drawn after each answer.")
    elif chat.trace is None:
        say("There has been no call yet.")
    elif word.endswith((".html", ".json")):
        file = Path(word).expanduser()
        write_trace(chat.trace, file)
        say(f"The latest call is in {file}.")
    elif word:
        say(_TRACE)
    else:
        show_trace(chat.trace)


def _save(chat: Chat, name: str) -> None:
    if not name:
        say("Give the file's name: /save talk.md or /save talk.json.")
        return
    file = Path(name).expanduser()
    count = chat.save(file)
    say(f"{count} messages are in {file}.")


def _quit(_: Chat, __: str) -> None:
    raise LeaveChat


COMMANDS: Final[Mapping[str, Command]] = {
    "/help": Command("/help", "lists these commands", _help),
    "/clear": Command("/clear", "forgets what has been said", _clear),
    "/system": Command("/system [TEXT|off]", "shows, sets or removes the instructions", _system),
    "/model": Command("/model [NAME|default]", "shows or sets the model", _model),
    "/trace": Command("/trace [on|off|FILE]", "draws the latest call, or each; *.html", _trace),
    "/save": Command("/save FILE", "writes the conversation: Markdown, or JSON to *.json", _save),
    "/quit": Command("/quit", "leaves, as Ctrl-D does", _quit),
}
