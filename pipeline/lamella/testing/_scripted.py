"""A transport that answers from a script, and remembers what it was asked.

It goes through the same door as a real one, `begin`, with sources that know whether they were
closed.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar

import attrs

from lamella._begin import begin
from lamella._chat import ChatResponse
from lamella._errors import ClosedError
from lamella._events import Finish, TextDelta
from lamella._limits import Seconds, seconds
from lamella._messages import Message
from lamella._parts import ToolCall
from lamella._requests import Request
from lamella._responses import NO_HEAD, Head, Response
from lamella.testing._scripted_source import Item, ScriptedSource, raised

R = TypeVar("R", bound=Response)


def _pieces(items: Iterable[Item]) -> tuple[Item, ...]:
    return tuple(items)


def _time(value: Seconds) -> float:
    return seconds(value) or 0.0


@attrs.frozen
class ScriptedAnswer:
    """One answer in every detail.

    Attributes:
        items: Its events in order. Text is a `TextDelta`, a number is a pause of so many seconds
            (`math.inf` never ends), an exception is raised in that place. Without a `Finish` at
            its end the answer breaks off.
        delay: Seconds until the head of the answer is there; 0 or more.
        gap: Seconds before each event; 0 or more.
        head: What is known of the answer besides its events.
    """

    items: tuple[Item, ...] = attrs.field(converter=_pieces)
    delay: float = attrs.field(default=0.0, converter=_time)
    gap: float = attrs.field(default=0.0, converter=_time)
    head: Head = NO_HEAD


Step: TypeAlias = (
    str
    | Message
    | ToolCall
    | Response
    | ScriptedAnswer
    | BaseException
    | type[BaseException]
    | Sequence[Item]
    | Callable[[Any], Any]
)
"""What `Scripted` can be given for one request; see there."""


class ScriptExhaustedError(AssertionError):
    """Raised when a `Scripted` transport is asked more often than it has answers."""


class Scripted:
    """A transport that answers the first, the second ... request as its script says.

    A step of the script is one of:

    - text: a good answer, streamed word by word;
    - a `Message`, a `ToolCall`, or a complete response of any operation: its events are played;
    - an exception, or its class: raised before anything is committed;
    - a list of events, pauses and exceptions: played as it stands, so that without a `Finish` at
      its end the answer breaks off there;
    - a `ScriptedAnswer`: such a list with delays and a head;
    - a function, plain or async, that is called with the request and returns any of these.

    Args:
        script: One step for each request.
        repeat: Whether the script begins again when it is through.
        delay: Seconds until the head of an answer is there, on the ports' clock; 0 or more.
        gap: Seconds before each event; 0 or more.
        name: What the transport is called in traces.

    Attributes:
        requests: What it was asked, in order, as it arrived.
        sources: The source of each answer that it began.
        closed: Whether the pipeline has closed it.

    Raises:
        TypeError: If the script is a single step instead of a list.
        ValueError: If the script is empty, or a time is negative.
    """

    def __init__(
        self,
        script: Iterable[Step],
        *,
        repeat: bool = False,
        delay: Seconds = 0.0,
        gap: Seconds = 0.0,
        name: str = "scripted",
    ) -> None:
        if isinstance(script, str | BaseException | Response):
            raise TypeError(f"Scripted takes a list of answers: write Scripted([{script!r}]).")
        self._steps: tuple[Step, ...] = tuple(script)
        if not self._steps:
            raise ValueError("Scripted: the script has no answer; give it one for each request.")
        self._repeat = repeat
        self._delay = _time(delay)
        self._gap = _time(gap)
        self.name = name
        self.requests: list[Request[Any]] = []
        self.sources: list[ScriptedSource] = []
        self.closed = False

    @property
    def open_sources(self) -> int:
        """How many answers that it began are not closed; 0 once all is over."""
        return sum(not source.closed for source in self.sources)

    @property
    def left(self) -> int:
        """How many answers of the script nobody has asked for yet."""
        return max(0, len(self._steps) - len(self.requests))

    async def __call__(self, request: Request[R], /) -> R:
        """Answer as the next step says.

        Raises:
            ScriptExhaustedError: If there is no next step.
            ClosedError: If it has been closed.
        """
        if self.closed:
            raise ClosedError(f"{self.name!r} was asked after it had been closed.")
        self.requests.append(request)
        step: Any = self._next_step()
        while callable(step) and not isinstance(step, type):
            step = step(request)
            if inspect.isawaitable(step):
                step = await step
        answer = self._answer(step)
        if request.context.attempt is not None:
            request.context.attempt.sent = True
        sleep = request.context.ports.sleep
        await sleep(answer.delay)
        if isinstance(step, BaseException | type):
            raise raised(step)
        source = ScriptedSource(answer.items, answer.gap, sleep)
        self.sources.append(source)
        return await begin(request, source, answer.head)

    async def aclose(self) -> None:
        """Refuse further requests. A pipeline calls it when it closes."""
        self.closed = True

    def __repr__(self) -> str:
        return f"<Scripted {self.name!r}: asked {len(self.requests)}, has {len(self._steps)}>"

    def _next_step(self) -> Step:
        index, count = len(self.requests) - 1, len(self._steps)
        if index >= count and not self._repeat:
            raise ScriptExhaustedError(
                f"{self.name!r} has {count} answers and was asked {index + 1} times. Give it more "
                "answers, or repeat=True, or find out which layer asks again."
            )
        return self._steps[index % count]

    def _answer(self, step: Any) -> ScriptedAnswer:
        if isinstance(step, ScriptedAnswer):
            return attrs.evolve(step, delay=step.delay or self._delay, gap=step.gap or self._gap)
        head = step.head if isinstance(step, Response) else NO_HEAD
        return ScriptedAnswer(_items(step), self._delay, self._gap, head)


def _items(step: Any) -> Sequence[Item]:
    if isinstance(step, str):
        words = re.findall(r"\s*\S+\s*?(?=\s|$)|\s+", step)
        return [*map(TextDelta, words), Finish("stop")]
    if isinstance(step, Message):
        step = ChatResponse.of(step)
    elif isinstance(step, ToolCall):
        step = ChatResponse.of([step])
    if isinstance(step, Response):
        if step.open:
            raise ValueError("Scripted: an open response cannot be played; collect it first.")
        return step.events
    if isinstance(step, list | tuple):
        return step  # pyright: ignore[reportUnknownVariableType]
    if isinstance(step, BaseException | type):
        return ()
    raise TypeError(
        f"Scripted: {step!r} is no answer. Use text, a Message, a ToolCall, a response, an "
        "exception, a list of events, a ScriptedAnswer, or a function that returns one of these."
    )
