"""Where a server is, in the forms in which `OLLAMA_HOST` says it."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from lamella.transports._addresses import checked_address

ADDRESS: Final = "http://127.0.0.1:11434"
CLOUD: Final = "ollama.com"

_PORT: Final = ":11434"
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - what is not used
"""A server is told with the same variable where to listen; `anywhere` is no place to connect to."""


def address_of(given: str, what: str) -> str:
    """The address that is meant, without a slash at the end.

    As Ollama's clients read it: `host`, `host:port`, `:port`, `host/path` or a URL. Without a
    scheme it is HTTP and port 11434, or Ollama's cloud if it is named; with one, the scheme's port.

    Args:
        given: As it was given.
        what: What it is called in messages.

    Raises:
        ConfigurationError: If it cannot be one.
    """
    text = given.strip()
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "http", text
    authority, _, path = rest.partition("/")
    if not separator and authority == CLOUD:
        scheme = "https"
    elif authority.count(":") > 1 and not authority.startswith("["):
        authority = f"[{authority}]"  # an address of IPv6 alone
    bare = authority.rpartition("]")[2]
    host, port = authority.removesuffix(bare) + bare.partition(":")[0], bare.partition(":")[2]
    host = _EVERYWHERE.get(host, host) or "127.0.0.1"
    if port:
        port = f":{port}"
    elif not separator and scheme == "http":
        port = _PORT
    found = checked_address(f"{scheme}://{host}{port}/{path}", what, ADDRESS)
    return found.removesuffix("/api").removesuffix("/v1")


def is_cloud(address: str) -> bool:
    """Whether it is one of Ollama's own."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    return parts.scheme == "https" and (host == CLOUD or host.endswith(f".{CLOUD}"))
