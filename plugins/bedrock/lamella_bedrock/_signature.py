"""Signature Version 4 over a request, by botocore.

Signed are the method, the path as it is sent, the host, the content type, the date and the body:
what a proxy on the way adds or changes besides does not break the signature.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from lamella._ports import default_ports
from lamella.transports._headers import encoded_headers

if TYPE_CHECKING:
    from lamella.transports._dialect import Headers
    from lamella.transports._http import HTTPRequest
    from lamella_bedrock._credentials import AWSCredentials

SERVICE: Final = "bedrock"
"""The service's name in signatures; its hosts go by `bedrock-runtime`."""

_STAMP: Final = "%Y%m%dT%H%M%SZ"


def import_signing() -> None:
    """Import what signing needs, which takes tens of milliseconds: to be done in a thread."""
    import_module("botocore.auth")
    import_module("botocore.awsrequest")


class Signer:
    """Signs requests to one region.

    Args:
        region: The region that the signature holds for.
        wall: Seconds since the epoch: AWS refuses what is more than some minutes off.
    """

    __slots__ = ("_region", "_wall")

    def __init__(self, region: str, wall: Callable[[], float] | None = None) -> None:
        self._region = region
        self._wall = wall or default_ports().wall

    def headers(self, request: HTTPRequest, credentials: AWSCredentials) -> Headers:
        """The headers that sign a request.

        Raises:
            ConfigurationError: If a credential cannot stand in a header.
        """
        stamp = datetime.fromtimestamp(self._wall(), UTC).strftime(_STAMP)
        signed = {"X-Amz-Date": stamp}
        if credentials.session_token:
            signed["X-Amz-Security-Token"] = credentials.session_token
        kind = next((v for name, v in request.headers if name.lower() == b"content-type"), None)
        given = signed if kind is None else {**signed, "Content-Type": kind.decode("ascii")}
        asked: Any = import_module("botocore.awsrequest").AWSRequest(
            method=request.method, url=request.url, headers=given, data=request.body
        )
        asked.context["timestamp"] = stamp
        auth: Any = import_module("botocore.auth").SigV4Auth(credentials, SERVICE, self._region)
        words = auth.string_to_sign(asked, auth.canonical_request(asked))
        names = auth.signed_headers(auth.headers_to_sign(asked))
        proof = auth.signature(words, asked)
        signed["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={auth.scope(asked)}, SignedHeaders={names}, "
            f"Signature={proof}"
        )
        return encoded_headers(signed)
