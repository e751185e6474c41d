"""Requests signed with the credentials of now, and with the next ones when AWS refuses those."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lamella._ports import ThreadPort
    from lamella.transports._http import HTTPRequest
    from lamella_bedrock._credentials import Credentials
    from lamella_bedrock._signature import Signer

_LARGE_BYTES: Final = 1024 * 1024
_ACCESS_KEY: Final = re.compile(rb"AWS4-HMAC-SHA256 Credential=([^/]*)/")


class Signing:
    """Signs requests.

    Args:
        signer: Makes the signatures.
        keys: Where the credentials come from.
        thread: Runs what takes long.
    """

    __slots__ = ("_keys", "_signer", "_thread")

    def __init__(self, signer: Signer, keys: Credentials, thread: ThreadPort) -> None:
        self._signer = signer
        self._keys = keys
        self._thread = thread

    async def __call__(self, request: HTTPRequest) -> HTTPRequest:
        """The request, signed."""
        found = await self._keys.fetch(request.ports)
        if len(request.body) > _LARGE_BYTES:
            return request.with_headers(await self._thread(self._signer.headers, request, found))
        return request.with_headers(self._signer.headers(request, found))

    async def renewed(self, request: HTTPRequest) -> bool:
        """Whether there are other credentials by now than those that a request was refused with.

        Args:
            request: As it was sent.

        Raises:
            LamellaError: If none can be had.
        """
        for name, value in request.headers:
            used = _ACCESS_KEY.match(value) if name == b"Authorization" else None
            if used is not None:
                return await self._keys.renewed(used[1].decode(), request.ports)
        return False
