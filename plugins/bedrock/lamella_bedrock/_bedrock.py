"""The transport to Amazon Bedrock."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio
import attrs

from lamella._embeddings import EmbeddingRequest, EmbeddingResponse
from lamella._errors import ConfigurationError, LamellaError
from lamella._nothing import NOTHING
from lamella._requests import Request
from lamella._responses import Response
from lamella.transports._credentials import (
    Credential,
    Key,
    credential,
    from_environment,
)
from lamella.transports._dialect import Dialect
from lamella.transports._headers import static_headers, user_agent
from lamella.transports._http_transport import HTTPTransport, TransportOptions, key_header
from lamella.transports._place import Place
from lamella_bedrock._converse import Converse, CountTokens
from lamella_bedrock._credentials import (
    CalledFor,
    Chain,
    Credentials,
    CredentialsSource,
    GivenKeys,
    configured_region,
)
from lamella_bedrock._embeddings import BedrockEmbeddings, pieces_of
from lamella_bedrock._endpoint import (
    checked_region,
    is_amazon,
    own_address,
    region_in,
    runtime_address,
)
from lamella_bedrock._models import ModelNames
from lamella_bedrock._signature import Signer, import_signing

if TYPE_CHECKING:
    from lamella._ports import ThreadPort
    from lamella.transports._exchange import Authorize
    from lamella.transports._http import HTTPRequest

R = TypeVar("R", bound=Response)

EMBEDDINGS_AT_ONCE: Final = 8
"""Requests under way at once for one embedding request that had to be divided."""

_BEARER: Final = ("AWS_BEARER_TOKEN_BEDROCK",)
_ADDRESSES: Final = ("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "AWS_ENDPOINT_URL")
_REGIONS: Final = ("AWS_REGION", "AWS_DEFAULT_REGION")
_FALLBACK_REGION: Final = "us-east-1"
_LARGE_BYTES: Final = 1024 * 1024
"""A body that takes milliseconds to sign, which is done in a thread."""


@attrs.frozen(kw_only=True)
class BedrockOptions(TransportOptions):
    """What is rarely said of a `Bedrock` transport, besides `TransportOptions`.

    Its `name` and `card_provider` are `"bedrock"` if none are given.

    Attributes:
        api_key: A Bedrock API key, sent as a bearer token in place of a signature: itself, a
            reference (`"env:NAME"`, `"file:PATH"`), or a function, plain or async, that gives it.
        access_key: The id of an access key, given as `api_key` is. Together with `secret_key`.
        secret_key: Its secret, which signs requests and is never sent.
        session_token: The token of temporary credentials; None for lasting ones.
        credentials: A function, plain or async, that gives `AWSCredentials` for each request; it
            keeps them itself for as long as they hold.
        base_models: What is behind ids that do not say it: the ARN of an application inference
            profile, of provisioned throughput or of a deployment, and the vendor's id of its model.
            Its card, its family's words and its body for embeddings go by that.
        fips: Whether the endpoint is the one with validated cryptography. None goes by
            `AWS_USE_FIPS_ENDPOINT`.
        dual_stack: Whether the endpoint is the one that can be reached over IPv6, too. None goes by
            `AWS_USE_DUALSTACK_ENDPOINT`.
    """

    api_key: Key | None = attrs.field(default=None, repr=False)
    access_key: Key | None = attrs.field(default=None, repr=False)
    secret_key: Key | None = attrs.field(default=None, repr=False)
    session_token: Key | None = attrs.field(default=None, repr=False)
    credentials: CredentialsSource | None = attrs.field(default=None, repr=False)
    base_models: Mapping[str, str] = attrs.field(default=NOTHING, hash=False)
    fips: bool | None = None
    dual_stack: bool | None = None

    def __attrs_post_init__(self) -> None:
        """Refuse credentials that do not fit together."""
        if (self.access_key is None) != (self.secret_key is None):
            msg = "BedrockOptions has only one of access_key and secret_key."
            raise ConfigurationError(msg, hint="Give both, or neither.")
        if self.session_token is not None and self.access_key is None:
            msg = "BedrockOptions has a session_token without access_key and secret_key."
            raise ConfigurationError(msg, hint="Give all three.")
        ways = [self.api_key, self.access_key, self.credentials]
        if sum(way is not None for way in ways) > 1:
            msg = "BedrockOptions has more than one of api_key, access_key and credentials."
            raise ConfigurationError(msg, hint="Give one; a request is signed in one way.")


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
                answers = await self._all(pieces)
                return seen.merge(answers)  # type: ignore[return-value] # pyright: ignore[reportReturnType]
        return await super().__call__(request)

    @property
    def card_provider(self) -> str | None:
        """Whose model cards hold for the models there."""
        return self.options.card_provider or "bedrock"

    # --- embeddings of many texts ------------------------------------------------------------

    async def _all(self, pieces: tuple[EmbeddingRequest, ...]) -> list[EmbeddingResponse]:
        """The answers to all, in order; the first error ends the others."""
        found: list[EmbeddingResponse | None] = [None] * len(pieces)
        left = iter(enumerate(pieces))
        failed: list[LamellaError] = []

        async def work(scope: anyio.CancelScope) -> None:
            for index, piece in left:
                try:
                    found[index] = await super(Bedrock, self).__call__(_keyed(piece, index))
                except LamellaError as error:
                    failed.append(error)
                    scope.cancel()
                    return

        async with anyio.create_task_group() as group:
            for _ in range(min(EMBEDDINGS_AT_ONCE, len(pieces))):
                group.start_soon(work, group.cancel_scope)
        answers = [answer for answer in found if answer is not None]
        if failed:
            raise _with_spent(failed[0], answers)
        return answers

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
        for name in _REGIONS:
            if self.profile is None and os.environ.get(name):
                return checked_region(os.environ[name], name)
        if address is not None and not is_amazon(address) and self.profile is None:
            return _FALLBACK_REGION
        found = await thread(configured_region, self.profile)
        if found is None:
            msg = f"The transport {self.name!r} has no region."
            hint = "Set AWS_REGION, or give region='us-east-1'."
            raise ConfigurationError(msg, hint=hint, provider=self.name, code="no_region")
        return checked_region(found, "The region of the AWS profile")

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
        return _signing(Signer(region), keys, thread)


_NO_OPTIONS = BedrockOptions()


def _given_keys(given: BedrockOptions) -> Credentials | None:
    if given.credentials is not None:
        return CalledFor(given.credentials)
    access = credential(given.access_key, "access_key")
    secret = credential(given.secret_key, "secret_key")
    token: Credential | None = credential(given.session_token, "session_token")
    return None if access is None or secret is None else GivenKeys(access, secret, token)


def _signing(signer: Signer, keys: Credentials, thread: ThreadPort) -> Authorize:
    async def authorize(request: HTTPRequest) -> HTTPRequest:
        found = await keys.fetch()
        if len(request.body) > _LARGE_BYTES:
            return request.with_headers(await thread(signer.headers, request, found))
        return request.with_headers(signer.headers(request, found))

    return authorize


async def _unsigned(request: HTTPRequest) -> HTTPRequest:
    """Somebody else's address, to which nobody gave credentials."""
    return request


def _located(address: str, path: str, _: str) -> str:
    return address + path


def _keyed(piece: EmbeddingRequest, index: int) -> EmbeddingRequest:
    """A piece under an idempotency key of its own, which promises that requests are the same."""
    context = piece.context
    key = context.idempotency_key
    if key is None:
        return piece
    return piece.evolve(context=context.evolve(idempotency_key=f"{key}/{index}"))


def _with_spent(error: LamellaError, answers: list[EmbeddingResponse]) -> LamellaError:
    """The error, with what the pieces that were answered have cost."""
    spent: Any = error.usage
    for answer in answers:
        if answer.usage is not None:
            spent = answer.usage if spent is None else spent + answer.usage
    return error if spent is None else error.copy(usage=spent)


def _is_set(name: str) -> bool:
    return os.environ.get(name, "").lower() == "true"
