"""Where the server is and how to get in; nothing here shows a password."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import SplitResult, urlsplit

import attrs

from lamella import ConfigurationError, Secret

if TYPE_CHECKING:
    from coredis.connection import BaseConnection

SCHEMES: Final = ("redis", "rediss", "unix", "valkey", "valkeys")
_FORMS: Final = "'env:REDIS_URL', 'file:PATH', or a URL without a password"


def url_of(given: object) -> Secret | str:
    """A URL as an option: a secret, or a URL that has none in it.

    Raises:
        ConfigurationError: If it is neither. The message does not repeat it.
    """
    if isinstance(given, Secret):
        return given
    if not isinstance(given, str) or not given:
        msg = f"Redis(url=...) was given {type(given).__name__}, expected {_FORMS}."
        raise ConfigurationError(msg)
    if "://" not in given:
        return Secret(given)
    scheme = given.partition("://")[0].lower()
    if scheme not in SCHEMES:
        msg = f"Redis(url=...): a URL begins with {', '.join(SCHEMES)}, not {scheme!r}."
        raise ConfigurationError(msg)
    parts = _parts(given)
    if parts.password is not None or "password=" in parts.query:
        msg = "Redis(url=...) was given a URL with a password in it."
        hint = "Keep it elsewhere: url='env:REDIS_URL', or Secret.of_value(...) in code."
        raise ConfigurationError(msg, hint=hint)
    return given


def _parts(url: str) -> SplitResult:
    """The parts of a URL that is one of a server.

    Raises:
        ConfigurationError: If it is none. The message does not repeat it.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port  # read: a port that is none is only found out now
        known = parts.scheme in SCHEMES and bool(parts.hostname or parts.scheme == "unix")
        number = parts.path.strip("/")
        if known and (parts.scheme == "unix" or not number or number.isdecimal()):
            return parts
    except ValueError:
        pass
    raise ConfigurationError(
        "Redis: what url leads to is no URL of a server.",
        hint="It reads redis://HOST:PORT/DB, rediss://... or unix://PATH.",
    ) from None


@attrs.frozen
class Address:
    """How connections are made.

    Attributes:
        url: Where; None if a client says it.
        client: A client of coredis whose settings are used instead.
        ssl_context: For TLS; None verifies the server against the system's authorities.
    """

    url: Secret | str | None
    client: Any = attrs.field(repr=False)
    ssl_context: ssl.SSLContext | None = attrs.field(repr=False)

    async def connection(self, moved: tuple[str, int] | None) -> BaseConnection:
        """A connection that is open but has not been greeted yet.

        Args:
            moved: The node of a cluster that has the keys; None goes where the URL says.

        Raises:
            SecretError: If there is no URL.
            ConfigurationError: If it is no URL.
            OSError: If there is nobody.
        """
        from coredis.connection import TCPLocation

        from lamella_redis._wire import Connection

        pool: Any = self.client.connection_pool if self.url is None else await self._pool()
        location: Any = pool.location
        if location is None:  # a cluster's client knows nodes to begin with
            location = next(iter(pool.cluster_layout.startup_nodes), None)
        if location is None:
            raise ConfigurationError("Redis: the client names no host.")
        if moved is not None:
            location = TCPLocation(moved[0] or location.host, moved[1])
        return await Connection.open(location, pool.connection_kwargs)

    async def _pool(self) -> Any:
        """What coredis reads in the URL; the pool itself is never entered."""
        from coredis.pool import ConnectionPool

        url = self.url if isinstance(self.url, str) else await cast("Secret", self.url).fetch()
        url = url.strip()
        for name, known in (("valkeys://", "rediss://"), ("valkey://", "redis://")):
            if url.startswith(name):
                url = known + url.removeprefix(name)
        parts = _parts(url)
        options: dict[str, Any] = {}
        if self.ssl_context is not None:
            options["ssl_context"] = self.ssl_context
        elif parts.scheme == "rediss" and "ssl_" not in parts.query:
            options["ssl_context"] = ssl.create_default_context()
        return ConnectionPool.from_url(url, decode_components=True, **options)
