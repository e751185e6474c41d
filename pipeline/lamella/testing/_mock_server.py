"""The embedded provider behind HTTP: many providers' APIs on the loopback, faults included."""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio
import anyio.abc
import attrs
from anyio.from_thread import start_blocking_portal

from lamella._mock_answers import Answer
from lamella._options import seconds
from lamella.testing._http_connection import Early
from lamella.testing._http_server import HTTPServer
from lamella.testing._mock_batches import MockBatches
from lamella.testing._mock_dialect import MockSettings
from lamella.testing._mock_dialects import mock_dialects
from lamella.testing._mock_faults import Script, Steps
from lamella.testing._mock_service import MockRequest, MockService

if TYPE_CHECKING:
    from lamella.testing._http_traffic import Disconnect

KEPT_REQUESTS = 1_000


def _not_negative(_: object, attribute: attrs.Attribute[Any], value: float) -> None:
    if not 0 <= value < float("inf"):
        raise ValueError(f"MockServer({attribute.name}={value!r}): it is seconds, 0 or more")


def _one_text(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, str):
        raise TypeError(
            f"MockServer({attribute.name}={'...' if attribute.name == 'keys' else value!r}): "
            "it is several; put the one into a list"
        )


@attrs.define(eq=False, kw_only=True)
class MockServer:
    """A provider on the loopback, for tests and for trying things out.

    It speaks the APIs of OpenAI, Azure, Anthropic, Google, Amazon Bedrock and Ollama, told apart by
    their addresses. Use it as ``async with MockServer() as server:`` and point a client to
    ``server.url`` (OpenAI's) or ``server.endpoint`` (all others'). What goes
    wrong with a request is said by the first of these that there is: a fault text in the model's
    name (``mock;status=503``), the header ``x-mock-fault``, a rule in `paths`, `script`, `faults`;
    ``ok`` says that nothing does. The text is that of `MockFaults`.

    Attributes:
        faults: What goes wrong with every request: a text. Several (a list, a text with bars, a
            `Plan`) come in turn, and then nothing more goes wrong.
        script: What goes wrong with the first request, the second, and so on, before `faults`.
        paths: What `faults` is, for requests whose path ends in the key:
            ``{"/embeddings": "status=503"}``.
        keys: The keys that are accepted; empty accepts everybody.
        models: The models that there are; None accepts any name.
        answer: Gives the answers instead of the embedded provider: a function of the request that
            returns text, a message, a response, or None to leave it to the provider.
        latency: Seconds, or a timedelta, until an answer begins; 0 or more.
        latency_per_token: The same before each further token.
        reasoning_field: Where the chat API puts a model's thinking; None leaves it out, as OpenAI's
            own does.
        batches: How OpenAI's batches go, and what goes wrong with them.
        host: The address to listen on.
        port: The port; 0 takes any free one, which stands here once it is started.
        tls: Makes it speak HTTPS.
        requests: The latest requests, oldest first, at most 1,000.

    Raises:
        ValueError: If a text is not that of faults, or a number is out of range.
        TypeError: If one text stands where several belong.
    """

    faults: Steps | None = None
    script: Steps | None = None
    paths: Mapping[str, Steps] = attrs.field(factory=dict[str, Steps])
    keys: Collection[str] = attrs.field(default=(), repr=False, validator=_one_text)
    models: Collection[str] | None = attrs.field(default=None, validator=_one_text)
    answer: Answer | None = None
    latency: float = attrs.field(default=0.0, converter=seconds, validator=_not_negative)
    latency_per_token: float = attrs.field(default=0.0, converter=seconds, validator=_not_negative)
    reasoning_field: str | None = "reasoning_content"
    batches: MockBatches = attrs.field(factory=MockBatches)
    host: str = "127.0.0.1"
    port: int = 0
    tls: ssl.SSLContext | None = attrs.field(default=None, repr=False)
    requests: deque[MockRequest] = attrs.field(init=False, repr=False)
    _http: HTTPServer = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.requests = deque(maxlen=KEPT_REQUESTS)
        service = MockService(
            script=Script(self.script, self.faults),
            rules={end: Script(faults=steps) for end, steps in self.paths.items()},
            latency=self.latency,
            dialects=mock_dialects(
                MockSettings(
                    keys=frozenset(self.keys),
                    models=self.models,
                    answer=self.answer,
                    latency_per_token=self.latency_per_token,
                    reasoning_field=self.reasoning_field,
                    batches=self.batches,
                )
            ),
            requests=self.requests,
            noted=self._changed,
        )
        self._http = HTTPServer(
            service.handle,
            host=self.host,
            port=self.port,
            tls=self.tls,
            early=Early(head=service.early),
        )

    def _changed(self) -> None:
        self._http.changed()

    # --- where it is and what it has seen ----------------------------------------------------

    @property
    def url(self) -> str:
        """The base URL for clients of OpenAI's API: ``http://127.0.0.1:50123/v1``."""
        return f"{self._http.url}/v1"

    @property
    def endpoint(self) -> str:
        """The endpoint for all other clients, which append paths of their own."""
        return self._http.url

    @property
    def connections(self) -> int:
        """How many connections have been accepted."""
        return self._http.connections

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return self._http.open_connections

    @property
    def replies(self) -> int:
        """How many replies have been sent as they were meant to be, faults included."""
        return self._http.replies

    @property
    def disconnects(self) -> deque[Disconnect]:
        """The latest clients that left before they had been served."""
        return self._http.disconnects

    async def until(self, predicate: Callable[[Self], object]) -> None:
        """Wait until the predicate is true of this server; asked after each change, never polled.

        Raises:
            RuntimeError: If the server has ended and it is not true.
        """
        await self._http.until(lambda _: predicate(self))

    # --- running -----------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Start listening."""
        await self._http.__aenter__()
        self.port = self._http.port
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the port and all connections; raise what `answer` raised."""
        await self._http.__aexit__(kind, error, traceback)

    async def serve_forever(
        self, *, task_status: anyio.abc.TaskStatus[MockServer] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled or closed.

        Args:
            task_status: Told the server once it listens, for ``await
                task_group.start(server.serve_forever)``.

        Raises:
            OSError: If the address cannot be listened on.
        """
        await self._http.serve_forever(task_status=_Started(self, task_status))

    async def aclose(self) -> None:
        """Close the port and all connections; any task may, repeatedly."""
        await self._http.aclose()

    def start_in_thread(self) -> ThreadedMockServer:
        """Start it on an event loop in a thread of its own, for code that is not asynchronous.

        It serves until ``stop()``, or to the end of ``with server.start_in_thread():``.
        """
        return ThreadedMockServer(self)


class _Started(anyio.abc.TaskStatus[HTTPServer]):
    """Tells who started a mock server that it listens."""

    def __init__(self, server: MockServer, status: anyio.abc.TaskStatus[MockServer]) -> None:
        self._server = server
        self._status = status

    def started(self, value: HTTPServer | None = None) -> None:
        """The HTTP server listens."""
        if value is not None:
            self._server.port = value.port
        self._status.started(self._server)


class ThreadedMockServer:
    """A mock server that runs in a thread of its own.

    Attributes:
        server: The server itself; its `requests` may be read from any thread.
    """

    def __init__(self, server: MockServer) -> None:
        self.server = server
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal())
            stack.enter_context(portal.wrap_async_context_manager(server))
            self._stack = stack.pop_all()

    @property
    def url(self) -> str:
        """The base URL for clients of OpenAI's API."""
        return self.server.url

    @property
    def endpoint(self) -> str:
        """The endpoint for all other clients."""
        return self.server.endpoint

    @property
    def requests(self) -> deque[MockRequest]:
        """The latest requests."""
        return self.server.requests

    def stop(self) -> None:
        """Close the port, all connections and the thread. Idempotent."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
