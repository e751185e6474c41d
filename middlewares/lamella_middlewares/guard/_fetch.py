"""Fetching a picture or document: to the checked number, within bounds, from hop to hop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import quote, urljoin

import attrs

from lamella import (
    ClosedError,
    ConfigurationError,
    DeadlineExceeded,
    LamellaError,
    Ports,
    ResponseTooLargeError,
)
from lamella_middlewares.guard._hosts import Address, Refused

if TYPE_CHECKING:
    from ssl import SSLContext

    from lamella.transports._http import HTTPReply

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

_ASKED: Final = (
    (b"Accept", b"*/*"),
    (b"Accept-Encoding", b"identity"),
    (b"User-Agent", b"lamella"),
)
_UNKNOWN: Final = frozenset({"", "application/octet-stream", "binary/octet-stream"})
_BEGINNINGS: Final[Mapping[bytes, str]] = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
    b"%PDF-": "application/pdf",
}
_ENDINGS_OF_A_CALL: Final = (ClosedError, DeadlineExceeded, ConfigurationError)

Check: TypeAlias = Callable[[str], Awaitable[tuple[Address, Sequence[str]]]]
"""Reads an address and gives the numbers to connect to."""


@attrs.frozen
class Fetched:
    """What was at an address.

    Attributes:
        data: Its bytes.
        media_type: What it is, in lower case and without parameters.
    """

    data: bytes = attrs.field(repr=False)
    media_type: str


@attrs.frozen(kw_only=True)
class Bounds:
    """How far a fetch may go.

    Attributes:
        max_bytes: The most bytes of one answer.
        max_redirects: The most hops after the first.
        media_types: What is taken: `image/png`, or `image/*`.
        authorities: A file of authorities in PEM, in place of the usual ones.
    """

    max_bytes: int
    max_redirects: int
    media_types: tuple[str, ...]
    authorities: str | None


async def fetch(
    url: str,
    check: Check,
    bounds: Bounds,
    ports: Ports,
) -> Fetched:
    """What is at an address.

    Args:
        url: The address.
        check: Asked for each hop again.
        bounds: How far to go.
        ports: The doors of the call.

    Raises:
        Refused: If it may not be fetched, or is nothing that is taken.
        LamellaError: If the call itself ends.
    """
    for _ in range(bounds.max_redirects + 1):
        address, numbers = await check(url)
        try:
            found = await _hop(address, numbers, bounds, ports)
        except ResponseTooLargeError:
            raise Refused("too_large") from None
        except _ENDINGS_OF_A_CALL:
            raise
        except LamellaError:
            raise Refused("unreachable") from None
        if isinstance(found, Fetched):
            return found
        url = next_hop(address.url, found)
    raise Refused("too_many_redirects")


def next_hop(url: str, location: str) -> str:
    """Where an address sends on to.

    Raises:
        Refused: If that is no address.
    """
    try:
        return urljoin(url, location)
    except ValueError:
        raise Refused("malformed") from None


async def _hop(
    address: Address, numbers: Sequence[str], bounds: Bounds, ports: Ports
) -> Fetched | str:
    """The answer of one address, or the address that it sends on to."""
    from lamella.transports._http import HTTPOptions, HTTPRequest
    from lamella.transports._httpx_client import PooledHTTPClient

    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return numbers  # checked; whatever the name leads to by now

    options = HTTPOptions(
        max_body_bytes=bounds.max_bytes,
        max_idle=0,
        trust_env=False,  # a proxy would look the name up once more, by itself
        verify=await _tls(address, bounds, ports),
        resolve=resolve,
    )
    client = PooledHTTPClient(options, thread=ports.thread)
    try:
        request = HTTPRequest(method="GET", url=sendable(address.url), headers=_ASKED,
                              provider=address.host)  # fmt: skip
        reply = await client.send(request)
        try:
            return await _taken(reply, bounds)
        finally:
            await reply.aclose()
    finally:
        await client.aclose()


async def _tls(address: Address, bounds: Bounds, ports: Ports) -> SSLContext | bool:
    """The settings of TLS, read from files once for each process."""
    if address.scheme != "https":
        return True
    kept: dict[str | None, SSLContext] = ports.stores.local.get(
        ("lamella", "guard", "tls"), dict[str | None, "SSLContext"]
    )
    context = kept.get(bounds.authorities)
    if context is None:
        from lamella.transports._http import HTTPOptions
        from lamella.transports._http_library import ssl_context

        verify = True if bounds.authorities is None else bounds.authorities
        context = await ports.thread(ssl_context, HTTPOptions(verify=verify))
        kept[bounds.authorities] = context
    return context


def sendable(url: str) -> str:
    """The address without its fragment, and in ASCII."""
    return quote(url.partition("#")[0], safe="%/:=&?~#+!$,;'@()*[]")


async def _taken(reply: HTTPReply, bounds: Bounds) -> Fetched | str:
    if reply.status in REDIRECTS:
        location = reply.headers.get("location", "")
        if not location:
            raise Refused("unreachable")
        return location
    if reply.status != 200:
        raise Refused("unreachable")
    said = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    if said not in _UNKNOWN and not is_taken(said, bounds.media_types):
        raise Refused("media_type")
    length = reply.headers.get("content-length", "")
    if length.isdecimal() and int(length) > bounds.max_bytes:
        raise Refused("too_large")
    pieces: list[bytes] = []
    with suppress(StopAsyncIteration):
        while True:
            pieces.append(await reply.__anext__())
    data = b"".join(pieces)
    return Fetched(data, _media_type(said, data, bounds.media_types))


def _media_type(said: str, data: bytes, wanted: Collection[str]) -> str:
    """What it is, by its word and by its first bytes, which must not disagree."""
    looks = next((kind for start, kind in _BEGINNINGS.items() if data.startswith(start)), None)
    if looks is None and data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        looks = "image/webp"
    known = said in _BEGINNINGS.values() or said == "image/webp"
    if known and looks != said:
        raise Refused("media_type")
    if looks is not None or said in _UNKNOWN:
        said = looks or ""
    if not said or not is_taken(said, wanted):
        raise Refused("media_type")
    return said


def is_taken(media_type: str, wanted: Collection[str]) -> bool:
    """Whether a media type is one of these: `image/png` itself, or one of `image/*`."""
    return any(
        media_type.startswith(one[:-1]) if one.endswith("/*") else media_type == one
        for one in wanted
    )
