"""Addresses in requests: who may be asked for a picture or a document, and who fetches it.

A provider fetches what a request links to. Where that runs in a network of one's own (a local
model, a gateway), or where this library fetches, a user who may name any address reaches servers
that nobody else outside reaches: server-side request forgery.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Iterable, Sequence
from datetime import timedelta
from functools import partial
from ipaddress import ip_network
from typing import Any, Final

import anyio
import attrs

from lamella import ConfigurationError, Context, Image, Request
from lamella._options import is_number, optional_seconds
from lamella_middlewares.guard._fetch import Fetched, Fetching
from lamella_middlewares.guard._fetch import fetch as fetch_from
from lamella_middlewares.guard._hosts import (
    DEFAULT_PORTS,
    Address,
    Network,
    Refused,
    as_number,
    is_local_name,
    is_public,
    matches,
    read,
    scheme_of,
)
from lamella_middlewares.guard._links import links_in
from lamella_middlewares.guard._media import Medium, foreign_texts, map_media, media_of
from lamella_middlewares.guard._rules import Direction, Inspection, Review, Rule, checked
from lamella_middlewares.guard._verdicts import Verdict, allow, block, change

_WEB: Final = re.compile(r"[\x00-\x20]*https?:\S", re.IGNORECASE)
_HOST: Final = re.compile(r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|[0-9a-f:.]+")


def addresses(  # noqa: PLR0913 - all by name, and most of them rare
    *,
    allow_hosts: Iterable[str] = (),
    deny_hosts: Iterable[str] = (),
    schemes: Iterable[str] = ("https",),
    ports: Iterable[int] | None = None,
    networks: Iterable[str] = (),
    resolve: bool = True,
    texts: bool = False,
    fetch: bool | Fetching = False,
    max_addresses: int = 32,
    timeout: float | timedelta | None = 5.0,
    name: str = "addresses",
) -> Rule:
    """Lets pass only addresses that may be fetched, of pictures and documents in requests.

    An address that is odd, holds a user, or leads to a number that is not public is blocked, and so
    is one that cannot be looked up. One that is written in an unusual way goes on in the usual one.
    Data URLs and documents that the provider holds lead nowhere, and pass.

    Args:
        allow_hosts: Hosts that may be asked: `example.com`, or `*.example.com` for all below it.
            Empty allows all that are public. Where their numbers are not public, `networks` has
            to allow these too.
        deny_hosts: Hosts that may not, in the same form; stronger than `allow_hosts`.
        schemes: Schemes of addresses. Of others than `http` and `https` (`gs`, `s3`), which the
            provider reads by itself, nothing more is checked.
        ports: Ports that may be asked. None: only 80 for `http`, and 443 for `https`.
        networks: Numbers that may be reached though they are not public: `10.1.0.0/16`.
        resolve: Whether names are looked up. If not, only numbers in addresses are checked.
        texts: Whether addresses in texts are checked as well, in requests and answers. An answer
            is then held back until its end.
        fetch: Whether the guard itself fetches, from the very number that was checked, and puts the
            content into the request, so that the provider fetches nothing; `Fetching(...)` says
            within which bounds. Otherwise the provider looks the name up once more, and may be led
            elsewhere by then.
        max_addresses: Addresses in one request, 1 or more.
        timeout: Seconds for each address, hops included, above 0, or a timedelta; None sets no
            limit but the guard's.
        name: See `Rule`.

    Raises:
        ConfigurationError: If an option is wrong, or does not fit the others.
    """
    seconds = optional_seconds(timeout)
    given = _options(
        schemes=_words(schemes, "schemes"),
        ports=None if ports is None else tuple(ports),
        max_addresses=max_addresses,
        timeout=seconds,
    )
    if fetch and (not resolve or not set(given["schemes"]) <= DEFAULT_PORTS.keys()):
        msg = "addresses(fetch=True) looks names up, and fetches by http and https only."
        raise ConfigurationError(msg, hint="Leave resolve=True, and give no other schemes.")
    kind = TextAddressRule if texts else AddressRule
    return checked(
        kind(
            name=name,
            allow_hosts=_hosts(allow_hosts, "allow_hosts"),
            deny_hosts=_hosts(deny_hosts, "deny_hosts"),
            schemes=given["schemes"],
            ports=given["ports"],
            networks=_networks(networks),
            resolve=resolve,
            fetching=_fetching(fetch),
            max_addresses=max_addresses,
            timeout=seconds,
        )
    )


@attrs.frozen(kw_only=True, eq=False)
class AddressRule(Rule):
    """The rule that `addresses` makes."""

    name: str
    allow_hosts: tuple[str, ...]
    deny_hosts: tuple[str, ...]
    schemes: tuple[str, ...]
    ports: tuple[int, ...] | None
    networks: tuple[Network, ...]
    resolve: bool
    fetching: Fetching | None
    max_addresses: int
    timeout: float | None
    direction: Direction = "in"

    def review(self, review: Review, /) -> Verdict | Awaitable[Verdict]:
        """Look at every address of a picture or document; nothing is awaited without one."""
        urls = {one.url: None for one in media_of(review.request) if _leads_somewhere(one)}
        foreign = [text for text in foreign_texts(review.request) if _WEB.match(text)]
        if not urls and not foreign:
            return allow()
        return self._reviewed(review, [url for url in urls if url is not None], foreign)

    async def _reviewed(
        self, review: Review, urls: Sequence[str], foreign: Sequence[str]
    ) -> Verdict:
        found = len(urls) + len(foreign)
        if found > self.max_addresses:
            return block("too_many", kinds=("address",), found=found, most=self.max_addresses)
        if foreign and self.fetching is not None:
            return block("foreign", kinds=("address",))  # only its provider knows how to put it in
        kept: dict[str, Fetched] = review.kept.setdefault(("guard.fetched", self), {})
        done: dict[str, Address | Fetched | None] = dict(kept)
        try:
            for url in (*urls, *foreign):
                if url not in done:
                    done[url] = await self._judged(url, review.context)
        except Refused as refused:
            return block(refused.reason, kinds=("address",))
        kept.update({url: one for url, one in done.items() if isinstance(one, Fetched)})
        return self._changed(review.request, done)

    def _changed(self, request: Request[Any], done: dict[str, Address | Fetched | None]) -> Verdict:
        wrong: list[str] = []

        def changed(medium: Medium) -> Medium:
            found = done.get(medium.url or "")
            if isinstance(found, Address):
                return medium if found.url == medium.url else attrs.evolve(medium, url=found.url)
            if found is None:
                return medium
            if isinstance(medium, Image) and not found.media_type.startswith("image/"):
                wrong.append(found.media_type)
            return attrs.evolve(medium, url=None, data=found.data, media_type=found.media_type)

        new = map_media(request, changed)
        if wrong:
            return block("media_type", kinds=("address",))
        if new is request:
            return allow()
        return change(new, "normalised" if self.fetching is None else "fetched", kinds=("address",))

    async def _judged(self, url: str, context: Context) -> Address | Fetched | None:
        """What becomes of an address.

        Raises:
            Refused: If it may not be asked.
        """
        with anyio.move_on_after(self.timeout):
            scheme = scheme_of(url)
            if scheme not in self.schemes:
                raise Refused("scheme")
            if scheme not in DEFAULT_PORTS:
                return None
            if self.fetching is not None:
                return await fetch_from(
                    url, partial(self._checked, context=context), self.fetching, context.ports
                )
            return (await self._checked(url, context))[0]
        raise Refused("timeout")

    async def _checked(self, url: str, context: Context) -> tuple[Address, Sequence[str]]:
        """An address and the numbers that it leads to, all of which may be reached."""
        if scheme_of(url) not in self.schemes:
            raise Refused("scheme")
        address = read(url)
        host = address.host
        if address.port not in (self.ports or (DEFAULT_PORTS[address.scheme],)):
            raise Refused("port")
        if matches(host, self.deny_hosts) or not self._is_allowed(address):
            raise Refused("host")
        numbers = [address.number] if address.number is not None else []
        if not numbers and self.resolve:
            numbers = [as_number(one) for one in await _looked_up(address, context)]
        if not all(is_public(number, self.networks) for number in numbers):
            raise Refused("private")
        return address, [str(number) for number in dict.fromkeys(numbers)]

    def _is_allowed(self, address: Address) -> bool:
        if self.allow_hosts:
            return matches(address.host, self.allow_hosts)
        return address.number is not None or not is_local_name(address.host)


@attrs.frozen(kw_only=True, eq=False)
class TextAddressRule(AddressRule):
    """The rule that `addresses(texts=True)` makes."""

    direction: Direction = "both"

    async def inspect(self, inspection: Inspection, /) -> Verdict:
        """Look at every address in a text; those of the web, as links do not show the others."""
        if inspection.surface is not None and inspection.surface.form == "url":
            return allow()  # `review` has looked at it
        found = dict(reversed(list(links_in(inspection.text))))  # where each stands first
        if not found:
            return allow()
        if len(found) > self.max_addresses:
            return block("too_many", kinds=("link",), found=len(found), most=self.max_addresses)
        known: dict[str, str] = inspection.kept.setdefault(("guard.links", self), {})
        for url in sorted(found):
            if url not in known:
                known[url] = await self._word_for(url, inspection.context)
            if known[url]:
                return block(known[url], kinds=("link",), at=found[url])
        return allow()

    async def _word_for(self, url: str, context: Context) -> str:
        """Why a link may not stand there; empty if it may."""
        try:
            with anyio.move_on_after(self.timeout):
                await self._checked(url, context)
                return ""
        except Refused as refused:
            return refused.reason
        return "timeout"


def _leads_somewhere(medium: Medium) -> bool:
    return medium.url is not None and medium.url[:5].lower() != "data:"


async def _looked_up(address: Address, context: Context) -> Sequence[str]:
    try:
        found = await context.ports.resolve(address.host, address.port)
    except (OSError, UnicodeError):
        found = []
    if not found:
        raise Refused("unresolved")
    return found


# --- options -----------------------------------------------------------------------------------


def _fetching(given: object) -> Fetching | None:
    if isinstance(given, bool):
        return Fetching() if given else None
    if isinstance(given, Fetching):
        return given
    msg = f"addresses(fetch={given!r}): give True, False, or Fetching(...)."
    raise ConfigurationError(msg)


def _options(**given: Any) -> dict[str, Any]:
    most = given["max_addresses"]
    if type(most) is not int or most < 1:
        raise ConfigurationError(
            f"addresses(max_addresses={most!r}): give a whole number, 1 or more."
        )
    for port in given["ports"] or ():
        if type(port) is not int or not 0 < port < 65_536:
            raise ConfigurationError(f"addresses(ports=...): {port!r} is no port: 1 to 65535.")
    timeout = given["timeout"]
    if timeout is not None and (not is_number(timeout) or timeout <= 0):
        raise ConfigurationError(
            f"addresses(timeout={timeout!r}): give seconds above 0, a timedelta, or None."
        )
    return given


def _words(given: Iterable[str], option: str) -> tuple[str, ...]:
    words: tuple[Any, ...] = () if isinstance(given, str) else tuple(given)
    if not words or not all(isinstance(word, str) and word for word in words):
        msg = f"addresses({option}={given!r}): give a list of words, at least one."
        raise ConfigurationError(msg)
    return tuple([word.lower() for word in words])


def _hosts(given: Iterable[str], option: str) -> tuple[str, ...]:
    hosts: list[Any] = [None] if isinstance(given, str) else list(given)
    for host in hosts:
        if not isinstance(host, str) or not _HOST.fullmatch(host.lower()):
            raise ConfigurationError(
                f"addresses({option}={given!r}): that is no list of hosts.",
                hint="Give ['example.com', '*.example.org'], in ASCII, without scheme and port.",
            )
    return tuple([_usual(host.lower()) for host in hosts])


def _usual(host: str) -> str:
    """A number as it is compared."""
    try:
        return str(as_number(host))
    except Refused:
        return host


def _networks(given: Iterable[str]) -> tuple[Network, ...]:
    listed: list[Any] = [None] if isinstance(given, str) else list(given)
    try:
        return tuple([ip_network(one) for one in listed])
    except ValueError:
        raise ConfigurationError(
            f"addresses(networks={given!r}): that is no list of networks.",
            hint="Give ['10.1.0.0/16', 'fd00:1::/32'].",
        ) from None
