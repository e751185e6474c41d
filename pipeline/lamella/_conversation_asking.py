"""The ways to say something in a conversation: awaited or not, streamed or not, with its types."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from lamella._conversation_turns import Saying, say
from lamella._conversation_words import AGAIN, GoOn
from lamella._once import Once

if TYPE_CHECKING:
    from lamella._chat import ChatResponse
    from lamella._conversation import Conversation
    from lamella._conversation_words import Said
    from lamella._decisions import Declined
    from lamella._returns import Returns

T = TypeVar("T")


class Asking:
    """What a conversation can be told; each way comes plain, and with the type of its value."""

    @property
    def _itself(self) -> Conversation:
        return cast("Conversation", self)

    @overload
    def say(
        self, content: Said, /, *, returns: type[T] | Returns[T], **fields: Any
    ) -> Coroutine[Any, Any, ChatResponse[T]]: ...

    @overload
    def say(
        self, content: Said, /, *, returns: Mapping[str, Any], **fields: Any
    ) -> Coroutine[Any, Any, ChatResponse[Any]]: ...

    @overload
    def say(
        self, content: Said, /, *, returns: None = None, **fields: Any
    ) -> Coroutine[Any, Any, ChatResponse]: ...

    def say(self, content: Said, /, *, returns: Any = None, **fields: Any) -> Any:
        """Say something; the model's complete answer.

        What was said and the answer are added together once the answer has ended well. If it did
        not, the conversation is as it was (unless `keep_partial`).

        Args:
            content: Text, parts, or OpenAI-style dicts of one message of the user's; or whole
                messages, such as the results of tools that the last answer asked for.
            returns: As for `Pipeline.run`.
            **fields: Fields of `ChatRequest` for this turn only: `temperature=0`.

        Raises:
            BusyError: If a turn is under way.
            MisuseError: If calls of tools would stay unanswered, or results belong to none.
            ValueError: If nothing is said: an empty text, and nothing besides.
            StoreUnavailableError: If the turn could not be saved; it has been added all the same,
                `partial` is the answer, and `save` tries again.
            LamellaError: What went wrong in the call.
        """
        return Once(say(self._itself, content, returns, fields))

    @overload
    def say_stream(
        self, content: Said, /, *, returns: type[T] | Returns[T], **fields: Any
    ) -> AbstractAsyncContextManager[ChatResponse[T]]: ...

    @overload
    def say_stream(
        self, content: Said, /, *, returns: Mapping[str, Any], **fields: Any
    ) -> AbstractAsyncContextManager[ChatResponse[Any]]: ...

    @overload
    def say_stream(
        self, content: Said, /, *, returns: None = None, **fields: Any
    ) -> AbstractAsyncContextManager[ChatResponse]: ...

    def say_stream(self, content: Said, /, *, returns: Any = None, **fields: Any) -> Any:
        """Say something; a block in which the answer's events can be read.

        ``async with conversation.say_stream("...") as response:`` gives an open response. The turn
        is added as the answer ends; if the block is left before that, it is not.

        Args:
            content: As for `say`.
            returns: As for `Pipeline.run`.
            **fields: As for `say`.

        Raises:
            LamellaError: As `say` does.
        """
        return cast("Any", Saying(self._itself, content, returns, fields))

    @overload
    def say_sync(
        self, content: Said, /, *, returns: type[T] | Returns[T], **fields: Any
    ) -> ChatResponse[T]: ...

    @overload
    def say_sync(
        self, content: Said, /, *, returns: Mapping[str, Any], **fields: Any
    ) -> ChatResponse[Any]: ...

    @overload
    def say_sync(
        self, content: Said, /, *, returns: None = None, **fields: Any
    ) -> ChatResponse: ...

    def say_sync(self, content: Said, /, *, returns: Any = None, **fields: Any) -> Any:
        """`say` for synchronous code."""
        from lamella._bridge import bridge

        return bridge().call(say, self._itself, content, returns, fields)

    @overload
    def say_stream_sync(
        self, content: Said, /, *, returns: type[T] | Returns[T], **fields: Any
    ) -> AbstractContextManager[ChatResponse[T]]: ...

    @overload
    def say_stream_sync(
        self, content: Said, /, *, returns: Mapping[str, Any], **fields: Any
    ) -> AbstractContextManager[ChatResponse[Any]]: ...

    @overload
    def say_stream_sync(
        self, content: Said, /, *, returns: None = None, **fields: Any
    ) -> AbstractContextManager[ChatResponse]: ...

    def say_stream_sync(self, content: Said, /, *, returns: Any = None, **fields: Any) -> Any:
        """`say_stream` for synchronous code: `with` instead of `async with`."""
        from lamella._bridge import SyncStreaming

        return SyncStreaming(cast("Any", Saying(self._itself, content, returns, fields)))

    @overload
    def regenerate(
        self, *, returns: type[T] | Returns[T], **fields: Any
    ) -> Coroutine[Any, Any, ChatResponse[T]]: ...

    @overload
    def regenerate(
        self, *, returns: Mapping[str, Any], **fields: Any
    ) -> Coroutine[Any, Any, ChatResponse[Any]]: ...

    @overload
    def regenerate(
        self, *, returns: None = None, **fields: Any
    ) -> Coroutine[Any, Any, ChatResponse]: ...

    def regenerate(self, *, returns: Any = None, **fields: Any) -> Any:
        """Answer the last question anew, after `edit` as well; the line that was becomes a branch.

        Args:
            returns: As for `Pipeline.run`.
            **fields: Fields of `ChatRequest` for this turn only: `temperature=1`.

        Raises:
            MisuseError: If nothing has been said.
            LamellaError: As `say` does; then the answer that was there stays (with `keep_partial`,
                where something had come, as a branch).
        """
        return Once(say(self._itself, AGAIN, returns, fields))

    @overload
    def regenerate_stream(
        self, *, returns: type[T] | Returns[T], **fields: Any
    ) -> AbstractAsyncContextManager[ChatResponse[T]]: ...

    @overload
    def regenerate_stream(
        self, *, returns: Mapping[str, Any], **fields: Any
    ) -> AbstractAsyncContextManager[ChatResponse[Any]]: ...

    @overload
    def regenerate_stream(
        self, *, returns: None = None, **fields: Any
    ) -> AbstractAsyncContextManager[ChatResponse]: ...

    def regenerate_stream(self, *, returns: Any = None, **fields: Any) -> Any:
        """`regenerate` as a block, like `say_stream`."""
        return cast("Any", Saying(self._itself, AGAIN, returns, fields))

    @overload
    def regenerate_sync(
        self, *, returns: type[T] | Returns[T], **fields: Any
    ) -> ChatResponse[T]: ...

    @overload
    def regenerate_sync(
        self, *, returns: Mapping[str, Any], **fields: Any
    ) -> ChatResponse[Any]: ...

    @overload
    def regenerate_sync(self, *, returns: None = None, **fields: Any) -> ChatResponse: ...

    def regenerate_sync(self, *, returns: Any = None, **fields: Any) -> Any:
        """`regenerate` for synchronous code."""
        from lamella._bridge import bridge

        return bridge().call(say, self._itself, AGAIN, returns, fields)

    @overload
    def regenerate_stream_sync(
        self, *, returns: type[T] | Returns[T], **fields: Any
    ) -> AbstractContextManager[ChatResponse[T]]: ...

    @overload
    def regenerate_stream_sync(
        self, *, returns: Mapping[str, Any], **fields: Any
    ) -> AbstractContextManager[ChatResponse[Any]]: ...

    @overload
    def regenerate_stream_sync(
        self, *, returns: None = None, **fields: Any
    ) -> AbstractContextManager[ChatResponse]: ...

    def regenerate_stream_sync(self, *, returns: Any = None, **fields: Any) -> Any:
        """`regenerate_stream` for synchronous code."""
        from lamella._bridge import SyncStreaming

        return SyncStreaming(cast("Any", Saying(self._itself, AGAIN, returns, fields)))

    @overload
    def resume(
        self,
        *,
        approvals: Iterable[str] = (),
        declined: Declined = (),
        returns: type[T] | Returns[T],
        **fields: Any,
    ) -> Coroutine[Any, Any, ChatResponse[T]]: ...

    @overload
    def resume(
        self,
        *,
        approvals: Iterable[str] = (),
        declined: Declined = (),
        returns: Mapping[str, Any],
        **fields: Any,
    ) -> Coroutine[Any, Any, ChatResponse[Any]]: ...

    @overload
    def resume(
        self,
        *,
        approvals: Iterable[str] = (),
        declined: Declined = (),
        returns: None = None,
        **fields: Any,
    ) -> Coroutine[Any, Any, ChatResponse]: ...

    def resume(
        self,
        *,
        approvals: Iterable[str] = (),
        declined: Declined = (),
        returns: Any = None,
        **fields: Any,
    ) -> Any:
        """Let the answer go on where it stopped; nothing new is said.

        For an answer that waits for somebody to agree to a call of a tool: `say` raised
        `ApprovalRequired`, and the conversation ends with the calls, also where it was loaded from
        a store. And for one that broke off and was kept (`keep_partial`): what tools did stays,
        half words at its end are not sent, and are replaced by the new ones once those have ended
        well (the line that was becomes a branch).

        Args:
            approvals: The ids of what was agreed to, out of `error.calls`. Each is good for one
                call.
            declined: The ids of what was not agreed to; or, by each id, what the model is told
                (None says that it was not approved). Calls are run once all that ask are decided.
            returns: As for `Pipeline.run`.
            **fields: Fields of `ChatRequest` for this turn only.

        Raises:
            ApprovalRequired: If somebody has to decide about more.
            MisuseError: If the conversation ends with a whole answer, or is empty; or if an id is
                both approved and declined.
            TypeError: If `approvals` or `declined` is one text, or `declined` has no words.
            LamellaError: As `say` does.
        """
        return Once(say(self._itself, GoOn(approvals, declined), returns, fields))

    @overload
    def resume_stream(
        self,
        *,
        approvals: Iterable[str] = (),
        declined: Declined = (),
        returns: type[T] | Returns[T],
        **fields: Any,
    ) -> AbstractAsyncContextManager[ChatResponse[T]]: ...

    @overload
    def resume_stream(
        self,
        *,
        approvals: Iterable[str] = (),
        declined: Declined = (),
        returns: Mapping[str, Any],
        **fields: Any,
    ) -> AbstractAsyncContextManager[ChatResponse[Any]]: ...

    @overload
    def resume_stream(
        self,
        *,
        approvals: Iterable[str] = (),
        declined: Declined = (),
        returns: None = None,
        **fields: Any,
    ) -> AbstractAsyncContextManager[ChatResponse]: ...

    def resume_stream(
        self,
        *,
        approvals: Iterable[str] = (),
        declined: Declined = (),
        returns: Any = None,
        **fields: Any,
    ) -> Any:
        """`resume` as a block, like `say_stream`."""
        return cast("Any", Saying(self._itself, GoOn(approvals, declined), returns, fields))

    @overload
    def resume_sync(
        self,
        *,
        approvals: Iterable[str] = (),
        declined: Declined = (),
        returns: type[T] | Returns[T],
        **fields: Any,
    ) -> ChatResponse[T]: ...

    @overload
    def resume_sync(
        self,
        *,
        approvals: Iterable[str] = (),
        declined: Declined = (),
        returns: Mapping[str, Any],
        **fields: Any,
    ) -> ChatResponse[Any]: ...

    @overload
    def resume_sync(
        self,
        *,
        approvals: Iterable[str] = (),
        declined: Declined = (),
        returns: None = None,
        **fields: Any,
    ) -> ChatResponse: ...

    def resume_sync(
        self,
        *,
        approvals: Iterable[str] = (),
        declined: Declined = (),
        returns: Any = None,
        **fields: Any,
    ) -> Any:
        """`resume` for synchronous code."""
        from lamella._bridge import bridge

        return bridge().call(say, self._itself, GoOn(approvals, declined), returns, fields)

    @overload
    def resume_stream_sync(
        self,
        *,
        approvals: Iterable[str] = (),
        declined: Declined = (),
        returns: type[T] | Returns[T],
        **fields: Any,
    ) -> AbstractContextManager[ChatResponse[T]]: ...

    @overload
    def resume_stream_sync(
        self,
        *,
        approvals: Iterable[str] = (),
        declined: Declined = (),
        returns: Mapping[str, Any],
        **fields: Any,
    ) -> AbstractContextManager[ChatResponse[Any]]: ...

    @overload
    def resume_stream_sync(
        self,
        *,
        approvals: Iterable[str] = (),
        declined: Declined = (),
        returns: None = None,
        **fields: Any,
    ) -> AbstractContextManager[ChatResponse]: ...

    def resume_stream_sync(
        self,
        *,
        approvals: Iterable[str] = (),
        declined: Declined = (),
        returns: Any = None,
        **fields: Any,
    ) -> Any:
        """`resume_stream` for synchronous code."""
        from lamella._bridge import SyncStreaming

        return SyncStreaming(
            cast("Any", Saying(self._itself, GoOn(approvals, declined), returns, fields))
        )
