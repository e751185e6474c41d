"""What `run` and `stream` hand out: each can be used once, and says so."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar

from lamella._errors import MisuseError

if TYPE_CHECKING:
    from lamella._pipeline import Pipeline
    from lamella._requests import Request
    from lamella._responses import Response

T_co = TypeVar("T_co", covariant=True)


class Once(Coroutine[Any, Any, T_co]):
    """A call that has been asked for; awaiting it a second time is an error that says so.

    Awaiting it costs nothing over the coroutine inside.
    """

    __slots__ = ("_coroutine", "_used")

    def __init__(self, coroutine: Coroutine[Any, Any, T_co]) -> None:
        self._coroutine = coroutine
        self._used = False

    def __await__(self) -> Generator[Any, Any, T_co]:
        if self._used:
            msg = "This call has already been awaited."
            hint = "Call pipeline.run(request) again for another answer; the request can be reused."
            raise MisuseError(msg, hint=hint)
        self._used = True
        return self._coroutine.__await__()

    def send(self, value: Any, /) -> Any:
        self._used = True
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()


class Block:
    """The base of what is entered with `async with`, and says so to who does anything else."""

    __slots__ = ()

    why: ClassVar[str]
    """That it is a block, and what for."""
    instead: ClassVar[str]
    """What to write."""

    def __aiter__(self) -> NoReturn:
        self._explain()

    def __await__(self) -> NoReturn:
        self._explain()

    def __iter__(self) -> NoReturn:
        self._explain()

    def _explain(self) -> NoReturn:
        raise MisuseError(self.why, hint=self.instead)


class Streaming(Block):
    """The block of a streamed call."""

    why = "pipeline.stream(...) is a block, so that leaving it closes the connection."
    instead = "Write `async with pipeline.stream(request) as response:` and iterate over response."

    __slots__ = ("_pipeline", "_request", "_response", "_returns", "_used")

    def __init__(self, pipeline: Pipeline, request: Request[Any], returns: Any) -> None:
        self._pipeline = pipeline
        self._request = request
        self._returns = returns
        self._response: Response | None = None
        self._used = False

    async def __aenter__(self) -> Any:
        if self._used:
            msg = "This stream has already been entered."
            raise MisuseError(msg, hint="Call pipeline.stream(request) again for another answer.")
        self._used = True
        self._response = await self._pipeline.enter_stream(self._request, self._returns)
        return self._response

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._response is not None:
            response, self._response = self._response, None
            await self._pipeline.leave_stream(response)

    def __del__(self) -> None:
        """The net under a block that was entered and dropped: leave it, on its own loop."""
        if self._response is not None:
            leave = partial(self._pipeline.leave_stream, self._response)
            loop = self._response.context.call.loop
            loop.call_soon(lambda: loop.spawn(leave, "lamella dropped stream"))
