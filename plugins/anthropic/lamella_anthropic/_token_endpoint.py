"""Workload identity: an identity token of somebody else's, exchanged for one of Anthropic's.

The grant is RFC 7523's `jwt-bearer`. Nothing of what the endpoint answers is repeated in messages:
it may echo what it was sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import attrs
import msgspec

from lamella._errors import AuthenticationError, ConfigurationError, LamellaError
from lamella._ports import default_ports
from lamella._secrets import Secret
from lamella.transports._headers import encoded_headers
from lamella.transports._http import HTTPClient, HTTPRequest
from lamella.transports._http_errors import request_id, status_error
from lamella.transports._stream_source import read_some
from lamella.transports._wire_json import json_object, nonsense, text_of
from lamella_anthropic._bearer_tokens import AccessToken

PATH: Final = "/v1/oauth/token"
GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
BETA: Final = "oidc-federation-2026-04-01"
"""The beta of the exchange itself."""

MAX_IDENTITY_BYTES: Final = 16 * 1024
_MAX_ANSWER_BYTES: Final = 1 << 20
_SECONDS: Final = 30.0
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@attrs.frozen(kw_only=True)
class Federation:
    """Whom an identity token stands for.

    Attributes:
        identity: Where the identity token is; it is read for each exchange, as it rotates.
        rule: The id of the federation rule.
        organization: The organisation's id.
        service_account: The service account's id; None leaves it to the rule.
        workspace: The workspace's id; None leaves it to the rule.
    """

    identity: Secret
    rule: str
    organization: str
    service_account: str | None = None
    workspace: str | None = None

    def body(self, assertion: str) -> Mapping[str, str]:
        """What the endpoint is asked."""
        optional = {"service_account_id": self.service_account, "workspace_id": self.workspace}
        return {
            "grant_type": GRANT,
            "assertion": assertion,
            "federation_rule_id": self.rule,
            "organization_id": self.organization,
            **{name: value for name, value in optional.items() if value},
        }


def must_be_safe(base_url: str) -> None:
    """Refuse an address to which tokens would go in the clear, unless it is this machine's.

    Raises:
        ConfigurationError: If it is one.
    """
    parts = urlsplit(base_url)
    if parts.scheme != "https" and parts.hostname not in _LOCAL:
        msg = "Tokens of a login or an identity are sent over https only."
        raise ConfigurationError(msg, hint="Give a base_url that begins with https://.")


@attrs.frozen(kw_only=True)
class TokenEndpoint:
    """Where tokens are exchanged: at the API's own address, for which alone they are good.

    Attributes:
        client: The HTTP port.
        base_url: The API's address.
        provider: The transport's name, for messages.
        agent: Who we say we are.
    """

    client: HTTPClient
    base_url: str
    provider: str
    agent: str

    async def exchange(self, federation: Federation) -> AccessToken:
        """A token for an identity.

        Raises:
            AuthenticationError: If the endpoint does not take the identity.
            LamellaError: Whatever else goes wrong.
        """
        assertion = (await federation.identity.fetch()).strip()
        if len(assertion) > MAX_IDENTITY_BYTES:
            msg = f"The identity token of {federation.identity!r} is too long to be one."
            raise ConfigurationError(msg, hint="It is a JWT, not a key or a certificate.")
        draft = HTTPRequest(
            method="POST",
            url=f"{self.base_url}{PATH}",
            headers=encoded_headers(
                {
                    "Content-Type": "application/json",
                    "User-Agent": self.agent,
                    "anthropic-beta": BETA,
                }
            ),
            body=msgspec.json.encode(federation.body(assertion)),
            provider=self.provider,
            connect=_SECONDS,
            write=_SECONDS,
        )
        reply = await self.client.send(draft)
        try:
            body = await read_some(reply, _MAX_ANSWER_BYTES, _SECONDS)
        finally:
            await reply.aclose()
        if reply.status != 200:
            raise self._refused(reply.status, reply.headers)
        return self._token(body)

    def _refused(self, status: int, headers: Mapping[str, str]) -> LamellaError:
        known = request_id(headers)
        if status == 429 or status >= 500:
            error = status_error(status, b"", headers, provider=self.provider)
            return error.copy(request_id=known)
        return AuthenticationError(
            f"{self.provider} did not exchange the identity token (status {status}).",
            hint="Look whether the federation rule matches the token, and names one workspace.",
            provider=self.provider,
            status=status,
            request_id=known,
        )

    def _token(self, body: bytes) -> AccessToken:
        what = "an answer to an identity token"
        answer = json_object(body, what, provider=self.provider)
        value, seconds = text_of(answer, "access_token"), answer.get("expires_in")
        kind = text_of(answer, "token_type") or "bearer"
        if value is None or kind.lower() != "bearer" or not isinstance(seconds, int | float):
            raise nonsense(what, "no bearer token with its end", provider=self.provider)
        return AccessToken(value, default_ports().wall() + float(seconds))
