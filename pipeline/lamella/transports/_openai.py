"""OpenAI, and whatever speaks its APIs at another address."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar
from urllib.parse import urlsplit

import anyio
import attrs

from lamella._errors import ConfigurationError, UnsupportedError
from lamella._parts import NOTHING
from lamella._ports import run_in_thread
from lamella._requests import Request
from lamella._responses import Response
from lamella.transports._credentials import (
    NO_CREDENTIAL,
    Credential,
    Key,
    credential,
    from_environment,
    missing_key,
)
from lamella.transports._dialect import Dialect, DialectOptions
from lamella.transports._exchange import Exchange
from lamella.transports._http import DEFAULT_HTTP_OPTIONS, HTTPClient, HTTPOptions, HTTPRequest
from lamella.transports._stream_source import read_some

if TYPE_CHECKING:
    from lamella._card_book import CardBook
    from lamella._health import PartHealth
    from lamella._ports import ThreadPort
    from lamella.transports._endpoints import Endpoint

R = TypeVar("R", bound=Response)

API: TypeAlias = Literal["chat", "responses"]

HEALTH_SECONDS = 3.0
"""How long an endpoint may take to answer `health` before it counts as unreachable."""


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
    headers: Mapping[str, str] = attrs.field(default=NOTHING, repr=False)
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
        api: Which API answers chat requests: `"chat"` (Chat Completions) or `"responses"`.
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
        api: API = "chat",
        endpoint: str | None = None,
        options: OpenAIOptions | None = None,
    ) -> None:
        self.options = options or _NO_OPTIONS
        self.model = model
        self.api = api
        self._given_url = _checked_url(base_url)
        self.endpoint = _endpoint_of(endpoint, self._given_url)
        self.name = self.options.name or self._default_name(endpoint)
        self._check_api()
        self._key = credential(api_key, "api_key")
        self._wire: Any = None
        self._closed = False

    async def __call__(self, request: Request[R]) -> R:
        """Answer a request.

        Raises:
            LamellaError: Whatever goes wrong before the answer is committed.
        """
        wire = self._wire or await self._prepare(request.context.ports.thread)
        return await wire.run(request)
