"""What an address of the web leads to: read in one way, strictly, and judged by its numbers.

Whoever checks an address and whoever fetches it may read it differently: `0177.0.0.1`,
`2130706433`, a full-width digit or `[::ffff:127.0.0.1]` are the loopback to some. So what is odd is
refused, and what can be written in several ways is written in the usual one (the rules of the URL
standard of WHATWG, sections 3.5 and 4.4), which is what goes on to the provider.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final, TypeAlias

import attrs

Network: TypeAlias = IPv4Network | IPv6Network
Number: TypeAlias = IPv4Address | IPv6Address

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_URL: Final = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]+)(?P<rest>[/?#].*)?"
)
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_ODD: Final = re.compile(r"[\x00-\x20\x7f-\x9f\\\u2028\u2029\ud800-\udfff]")
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+")
_OCTAL: Final = re.compile(r"[0-7]*")
_LONGEST: Final = 253
"""Characters of a host's name (RFC 1035, without its dot at the end)."""

_LOCAL_NAMES: Final = (
    "localhost", "local", "internal", "intranet", "lan", "home.arpa", "onion", "test", "invalid",
)  # fmt: skip
"""Names that lead to nobody in public (RFC 6761, RFC 6762, RFC 8375, ICANN's `internal`)."""

_NOT_PUBLIC: Final[tuple[Network, ...]] = tuple(
    [
        ip_network(text)
        for text in (
            # IANA's registries of special-purpose addresses; Python's own tables vary by release.
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
            "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
            "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
            "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
        )
    ]
)  # fmt: skip
_PUBLIC_6: Final = IPv6Network("2000::/3")
_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_NAT64: Final = IPv6Network("64:ff9b::/96")


class Refused(Exception):
    """An address that is not to be fetched.

    Attributes:
        reason: Why, as a word.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@attrs.frozen
class Address:
    """An address of HTTP, read.

    Attributes:
        url: As it is to be fetched: host and port in the usual form, the rest as it was.
        scheme: `"http"` or `"https"`.
        host: Its name in ASCII, or its number; without a dot at the end and without brackets.
        port: Its port.
        number: Its number, if it is one.
    """

    url: str
    scheme: str
    host: str
    port: int
    number: Number | None


def scheme_of(url: str) -> str:
    """The scheme, in lower case.

    Raises:
        Refused: If there is none.
    """
    found = _SCHEME.match(url)
    if found is None:
        raise Refused("malformed")
    return found[1].lower()


def read(url: str) -> Address:
    """An address of HTTP.

    Raises:
        Refused: If it is none that everybody reads in the same way, or holds a user.
    """
    found = _URL.fullmatch(url)
    if found is None or _ODD.search(url):
        raise Refused("malformed")
    scheme, authority = found["scheme"].lower(), found["authority"]
    if "@" in authority:
        raise Refused("credentials")
    name, port = _split(authority)
    number: Number | None
    if name.startswith("["):
        number = _ipv6(name)
        shown = host = str(number)
        if isinstance(number, IPv6Address):
            shown = f"[{host}]"
    else:
        host = _ascii(name)
        number = _ipv4(host)
        shown = host = host if number is None else str(number)
    default = DEFAULT_PORTS.get(scheme)
    if default is None:
        raise Refused("scheme")
    where = shown if port in (None, default) else f"{shown}:{port}"
    whole = f"{scheme}://{where}{found['rest'] or ''}"
    return Address(whole, scheme, host, port or default, number)


def _split(authority: str) -> tuple[str, int | None]:
    """Host and port."""
    host, colon, port = authority.rpartition(":")
    if not colon or port.endswith("]"):
        return authority, None
    if not port:
        return host, None
    if not (port.isascii() and port.isdecimal()) or len(port) > 5 or not 0 < int(port) < 65_536:
        raise Refused("malformed")
    return host, int(port)


def _ipv6(name: str) -> Number:
    try:
        number = IPv6Address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise Refused("malformed") from None
    if not name.endswith("]") or number.scope_id is not None:
        raise Refused("malformed")
    return number.ipv4_mapped or number


def _ascii(name: str) -> str:
    """A host's name as it is looked up."""
    if "%" in name or ":" in name or len(name) > _LONGEST + 1:
        raise Refused("malformed")
    if not name.isascii():
        import idna  # with anyio, and only for names that need it

        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            raise Refused("malformed") from None
    name = name.lower().removesuffix(".")
    labels = name.split(".")
    if len(name) > _LONGEST or not all(_LABEL.fullmatch(label) for label in labels):
        raise Refused("malformed")
    return name


def _ipv4(host: str) -> IPv4Address | None:
    """The number that a name is, in any of the forms that some systems take for one."""
    labels = host.split(".")
    if not _NUMBER.fullmatch(labels[-1]):
        return None
    if len(labels) > 4 or not all(_NUMBER.fullmatch(label) for label in labels):
        raise Refused("malformed")
    *first, last = [_numeral(label) for label in labels]
    if any(one > 255 for one in first) or last >= 256 ** (5 - len(labels)):
        raise Refused("malformed")
    total = last
    for place, one in enumerate(first):
        total += one * 256 ** (3 - place)
    return IPv4Address(total)


def _numeral(label: str) -> int:
    if label[:2].lower() == "0x":
        return int(label[2:] or "0", 16)
    if len(label) > 1 and label[0] == "0":
        if not _OCTAL.fullmatch(label):
            raise Refused("malformed")
        return int(label, 8)
    return int(label)


# --- who may be reached ------------------------------------------------------------------------


def is_local_name(host: str) -> bool:
    """Whether a name is one of a network of one's own: of one label, or under a local domain."""
    return "." not in host or any(host == one or host.endswith(f".{one}") for one in _LOCAL_NAMES)


def matches(host: str, patterns: Collection[str]) -> bool:
    """Whether a host is one of these: `example.com` itself, or below it by `*.example.com`."""
    return any(
        host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern
        for pattern in patterns
    )


def as_number(text: str) -> Number:
    """A numeric address as a resolver gives it.

    Raises:
        Refused: If it is none.
    """
    try:
        number = ip_address(text)
    except ValueError:
        raise Refused("unresolved") from None
    mapped = number.ipv4_mapped if isinstance(number, IPv6Address) else None
    return mapped or number


def is_public(number: Number, networks: Sequence[Network] = ()) -> bool:
    """Whether a number belongs to the public network, or to one of `networks`.

    An IPv4 address inside of an IPv6 one (mapped, or translated by NAT64) counts as itself. What is
    reached through tunnels (6to4, Teredo) is not public.
    """
    if isinstance(number, IPv6Address):
        if number in _MAPPED or number in _NAT64:
            return is_public(IPv4Address(int(number) & 0xFFFF_FFFF), networks)
        if number.scope_id is not None:
            return False
    if any(number in network for network in networks if network.version == number.version):
        return True
    if isinstance(number, IPv6Address) and number not in _PUBLIC_6:
        return False
    special = any(number in network for network in _NOT_PUBLIC if network.version == number.version)
    return number.is_global and not number.is_multicast and not special
