"""A server of Ollama's, here, in the network, or in its cloud."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import attrs

from lamella._errors import ConfigurationError
from lamella._parameter_rules import RuleBook
from lamella.transports._credentials import (
    NO_CREDENTIAL,
    Credential,
    Key,
    credential,
    from_environment,
    missing_key,
)
from lamella.transports._headers import static_headers, user_agent
from lamella.transports._http_transport import HTTPTransport, key_header
from lamella.transports._place import Place
from lamella_ollama._address import ADDRESS, address_of, is_cloud
from lamella_ollama._chat import OllamaChat
from lamella_ollama._defaults import ORIGIN, Defaults
from lamella_ollama._embeddings import OllamaEmbeddings
from lamella_ollama._options import OllamaOptions
from lamella_ollama._request import RULES

if TYPE_CHECKING:
    from lamella._ports import ThreadPort

HOST_VARIABLE: Final = "OLLAMA_HOST"
KEY_VARIABLES: Final = ("OLLAMA_API_KEY",)


@attrs.frozen
class _Server:
    """What any server does with parameters."""

    rule_book: RuleBook = RULES


class Ollama(HTTPTransport):
    """The transport to Ollama's own API: chat and embeddings.

    Nothing is opened, read or imported before the first request. Nothing is retried, except on a
    kept connection that the server had closed.

    Args:
        base_url: Where the server is, as `OLLAMA_HOST` says it: a URL, `host`, `host:port`. None is
            `OLLAMA_HOST`, else this machine at port 11434. `"https://ollama.com"` is the cloud.
        model: The model of requests that name none.
        api_key: The key, a reference to it (`"env:NAME"`, `"file:PATH"`), or a function, plain or
            async, that returns it. None is `OLLAMA_API_KEY` if it is set, unless `base_url` names a
            server that is not Ollama's own. Servers want none, the cloud does.
        options: What is rarely said.

    Raises:
        ConfigurationError: If something given cannot be meant.
    """

    def __init__(
        self,
        *,
        base_url: str | None = None,
        model: str | None = None,
        api_key: Key | None = None,
        options: OllamaOptions | None = None,
    ) -> None:
        given = options or OllamaOptions()
        super().__init__(given.name or ORIGIN, given)
        self.options: OllamaOptions = given
        self.model = model
        what = "Ollama(base_url=...)"
        self._given_url = None if base_url is None else address_of(base_url, what)
        self._key = credential(api_key, "api_key")

    async def _make_place(self, thread: ThreadPort) -> Place:
        given, root = self.options, self._address()
        defaults = _defaults(given, bounded=not is_cloud(root))
        return Place(
            name=self.name,
            client=self._http(thread),
            given=given,
            dialects={
                "chat": OllamaChat(self.name, defaults),
                "embeddings": OllamaEmbeddings(self.name, defaults),
            },
            model=self.model,
            card_provider=self.card_provider,
            rules=_Server(),
            locate=lambda path, _: root + path,
            authorize=key_header(self._credential(root)),
            models_url=f"{root}/api/tags",
            headers=static_headers(given.headers, agent=user_agent("lamella-ollama")),
        )

    def _where(self) -> str:
        try:
            return self._address()
        except ConfigurationError:  # which the first request will say
            return ""

    def _address(self) -> str:
        if self._given_url is not None:
            return self._given_url
        found = os.environ.get(HOST_VARIABLE, "").strip()
        return address_of(found, HOST_VARIABLE) if found else ADDRESS

    def _credential(self, root: str) -> Credential:
        if self._key is not None:
            return self._key
        cloud = is_cloud(root)
        if self._given_url is not None and not cloud:
            return NO_CREDENTIAL
        found = from_environment(KEY_VARIABLES)
        if found is None and cloud:
            raise missing_key(self.name, "api_key", KEY_VARIABLES)
        return found or NO_CREDENTIAL


def _defaults(given: OllamaOptions, *, bounded: bool) -> Defaults:
    options = dict(given.model_options)
    if given.num_ctx is not None:
        options["num_ctx"] = given.num_ctx
    stated = {
        "keep_alive": given.keep_alive,
        "truncate": given.truncate,
        "shift": given.shift,
    }
    fields = {name: value for name, value in stated.items() if value is not None}
    return Defaults(options=options, fields=fields, bounded=bounded)
