"""Tokens that are no keys: of profiles and workload identities, looked for in Anthropic's order."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import attrs

from lamella._nothing import NOTHING
from lamella._ports import default_ports
from lamella_anthropic._bearer_tokens import AccessToken, BearerTokens
from lamella_anthropic._profiles import Profile, active_profile, chosen_profile, federation_of
from lamella_anthropic._token_endpoint import Federation, TokenEndpoint, must_be_safe

if TYPE_CHECKING:
    from lamella._ports import ThreadPort
    from lamella.transports._http import HTTPClient


@attrs.frozen(kw_only=True)
class Login:
    """What was found.

    Attributes:
        profile: A profile; None for a workload identity of variables alone.
        federation: Whom an identity token stands for; None where a token lies in a file.
    """

    profile: Profile | None = None
    federation: Federation | None = None

    @property
    def base_url(self) -> str | None:
        """The address that goes with it; None for none in particular."""
        return None if self.profile is None else self.profile.base_url

    @property
    def headers(self) -> Mapping[str, str]:
        """What its requests have besides."""
        return NOTHING if self.profile is None else self.profile.headers

    def tokens(
        self, client: HTTPClient, base_url: str, provider: str, agent: str, thread: ThreadPort
    ) -> BearerTokens:
        """Its tokens for an address.

        Raises:
            ConfigurationError: If they would go there in the clear.
        """
        must_be_safe(base_url)
        if self.federation is not None:
            endpoint = TokenEndpoint(
                client=client, base_url=base_url, provider=provider, agent=agent
            )
            return BearerTokens(partial(endpoint.exchange, self.federation))
        profile = self.profile
        assert profile is not None  # noqa: S101 - a login is one or the other

        async def read() -> AccessToken:
            return await thread(partial(profile.stored_token, default_ports().wall()))

        return BearerTokens(read)


def find_login(environ: Mapping[str, str]) -> Login | None:
    """The login that variables and files describe; None without one. Reads files.

    Raises:
        SecretError: If one was chosen that cannot be used.
    """
    profile = chosen_profile(environ)
    if profile is None:
        federation = federation_of(environ)
        if federation is not None:
            return Login(federation=federation)
        profile = active_profile(environ)
    if profile is None:
        return None
    return Login(profile=profile, federation=profile.federation)
