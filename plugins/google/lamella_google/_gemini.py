"""The Gemini API of Google AI Studio."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import attrs

from lamella._errors import ConfigurationError
from lamella.transports._addresses import checked_address
from lamella.transports._credentials import (
    NO_CREDENTIAL,
    Credential,
    Key,
    credential,
    from_environment,
    missing_key,
)
from lamella.transports._http_transport import HTTPTransport, key_header
from lamella_google._options import GoogleOptions, versioned

if TYPE_CHECKING:
    from lamella._ports import ThreadPort
    from lamella.transports._place import Place

ADDRESS: Final = "https://generativelanguage.googleapis.com"
KEY_VARIABLES: Final = ("GOOGLE_API_KEY", "GEMINI_API_KEY")
KEY_HEADER: Final = "x-goog-api-key"
_ADDRESS_VARIABLE: Final = "GOOGLE_GEMINI_BASE_URL"


@attrs.frozen(kw_only=True)
class GeminiOptions(GoogleOptions):
    """What is rarely said of a `Gemini` transport; see `GoogleOptions` and `TransportOptions`.

    Its `name` and `card_provider` are `"google"` if none are given.
    """


class Gemini(HTTPTransport):
    """The transport to the Gemini API: chat, embeddings and counts of tokens.

    Nothing is opened, read or imported before the first request. Nothing is retried, except on a
    kept connection that the provider had closed.

    Args:
        api_key: The key, a reference to it (`"env:NAME"`, `"file:PATH"`), or a function, plain or
            async, that returns it. None takes `GOOGLE_API_KEY`, then `GEMINI_API_KEY`, for Google's
            own address only.
        base_url: Where the API is, with or without its version. None takes
            `GOOGLE_GEMINI_BASE_URL`, then Google's own.
        model: The model of requests that name none.
        options: What is rarely said.

    Raises:
        ConfigurationError: If something given cannot be meant.
    """

    def __init__(
        self,
        api_key: Key | None = None,
        *,
        base_url: str | None = None,
        model: str | None = None,
        options: GeminiOptions | None = None,
    ) -> None:
        given = options or GeminiOptions()
        super().__init__(given.name or "google", given)
        self.options: GeminiOptions = given
        self.model = model
        what = "Gemini(base_url=...)"
        self._given_url = None if base_url is None else checked_address(base_url, what, ADDRESS)
        self._key = credential(api_key, "api_key")

    @property
    def card_provider(self) -> str | None:
        """Whose model cards hold for the models there."""
        return self.options.card_provider or "google"

    def card_name(self, model: str) -> str:
        """What the model cards call a model: its bare name, without resource and version."""
        from lamella_google._model_names import card_name

        return card_name(model)

    async def _make_place(self, thread: ThreadPort) -> Place:
        from lamella.transports._headers import static_headers, user_agent
        from lamella.transports._place import Place
        from lamella_google._dialects import google_dialect_options, google_dialects
        from lamella_google._model_names import card_name

        given = self.options
        root = versioned(self._address(), given, "v1", "v1beta")
        return Place(
            name=self.name,
            client=self._http(thread),
            given=given,
            dialects=google_dialects(self.name, vertex=False),
            model=self.model,
            options=google_dialect_options(given),
            card_provider=self.card_provider,
            locate=lambda path, _: root + path,
            authorize=key_header(self._credential(), KEY_HEADER),
            models_url=f"{root}/models?pageSize=1",
            headers=static_headers(given.headers, agent=user_agent("lamella-google")),
            card_model=card_name,
        )

    def _where(self) -> str:
        try:
            return self._address()
        except ConfigurationError:  # which the first request will say
            return ""

    def _address(self) -> str:
        if self._given_url is not None:
            return self._given_url
        variable = os.environ.get(_ADDRESS_VARIABLE)
        return checked_address(variable, _ADDRESS_VARIABLE, ADDRESS) if variable else ADDRESS

    def _credential(self) -> Credential:
        if self._key is not None:
            return self._key
        if self._given_url is not None and not _is_google(self._given_url):
            return NO_CREDENTIAL
        found = from_environment(KEY_VARIABLES)
        if found is None:
            raise missing_key(self.name, "api_key", KEY_VARIABLES)
        return found


def _is_google(base_url: str) -> bool:
    parts = urlsplit(base_url)
    return parts.scheme == "https" and parts.hostname == urlsplit(ADDRESS).hostname
