"""The embedded provider: no network, no key, and the same answer each time.

It is the default transport, so that a pipeline answers before anything is configured, and a test
needs no server. `lamella.testing.MockServer` says the same over HTTP.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

import anyio
import anyio.lowlevel
import attrs

from lamella._begin import begin
from lamella._chat import ChatRequest
from lamella._embeddings import EmbeddingRequest
from lamella._errors import ClosedError, ConfigurationError, UnsupportedError
from lamella._events import Event
from lamella._mock_answers import Answer, chat_events, count_events, embedding_events
from lamella._mock_moderation import MODERATION_MODEL, judgements
from lamella._mock_rejections import Rejection
from lamella._mock_tokens import Draw
from lamella._moderation import ModerationRequest
from lamella._options import number, seconds
from lamella._requests import Request
from lamella._responses import Head, Response
from lamella._token_counts import TokenCountRequest
from lamella.transports._mock_faults import before, broken, must_be_possible, pause, status_answer

if TYPE_CHECKING:
    from lamella.testing._mock_faults import MockFaults, Script, Steps

R = TypeVar("R", bound=Response)

_LIKE: Final[Mapping[str, str]] = {
    "reasoning": "mock-reasoning",
    "embed": "mock-embedding",
    "moderation": MODERATION_MODEL,
}
"""Whose card a model has, by a word in its name; any other has that of `mock`."""

_DEFAULTS = {"embeddings": "mock-embedding", "moderation": MODERATION_MODEL}
"""The models of requests that name none, where it is not the one for chat."""


def _script(mock: Mock) -> Script | None:
    if mock.script is None and mock.faults is None:
        return None
    from lamella.testing._mock_faults import Script

    try:
        return Script(mock.script, mock.faults)
    except ValueError as error:
        raise ConfigurationError(f"Mock: {error}") from None


@attrs.frozen(eq=False, kw_only=True)
class Mock:
    """Answers chat, embeddings, moderation and token counts itself, and fails as told.

    The model's name may be anything; one with `reasoning` in it thinks first. Faults may also stand
    in the name, after a semicolon: `model="mock;status=503"`.

    Attributes:
        model: The model of requests that name none.
        latency: Seconds, or a timedelta, until the first event of an answer; 0 or more.
        latency_per_token: The same before each further event.
        script: What goes wrong with the first request, the second, and so on: a list of texts such
            as `"status=429; retry-after=2"`, None being a request without faults; one text with
            bars between the steps; or a `Plan`. What is left of the verbs without a network is
            listed in the guide; others are refused.
        faults: What goes wrong with every request after the script.
        answer: Gives the answer instead: a function of the request that returns text, a message, a
            response, or None to leave it to the embedded provider.

    Raises:
        ConfigurationError: If an option is out of range, or a text is not that of faults.
    """

    name: ClassVar[str] = "mock"
    default_models: ClassVar[Mapping[str, str]] = _DEFAULTS

    model: str = "mock"
    latency: float = attrs.field(default=0.0, converter=seconds, validator=number(0))
    latency_per_token: float = attrs.field(default=0.0, converter=seconds, validator=number(0))
    script: Steps | None = None
    faults: Steps | None = None
    answer: Answer | None = None
    _steps: Script | None = attrs.field(
        init=False, repr=False, default=attrs.Factory(_script, takes_self=True)
    )

    async def __call__(self, request: Request[R], /) -> R:
        """Answer one request.

        Raises:
            LamellaError: What the script says, as a transport over a network would raise it.
            UnsupportedError: If the operation is none of these.
            ConfigurationError: If the script uses a verb that has no meaning without a network.
        """
        model, faults = self._aimed(request)
        ports = request.context.ports
        request_id = f"req_{ports.new_id()}"
        attempt = request.context.attempt
        if attempt is not None:
            attempt.sent = True
            attempt.request_id = request_id
        told: Request[Any] = request.evolve(model=model)
        if faults is not None:
            await before(faults, ports, request_id)
        try:
            events = self._events(told)
        except Rejection as rejection:
            raise status_answer(rejection.status, rejection.body, {}, request_id) from None
        source = MockSource(
            broken(events, faults), ports.sleep, pace=self._pace(faults), eager=not request.stream
        )
        identity = Draw.of(request_id).word("answer")
        head = Head(
            model=model,
            provider=self.name,
            request_id=request_id,
            id=f"chatcmpl-{identity}" if isinstance(told, ChatRequest) else None,
        )
        return await begin(request, source, head)

    def card_name(self, model: str) -> str:
        """Whose model card holds for a model of any name: it behaves, and is billed, as that."""
        name = model.partition(";")[0]
        if name.startswith("mock"):
            return name
        return next((card for word, card in _LIKE.items() if word in name), "mock")

    def _aimed(self, request: Request[Any]) -> tuple[str, MockFaults | None]:
        """The model that is meant, and what goes wrong."""
        default = _DEFAULTS.get(request.operation, self.model)
        model, semicolon, text = (request.model or default).partition(";")
        faults = self._steps.next() if self._steps is not None else None
        if semicolon:
            from lamella.testing._mock_faults import MockFaults

            try:
                faults = MockFaults.of(text)
            except ValueError as error:
                raise ConfigurationError(f"Mock, model {request.model!r}: {error}") from None
        if faults is not None:
            must_be_possible(faults)
        return model, faults

    def _events(self, request: Request[Any]) -> tuple[Event, ...]:
        if isinstance(request, ChatRequest):
            return chat_events(request, self.answer)
        if isinstance(request, EmbeddingRequest):
            return embedding_events(request)
        if isinstance(request, TokenCountRequest):
            return count_events(request)
        if isinstance(request, ModerationRequest):
            return judgements(request)
        msg = f"The mock provider cannot answer {request.operation or type(request).__name__!r}."
        raise UnsupportedError(
            msg,
            hint="It answers chat, embeddings, moderation and token counts.",
            provider=self.name,
        )

    def _pace(self, faults: MockFaults | None) -> Callable[[int], float]:
        """How long to wait before the event with a number."""
        latency, each = self.latency, self.latency_per_token
        stall_at = None if faults is None else faults.wire.stall_at
        stall = 0.0 if faults is None else faults.wire.stall

        def wait(place: int) -> float:
            return (each if place else latency) + (stall if place == stall_at else 0.0)

        return wait

    def health(self) -> bool:
        """It can always be reached."""
        return True


class MockSource:
    """Gives events at a pace; an exception among them is raised in its turn.

    Args:
        events: What to give.
        sleep: Waits for seconds.
        pace: Seconds to wait before the event with a number, from 0.
        eager: Whether other tasks get a turn only at the beginning and not before each event.
    """

    def __init__(
        self,
        events: Sequence[Event | Exception],
        sleep: Callable[[float], Awaitable[None]],
        *,
        pace: Callable[[int], float],
        eager: bool,
    ) -> None:
        self._events = events
        self._sleep = sleep
        self._pace = pace
        self._eager = eager
        self._next = 0
        self._scope: anyio.CancelScope | None = None
        self._closed = False

    async def __anext__(self) -> Event:
        """The next event."""
        place = self._next
        span = self._pace(place)
        if span > 0:
            await self._wait(span)
        elif place == 0 or not self._eager:
            await anyio.lowlevel.checkpoint()
        if self._closed:
            msg = "The mock provider's answer was closed while its next event was awaited."
            raise ClosedError(msg)
        if place == len(self._events):
            raise StopAsyncIteration
        self._next += 1
        event = self._events[place]
        if isinstance(event, Exception):
            raise event
        return event

    async def _wait(self, span: float) -> None:
        with anyio.CancelScope() as scope:
            self._scope = scope
            try:
                await pause(self._sleep, span)
            finally:
                self._scope = None

    async def aclose(self) -> None:
        """Wake a waiting read, and give nothing more."""
        self._closed = True
        if self._scope is not None:
            self._scope.cancel()
