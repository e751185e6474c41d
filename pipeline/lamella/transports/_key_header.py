"""A key in a header, exchanged for the next one when the provider refuses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lamella._revealed import remember
from lamella._secret_values import hidden
from lamella.transports._headers import encoded_headers

if TYPE_CHECKING:
    from lamella.transports._credentials import Credential
    from lamella.transports._dialect import Headers
    from lamella.transports._http import HTTPRequest

_BEARER = "Authorization"


class _Known:
    """A key and the header that it goes in."""

    __slots__ = ("headers", "tell")

    def __init__(self, value: str, headers: Headers) -> None:
        self.tell = hidden(value)
        self.headers = headers


class KeyHeader:
    """Adds the header to requests; see `key_header`.

    Args:
        key: Where the key comes from.
        header: `Authorization` takes it as a bearer token, others bare.
        changed: Told each key that is not the one before.
    """

    __slots__ = ("_changed", "_fixed", "_header", "_key", "_known")

    def __init__(self, key: Credential, header: str, changed: Callable[[str], None] | None) -> None:
        self._key = key
        self._fixed = key.fixed
        self._header = header
        self._changed = changed
        self._known = _Known("", ())

    async def __call__(self, request: HTTPRequest) -> HTTPRequest:
        """The request with the key of now."""
        value = await self._key.fetch(ports=request.ports)
        if value is None:
            return request
        kept = self._known  # another thread may have another key by now
        if value != kept.tell():
            said = f"Bearer {value}" if self._header == _BEARER else value
            kept = self._known = _Known(value, encoded_headers({self._header: said}))
            if self._changed is not None:
                self._changed(value)
        return request.with_headers(kept.headers)

    def known(self) -> Headers | None:
        """The header, if the key stays the same and was used before; None: await a call."""
        kept = self._known
        if not self._fixed or not kept.headers:
            return None
        remember(kept.tell())
        return kept.headers

    async def renewed(self, request: HTTPRequest) -> bool:
        """Whether there is another key by now than the one that a request was refused with.

        Args:
            request: As it was sent.

        Raises:
            LamellaError: If no key can be had.
        """
        refused = self._sent(request)
        return refused is not None and await self._key.renewed(refused, ports=request.ports)

    def _sent(self, request: HTTPRequest) -> Callable[[], str] | None:
        """Tells the key that a request was sent with."""
        wanted = self._header.encode()
        for name, value in reversed(request.headers):
            if name == wanted:
                key = value.decode()
                return hidden(key.removeprefix("Bearer ") if self._header == _BEARER else key)
        return None
