"""How the sockets of HTTP clients are set."""

from __future__ import annotations

import socket  # noqa: TID251 - this is what the HTTP port reaches the network through
from itertools import zip_longest
from typing import Any

import anyio


def tune(raw: Any, keepalive: float | None) -> None:
    """Send at once what is written, and have the system ask silent peers whether they are alive.

    Args:
        raw: The socket.
        keepalive: Seconds of silence before it asks; None never asks.
    """
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if keepalive is None:
        return
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    seconds = max(1, round(keepalive))
    for name in ("TCP_KEEPIDLE", "TCP_KEEPALIVE"):  # Linux and Windows; macOS
        option = getattr(socket, name, None)
        if option is not None:
            raw.setsockopt(socket.IPPROTO_TCP, option, seconds)
            break


async def system_addresses(host: str, port: int) -> list[str]:
    """The numeric addresses of a host as the system has them, the two families by turns."""
    families: dict[int, list[str]] = {}
    for found in await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        families.setdefault(int(found[0]), []).append(str(found[4][0]))
    turns = zip_longest(*families.values())
    return [address for turn in turns for address in turn if address is not None]
