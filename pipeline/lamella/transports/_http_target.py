"""Where a request goes, read from its URL: the same way by every HTTP client."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import urlsplit

import attrs

from lamella._errors import ConfigurationError

_VISIBLE = re.compile(rb"[!-~]+")


@attrs.frozen
class Target:
    """A parsed URL.

    Attributes:
        scheme: `http` or `https`.
        name: The host as it was written, without brackets.
        host: The host as it travels.
        port: The port as it was written; None for the scheme's own.
        path: Path and query.
        authority: What the `Host` header says.
    """

    scheme: str
    name: str
    host: bytes
    port: int | None
    path: bytes
    authority: bytes

    @property
    def port_number(self) -> int:
        """The port to connect to."""
        if self.port is not None:
            return self.port
        return 443 if self.scheme == "https" else 80

    @property
    def shown(self) -> str:
        """Who is meant, for messages."""
        return self.authority.decode("latin-1")


@lru_cache(maxsize=256)
def read_target(address: str) -> Target:
    """A URL taken apart.

    Raises:
        ConfigurationError: If it is no address of HTTP.
    """
    hint = "A base URL begins with https:// (or http://), and a space in it is written %20."
    try:
        parts = urlsplit(address)
        name, port = parts.hostname or "", parts.port
        host = name.encode("ascii" if name.isascii() else "idna")
        path = ((parts.path or "/") + (f"?{parts.query}" if parts.query else "")).encode("ascii")
    except ValueError:  # the codecs' errors are some, too
        msg = "What cannot be read as an address is no address of HTTP."
        raise ConfigurationError(msg, hint=hint) from None
    if parts.scheme not in {"http", "https"} or not name:
        msg = f"{parts.scheme or 'An address without scheme'!r} is no address of HTTP."
        raise ConfigurationError(msg, hint=hint)
    if not _VISIBLE.fullmatch(path) or not _VISIBLE.fullmatch(host):
        # The request line, or the next header, would begin in the middle of it.
        msg = "An address with spaces or control characters is no address of HTTP."
        raise ConfigurationError(msg, hint=hint)
    shown = b"[%b]" % host if b":" in host else host
    authority = shown if port is None else b"%b:%d" % (shown, port)
    return Target(parts.scheme, name, host, port, path, authority)
