"""Where Prometheus scrapes: a server of its own, an ASGI application, or the plain text."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias, cast
from wsgiref.simple_server import WSGIServer

import prometheus_client
from prometheus_client.exposition import choose_encoder

from lamella import ConfigurationError
from lamella._ports import run_in_thread
from lamella_prometheus._pages import scraped

if TYPE_CHECKING:
    from threading import Thread  # noqa: TID251 - only its name: the client starts it

    from prometheus_client.registry import CollectorRegistry

ASGIApplication: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]


class MetricsServer:
    """A server of metrics in a thread of its own; a context manager that closes it.

    Attributes:
        host: Where it listens.
        port: On which port.
    """

    def __init__(self, server: WSGIServer, thread: Thread, host: str) -> None:
        self.host = host
        self.port = int(server.server_port)
        self._server = server
        self._thread = thread

    def __repr__(self) -> str:
        return f"<MetricsServer {self.url}>"

    @property
    def url(self) -> str:
        """What to scrape."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/metrics"

    def close(self) -> None:
        """Stop listening. Waits up to half a second for the thread; closing again does nothing."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def serve_metrics(
    port: int = 9464, host: str = "127.0.0.1", *, registry: CollectorRegistry | None = None
) -> MetricsServer:
    """Serve metrics over HTTP, in a daemon thread that ends with the process.

    The client's own server answers; whatever the path, it gives the metrics, in OpenMetrics format
    to whom asks for that. It has no access control: give it an address that only Prometheus
    reaches. Of several processes that share a directory, one is enough.

    Args:
        port: Where to listen, 0 to 65535; 0 takes a free one.
        host: On which address. By default only this machine reaches it.
        registry: What to serve; None is the client's default registry.

    Raises:
        ConfigurationError: If nothing can listen there.
    """
    try:
        server, thread = prometheus_client.start_http_server(port, host, scraped(registry))
    except (OSError, OverflowError, TypeError) as error:
        raise ConfigurationError(
            f"serve_metrics(port={port!r}, host={host!r}): nothing can listen there ({error}).",
            hint="Take another port, or 0 for any; an address must be one of this machine.",
        ) from error
    return MetricsServer(server, thread, host)


def metrics_app(registry: CollectorRegistry | None = None) -> ASGIApplication:
    """An ASGI application that gives the metrics, to be mounted: `app.mount("/metrics", ...)`.

    The text is made in a worker thread: of thousands of series that takes longer than an event
    loop may stand still.

    Args:
        registry: What to give; None is the client's default registry.
    """
    client = cast("Any", prometheus_client)  # its types are incomplete
    page = client.make_wsgi_app(scraped(registry))

    async def app(scope: Any, _: Any, send: Any) -> None:
        if scope["type"] != "http":
            msg = f"metrics_app() answers HTTP, not {scope['type']!r}: mount it at a path."
            raise ConfigurationError(msg)
        status, headers, body = await run_in_thread(_answered, page, scope)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def _answered(page: Any, scope: Any) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """What the client's application answers: status, headers, body. Blocks."""
    asked: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        asked.setdefault(name.lower(), []).append(value)
    environ = {
        "REQUEST_METHOD": scope.get("method", "GET"),
        "PATH_INFO": "/metrics",
        "QUERY_STRING": scope.get("query_string", b"").decode("latin-1"),
    }
    for name in (b"accept", b"accept-encoding"):
        if name in asked:
            variable = f"HTTP_{name.decode().upper().replace('-', '_')}"
            environ[variable] = b",".join(asked[name]).decode("latin-1")
    began: list[tuple[str, list[tuple[str, str]]]] = []

    def start(status: str, headers: list[tuple[str, str]]) -> None:
        began.append((status, headers))

    body = b"".join(page(environ, start))
    ((status, headers),) = began
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers]
    return int(status.split()[0]), pairs, body


def metrics_text(
    registry: CollectorRegistry | None = None, *, accept: str = ""
) -> tuple[bytes, str]:
    """The metrics as text, for whatever serves a program's pages.

    Args:
        registry: What to give; None is the client's default registry.
        accept: The `Accept` header of who scrapes; OpenMetrics for whom asks for it.

    Returns:
        The body of an answer, and its content type.
    """
    encode, kind = choose_encoder(accept)
    return encode(scraped(registry)), kind
