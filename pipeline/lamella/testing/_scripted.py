"""A transport that answers from a script, and remembers what it was asked.

It goes through the same door as a real one, `begin`, with a source that knows whether it was closed.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar

import attrs

from lamella._begin import begin
from lamella._chat import ChatResponse
from lamella._errors import ClosedError, LamellaError
from lamella._events import Event, Finish, TextDelta
from lamella._limits import seconds
from lamella._messages import Message
from lamella._parts import ToolCall
from lamella._requests import Request
from lamella._responses import NO_HEAD, Head, Response
from lamella.testing._scripted_source import Item, ScriptedSource

R = TypeVar("R", bound=Response)


@attrs.frozen
class ScriptedAnswer:
    """One answer in every detail.

    Attributes:
        items: Its events in order. A number is a pause of so many seconds (`math.inf` never ends),
            text is a `TextDelta`, an exception is raised in that place. Without `Finish` at its
            end the answer breaks off.
        delay: Seconds until the head of the answer is there.
        gap: Seconds before each event.
        head: What is known of the answer besides its events.
    """

    items: tuple[Item, ...] = attrs.field(converter=tuple)
    delay: float = attrs.field(default=0.0, converter=lambda value: seconds(value) or 0.0)
    gap: float = attrs.field(default=0.0, converter=lambda value: seconds(value) or 0.0)
    head: Head = NO_HEAD


Step: TypeAlias = (
    "str | Message | ToolCall | Response | ScriptedAnswer | BaseException | type[BaseException]"
    " | Sequence[Item] | Callable[[Any], Any]"
)
"""What `Scripted` can be given for one request; see there."""


class ScriptExhausted(AssertionError):
    """Raised when a `Scripted` transport is asked more often than it has answers."""


class Scripted:
    """A transport that answers the first, the second ... request as its script says.

    A step of the script is one of:

    - text: a good answer, streamed word by word;
    - a `Message`, a `ToolCall`, or a complete response of any operation, whose events are played;
    - an exception, or its class: raised before anything is committed;
    - a list of events, pauses and exceptions, played as it stands; without a `Finish` at its end
      the answer breaks off there (see `ScriptedAnswer`, which also has delays);
    - a function, plain or async, that is called with the request and returns any of these.

    Args:
        script: One step for each request; a single step may be given without a list around it only
            if it is text, an exception or a response.
        repeat: Whether the script begins again when it is through.
        delay: Seconds until the head of an answer is there, on the ports' clock.
        gap: Seconds before each event.
        name: What the transport is called in traces.

    Attributes:
        requests: What it was asked, in order, as it arrived.
        sources: The source of each answer that it began.
        closed: Whether the pipeline has closed it.

    Raises:
        ValueError: If the script is empty, or a time is negative.
    """

    def __init__(
        self,
        script: Iterable[Step] | str | BaseException | Response,
        *,
        repeat: bool = False,
        delay: float = 0.0,
        gap: float = 0.0,
        name: str = "scripted",
    ) -> None:
        if isinstance(script, str | BaseException | Response):
            script = [script]
        self._steps: tuple[Step, ...] = tuple(script)
        if not self._steps:
            raise ValueError("Scripted: the script has no answer; give it one for each request.")
        self._repeat = repeat
        self._delay = seconds(delay) or 0.0
        self._gap = seconds(gap) or 0.0
        self.name = name
        self.requests: list[Request[Any]] = []
        self.sources: list[ScriptedSource] = []
        self.closed = False

    @property
    def open_sources(self) -> int:
        """How many answers it began have not been closed: 0 once all is over."""
        return sum(not source.closed for source in self.sources)

    @property
    def left(self) -> int:
        """How many answers of the script nobody has asked for yet."""
        return max(0, len(self._steps) - len(self.requests))

    async def __call__(self, request: Request[R], /) -> R:
        """Answer as the next step says.

        Raises:
            ScriptExhausted: If there is no next step.
            ClosedError: If it has been closed.
        """
        if self.closed:
            raise ClosedError(f"{self.name!r} was asked after it had been closed.")
        self.requests.append(request)
        step = self._next_step()
        while not isinstance(step, type) and callable(step) and not isinstance(step, Response):
            found = step(request)
            step = await found if inspect.isawaitable(found) else found
        answer = self._answer(step)
        attempt = request.context.attempt
        if attempt is not None:
            attempt.sent = True
        await request.context.ports.sleep(answer.delay)
        first = answer.items[0] if answer.items else None
        if not isinstance(step, ScriptedAnswer | list | tuple) and is_error(first):
            raise raised(first)
        source = ScriptedSource(answer.items, answer.gap, request.context.ports.sleep)
        self.sources.append(source)
        return await begin(request, source, answer.head)

    async def aclose(self) -> None:
        """Refuse further requests. A pipeline calls it when it closes."""
        self.closed = True

    def __repr__(self) -> str:
        return f"<Scripted {self.name!r}: {len(self.requests)} of {len(self._steps)} answered>"

    def _next_step(self) -> Step:
        index, count = len(self.requests) - 1, len(self._steps)
        if index >= count and not self._repeat:
            raise ScriptExhausted(
                f"{self.name!r} has a script of {count} and was asked {index + 1} times. Give it "
                "more answers, repeat=True, or find out who asks again."
            )
        return self._steps[index % count]

    def _answer(self, step: Any) -> ScriptedAnswer:
        if isinstance(step, ScriptedAnswer):
            return attrs.evolve(
                step, delay=step.delay or self._delay, gap=step.gap or self._gap
            )
        return ScriptedAnswer(_items(step), self._delay, self._gap, _head(step))
