"""Anthropic, and whatever speaks its Messages API at another address."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

import attrs

from lamella._errors import AuthenticationError, ConfigurationError
from lamella._fork_locks import fork_safe_lock
from lamella._requests import Request
from lamella._responses import Response
from lamella.transports._addresses import checked_address
from lamella.transports._credentials import (
    NO_CREDENTIAL,
    Credential,
    Key,
    credential,
    from_environment,
)
from lamella.transports._dialect import DialectOptions
from lamella.transports._exchange import Authorize
from lamella.transports._headers import can_be_headers, encoded_headers, static_headers, user_agent
from lamella.transports._http import HTTPRequest
from lamella.transports._http_transport import HTTPTransport, TransportOptions, key_header
from lamella.transports._place import Place
from lamella_anthropic._messages import AnthropicMessages, AnthropicTokenCount

if TYPE_CHECKING:
    from lamella._ports import ThreadPort
    from lamella_anthropic._bearer_tokens import BearerTokens

R = TypeVar("R", bound=Response)

BASE_URL: Final = "https://api.anthropic.com"
VERSION: Final = "2026-10-21"
"""The version of the API that this transport was written for."""

TOKEN_BETA: Final = "oauth-2025-04-20"  # noqa: S105 - a header's value, no token
"""The beta that lets requests use tokens of a login or a workload identity."""


def _strings(given: Any) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        msg = f"AnthropicOptions(betas={given!r}): give a list, even of one."
        raise ConfigurationError(msg)
    return tuple(given)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _is_beta(_: object, __: object, value: tuple[Any, ...]) -> None:
    for beta in value:
        if not isinstance(beta, str) or not beta or "," in beta:
            msg = f"AnthropicOptions(betas=...): {beta!r} is no name of a beta."
            raise ConfigurationError(msg, hint="For example: betas=['files-api-2025-04-14'].")
        encoded_headers({"anthropic-beta": beta})


def _is_version(_: object, field: attrs.Attribute[Any], value: str) -> None:
    can_be_headers(_, field, {"anthropic-version": value})
    if not value:
        msg = "AnthropicOptions(version='') is no version of the API, which demands one."
        raise ConfigurationError(msg, hint=f"For example: version={VERSION!r}.")


def _is_header_name(_: object, field: attrs.Attribute[Any], value: str) -> None:
    can_be_headers(_, field, {value: "key"})


def _positive(_: object, field: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        msg = f"AnthropicOptions({field.name}={value!r}) is no number of tokens, 1 or more."
        raise ConfigurationError(msg, hint="None takes the model card's limit.")


@attrs.frozen(kw_only=True)
class AnthropicOptions(TransportOptions):
    """What is rarely said of an `Anthropic` transport, besides `TransportOptions`.

    The `name` and `card_provider` that are not given are `anthropic`. An endpoint that speaks the
    same API and serves other models needs a `card_provider` of its own: it says whose models there
    are, and so whose sealed thoughts may go back.

    Attributes:
        version: The API's version, sent as `anthropic-version`. Those before `2026-10-21` know
            `temperature` and `top_p`, which older models take.
        betas: Beta features that every request asks for (`anthropic-beta`); a request adds its own
            by `extra={"betas": [...]}`.
        max_output_tokens: The bound on output of requests that state none, for the API demands one;
            at least 1. None takes the model card's limit, or 8,192 for a model without a card.
        key_header: The header that an API key goes in. Anthropic takes it as a bearer token in
            `Authorization`; some gateways know only `x-api-key`, which holds it bare.
    """

    version: str = attrs.field(default=VERSION, validator=_is_version)
    betas: tuple[str, ...] = attrs.field(default=(), converter=_strings, validator=_is_beta)
    max_output_tokens: int | None = attrs.field(default=None, validator=_positive)
    key_header: str = attrs.field(default="Authorization", validator=_is_header_name)


_NO_OPTIONS = AnthropicOptions()


class Anthropic(HTTPTransport):
    """The transport to Claude: Anthropic's Messages API, and its token counts.

    Nothing is opened, read or imported before the first request. Nothing is retried, except on a
    kept connection that the provider had closed.

    Args:
        api_key: The key, a reference to it (`"env:NAME"`, `"file:PATH"`), or a function, plain or
            async, that returns it. None finds a credential as Anthropic's own clients do, for
            Anthropic's own address, or the one of `ANTHROPIC_BASE_URL`, only: `ANTHROPIC_API_KEY`,
            `ANTHROPIC_AUTH_TOKEN`, the profile that `ANTHROPIC_PROFILE` names, the workload
            identity of `ANTHROPIC_FEDERATION_RULE_ID` and others, the active profile.
        base_url: Where the API is, without `/v1`. None is `ANTHROPIC_BASE_URL`, else the profile's,
            else Anthropic's own.
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
        options: AnthropicOptions | None = None,
    ) -> None:
        given = options or _NO_OPTIONS
        super().__init__(given.name or "anthropic", given)
        self.options: AnthropicOptions = given
        self.model = model
        self._given_url = (
            None if base_url is None else _checked(base_url, "Anthropic(base_url=...)")
        )
        self._key = credential(api_key, "api_key")
        self._tokens: BearerTokens | None = None
        self._lock = fork_safe_lock()

    @property
    def card_provider(self) -> str | None:
        """Whose model cards hold for the models there."""
        return self.options.card_provider or "anthropic"

    @property
    def origin(self) -> str:
        """How parts are marked that only its API understands: any account of it does."""
        return self.card_provider or self.name

    async def __call__(self, request: Request[R], /) -> R:
        """Answer a request.

        Raises:
            LamellaError: Whatever goes wrong before the answer is committed.
        """
        try:
            return await super().__call__(request)
        except AuthenticationError:
            if self._tokens is not None:
                self._tokens.forget()  # the next request gets a new one
            raise

    # --- what the first request opens --------------------------------------------------------

    async def _make_place(self, thread: ThreadPort) -> Place:
        given = self.options
        ours = self._given_url is None or _is_anthropic(self._given_url)
        found = os.environ.get("ANTHROPIC_BASE_URL") if self._given_url is None else None
        base_url = self._given_url or (_checked(found, "ANTHROPIC_BASE_URL") if found else None)
        headers: dict[str, str] = {"anthropic-version": given.version}
        if ours:
            headers.update(_custom_headers(os.environ.get("ANTHROPIC_CUSTOM_HEADERS", "")))
        key = self._static_key(ours=ours)
        if key is not None:
            authorize = self._by_key(*key)
        elif ours:
            authorize, base_url, more = await self._by_login(thread, base_url)
            headers.update(more)
        else:
            authorize = key_header(NO_CREDENTIAL)
        root = (base_url or BASE_URL).removesuffix("/v1")
        origin = self.origin
        return Place(
            name=self.name,
            client=self._http(thread),
            given=given,
            dialects={
                "chat": AnthropicMessages(self.name, origin, given.betas),
                "token_count": AnthropicTokenCount(self.name, origin, given.betas),
            },
            model=self.model,
            options=given.dialect or self._dialect_options(),
            card_provider=self.card_provider,
            locate=lambda path, _: root + path,
            authorize=authorize,
            models_url=f"{root}/v1/models",
            headers=static_headers({**headers, **given.headers}, agent=_agent()),
        )

    def _where(self) -> str:
        return self._given_url or os.environ.get("ANTHROPIC_BASE_URL") or BASE_URL

    def _dialect_options(self) -> DialectOptions:
        given = self.options
        return DialectOptions(
            max_tokens_name="max_tokens",
            send_user=given.send_user,
            refuse_foreign=given.refuse_foreign,
            quirks={
                "max_output_tokens": given.max_output_tokens,
                "sampling": given.version < VERSION,  # dates, in the order of their letters
            },
        )

    def _static_key(self, *, ours: bool) -> tuple[Credential, str] | None:
        """A credential that needs no exchange, and the header that it goes in."""
        if self._key is not None:
            return self._key, self.options.key_header
        if not ours:
            return None
        key = from_environment(("ANTHROPIC_API_KEY",))
        if key is not None:
            return key, self.options.key_header
        token = from_environment(("ANTHROPIC_AUTH_TOKEN",))
        return None if token is None else (token, "Authorization")

    def _by_key(self, key: Credential, header: str) -> Authorize:
        name = "Authorization" if header.lower() == "authorization" else header
        return key_header(key, name)

    async def _by_login(
        self, thread: ThreadPort, base_url: str | None
    ) -> tuple[Authorize, str | None, Mapping[str, str]]:
        """Tokens of a profile or a workload identity, what address goes with them, and headers."""
        from lamella_anthropic._logins import find_login

        login = await thread(partial(find_login, os.environ))
        if login is None:
            raise ConfigurationError(
                f"The transport {self.name!r} has no key.",
                hint="Set ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN, or give api_key=.",
                provider=self.name,
                code="no_key",
            )
        if base_url is None and login.base_url is not None:
            base_url = _checked(login.base_url, "The profile's base_url")
        root = (base_url or BASE_URL).removesuffix("/v1")
        client = self._http(thread)
        with self._lock:  # first requests may come at once, and share one exchange
            if self._tokens is None:
                self._tokens = login.tokens(client, root, self.name, _agent(), thread)
            tokens = self._tokens

        async def authorize(request: HTTPRequest) -> HTTPRequest:
            token = encoded_headers({"Authorization": f"Bearer {await tokens.token()}"})
            return _with_beta(request, TOKEN_BETA).with_headers(token)

        return authorize, base_url, login.headers


def _with_beta(request: HTTPRequest, beta: str) -> HTTPRequest:
    """A request that asks for one beta more, in the one header of them."""
    name = b"anthropic-beta"
    asked = [value.decode() for header, value in request.headers if header == name]
    others = tuple([pair for pair in request.headers if pair[0] != name])
    joined = encoded_headers({"anthropic-beta": ",".join([*asked, beta])})
    return attrs.evolve(request, headers=(*others, *joined))


def _custom_headers(given: str) -> Mapping[str, str]:
    """`ANTHROPIC_CUSTOM_HEADERS`: one `Name: value` on each line."""
    pairs = (line.partition(":") for line in given.splitlines())
    found = {name.strip(): value.strip() for name, colon, value in pairs if colon and name.strip()}
    can_be_headers(None, None, found)
    return found


def _agent() -> str:
    return user_agent("lamella-anthropic")


def _checked(given: str, what: str) -> str:
    return checked_address(given, what, BASE_URL)


def _is_anthropic(base_url: str) -> bool:
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    own = host == "anthropic.com" or host.endswith(".anthropic.com")
    return own and parts.scheme == "https"
