"""Reading an answer as values of a type, while it comes and when it is complete.

How text becomes a value is a layer's business: it gives the answer a `ValueReader`. What is here is
the reading itself, which is the same for every layer, streamed or not, with and without `await`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

from lamella._errors import ConfigurationError
from lamella._events import Event

if TYPE_CHECKING:
    from lamella._chat import ChatResponse

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class ValueDecoder(Protocol[T_co]):
    """One reader's way through the events of an answer."""

    def feed(self, event: Event, /) -> Iterable[T_co]:
        """The values that are there now and were not before: as a rule none or one."""
        ...


class ValueReader(Protocol[T_co]):
    """What turns an answer into values; a layer gives it with `response.read_values_by(reader)`."""

    @property
    def value(self) -> T_co:
        """What the complete answer amounts to."""
        ...

    def begin(self) -> ValueDecoder[T_co]:
        """Start at the first event; each who reads gets one of their own."""
        ...


class Values(Generic[T]):
    """The values of an answer as they come: `async for` anywhere, `for` in synchronous code.

    An answer that breaks off raises its error here, as it does where events are read.
    """

    __slots__ = ("_decoder", "_events", "_response", "_steps", "_waiting")

    def __init__(
        self, response: ChatResponse[object], begin: Callable[[], ValueDecoder[T]]
    ) -> None:
        self._response = response
        self._decoder = begin()
        self._events: AsyncIterator[Event] | None = None
        self._steps: Iterator[Event] | None = None
        self._waiting: deque[T] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._events is None:
            self._events = aiter(self._response)
        while not self._waiting:
            self._waiting.extend(self._decoder.feed(await anext(self._events)))
        return self._waiting.popleft()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        if self._steps is None:
            self._steps = iter(self._response)
        while not self._waiting:
            self._waiting.extend(self._decoder.feed(next(self._steps)))
        return self._waiting.popleft()


def no_values() -> ConfigurationError:
    """The error of an answer that was not asked for as values."""
    msg = "This answer has no values: it was not asked for as a type."
    return ConfigurationError(
        msg,
        hint="Write pipeline.stream(request, returns=Person), with Structured() among the layers.",
    )
