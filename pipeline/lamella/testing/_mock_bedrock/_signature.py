"""Who may use the mock of Bedrock: Signature Version 4 made again from the request, and API keys.

See "Create a signed AWS API request" in the reference of AWS Identity and Access Management. The
time of a signature is not held against a clock, of which this server has none.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection, Mapping
from hashlib import sha256
from typing import Final
from urllib.parse import quote, unquote

import attrs

from lamella._mock_rejections import Rejection
from lamella.testing._http_wire import Received

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_SERVICE: Final = "bedrock"
_AUTHORIZATION: Final = re.compile(
    r"AWS4-HMAC-SHA256\s+Credential=(?P<credential>[^,\s]+)\s*,"
    r"\s*SignedHeaders=(?P<headers>[^,\s]+)\s*,\s*Signature=(?P<signature>[0-9a-f]{64})"
)
_BEFORE_PATH: Final = re.compile(r"[a-z]+://[^/?]*", re.IGNORECASE)
_BLANKS: Final = re.compile(r"[ \t]+")
_DATE: Final = re.compile(r"\d{8}T\d{6}Z")


@attrs.frozen
class _Identity:
    """Whose signatures are accepted.

    Attributes:
        secret: The key that they are made with.
        token: The session token that must come with them; empty for none.
    """

    secret: str = attrs.field(repr=False)
    token: str = attrs.field(default="", repr=False)


def check_identity(received: Received, keys: Collection[str]) -> None:
    """Refuse who has no key.

    Args:
        received: The request, its target as it came.
        keys: The keys that are accepted; empty accepts everybody. With colons it is an access key
            id, its secret and perhaps a session token, otherwise an API key.

    Raises:
        Rejection: If the key or the signature is not accepted.
    """
    if not keys:
        return
    given = received.headers.get("authorization", "")
    scheme, _, bearer = given.partition(" ")
    if not given:
        raise Rejection(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
    if scheme.lower() == "bearer":
        if bearer.strip() not in {key for key in keys if ":" not in key}:
            message = "Authentication failed: Please make sure your API Key is valid."
            raise Rejection(403, "AccessDeniedException", message)
        return
    if scheme != _ALGORITHM:
        message = "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature'."
        raise Rejection(403, "IncompleteSignatureException", message)
    _check_signature(received, given, _identities(keys))


def _identities(keys: Collection[str]) -> Mapping[str, _Identity]:
    split = [key.split(":", 2) for key in keys if ":" in key]
    return {name: _Identity(*secrets) for name, *secrets in split}


def _check_signature(
    received: Received, authorization: str, identities: Mapping[str, _Identity]
) -> None:
    found = _AUTHORIZATION.fullmatch(authorization)
    if found is None:
        message = "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature'."
        raise Rejection(403, "IncompleteSignatureException", message)
    scope = found["credential"].split("/")
    if len(scope) != 5 or scope[4] != "aws4_request":
        message = "Credential must have exactly 5 slash-delimited elements."
        raise Rejection(403, "IncompleteSignatureException", message)
    name, day, region, service, _ = scope
    identity = identities.get(name)
    token = received.headers.get("x-amz-security-token", "")
    if identity is None or not hmac.compare_digest(identity.token.encode(), token.encode()):
        raise Rejection(403, "UnrecognizedClientException", "")
    if service != _SERVICE:
        raise _bad(f"Credential should be scoped to correct service: '{_SERVICE}'.")
    date = received.headers.get("x-amz-date", "")
    if not _DATE.fullmatch(date) or not date.startswith(day):
        raise _bad("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date")
    signed = found["headers"].split(";")
    missing = _unsigned(received, signed)
    if missing:
        raise _bad(f"'{missing[0]}' must be a 'SignedHeader' in the AWS Authorization.")
    request = canonical_request(received, signed)
    text = "\n".join(
        [_ALGORITHM, date, f"{day}/{region}/{service}/aws4_request", sha256(request).hexdigest()]
    )
    key = f"AWS4{identity.secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    wanted = hmac.digest(key, text.encode(), "sha256").hex()
    if not hmac.compare_digest(wanted, found["signature"]):
        raise _bad(
            "The request signature we calculated does not match the signature you provided. Check "
            "your AWS Secret Access Key and signing method. Consult the service documentation for "
            "details."
        )


def _bad(message: str) -> Rejection:
    return Rejection(403, "InvalidSignatureException", message)


def _unsigned(received: Received, signed: Collection[str]) -> list[str]:
    """The headers that must be signed and are not."""
    wanted = ["host", *[name for name in received.headers if name.startswith("x-amz-")]]
    return [name for name in wanted if name not in signed]


def raw_target(received: Received) -> str:
    """Path and query as they came, without the scheme and the host that may stand before them."""
    return _BEFORE_PATH.sub("", received.target, count=1)


def canonical_request(received: Received, signed: Collection[str]) -> bytes:
    """What is signed.

    Args:
        received: The request. Its target counts as it came, so that what is escaped in it is
            escaped once more here.
        signed: The names of the headers that are signed, in lower case, sorted.
    """
    path, _, query = raw_target(received).partition("?")
    headers = "".join(
        f"{name}:{','.join(_folded(value) for value in received.headers.get_all(name))}\n"
        for name in signed
    )
    lines = [
        received.method,
        quote(_without_dots(path), safe="/~"),
        _sorted_query(query),
        headers,
        ";".join(signed),
        sha256(received.body).hexdigest(),
    ]
    return "\n".join(lines).encode("latin-1")


def _folded(value: str) -> str:
    return _BLANKS.sub(" ", value).strip(" ")


def _without_dots(path: str) -> str:
    """A path without empty and dotted segments."""
    found: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del found[-1:]
        elif segment not in {"", "."}:
            found.append(segment)
    end = "/" if path.endswith("/") and found else ""
    return f"/{'/'.join(found)}{end}"


def _sorted_query(query: str) -> str:
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    escaped = [(_escaped(name), _escaped(value)) for name, _, value in pairs]
    return "&".join(f"{name}={value}" for name, value in sorted(escaped))


def _escaped(text: str) -> str:
    return quote(unquote(text), safe="~")
