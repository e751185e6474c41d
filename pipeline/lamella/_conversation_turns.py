"""One turn of a conversation: what was said and its answer, added together or not at all."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

import anyio
import attrs

from lamella._chat_answer import fold
from lamella._closing import CLEANUP_SECONDS
from lamella._conversation_words import answered_with, kept_of, waiting_in
from lamella._errors import LamellaError, MisuseError
from lamella._once import Block
from lamella._outcomes import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

    from lamella._answer import Answer
    from lamella._calls import Call
    from lamella._chat import ChatRequest, ChatResponse
    from lamella._conversation import Conversation
    from lamella._conversation_entries import Line
    from lamella._ending import Ending
    from lamella._messages import Message

logger = logging.getLogger("lamella")


@attrs.define(eq=False)
class Turn:
    """A turn under way.

    Attributes:
        conversation: Whose.
        line: All up to the question, the question included.
        request: What is sent for it.
        unsaved: Whether it has been added, and it is yet to be tried to save it.
        over: Whether nothing may be added any more.
    """

    conversation: Conversation
    line: Line
    request: ChatRequest
    unsaved: bool = False
    over: bool = False

    def keep(self, messages: Sequence[Message]) -> None:
        """Add it, with an answer that ended well."""
        self._add(answered_with(messages, self._before), partial=False)

    def broke_off(self, error: object, answer: Answer | None) -> None:
        """Add it without a good end: if it waits for somebody to agree, or if that is wanted.

        Args:
            error: What ended it.
            answer: What came of the answer.
        """
        came: Sequence[Message] = getattr(answer, "messages", ())
        before = self._before
        if waiting := waiting_in(error, came, before):
            self._add(waiting, partial=False)
        elif self.conversation.keep_partial and (messages := kept_of(came, before)):
            self._add(messages, partial=True)

    @property
    def _before(self) -> Sequence[Message]:
        return [entry.message for entry in self.line]

    def _add(self, messages: Sequence[Message], *, partial: bool) -> None:
        if not self.over:
            self.over = self.unsaved = True
            self.conversation.add_turn(self.line, messages, partial=partial)

    async def save(self, answer: Answer | None = None) -> None:
        """Save the conversation, if it was added and there is a store.

        Raises:
            StoreUnavailableError: If that failed; `partial` is the answer, which was added.
        """
        if not self.unsaved or self.conversation.store is None:
            return
        self.unsaved = False
        try:
            await self.conversation.save()
        except LamellaError as error:
            raise error.copy(partial=answer, committed=answer is not None) from error.__cause__
        except anyio.get_cancelled_exc_class():  # what was paid for and stands is not lost
            self.unsaved = True
            await self.save_quietly()
            raise

    async def save_quietly(self) -> None:
        """The same beside an error under way, which is more important than that this fails."""
        if not self.unsaved or self.conversation.store is None:
            return
        self.unsaved = False
        try:
            with anyio.move_on_after(CLEANUP_SECONDS, shield=True):
                await self.conversation.save()
        except Exception as error:  # noqa: BLE001 - the caller is about to be told of another one
            logger.warning(
                "A conversation was not saved (%s); the next turn, or save(), does it.",
                type(error).__name__,
            )


async def say(
    conversation: Conversation, content: object, returns: Any, fields: Mapping[str, Any]
) -> ChatResponse[Any]:
    """One turn: what is said, or `AGAIN`, and its answer."""
    with conversation.alone():
        turn = await conversation.begin_turn(content, fields)
        try:
            response: ChatResponse[Any] = await conversation.pipeline.run(
                turn.request, returns=returns
            )
        except LamellaError as error:
            turn.broke_off(error, error.partial)
            await turn.save_quietly()
            raise
        try:
            turn.keep(response.messages)
        except MisuseError as error:
            raise error.copy(partial=response.answer, committed=True) from None
        await turn.save(response.answer)
        return response


class Saying(Block):
    """The block of a streamed turn. What was said is added when the answer has ended."""

    why = "say_stream(...) is a block, so that leaving it ends the turn."
    instead = "Write `async with conversation.say_stream(...) as response:` and iterate there."

    __slots__ = ("_begin", "_block", "_call", "_conversation", "_returns", "_turn", "_used")

    def __init__(
        self,
        conversation: Conversation,
        content: object,
        returns: Any,
        fields: Mapping[str, Any],
    ) -> None:
        self._conversation = conversation
        self._begin = partial(conversation.begin_turn, content, fields)
        self._returns = returns
        self._block: AbstractAsyncContextManager[ChatResponse[Any]] | None = None
        self._turn: Turn | None = None
        self._call: Call | None = None
        self._used = False

    async def __aenter__(self) -> Any:
        if self._used:
            msg = "This turn has already been entered."
            raise MisuseError(msg, hint="Call say_stream(...) again for another one.")
        self._used = True
        self._conversation.enter()
        try:
            turn = self._turn = await self._begin()
            block = self._conversation.pipeline.stream(turn.request, returns=self._returns)
            try:
                response = await block.__aenter__()
            except LamellaError as error:
                turn.broke_off(error, error.partial)
                await turn.save_quietly()
                raise
        except BaseException:
            self._leave()
            raise
        self._block = block
        self._call = response.context.call
        await response.on_end(partial(_ended, turn, self._call))
        return response

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        block, turn = self._block, self._turn
        if block is None or turn is None:
            return
        try:
            try:
                await block.__aexit__(kind, error, traceback)
                if error is None:
                    if self._call is not None:  # of an answer that was complete at once
                        self._call.raise_failure()
                    await turn.save()
            finally:
                await turn.save_quietly()
        finally:
            self._leave()

    def _leave(self) -> None:
        if self._turn is not None:
            self._turn.over = True
        self._block = self._turn = None
        self._conversation.leave()

    def __del__(self) -> None:
        """The net under a block that was entered and dropped."""
        if self._block is not None:
            self._leave()


def _ended(turn: Turn, call: Call, end: Ending) -> None:
    """It must not refer to the response, which would then never be found to have been dropped."""
    if end.outcome is not Outcome.COMPLETE:
        turn.broke_off(end.error, fold(end.events))
    elif not call.failing:  # otherwise the reader is told that the answer may not be used
        turn.keep(fold(end.events).messages)
