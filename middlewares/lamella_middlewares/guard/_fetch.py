"""Fetching a picture or document: to the checked number, within bounds, from hop to hop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias
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
from lamella._options import refused, whole
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


MEDIA_TYPES: Final = (
    "image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf", "text/plain",
)  # fmt: skip
"""What is fetched unless somebody says otherwise."""


def _lower(given: Any) -> Any:
    if isinstance(given, str):
        return given  # and refused
    return tuple([one.lower() if isinstance(one, str) else one for one in given])


def _are_words(record: Any, option: attrs.Attribute[Any], value: Any) -> None:
    if (
        not value
        or isinstance(value, str)
        or not all(isinstance(one, str) and one for one in value)
    ):
        raise refused(record, option, value, "a list of types, such as ['image/png', 'image/*']")


def _holds_authorities(record: Any, option: attrs.Attribute[Any], value: Any) -> None:
    """A file that is none is refused at once, not when the first address comes."""
    if value is None:
        return
    from lamella.transports._http import HTTPOptions
    from lamella.transports._http_library import ssl_context

    want = "the path of a file that is there and holds PEM"
    if not isinstance(value, str):
        raise refused(record, option, value, want)
    try:
        ssl_context(HTTPOptions(verify=value))
    except ConfigurationError as error:
        raise refused(record, option, value, want) from error


@attrs.frozen(kw_only=True)
class Fetching:
    """How the guard fetches what a request links to.

    Args:
        max_bytes: Bytes of one answer, 1 or more.
        max_redirects: Hops from one address to the next, each checked, 0 or more.
        media_types: What is taken: `image/png`, or `image/*`.
        authorities: A file of authorities in PEM, in place of the usual ones.

    Raises:
        ConfigurationError: If an option is wrong.
    """

    max_bytes: int = attrs.field(default=10 * 1024 * 1024, validator=whole(1))
    max_redirects: int = attrs.field(default=3, validator=whole(0))
    media_types: tuple[str, ...] = attrs.field(
        default=MEDIA_TYPES, converter=_lower, validator=_are_words
    )
    authorities: str | None = attrs.field(default=None, validator=_holds_authorities)


async def fetch(
    url: str,
    check: Check,
    how: Fetching,
    ports: Ports,
) -> Fetched:
    """What is at an address.

    Args:
        url: The address.
        check: Asked for each hop again.
        how: Within which bounds.
        ports: The doors of the call.

    Raises:
        Refused: If it may not be fetched, or is nothing that is taken.
        LamellaError: If the call itself ends.
    """
    for _ in range(how.max_redirects + 1):
        address, numbers = await check(url)
        try:
            found = await _hop(address, numbers, how, ports)
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
    address: Address, numbers: Sequence[str], how: Fetching, ports: Ports
) -> Fetched | str:
    """The answer of one address, or the address that it sends on to."""
    from lamella.transports._http import HTTPOptions, HTTPRequest
    from lamella.transports._httpx_client import PooledHTTPClient

    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return numbers  # checked; whatever the name leads to by now

    options = HTTPOptions(
        max_body_bytes=how.max_bytes,
        max_idle=0,
        trust_env=False,  # a proxy would look the name up once more, by itself
        verify=await _tls(address, how, ports),
        resolve=resolve,
    )
    client = PooledHTTPClient(options, thread=ports.thread)
    try:
        request = HTTPRequest(method="GET", url=sendable(address.url), headers=_ASKED,
                              provider=address.host)  # fmt: skip
        reply = await client.send(request)
        try:
            return await _taken(reply, how)
        finally:
            await reply.aclose()
    finally:
        await client.aclose()


async def _tls(address: Address, how: Fetching, ports: Ports) -> SSLContext | bool:
    """The settings of TLS, read from files once for each process."""
    if address.scheme != "https":
        return True
    kept: dict[str | None, SSLContext] = ports.stores.local.get(
        ("lamella", "guard", "tls"), dict[str | None, "SSLContext"]
    )
    context = kept.get(how.authorities)
    if context is None:
        from lamella.transports._http import HTTPOptions
        from lamella.transports._http_library import ssl_context

        verify = True if how.authorities is None else how.authorities
        context = await ports.thread(ssl_context, HTTPOptions(verify=verify))
        kept[how.authorities] = context
    return context


def sendable(url: str) -> str:
    """The address without its fragment, and in ASCII."""
    return quote(url.partition("#")[0], safe="%/:=&?~#+!$,;'@()*[]")


async def _taken(reply: HTTPReply, how: Fetching) -> Fetched | str:
    if reply.status in REDIRECTS:
        location = reply.headers.get("location", "")
        if not location:
            raise Refused("unreachable")
        return location
    if reply.status != 200:
        raise Refused("unreachable")
    said = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    if said not in _UNKNOWN and not is_taken(said, how.media_types):
        raise Refused("media_type")
    length = reply.headers.get("content-length", "")
    if length.isdecimal() and int(length) > how.max_bytes:
        raise Refused("too_large")
    pieces: list[bytes] = []
    with suppress(StopAsyncIteration):
        while True:
            pieces.append(await reply.__anext__())
    data = b"".join(pieces)
    return Fetched(data, _media_type(said, data, how.media_types))


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
