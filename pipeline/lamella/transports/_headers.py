"""The headers of requests: those given, checked where they are given, and our own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from lamella._errors import ConfigurationError
from lamella.transports._dialect import Headers
from lamella.transports._http import can_be_sent

_FRAMING = frozenset({"host", "content-length", "transfer-encoding"})
_OURS = frozenset({"authorization", "api-key", "content-type", "idempotency-key", "accept"})


def static_headers(given: Mapping[str, str | None], *, agent: str) -> Headers:
    """The headers of every request: ours, and those given, which replace ours.

    Args:
        given: What has no value is left out.
        agent: Who we say we are.

    Raises:
        ConfigurationError: If one cannot stand in a header.
    """
    merged: dict[str, tuple[str, str]] = {
        "content-type": ("Content-Type", "application/json"),
        "user-agent": ("User-Agent", agent),
    }
    for name, value in given.items():
        if value:
            merged[name.lower()] = (name, value)
    return encoded_headers(dict(merged.values()))


def encoded_headers(given: Mapping[str, str]) -> Headers:
    """Headers as bytes.

    Raises:
        ConfigurationError: If one cannot stand in a header. Values are not shown: they may be keys.
    """
    encoded: list[tuple[bytes, bytes]] = []
    for name, value in given.items():
        # What is not ASCII is refused, lone surrogates included.
        header = name.encode(errors="surrogatepass"), value.encode(errors="surrogatepass")
        if not can_be_sent(*header):
            msg = f"The header {name!r} holds what no header can hold."
            hint = "It must be one line of printable ASCII without spaces around it."
            raise ConfigurationError(msg, hint=hint)
        encoded.append(header)
    return tuple(encoded)


def headers_beside(present: Headers, given: Mapping[Any, Any]) -> Headers:
    """Headers to go along with a request's own, which they do not replace.

    What no header can hold is left out, and so is what says where a request goes or who sends it:
    they come from observers, whose mistakes must not cost a request.

    Args:
        present: The request's own.
        given: Names and values.
    """
    taken = {name.lower() for name, _ in present}
    added: list[tuple[bytes, bytes]] = []
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, str):
            continue
        header = name.encode(errors="surrogatepass"), value.encode(errors="surrogatepass")
        lower = name.lower()
        if lower in _FRAMING or lower in _OURS or header[0].lower() in taken:
            continue
        if can_be_sent(*header):
            added.append(header)
    return tuple(added)


def can_be_headers(_: object, __: object, given: Mapping[Any, Any]) -> None:
    """Validates the headers of a transport's options.

    Raises:
        ConfigurationError: If one cannot stand in a header, or is not the caller's to set.
    """
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, str):
            msg = f"The header {name!r} is a {type(value).__name__}."
            raise ConfigurationError(msg, hint="Names and values of headers are text.")
        if name.lower() in _FRAMING:
            msg = f"The header {name!r} says where a request goes or how long it is."
            raise ConfigurationError(msg, hint="It is made from base_url and the request.")
    encoded_headers(given)


def can_be_deadline_header(options: Any, _: object, name: Any) -> None:
    """Validates the name of the header that carries what is left of the deadline.

    Raises:
        ConfigurationError: If it cannot be a header's name, or is that of another header.
    """
    if name is None:
        return
    if not isinstance(name, str) or not can_be_sent(name.encode(errors="surrogatepass"), b"1"):
        msg = f"deadline_header={name!r} is no name of a header."
        raise ConfigurationError(msg, hint='Give one such as "X-Deadline-Ms", or None for none.')
    given = {other.lower() for other in options.headers if isinstance(other, str)}
    if name.lower() in _OURS | _FRAMING | {"x-lamella-attempt"} | given:
        msg = f"deadline_header={name!r} is already the name of another header of the request."
        raise ConfigurationError(msg, hint='Give one of its own, such as "X-Deadline-Ms".')


@cache
def user_agent(*others: str) -> str:
    """Who we say we are: this library, and the distributions named, with their versions."""
    from importlib.metadata import version

    return " ".join([f"{name}/{version(name)}" for name in ("lamella", *others)])
