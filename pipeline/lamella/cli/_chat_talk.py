"""What `lamella chat` talks with: a conversation, and what a person sets meanwhile."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import attrs

from lamella import Conversation, LamellaError, Message, Trace
from lamella.cli._asking import Asking, remark, stream
from lamella.cli._errors import exit_code, report
from lamella.cli._interrupts import Interrupts
from lamella.cli._output import Page, say
from lamella.cli._render import show_trace
from lamella.cli._stack import WatchedPipeline


@attrs.define
class Chat:
    """A conversation at a terminal, or from a pipe.

    Attributes:
        pipeline: What answers.
        conversation: What has been said.
        model: The model that is asked; None for the transport's default.
        draws: Whether each call is drawn after its answer.
        failure: The exit code of the latest answer that failed; 0 if none did.
    """

    pipeline: WatchedPipeline
    conversation: Conversation
    model: str | None = None
    draws: bool = False
    failure: int = 0
    _saved: set[Path] = attrs.field(factory=set[Path], init=False)

    @classmethod
    def begin(cls, pipeline: WatchedPipeline, asking: Asking) -> Chat:
        """One in which nothing has been said.

        An answer that fails or is stopped is kept as far as it has come; if nothing has come, the
        question is forgotten too, so that it can be asked again.

        Raises:
            UsageError: If an option is out of range.
        """
        request = asking.request([])
        conversation = Conversation(
            pipeline,
            system=next(iter(request.messages), None),
            context=request.context,
            temperature=request.temperature,
            max_output_tokens=request.max_output_tokens,
            keep_partial=True,
        )
        return cls(pipeline, conversation, asking.model)

    @property
    def trace(self) -> Trace | None:
        """What happened in the latest call."""
        return self.pipeline.trace

    async def ask(self, text: str, page: Page, interrupts: Interrupts | None) -> None:
        """Ask the next question, and write the answer.

        Args:
            text: What to ask.
            page: Where the answer is written.
            interrupts: Lets Ctrl-C stop the answer alone; None lets it stop the program.
        """
        if interrupts is None:
            await self._answer(text, page)
        else:
            with interrupts.stopping() as scope:
                await self._answer(text, page)
            if scope.cancelled_caught:
                page.end_line()
                say("(Stopped.)", style="dim")
        if self.draws and self.trace is not None:
            show_trace(self.trace)

    async def _answer(self, text: str, page: Page) -> None:
        said = self.conversation.messages
        # Nobody runs tools that the last answer has asked for, and no provider takes a call alone.
        calls = said[-1].tool_calls if said else ()
        results = [Message.tool(call.id, "It was not run.", error=True) for call in calls]
        question = [*results, Message.user(text)]
        try:
            response = await stream(self.conversation.say_stream(question, model=self.model), page)
        except OSError:
            raise  # nobody reads what is written: not a failure of this answer
        except Exception as error:  # noqa: BLE001 - a conversation outlives the failure of an answer
            page.end_line()
            report(error)
            self.failure = exit_code(error)
        else:
            page.end_line()
            remark(response)

    def save(self, file: Path) -> int:
        """Write the conversation to a file: JSON if its name ends so, otherwise Markdown.

        The JSON is what `Conversation.load` reads. What was said before `/clear` is in neither. A
        file is replaced only if this conversation has written it.

        Returns:
            How many messages were written.

        Raises:
            LamellaError: If it cannot be written.
        """
        system = self.conversation.system
        messages = (*(() if system is None else (system,)), *self.conversation.messages)
        as_json = file.suffix.lower() == ".json"
        text = self._as_json() if as_json else _as_markdown(messages)
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

    def _as_json(self) -> str:
        # A branch with a name, even the same, has no lines but its own: none that were cleared.
        alone = self.conversation.branch(session=self.conversation.session)
        return json.dumps(json.loads(alone.to_json()), indent=2) + "\n"


def _as_markdown(messages: Sequence[Message]) -> str:
    said = [(message.role, message.text or message.refusal or "") for message in messages]
    return "\n".join(f"## {role}\n\n{text}\n" for role, text in said)
