"""Where the lines of a conversation come from: a person at a terminal, or a pipe."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from lamella.cli._output import say

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import History
    from prompt_toolkit.key_binding import KeyBindings

_PIECE = 65_536


class Lines(Protocol):
    """What gives the lines of a conversation."""

    async def next(self) -> str | None:
        """The next line; None at the end. Ctrl-C gives an empty one at a terminal."""
        ...


class PipedLines:
    """Lines of standard input, without a terminal.

    Waiting for them leaves the event loop free, and needs no thread, which a program could not end.
    """

    def __init__(self) -> None:
        self._number = sys.stdin.fileno()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._ended = False

    async def next(self) -> str | None:
        """The next line without its end; the last one may lack it."""
        while "\n" not in self._held and not self._ended:
            data = await self._read()
            self._ended = not data
            self._held += self._decoder.decode(data, final=self._ended)
        if not self._held:
            return None
        line, _, self._held = self._held.partition("\n")
        return line.removesuffix("\r")

    async def _read(self) -> bytes:
        # A file makes nobody wait and refuses to be waited for; some systems wait for sockets only.
        with suppress(OSError, NotImplementedError):
            await anyio.wait_readable(self._number)
        return os.read(self._number, _PIECE)


class PromptLines:
    """Lines that a person types.

    Args:
        commands: What Tab completes.
        history: Where the lines of earlier conversations are; None keeps none.
    """

    def __init__(self, commands: Iterable[str], history: Path | None) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import WordCompleter

        self._session: PromptSession[str] = PromptSession(
            history=_history(history),
            completer=WordCompleter([*commands], sentence=True),
            complete_while_typing=False,
            key_bindings=_keys(),
            prompt_continuation="  ",
        )

    async def next(self) -> str | None:
        """What is typed up to Enter; Ctrl-D at the beginning ends."""
        try:
            return await self._session.prompt_async([("bold", "> ")])
        except KeyboardInterrupt:
            say("(Ctrl-D leaves.)", style="dim")
            return ""
        except EOFError:
            return None


def _history(file: Path | None) -> History:
    """The history in a file that only its owner can read; in memory where there can be none."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    if file is None:
        return InMemoryHistory()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    except OSError as error:
        say(f"(No history is kept: {file}: {error.strerror}.)", style="dim")
        return InMemoryHistory()
    return FileHistory(str(file))


def _keys() -> KeyBindings:
    """Enter sends, Alt-Enter begins a new line."""
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()

    def begin_line(event: Any) -> None:
        event.current_buffer.insert_text("\n")

    keys.add("escape", "enter")(begin_line)
    return keys


def history_file() -> Path | None:
    """The file in the user's state directory; None for a user without a home."""
    try:
        return _state_folder() / "lamella" / "chat_history"
    except RuntimeError:
        say("(No history is kept: there is no home directory.)", style="dim")
        return None


def _state_folder() -> Path:
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return Path(base) if base else Path.home() / "AppData" / "Local"
    base = os.environ.get("XDG_STATE_HOME")
    given = Path(base) if base and Path(base).is_absolute() else None
    return given or Path.home() / ".local" / "state"
