"""OpenAI, and whatever speaks its APIs at another address."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, get_args
from urllib.parse import urlsplit

import attrs

from lamella._errors import ConfigurationError
from lamella._nothing import NOTHING
from lamella._ports import run_in_thread
from lamella._requests import Request
from lamella._responses import Response
from lamella._shared_cards import shared_cards
from lamella.transports._addresses import checked_address
from lamella.transports._credentials import (
    NO_CREDENTIAL,
    Credential,
    Key,
    credential,
    from_environment,
    missing_key,
)
from lamella.transports._dialect import DialectOptions
from lamella.transports._http import DEFAULT_HTTP_OPTIONS, HTTPClient, HTTPOptions
from lamella.transports._place import (
    API,
    Headers,
    Place,
    can_be_deadline_header,
    can_be_headers,
    closed_error,
    dialect_options,
    encoded_headers,
    static_headers,
)
from lamella.transports._sdk import import_sdk, sdk_client, sdk_imported

if TYPE_CHECKING:
    from lamella._card_book import CardBook
    from lamella._health import PartHealth
    from lamella._ports import ThreadPort
    from lamella.transports._endpoints import Endpoint

R = TypeVar("R", bound=Response)

_ALL_APIS = frozenset({"chat", "responses", "embeddings", "models"})


@attrs.frozen(kw_only=True)
class OpenAIOptions:
    """What is rarely said of an `OpenAI` transport.

    Attributes:
        name: What it is called in traces and as `served_by`, and under which prices are looked up.
            None takes the endpoint's name, or the host of `base_url`.
        organization: OpenAI's organisation; None takes `OPENAI_ORG_ID`, at OpenAI's own hosts only.
        project: OpenAI's project; None takes `OPENAI_PROJECT_ID`, at OpenAI's own hosts only.
        send_user: Whether `context.user` is sent to the provider.
        attempt_header: Whether the attempt's number in its call is sent as `X-Lamella-Attempt`.
        deadline_header: The name of a header (`"X-Deadline-Ms"`) that tells a gateway how many
            whole milliseconds are left of the call's deadline, or of the attempt's limit if that is
            less. Calls without a deadline do not send it. None never sends it.
        headers: Further headers of every request; they replace ours of the same name.
        dialect: How requests are written, where the endpoint's own row does not say it right. None
            takes that row.
        cards: Where model cards are looked up; None is those built in and of plugins.
        card_provider: Whose cards hold for the models there; None takes the endpoint's row.
        http: Connections, proxies, TLS and bounds on sizes.
        client: Sends requests in place of a client made with `http`; closed with the transport.
    """

    name: str | None = None
    organization: str | None = None
    project: str | None = None
    send_user: bool = False
    attempt_header: bool = False
    deadline_header: str | None = attrs.field(default=None, validator=can_be_deadline_header)
    headers: Mapping[str, str] = attrs.field(default=NOTHING, repr=False, validator=can_be_headers)
    dialect: DialectOptions | None = None
    cards: CardBook | None = None
    card_provider: str | None = None
    http: HTTPOptions = DEFAULT_HTTP_OPTIONS
    client: HTTPClient | None = None


_NO_OPTIONS = OpenAIOptions()


class OpenAI:
    """The transport to OpenAI and compatible endpoints: Chat Completions, Responses, embeddings.

    Nothing is opened, read or imported before the first request. Nothing is retried, except on a
    kept connection that the provider had closed.

    Args:
        api_key: The key, a reference to it (`"env:NAME"`, `"file:PATH"`), or a function, plain or
            async, that returns it. None takes the endpoint's variable, `OPENAI_API_KEY` for OpenAI.
            A variable is used for its own endpoint only, never for another `base_url`.
        base_url: Where the API is, up to and including `/v1`. None is the endpoint's own;
            `OPENAI_BASE_URL` counts only where neither this nor `endpoint` is given.
        model: The model of requests that name none.
        api: Which API answers chat requests: `"chat"` (Chat Completions) or `"responses"`. None is
            the first of them that the endpoint has.
        endpoint: A known compatible endpoint by name (`"groq"`, `"ollama"` ...).
        options: What is rarely said.

    Raises:
        ConfigurationError: If something given cannot be meant, or does not fit together.
    """

    def __init__(
        self,
        api_key: Key | None = None,
        *,
        base_url: str | None = None,
        model: str | None = None,
        api: API | None = None,
        endpoint: str | None = None,
        options: OpenAIOptions | None = None,
    ) -> None:
        self.options = options or _NO_OPTIONS
        self.model = model
        self._given_url = None if base_url is None else _checked(base_url, "OpenAI(base_url=...)")
        self.endpoint = _endpoint_of(endpoint, self._given_url)
        self.name = self.options.name or self._default_name()
        self._named = endpoint is not None
        self.api: API = self._chosen_api(api)
        self._key = credential(api_key, "api_key")
        self._client = self.options.client
        self._place: Place | None = None
        self._sdk: Any = None
        self._closed = False

    async def __call__(self, request: Request[R]) -> R:
        """Answer a request.

        Raises:
            LamellaError: Whatever goes wrong before the answer is committed.
        """
        place = self._place or await self._open(request.context.ports.thread)
        return await place.run(request)

    async def health(self) -> PartHealth:
        """Whether the endpoint can be reached and takes the key. Costs nothing; never raises."""
        from lamella._health import PartHealth

        try:
            place = self._place or await self._open(run_in_thread)
        except Exception as error:  # noqa: BLE001 - a health report never raises
            return PartHealth(well=False, detail={"error": type(error).__name__})
        return await place.health()

    async def check(self) -> None:
        """Look for what it needs, address and key, without asking the endpoint.

        Raises:
            LamellaError: What is missing or wrong.
        """
        place = self._place or await self._open(run_in_thread)
        await place.authenticate()

    async def sdk(self) -> Any:
        """The openai SDK's own client, for what Lamella has no words for (files, batches ...).

        It uses this transport's connections and key, retries nothing, and is closed with it.

        Raises:
            ConfigurationError: If there is no key.
        """
        place = self._place or await self._open(run_in_thread)
        await place.authenticate()
        return self._sdk

    async def aclose(self) -> None:
        """Close all connections; calls under way end with `ClosedError`. Idempotent."""
        self._closed = True
        if self._client is not None:
            await self._client.aclose()

    @property
    def card_provider(self) -> str | None:
        """Whose model cards hold for the models there; None for nobody's."""
        if self.options.card_provider is not None or self.endpoint is None:
            return self.options.card_provider
        return self.endpoint.card_provider

    def __repr__(self) -> str:
        return f"<OpenAI {self.name!r} api={self.api!r}>"

    # --- what the constructor decides --------------------------------------------------------

    def _chosen_api(self, given: API | None) -> API:
        row = self.endpoint
        if given is None:
            return "chat" if row is None or "chat" in row.apis else "responses"
        if given not in get_args(API):
            msg = f"OpenAI(api={given!r}): there is no such API."
            raise ConfigurationError(msg, hint="Use 'chat' (Chat Completions) or 'responses'.")
        if row is not None and given not in row.apis:
            msg = f"The endpoint {row.name!r} has no API {given!r}."
            raise ConfigurationError(msg, hint=f"It has {', '.join(sorted(row.apis))}.")
        return given

    def _default_name(self) -> str:
        if self.endpoint is not None:
            return self.endpoint.name
        return urlsplit(self._given_url or "").netloc.rpartition("@")[2]

    # --- what the first request opens --------------------------------------------------------

    async def _open(self, thread: ThreadPort) -> Place:
        """Import, read the environment, and prepare what stays the same from request to request."""
        if not sdk_imported():
            await thread(import_sdk)
        if self._closed:
            raise closed_error(self.name)
        base_url = self._address()
        client = self._client
        if client is None:
            from lamella.transports._httpx_client import PooledHTTPClient

            client = self._client = PooledHTTPClient(self.options.http, thread=thread)
        own = _is_openai(base_url)
        given = self.options
        organization = given.organization or (os.environ.get("OPENAI_ORG_ID") if own else None)
        project = given.project or (os.environ.get("OPENAI_PROJECT_ID") if own else None)
        if self._sdk is None:
            self._sdk = sdk_client(
                client,
                provider=self.name,
                base_url=base_url,
                organization=organization or None,
                project=project or None,
            )
        extra = {"OpenAI-Organization": organization, "OpenAI-Project": project, **given.headers}
        place = Place(
            name=self.name,
            client=client,
            api=self.api,
            apis=_ALL_APIS if self.endpoint is None else self.endpoint.apis,
            model=self.model,
            dialect=given.dialect or dialect_options(self.endpoint, send_user=given.send_user),
            cards=given.cards or shared_cards(),
            card_provider=self.card_provider,
            endpoint=self.endpoint,
            locate=_locator(str(self._sdk.base_url).rstrip("/")),
            authenticate=self._authenticator(self._credential()),
            headers=static_headers(extra),
            attempt_header=given.attempt_header,
            deadline_header=given.deadline_header,
            max_message_bytes=given.http.max_message_bytes,
        )
        self._place = place
        return place

    def _address(self) -> str:
        if self._given_url is not None:
            return self._given_url
        row = self.endpoint
        assert row is not None  # noqa: S101 - without base_url there is always a row
        if self._named or row.name != "openai":
            # OPENAI_BASE_URL is nobody's word where an endpoint was asked for by name.
            named = attrs.evolve(row, url_variables=()) if row.name == "openai" else row
            return _checked(named.url(os.environ), f"The address of the endpoint {row.name!r}")
        return _checked(row.url(os.environ), "OPENAI_BASE_URL")

    def _credential(self) -> Credential:
        """The key: as given, or of the endpoint's own variable."""
        if self._key is not None:
            return self._key
        row = self.endpoint
        if row is None:
            return NO_CREDENTIAL
        # A variable belongs to the endpoint's own address; what was given may be anybody's.
        own = self._given_url is None or _endpoint_of(None, self._given_url) is row
        found = from_environment(row.key_variables) if own else None
        if found is None and row.key_required:
            raise missing_key(self.name, "api_key", row.key_variables)
        return found or NO_CREDENTIAL

    def _authenticator(self, key: Credential) -> Callable[[], Awaitable[Headers]]:
        header = "Authorization" if self.endpoint is None else self.endpoint.key_header
        sdk = self._sdk
        known: tuple[str, Headers] = ("", ())

        async def authenticate() -> Headers:
            nonlocal known
            value = await key.fetch()
            if value is None:
                return ()
            if value != known[0]:
                sdk.api_key = value
                fields = sdk.auth_headers if header == "Authorization" else {header: value}
                known = (value, encoded_headers(fields))
            return known[1]

        return authenticate


def _checked(given: str, what: str) -> str:
    return checked_address(given, what, "https://api.openai.com/v1")


def _endpoint_of(name: str | None, base_url: str | None) -> Endpoint | None:
    """The row of an endpoint by name or by its address; None for an address that nobody knows."""
    from lamella.transports._endpoints import endpoints, find_endpoint

    if name is not None:
        return find_endpoint(name)
    if base_url is None or _is_openai(base_url):
        return find_endpoint("openai")
    for row in endpoints().values():
        if row.base_url.rstrip("/") == base_url:
            return row
    return None


def _is_openai(base_url: str) -> bool:
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    own = host == "api.openai.com" or host.endswith(".api.openai.com")
    return own and parts.scheme == "https"


def _locator(base_url: str) -> Callable[[str, str], str]:
    return lambda path, _: base_url + path
