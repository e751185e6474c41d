"""What a conformance check runs in: the subject in a stack of its own, with books on both sides."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Literal, TypeVar

import anyio
import attrs

from lamella._chat import ChatRequest
from lamella._embeddings import EmbeddingRequest, EmbeddingResponse
from lamella._ending import Ending, ending
from lamella._events import Event, Finish, TextDelta, Turn, UsageReport
from lamella._handlers import Layer
from lamella._layers import middleware
from lamella._moderation import ModerationRequest, ModerationResponse
from lamella._pipeline import Pipeline
from lamella._ports import Ports
from lamella._requests import Request
from lamella._responses import Response
from lamella._token_counts import TokenCountRequest, TokenCountResponse
from lamella._usage import Usage
from lamella.testing._scripted import Scripted, Step

T = TypeVar("T")

TEXT = 'Grüße, Ada! Write to ada@example.com, or call +44 20 7946 0958. {"a": [1, 2]} ✂️ The end.'
"""What the transport says: letters beyond ASCII, addresses, brackets, and a cluster of two."""

USAGE = Usage(uncached_input=11, text_output=7)


def expect(condition: object, what: str) -> None:
    """Raise an AssertionError unless the condition holds."""
    if not condition:
        raise AssertionError(what)


def pieces(text: str, size: int) -> list[Event]:
    """A good answer in pieces of so many characters."""
    cut = [TextDelta(text[start : start + size]) for start in range(0, len(text), size)]
    return [*cut, UsageReport(USAGE), Finish("stop")]


def plain(value: Any) -> Any:
    """A value taken apart, all the way down, so that a later change of it can be seen."""
    kind: Any = value.__class__
    parts = _parts(kind)
    if parts == "values":
        return {key: plain(item) for key, item in value.items()}
    if parts == "items":
        return [plain(item) for item in value]
    if parts is None:
        return value
    return kind.__name__, {name: plain(getattr(value, name)) for name in parts}


@lru_cache(maxsize=256)
def _parts(kind: type[Any]) -> Literal["values", "items"] | tuple[str, ...] | None:
    """What the values of a class are taken apart into: its fields, or what it holds, if any."""
    if issubclass(kind, Mapping):
        return "values"
    if issubclass(kind, list | tuple):
        return "items"
    if not attrs.has(kind):
        return None
    return tuple(sorted({field.name for field in attrs.fields(kind)} - {"context", "target"}))


def well_formed(events: Sequence[Event]) -> None:
    """Check what holds of the events of every good answer."""
    finishes = [index for index, event in enumerate(events) if type(event) is Finish]
    expect(finishes == [len(events) - 1], f"`Finish` comes once, and last; it came at {finishes}.")
    turns = sum(type(event) is Turn for event in events)
    reports = sum(type(event) is UsageReport for event in events)
    expect(reports <= 1 + turns, f"Usage is reported once for a turn at most; it was {reports}.")


def _data(error: BaseException) -> dict[str, Any]:
    """What an error carries, to see whether somebody writes to it."""
    return {name: value for name, value in vars(error).items() if name != "__notes__"}


class Books:
    """Accounts for everything that passes one place of the stack."""

    def __init__(self) -> None:
        self.requests: list[Request[Any]] = []
        self.endings: list[Ending] = []
        self._seen: list[tuple[Request[Any], Any]] = []
        self._errors: list[tuple[BaseException, dict[str, Any]]] = []

    async def __call__(self, request: Any, call_next: Any) -> Any:
        """Pass a request on, and be told of its end."""
        self.requests.append(request)
        self._seen.append((request, plain(request)))
        return await ending(call_next, request, self._ended)

    def _ended(self, end: Ending) -> None:
        self.endings.append(end)
        if end.error is not None:
            self._errors.append((end.error, _data(end.error)))

    def settled(self, place: str) -> None:
        """Check that each request had one ending, and is what it was."""
        asked, told = len(self.requests), len(self.endings)
        expect(asked == told, f"{place} of the layer {asked} calls had {told} endings.")
        for request, before in self._seen:
            expect(
                plain(request) == before,
                f"A request is not written to, nested JSON included; one {place.lower()} of the "
                "layer has changed.",
            )
        for error, data in self._errors:
            expect(_data(error) == data, f"An error is never mutated; {error!r} was.")


@middleware(phase="wire", name="conformance_inside")
class _WireBooks(Books):
    """The same inside the attempt."""


@attrs.frozen
class Subject:
    """What is checked, and how.

    Attributes:
        make: Makes a new layer.
        request: What is asked in most checks.
        stack: Puts the layer among others that it needs.
        ports: Makes the ports of a pipeline.
        settled: The caller's own check that nothing is left.
    """

    make: Callable[[], Layer]
    request: Request[Any]
    stack: Callable[[Layer], Sequence[Layer]]
    ports: Callable[[], Ports]
    settled: Callable[[Pipeline], Awaitable[object] | object] | None = None

    @property
    def answer(self) -> Step:
        """What the transport answers in most checks."""
        return self.answer_in(9)

    def answer_in(self, size: int) -> Step:
        """The same in pieces of so many characters, if it is text."""
        if isinstance(self.request, EmbeddingRequest):
            vectors = [[float(index), 1.0] for index, _ in enumerate(self.request.inputs)]
            return EmbeddingResponse.of(vectors, usage=USAGE)
        if isinstance(self.request, TokenCountRequest):
            return TokenCountResponse.of(9)
        if isinstance(self.request, ModerationRequest):
            return ModerationResponse.of([{"violence": 0.1} for _ in self.request.inputs])
        return pieces(TEXT, size)


class World:
    """A subject in a pipeline, between books, around a script.

    Args:
        subject: What is checked.
        script: What the transport answers, again and again.
        outside: Layers outside of all.
        inside: Layers between the subject and the transport.
        layer: The subject's layer, if it is not to be a new one.
    """

    def __init__(
        self,
        subject: Subject,
        script: Sequence[Step] | None = None,
        *,
        outside: Sequence[Any] = (),
        inside: Sequence[Any] = (),
        layer: Any = None,
    ) -> None:
        self.subject = subject
        self.layer = subject.make() if layer is None else layer
        self.script = [subject.answer] if script is None else list(script)
        self._script_before = plain(self.script)
        self.transport = Scripted(self.script, repeat=True, delay=0.02, gap=0.001)
        self.outer, self.inner = Books(), _WireBooks()
        layers: list[Any] = [self.outer, *outside, *subject.stack(self.layer), *inside, self.inner]
        self.pipeline = Pipeline(layers, self.transport, ports=subject.ports())

    async def call(self, *, stream: bool, request: Request[Any] | None = None) -> Response:
        """Make one call and read it to its end; its complete response, checked for its shape."""
        asked = self.subject.request if request is None else request
        if stream:
            async with self.pipeline.stream(asked) as opened:
                response: Response = await opened.collect()
        else:
            response = await self.pipeline.run(asked)
        self.shape(asked, response)
        return response

    def shape(self, request: Request[Any], response: Response) -> None:
        """Check what holds of every good answer."""
        kind = request.response_type
        expect(
            isinstance(response, kind),
            f"A {type(request).__name__} is answered by {kind.__name__}, not by "
            f"{type(response).__name__}.",
        )
        expect(response.complete, f"A collected answer is complete, not {response.outcome}.")
        well_formed(response.events)

    async def settle(self) -> None:
        """Check that nothing is left, then close."""
        await eventually(self._nothing_open)
        self.outer.settled("Outside")
        self.inner.settled("Inside")
        expect(
            plain(self.script) == self._script_before,
            "Events are not written to, nested JSON included; one has changed.",
        )
        for trace in {id(r.context.trace): r.context.trace for r in self.outer.requests}.values():
            expect(
                all(attempt.outcome is not None for attempt in trace.attempts),
                "Every attempt of a finished call has ended.",
            )
            expect(
                not any(note.name == "leak" for note in trace.notes),
                "Who receives an open answer and does not return it closes it; the net had to.",
            )
        settled = self.subject.settled
        if settled is not None:
            await eventually(partial(settled, self.pipeline))
        await self.pipeline.aclose()

    async def _nothing_open(self) -> None:
        left = self.transport.open_sources
        expect(left == 0, f"What a call opened is closed 0.1 s after it; {left} sources are open.")
        running = (await self.pipeline.health()).running
        expect(running == 0, f"A call that is over is over; {running} are still counted.")


async def eventually(check: Callable[[], Awaitable[object] | object]) -> None:
    """Run a check until it holds; after 0.1 s what it raises counts."""
    for wait in (0.0, 0.005, 0.02, 0.075, None):
        try:
            found = check()
            if inspect.isawaitable(found):
                await found
            return
        except AssertionError:
            if wait is None:
                raise
            await anyio.sleep(wait)


async def caught(function: Callable[[], Awaitable[T]]) -> T | BaseException:
    """What an async function returns or raises; cancellation passes."""
    try:
        return await function()
    except anyio.get_cancelled_exc_class():
        raise
    except BaseException as error:  # noqa: BLE001 - it is what the check is about
        return error


def no_group(error: BaseException) -> None:
    """Check that an error is a single one."""
    expect(
        not isinstance(error, BaseExceptionGroup),
        f"No ExceptionGroup leaves a layer; {error!r} did.",
    )


def chat(request: Request[Any]) -> bool:
    """Whether a request is one for chat."""
    return isinstance(request, ChatRequest)


def echo(request: Any) -> Step:
    """Answer with what was asked."""
    return f"You said: {request.messages[-1].text}"
