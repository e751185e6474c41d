"""OpenAI, and whatever speaks its APIs at another address."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, get_args
from urllib.parse import urlsplit

import attrs

from lamella._errors import ConfigurationError
from lamella._ports import run_in_thread
from lamella.transports._addresses import checked_address
from lamella.transports._credentials import (
    NO_CREDENTIAL,
    Credential,
    Key,
    credential,
    from_environment,
    missing_key,
)
from lamella.transports._dialect import Dialect, DialectOptions
from lamella.transports._exchange import Authorize
from lamella.transports._headers import static_headers, user_agent
from lamella.transports._http_transport import HTTPTransport, TransportOptions, key_header
from lamella.transports._openai_caching import KNOWN
from lamella.transports._openai_chat import OpenAIChat
from lamella.transports._openai_embeddings import OpenAIEmbeddings
from lamella.transports._openai_moderation import OpenAIModeration
from lamella.transports._openai_responses import OpenAIResponses
from lamella.transports._openai_token_counts import OpenAITokenCounts
from lamella.transports._place import Place
from lamella.transports._sdk import import_sdk, sdk_client, sdk_imported

if TYPE_CHECKING:
    from lamella._ports import ThreadPort
    from lamella.transports._endpoints import Endpoint

API: TypeAlias = Literal["chat", "responses"]

DEFAULT_MODELS: Mapping[str, str] = {"moderation": "omni-moderation-latest"}
"""See `HTTPTransport.default_models`."""

_ALL_APIS = frozenset({"chat", "responses", "embeddings", "models", "moderation", "token_count"})


@attrs.frozen(kw_only=True)
class OpenAIOptions(TransportOptions):
    """What is rarely said of an `OpenAI` transport, besides `TransportOptions`.

    The `name`, `dialect` and `card_provider` that are not given are those of the endpoint's row; an
    unknown endpoint goes by the host of its `base_url`.

    Attributes:
        organization: OpenAI's organisation; None takes `OPENAI_ORG_ID`, at OpenAI's own hosts only.
        project: OpenAI's project; None takes `OPENAI_PROJECT_ID`, at OpenAI's own hosts only.
    """

    organization: str | None = None
    project: str | None = None


_NO_OPTIONS = OpenAIOptions()


class OpenAI(HTTPTransport):
    """The transport to OpenAI and compatible endpoints: chat, embeddings, moderation, counts.

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

    default_models: ClassVar[Mapping[str, str]] = DEFAULT_MODELS

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
        given = options or _NO_OPTIONS
        self.model = model
        self._given_url = None if base_url is None else _checked(base_url, "OpenAI(base_url=...)")
        self.endpoint = _endpoint_of(endpoint, self._given_url)
        super().__init__(given.name or self._default_name(), given)
        self.options: OpenAIOptions = given
        self._named = endpoint is not None
        self.api: API = self._chosen_api(api)
        self._key = credential(api_key, "api_key")
        self._sdk: Any = None

    async def sdk(self) -> Any:
        """The openai SDK's own client, for what Lamella has no words for (files, batches ...).

        It uses this transport's connections and key, retries nothing, and is closed with it.

        Raises:
            ConfigurationError: If there is no key.
        """
        place = self._opened or await self._open(run_in_thread)
        await place.check()
        return self._sdk

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

    async def _make_place(self, thread: ThreadPort) -> Place:
        if not sdk_imported():
            await thread(import_sdk)
        base_url = self._address()
        own = _is_openai(base_url)
        given, row = self.options, self.endpoint
        organization = given.organization or (os.environ.get("OPENAI_ORG_ID") if own else None)
        project = given.project or (os.environ.get("OPENAI_PROJECT_ID") if own else None)
        client = self._http(thread)
        if self._sdk is None:
            self._sdk = sdk_client(
                client,
                provider=self.name,
                base_url=base_url,
                organization=organization or None,
                project=project or None,
            )
        extra = {"OpenAI-Organization": organization, "OpenAI-Project": project, **given.headers}
        root = str(self._sdk.base_url).rstrip("/")
        return Place(
            name=self.name,
            client=client,
            given=given,
            dialects=openai_dialects(self.name, self.api, _ALL_APIS if row is None else row.apis),
            model=self.model,
            options=given.dialect or dialect_options(self._row_at(base_url), given),
            card_provider=self.card_provider,
            rules=row,
            locate=lambda path, _: root + path,
            authorize=self._authorizer(self._credential()),
            models_url=f"{root}/models",
            headers=static_headers(extra, agent=user_agent("openai")),
        )

    def _row_at(self, base_url: str) -> Endpoint | None:
        """The row, of which not all holds for a server that only OPENAI_BASE_URL names.

        It may be anybody's, and a strict one refuses the fields for prompt caches.
        """
        row = self.endpoint
        if row is None or row.name != "openai" or self._named or _is_openai(base_url):
            return row
        return attrs.evolve(row, cache_keys=False)

    def _where(self) -> str:
        try:
            return f"{self.api}:{self._address()}"
        except ConfigurationError:  # which the first request will say
            return self.api

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

    def _authorizer(self, key: Credential) -> Authorize:
        """The key's header, which the SDK's own client uses too."""

        def changed(value: str) -> None:
            self._sdk.api_key = value

        header = "Authorization" if self.endpoint is None else self.endpoint.key_header
        return key_header(key, header, changed=changed)


def openai_dialects(name: str, api: API, apis: Collection[str]) -> Mapping[str, Dialect]:
    """Which of OpenAI's APIs answers each operation, where an endpoint has those of `apis`."""
    found: dict[str, Dialect] = {}
    if api in apis:
        found["chat"] = OpenAIChat(name) if api == "chat" else OpenAIResponses(name)
    if "embeddings" in apis:
        found["embeddings"] = OpenAIEmbeddings(name)
    if "token_count" in apis:
        found["token_count"] = OpenAITokenCounts(name)
    if "moderation" in apis:
        found["moderation"] = OpenAIModeration(name)
    return found


def dialect_options(endpoint: Endpoint | None, given: TransportOptions) -> DialectOptions:
    """The quirks that an endpoint's row states, OpenAI's own without one; and what options say."""
    if endpoint is None:
        return DialectOptions(send_user=given.send_user, refuse_foreign=given.refuse_foreign)
    fields = endpoint.reasoning_fields
    named = endpoint.card_provider is not None  # else its models may be anybody's
    return DialectOptions(
        max_tokens_name=endpoint.max_tokens_name,
        stream_usage=endpoint.stream_usage,
        developer_role=endpoint.developer_role,
        reasoning_field=fields[0] if fields else None,
        quirks={
            "send_reasoning": endpoint.return_reasoning and bool(fields),
            "cache_marks": endpoint.cache_marks,
            "cache_keys": endpoint.cache_keys and (named or KNOWN),
        },
        send_user=given.send_user,
        refuse_foreign=given.refuse_foreign,
    )


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
