"""What transports over HTTP have in common: options, one client, opening late, closing once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import anyio
import attrs

from lamella._errors import ClosedError, ConfigurationError
from lamella._fork_locks import fork_safe_lock
from lamella._loops import PerLoop
from lamella._nothing import NOTHING
from lamella._ports import run_in_thread
from lamella._requests import Request
from lamella._responses import Response
from lamella.transports._dialect import DialectOptions
from lamella.transports._exchange import Authorize
from lamella.transports._headers import can_be_deadline_header, can_be_headers
from lamella.transports._http import (
    DEFAULT_HTTP_OPTIONS,
    HTTPClient,
    HTTPOptions,
    http_options,
)

if TYPE_CHECKING:
    from lamella._card_book import CardBook
    from lamella._health import PartHealth
    from lamella._ports import ThreadPort
    from lamella._prompt_caching import PromptCaching
    from lamella.transports._credentials import Credential
    from lamella.transports._place import Place

R = TypeVar("R", bound=Response)


def _can(method: str, expected: str) -> Callable[[object, attrs.Attribute[Any], object], None]:
    """Validates an option by what is going to be asked of it."""

    def check(_: object, option: attrs.Attribute[Any], value: object) -> None:
        if value is not None and not callable(getattr(value, method, None)):
            msg = f"{option.name}={value!r} is a {type(value).__name__}."
            raise ConfigurationError(msg, hint=f"Give {expected}, or None.")

    return check


@attrs.frozen(kw_only=True)
class TransportOptions:
    """What is rarely said of a transport over HTTP.

    Attributes:
        name: What it is called in traces and as `served_by`, and under which prices are looked up.
            None takes the provider's own name.
        send_user: Whether `context.user` is sent to the provider.
        refuse_foreign: Whether a conversation is refused that holds what only another provider
            understands (sealed reasoning, parts that it alone knows). Otherwise that is left out,
            with a note in the trace.
        attempt_header: Whether the attempt's number in its call is sent as `X-Lamella-Attempt`.
        deadline_header: The name of a header (`"X-Deadline-Ms"`) that tells a gateway how many
            whole milliseconds are left of the call's deadline, or of the attempt's limit if that is
            less. Calls without a deadline do not send it. None never sends it.
        headers: Further headers of every request; they replace ours of the same name.
        dialect: How requests are written, where it is not the provider's usual way. None takes
            that.
        cards: Where model cards are looked up; None is those built in and of plugins.
        card_provider: Whose cards hold for the models there; None is as the transport says.
        http: Connections, proxies, TLS and bounds on sizes. `"fast"` takes the fast client, which
            costs a fraction of the standard one and is for asyncio alone: `HTTPOptions(fast=True)`.
        client: Sends requests in place of a client made with `http`; closed with the transport.
    """

    name: str | None = None
    send_user: bool = False
    refuse_foreign: bool = False
    attempt_header: bool = False
    deadline_header: str | None = attrs.field(default=None, validator=can_be_deadline_header)
    headers: Mapping[str, str] = attrs.field(default=NOTHING, repr=False, validator=can_be_headers)
    dialect: DialectOptions | None = None
    cards: CardBook | None = attrs.field(default=None, validator=_can("find", "a CardBook"))
    card_provider: str | None = None
    http: HTTPOptions = attrs.field(default=DEFAULT_HTTP_OPTIONS, converter=http_options)
    client: HTTPClient | None = attrs.field(
        default=None, validator=_can("send", "an HTTPClient, which is made in code")
    )


class HTTPTransport:
    """The base of transports over HTTP. A subclass says where its `Place` is, by `_make_place`.

    Nothing is opened, read or imported before the first request. Nothing is retried, except on a
    kept connection that the provider had closed.

    Args:
        name: What it is called in traces and as `served_by`.
        options: What is rarely said.
    """

    agents: ClassVar[tuple[str, ...]] = ()
    """Distributions that requests name as their senders, besides this library."""
    default_models: ClassVar[Mapping[str, str]] = NOTHING
    """The models of requests that name none, by operation, where it is not the transport's own."""

    def __init__(self, name: str, options: TransportOptions) -> None:
        self.name = name
        self.options = options
        self._client = options.client
        self._making = fork_safe_lock()
        self._closed = False
        self._opened: Place | None = None
        self._opening = PerLoop(anyio.Lock)

    async def __call__(self, request: Request[R], /) -> R:
        """Answer a request.

        Raises:
            LamellaError: Whatever goes wrong before the answer is committed.
        """
        place = self._opened or await self._open(request.context.ports.thread)
        return await place.run(request)

    async def prompt_caching(self, request: Request[Any]) -> PromptCaching | None:
        """What the prompt cache takes that a request would meet; None for nothing.

        Raises:
            LamellaError: What is missing or wrong, as when the request were sent.
        """
        place = self._opened or await self._open(request.context.ports.thread)
        return place.prompt_caching(request)

    async def health(self) -> PartHealth:
        """Whether the endpoint can be reached and takes the key. Costs nothing; never raises."""
        from lamella._health import PartHealth

        try:
            place = self._opened or await self._open(run_in_thread)
        except Exception as error:  # noqa: BLE001 - a health report never raises
            return PartHealth(well=False, detail={"error": type(error).__name__})
        return await place.health()

    async def check(self) -> None:
        """Look for what it needs, address and key, without asking the endpoint.

        Raises:
            LamellaError: What is missing or wrong.
        """
        place = self._opened or await self._open(run_in_thread)
        await place.check()

    async def aclose(self) -> None:
        """Close all connections; calls under way end with `ClosedError`. Idempotent."""
        self._closed = True
        if self._client is not None:
            await self._client.aclose()

    @property
    def card_provider(self) -> str | None:
        """Whose model cards hold for the models there; None for nobody's."""
        return self.options.card_provider

    @property
    def origin(self) -> str:
        """How parts are marked that only its API understands; they go back to whoever has it."""
        return self.name

    def card_name(self, model: str) -> str:
        """What model cards and their price lists call a model that requests name so."""
        return model

    @property
    def fingerprint(self) -> str:
        """What tells it from other transports: its kind, its name, and where it sends requests."""
        kind = type(self)
        return f"{kind.__module__}.{kind.__qualname__}:{self.name}:{self._where()}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    # --- what the first request opens --------------------------------------------------------

    async def _open(self, thread: ThreadPort) -> Place:
        """Import, read the environment, and prepare what stays the same from request to request."""
        # One at a time on each loop: a thousand first calls would each need a thread for it.
        async with self._opening.get():
            if self._opened is None:
                self._must_be_open()
                place = await self._make_place(thread)
                self._must_be_open()
                self._opened = place
        return self._opened

    async def _make_place(self, thread: ThreadPort) -> Place:
        """Where requests go. It may be made twice at once; each must do.

        Args:
            thread: Runs what blocks: imports, files.

        Raises:
            LamellaError: What is missing or wrong.
        """
        raise NotImplementedError

    def _where(self) -> str:
        """Where requests are sent, and what else decides who answers; never a key."""
        return ""

    def _must_be_open(self) -> None:
        if self._closed:
            msg = f"The transport {self.name!r} was closed."
            hint = "Make a new one; a closed transport stays closed."
            raise ClosedError(msg, hint=hint, provider=self.name)

    def _http(self, thread: ThreadPort) -> HTTPClient:
        """The client, made on first use; one for all loops, as one is closed."""
        if self._client is None:
            with self._making:
                if self._client is None:
                    self._client = new_client(self.options.http, thread)
        return self._client


def new_client(options: HTTPOptions, thread: ThreadPort) -> HTTPClient:
    """A client for requests; nothing is opened or read yet.

    Args:
        options: Connections, proxies, TLS and bounds.
        thread: Runs what blocks.
    """
    if options.fast:
        from lamella.transports._fast_client import FastHTTPClient

        return FastHTTPClient(options, thread=thread)
    from lamella.transports._httpx_client import PooledHTTPClient

    return PooledHTTPClient(options, thread=thread)


def key_header(
    key: Credential,
    header: str = "Authorization",
    *,
    changed: Callable[[str], None] | None = None,
) -> Authorize:
    """Sends a key in a header. It is read for each request, so that a rotated one is taken up.

    A key that the provider refuses is asked for again, once; if there is another one by then, the
    request is sent again with it.

    Args:
        key: Where it comes from.
        header: `Authorization` takes it as a bearer token, others bare.
        changed: Told each key that is not the one before.
    """
    from lamella.transports._key_header import KeyHeader

    return KeyHeader(key, header, changed)
