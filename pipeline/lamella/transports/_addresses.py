"""Addresses that people give: checked where they are given, and never shown whole.

A mistake in an address may show a part of a password, so that messages name the place it came from
and not what stood there.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import attrs

from lamella._errors import ConfigurationError

_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")


def checked_address(given: Any, what: str, example: str) -> str:
    """An API's address, without a slash at the end.

    Args:
        given: As it was given.
        what: What it is called in messages.
        example: One that is right.

    Raises:
        ConfigurationError: If it is no address of HTTP, or has a part that would be shown or lost.
    """
    hint = f"For example: {example}."
    parts = _split(given) if isinstance(given, str) else None
    if parts is None:
        raise ConfigurationError(f"{what} is no address that can be used.", hint=hint)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        msg = f"{what} must begin with https:// or http://, not {parts.scheme!r}."
        raise ConfigurationError(msg, hint=hint)
    if "@" in parts.netloc or "?" in given or "#" in given:
        msg = f"{what} holds a user or a query, which would show in messages, or a fragment."
        raise ConfigurationError(msg, hint="Give keys by api_key=, or as headers of the options.")
    return str(given).rstrip("/")


@attrs.frozen
class Proxy:
    """Where a proxy is, and who we are to it."""

    url: str
    user: str | None = None
    password: str | None = attrs.field(default=None, repr=False)

    @property
    def encrypted(self) -> bool:
        """Whether the way to the proxy itself is under TLS."""
        return self.url.startswith("https:")


def read_proxy(given: str, what: str) -> Proxy:
    """A proxy from its address.

    Args:
        given: As it was given.
        what: What it is called in messages.

    Raises:
        ConfigurationError: If it is none that is understood.
    """
    parts = _split(given)
    if parts is None or parts.scheme not in _PROXY_SCHEMES or not parts.hostname:
        schemes = ", ".join(f"{scheme}://" for scheme in _PROXY_SCHEMES)
        msg = f"{what} is no address of a proxy that is understood."
        hint = f"It begins with one of {schemes}; in user and password, '/' is written %2F."
        raise ConfigurationError(msg, hint=hint)
    host = parts.hostname.encode("idna").decode("ascii")
    shown = f"[{host}]" if ":" in host else host
    bare = f"{parts.scheme}://{shown}" + ("" if parts.port is None else f":{parts.port}")
    if parts.username is None:
        return Proxy(bare)
    return Proxy(bare, unquote(parts.username), unquote(parts.password or ""))


def _split(given: str) -> SplitResult | None:
    """Its parts; None if they cannot be read, or cannot stand in a request."""
    if not given.isprintable() or " " in given:
        return None
    try:
        parts = urlsplit(given)
        (parts.hostname or "").encode("idna")
        if parts.port == 0 or not parts.path.isascii():
            return None
    except ValueError:  # the codec's error is one, too
        return None
    return parts
