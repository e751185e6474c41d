"""A connection of coredis over a stream that is open already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Self

import anyio
import anyio.abc
from coredis.connection import BaseConnection, Location, UnixDomainSocketLocation

_SETTINGS: Final = ("username", "password", "credential_provider", "db", "client_name")


class Connection(BaseConnection):
    """It is only made once somebody is there, as its buffers want to be closed."""

    def __init__(
        self, location: Location, stream: anyio.abc.ByteStream, settings: Mapping[str, Any]
    ) -> None:
        super().__init__(location, **{k: settings[k] for k in _SETTINGS if k in settings})
        self._opened = stream

    @classmethod
    async def open(cls, location: Any, settings: Mapping[str, Any]) -> Self:
        """Connect, with TLS if the settings have a context for it.

        Raises:
            OSError: If there is nobody.
        """
        try:
            stream = await cls._stream(location, settings)
        except OSError as error:
            why = error.strerror or str(error)
            raise OSError(f"{location} cannot be reached: {why}") from error
        return cls(location, stream, settings)

    @staticmethod
    async def _stream(location: Any, settings: Mapping[str, Any]) -> anyio.abc.ByteStream:
        if isinstance(location, UnixDomainSocketLocation):
            return await anyio.connect_unix(location.path)
        context = settings.get("ssl_context")
        if context is None:
            return await anyio.connect_tcp(location.host, location.port)
        return await anyio.connect_tcp(
            location.host,
            location.port,
            tls=True,
            ssl_context=context,
            tls_standard_compatible=False,
        )

    async def _connect(self) -> anyio.abc.ByteStream:
        return self._opened

    def describe(self) -> str:
        """What it is connected to."""
        return f"Connection<{self.location}>"
