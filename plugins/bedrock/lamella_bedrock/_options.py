"""What is rarely said of the transport to Amazon Bedrock."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from lamella._errors import ConfigurationError
from lamella._nothing import NOTHING
from lamella.transports._credentials import Key
from lamella.transports._http_transport import TransportOptions
from lamella_bedrock._credentials import CredentialsSource


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
