"""The transport to Amazon Bedrock."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from lamella._embeddings import EmbeddingRequest
from lamella._errors import ConfigurationError
from lamella._requests import Request
from lamella._responses import Response
from lamella.transports._credentials import Credential, credential, from_environment
from lamella.transports._dialect import Dialect
from lamella.transports._headers import static_headers, user_agent
from lamella.transports._http_transport import HTTPTransport, key_header
from lamella.transports._place import Place
from lamella_bedrock._converse import Converse, CountTokens
from lamella_bedrock._credentials import (
    CalledFor,
    Chain,
    Credentials,
    GivenKeys,
    configured_region,
)
from lamella_bedrock._embedding_pieces import answer_all, pieces_of
from lamella_bedrock._embeddings import BedrockEmbeddings
from lamella_bedrock._endpoint import (
    checked_region,
    is_amazon,
    own_address,
    region_in,
    runtime_address,
)
from lamella_bedrock._models import ModelNames
from lamella_bedrock._options import BedrockOptions
from lamella_bedrock._signature import Signer, import_signing
from lamella_bedrock._signing import Signing

if TYPE_CHECKING:
    from lamella._ports import ThreadPort
    from lamella.transports._exchange import Authorize
    from lamella.transports._http import HTTPRequest

R = TypeVar("R", bound=Response)

_BEARER: Final = ("AWS_BEARER_TOKEN_BEDROCK",)
_ADDRESSES: Final = ("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "AWS_ENDPOINT_URL")
_REGIONS: Final = ("AWS_REGION", "AWS_DEFAULT_REGION")
_FALLBACK_REGION: Final = "us-east-1"
"""A body that takes milliseconds to sign, which is done in a thread."""


class Bedrock(HTTPTransport):
    """The transport to Amazon Bedrock: Converse, ConverseStream, CountTokens, embeddings.

    Nothing is opened, read or imported before the first request. Nothing is retried, except on a
    kept connection that the provider had closed.

    Credentials are those of the options, otherwise `AWS_BEARER_TOKEN_BEDROCK`, otherwise what
    botocore's chain finds. Those that were not given are used for AWS's own hosts, or for the
    address that the environment names with them, and never for an `endpoint_url` of somebody else;
    there requests go unsigned.

    Args:
        region: Where (`"eu-central-1"`). None takes `AWS_REGION`, `AWS_DEFAULT_REGION`, or the
            profile's.
        model: The model of requests that name none: a vendor's id, an inference profile's, or an
            ARN.
        profile: The profile of AWS's shared files; with one, no variable gives credentials.
        endpoint_url: Where the runtime is, for instance a VPC endpoint. None is the region's, or
            `AWS_ENDPOINT_URL_BEDROCK_RUNTIME`.
        options: What is rarely said.

    Raises:
        ConfigurationError: If something given cannot be meant, or does not fit together.
    """

    def __init__(
        self,
        *,
        region: str | None = None,
        model: str | None = None,
        profile: str | None = None,
        endpoint_url: str | None = None,
        options: BedrockOptions | None = None,
    ) -> None:
        given = options or _NO_OPTIONS
        super().__init__(given.name or "bedrock", given)
        self.options: BedrockOptions = given
        self.region = None if region is None else checked_region(region, "Bedrock(region=...)")
        self.model = model
        self.profile = profile
        self.names = ModelNames(given.base_models)
        self._given_url = (
            None if endpoint_url is None else own_address(endpoint_url, "Bedrock(endpoint_url=...)")
        )
        self._bearer = credential(given.api_key, "api_key")
        self._keys = _given_keys(given)

    async def __call__(self, request: Request[R], /) -> R:
        """Answer a request. Embeddings of many texts are several requests in one attempt.

        Raises:
            LamellaError: Whatever goes wrong before the answer is committed.
        """
        seen: object = request
        if isinstance(seen, EmbeddingRequest) and len(seen.inputs) > 1:
            pieces = pieces_of(
                seen if seen.model is not None else seen.evolve(model=self.model), self.names
            )
            if len(pieces) > 1:
                answers = await answer_all(pieces, super().__call__)
                return seen.merge(answers)  # type: ignore[return-value] # pyright: ignore[reportReturnType]
        return await super().__call__(request)

    @property
    def card_provider(self) -> str | None:
        """Whose model cards hold for the models there."""
        return self.options.card_provider or "bedrock"

    def card_name(self, model: str) -> str:
        """What model cards and their price lists call a model: its id, also where an ARN is."""
        return self.names.priced(model)

    def _where(self) -> str:
        try:
            address, _ = self._address()
            named = self.region or (address and region_in(address)) or self._region_named() or ""
            return f"{address or self._runtime(named)}:{named}:{self.profile or ''}"
        except ConfigurationError:  # which the first request will say
            return ""

    # --- what the first request opens --------------------------------------------------------

    async def _make_place(self, thread: ThreadPort) -> Place:
        given = self.options
        address, own = self._address()
        region = await self._region(address, thread)
        if address is None:
            address, own = self._runtime(region), True
        client = self._http(thread)
        return Place(
            name=self.name,
            client=client,
            given=given,
            dialects=self._dialects(),
            model=self.model,
            card_provider=self.card_provider,
            locate=partial(_located, address),
            authorize=await self._authorizer(region, thread, own=own),
            models_url=None,
            headers=static_headers(given.headers, agent=user_agent("lamella-bedrock")),
            card_model=self.names.base,
        )

    def _dialects(self) -> Mapping[str, Dialect]:
        return {
            "chat": Converse(self.name, self.names),
            "embeddings": BedrockEmbeddings(self.name, self.names),
            "token_count": CountTokens(self.name, self.names),
        }

    def _address(self) -> tuple[str | None, bool]:
        """The address that somebody named, and whether the environment's credentials go there.

        None stands for the region's own.
        """
        if self._given_url is not None:
            return self._given_url, is_amazon(self._given_url)
        if os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
            return None, True
        for name in _ADDRESSES:
            if os.environ.get(name):
                return own_address(os.environ[name], name), True
        return None, True

    async def _region(self, address: str | None, thread: ThreadPort) -> str:
        if self.region is not None:
            return self.region
        named = None if address is None else region_in(address)
        if named is not None:
            return named
        stated = self._region_named()
        if stated is not None and self.profile is None:
            return stated
        if address is not None and not is_amazon(address) and self.profile is None:
            return _FALLBACK_REGION
        found = await thread(configured_region, self.profile)
        if found is None and stated is not None:
            return stated
        if found is None:
            msg = f"The transport {self.name!r} has no region."
            hint = "Set AWS_REGION, or give region='us-east-1'."
            raise ConfigurationError(msg, hint=hint, provider=self.name, code="no_region")
        return checked_region(found, "The region of the AWS profile")

    def _region_named(self) -> str | None:
        """The region that the environment names."""
        for name in _REGIONS:
            if os.environ.get(name):
                return checked_region(os.environ[name], name)
        return None

    def _runtime(self, region: str) -> str:
        fips, dual = self.options.fips, self.options.dual_stack
        return runtime_address(
            region,
            fips=_is_set("AWS_USE_FIPS_ENDPOINT") if fips is None else fips,
            dual_stack=_is_set("AWS_USE_DUALSTACK_ENDPOINT") if dual is None else dual,
        )

    async def _authorizer(self, region: str, thread: ThreadPort, *, own: bool) -> Authorize:
        bearer, keys = self._bearer, self._keys
        ambient = bearer is None and keys is None and own
        if ambient and self.profile is None:
            bearer = from_environment(_BEARER)
        if bearer is not None:
            return key_header(bearer)
        if keys is None and (ambient or self.profile is not None):
            keys = Chain(self.profile, thread, self.name)
        if keys is None:
            return _unsigned
        await thread(import_signing)
        return Signing(Signer(region), keys, thread)


_NO_OPTIONS = BedrockOptions()


def _given_keys(given: BedrockOptions) -> Credentials | None:
    if given.credentials is not None:
        return CalledFor(given.credentials)
    access = credential(given.access_key, "access_key")
    secret = credential(given.secret_key, "secret_key")
    token: Credential | None = credential(given.session_token, "session_token")
    return None if access is None or secret is None else GivenKeys(access, secret, token)


async def _unsigned(request: HTTPRequest) -> HTTPRequest:
    """Somebody else's address, to which nobody gave credentials."""
    return request


def _located(address: str, path: str, _: str) -> str:
    return address + path


def _is_set(name: str) -> bool:
    return os.environ.get(name, "").lower() == "true"
