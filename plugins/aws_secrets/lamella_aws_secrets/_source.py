"""Reading secrets over the library's own HTTP port, signed by botocore."""

from __future__ import annotations

import os
from typing import Any, Final

import anyio
import attrs

from lamella import ConfigurationError, LamellaError, SecretError
from lamella._closing import CLEANUP_SECONDS
from lamella._options import span
from lamella._ports import default_ports
from lamella.transports._addresses import checked_address
from lamella.transports._http import HTTPClient, HTTPOptions, HTTPReply, HTTPRequest
from lamella.transports._httpx_client import PooledHTTPClient
from lamella.transports._stream_source import read_all
from lamella_aws_secrets._answers import CREDENTIALS, kind_of, read
from lamella_aws_secrets._reference import parsed
from lamella_aws_secrets._signing import Place, Signer

_MAX_BYTES: Final = 1 << 20
_EXAMPLE: Final = "https://secretsmanager.eu-west-1.amazonaws.com"


def _is_address(_: object, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None:
        checked_address(value, f"AWSSecrets({option.name}=...)", _EXAMPLE)


def _signer(source: AWSSecrets) -> Signer:
    return Signer(Place(source.region, source.profile, source.endpoint))


@attrs.frozen(kw_only=True, eq=False)
class AWSSecrets:
    """A source of secrets; what is not given is found as AWS's own programs find it.

    Called with what stands behind `aws-secrets:`. Give another one a name of its own with
    `lamella.registry().add(secret_sources={"aws-eu": AWSSecrets(region="eu-west-1")})`.

    Attributes:
        region: The region of secrets that are not referred to by ARN. None is `AWS_REGION`, or the
            profile's.
        profile: The profile of the shared files; None is `AWS_PROFILE`, or botocore's chain.
        endpoint: The address. None is `AWS_ENDPOINT_URL_SECRETS_MANAGER`, `AWS_ENDPOINT_URL`, or
            the region's.
        timeout: Seconds for one request, connecting included; above 0.
        client: Sends requests, in place of a client of its own.
    """

    region: str | None = None
    profile: str | None = None
    endpoint: str | None = attrs.field(default=None, validator=_is_address)
    timeout: float = attrs.field(default=10.0, validator=span)
    client: HTTPClient | None = None
    _signer: Signer = attrs.field(
        init=False, default=attrs.Factory(_signer, takes_self=True), repr=False
    )

    async def __call__(self, reference: str, /) -> str:
        """The value of a secret, or of a field of it.

        Args:
            reference: What stands behind `aws-secrets:`.

        Raises:
            SecretError: If it cannot be had. Neither values nor AWS's own words are in it.
        """
        wanted = parsed(reference)
        thread = default_ports().thread
        status, body = await self._send(await thread(self._signer.signed, wanted, self.timeout))
        if status != 200 and kind_of(body) in CREDENTIALS:
            self._signer.forget()  # they may have been exchanged in their file meanwhile
            status, body = await self._send(await thread(self._signer.signed, wanted, self.timeout))
        value, problem = read(status, body, wanted)
        if problem is not None:
            del body, value  # what shows tracebacks with their variables shows no secret
            raise problem
        return value

    async def _send(self, request: HTTPRequest) -> tuple[int, bytes]:
        problem = SecretError(
            f"AWS Secrets Manager did not answer in {self.timeout:g} s.",
            hint="Look whether it can be reached from here.",
            retryable=True,
            elsewhere=True,
        )
        with anyio.move_on_after(self.timeout):
            try:
                return await self._answer(request)
            except ConfigurationError:
                raise
            except LamellaError as error:
                kind = type(error).__name__
                problem = SecretError(
                    f"AWS Secrets Manager could not be asked ({kind}).",
                    hint="Look at the region and the endpoint, and whether it can be reached.",
                    retryable=error.retryable,
                    elsewhere=True,
                )
        raise problem

    async def _answer(self, request: HTTPRequest) -> tuple[int, bytes]:
        # Minutes pass between two requests: no connection is worth keeping.
        own = self.client is None
        client = self.client or PooledHTTPClient(_http_options())
        reply: HTTPReply | None = None
        try:
            reply = await client.send(request)
            return reply.status, await read_all(reply)
        finally:
            with anyio.move_on_after(CLEANUP_SECONDS, shield=True):
                if reply is not None:
                    await reply.aclose()
                if own:
                    await client.aclose()


def _http_options() -> HTTPOptions:
    authorities = os.environ.get("AWS_CA_BUNDLE") or True
    return HTTPOptions(verify=authorities, max_body_bytes=_MAX_BYTES, max_idle=0)


aws_secrets = AWSSecrets()
"""The source of `aws-secrets:...`: all as the environment says."""
