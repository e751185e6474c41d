"""What a line that begins with a slash does in a conversation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

import attrs

from lamella import LamellaError
from lamella._checked_tables import close_to
from lamella.cli._conversation import Conversation
from lamella.cli._errors import report
from lamella.cli._output import say
from lamella.cli._render import columns, show_trace
from lamella.cli._trace_files import write_trace

Action: TypeAlias = Callable[[Conversation, str], None]


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


def obey(line: str, conversation: Conversation) -> None:
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
        command.action(conversation, rest.strip())
    except LamellaError as error:
        report(error)


def _help(_: Conversation, __: str) -> None:
    listed = [(command.usage, command.help) for command in COMMANDS.values()]
    say(columns(("", ""), listed).strip("\n"))


def _clear(conversation: Conversation, _: str) -> None:
    conversation.messages.clear()
    say("Everything said so far is forgotten.")


def _system(conversation: Conversation, text: str) -> None:
    if text:
        system = None if text == "off" else text
        conversation.asking = attrs.evolve(conversation.asking, system=system)
    now = conversation.asking.system
    say("There are no instructions." if now is None else f"Instructions: {now}")


def _model(conversation: Conversation, name: str) -> None:
    if name:
        model = None if name == "default" else name
        conversation.asking = attrs.evolve(conversation.asking, model=model)
    say(f"Model: {conversation.asking.model or 'the default of the transport'}")


_TRACE: Final = (
    "/trace draws the latest call, and /trace FILE.html or FILE.json writes it to that file; "
    "/trace on and /trace off do and do not draw each call after its answer."
)


def _trace(conversation: Conversation, word: str) -> None:
    if word in {"on", "off"}:
        conversation.draws = word == "on"
        say(f"Calls are {'' if conversation.draws else 'not '}drawn after each answer.")
    elif conversation.trace is None:
        say("There has been no call yet.")
    elif word.endswith((".html", ".json")):
        file = Path(word).expanduser()
        write_trace(conversation.trace, file)
        say(f"The latest call is in {file}.")
    elif word:
        say(_TRACE)
    else:
        show_trace(conversation.trace)


def _save(conversation: Conversation, name: str) -> None:
    if not name:
        say("Give the file's name: /save talk.md or /save talk.json.")
        return
    file = Path(name).expanduser()
    count = conversation.save(file)
    say(f"{count} messages are in {file}.")


def _quit(_: Conversation, __: str) -> None:
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
