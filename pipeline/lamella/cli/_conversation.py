"""A conversation: what has been said, and the next question."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from lamella import ChatResponse, LamellaError, Message, Trace
from lamella.cli._asking import Asking, remark, stream
from lamella.cli._errors import exit_code, report
from lamella.cli._interrupts import Interrupts
from lamella.cli._output import Page, say
from lamella.cli._render import show_trace
from lamella.cli._stack import WatchedPipeline


@attrs.define
class Conversation:
    """What a chat is about.

    Attributes:
        pipeline: What answers.
        asking: The model, the instructions and the other options.
        messages: What has been said, without the instructions.
        draws: Whether each call is drawn after its answer.
        failure: The exit code of the latest answer that failed; 0 if none did.
    """

    pipeline: WatchedPipeline
    asking: Asking
    messages: list[Message] = attrs.field(factory=list[Message])
    draws: bool = False
    failure: int = 0
    _saved: set[Path] = attrs.field(factory=set[Path], init=False)

    @property
    def trace(self) -> Trace | None:
        """What happened in the latest call."""
        return self.pipeline.trace

    async def ask(self, text: str, page: Page, interrupts: Interrupts | None) -> None:
        """Ask the next question, and write and keep the answer.

        An answer that fails or is stopped is kept as far as it has come; if nothing has come, the
        question is forgotten too, so that it can be asked again.

        Args:
            text: What to ask.
            page: Where the answer is written.
            interrupts: Lets Ctrl-C stop the answer alone; None lets it stop the program.
        """
        question = Message.user(text)
        opened: list[ChatResponse] = []
        if interrupts is None:
            await self._answer(question, page, opened.append)
        else:
            with interrupts.stopping() as scope:
                await self._answer(question, page, opened.append)
            if scope.cancelled_caught:
                page.end_line()
                say("(Stopped.)", style="dim")
        self._keep(question, opened)
        if self.draws and self.trace is not None:
            show_trace(self.trace)

    async def _answer(
        self, question: Message, page: Page, opened: Callable[[ChatResponse], None]
    ) -> None:
        try:
            request = self.asking.request([*self.messages, question])
            response = await stream(self.pipeline, request, page, opened)
        except OSError:
            raise  # nobody reads what is written: not a failure of this answer
        except Exception as error:  # noqa: BLE001 - a conversation outlives the failure of an answer
            page.end_line()
            report(error)
            self.failure = exit_code(error)
        else:
            page.end_line()
            remark(response)

    def _keep(self, question: Message, opened: list[ChatResponse]) -> None:
        if not opened:
            return
        response = opened[0]
        if response.complete:
            self.messages += [question, *response.messages]
        elif text := response.partial.text:
            self.messages += [question, Message.assistant(text)]

    def save(self, file: Path) -> int:
        """Write the conversation to a file: JSON if its name ends so, otherwise Markdown.

        A file is replaced only if this conversation has written it.

        Returns:
            How many messages were written.

        Raises:
            LamellaError: If it cannot be written.
        """
        messages = self.messages
        if self.asking.system is not None:
            messages = [Message.system(self.asking.system), *messages]
        text = _as_json(messages) if file.suffix.lower() == ".json" else _as_markdown(messages)
        where = file.absolute()
        try:
            with file.open("w" if where in self._saved else "x", encoding="utf-8") as opened:
                opened.write(text)
        except FileExistsError as error:
            msg = f"{file} is there already and is not replaced."
            raise LamellaError(msg, hint="Give another name.") from error
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise LamellaError(f"{file} cannot be written: {reason}.") from error
        self._saved.add(where)
        return len(messages)


def _as_json(messages: list[Message]) -> str:
    dicts: list[dict[str, Any]] = [message.to_dict() for message in messages]
    return json.dumps(dicts, indent=2) + "\n"


def _as_markdown(messages: list[Message]) -> str:
    said = [(message.role, message.text or message.refusal or "") for message in messages]
    return "\n".join(f"## {role}\n\n{text}\n" for role, text in said)
