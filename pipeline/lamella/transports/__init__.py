"""Transports: handlers that talk to a provider, and the HTTP port beneath them.

Each name is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lamella.transports._azure import AzureBackup, AzureOpenAI, AzureOptions
    from lamella.transports._dialect import Dialect, DialectOptions, StreamDecoder
    from lamella.transports._http import HTTPClient, HTTPOptions, HTTPReply, HTTPRequest
    from lamella.transports._mock import Mock
    from lamella.transports._openai import OpenAI, OpenAIOptions

_HOMES = {
    "AzureBackup": "_azure",
    "AzureOpenAI": "_azure",
    "AzureOptions": "_azure",
    "Dialect": "_dialect",
    "DialectOptions": "_dialect",
    "HTTPClient": "_http",
    "HTTPOptions": "_http",
    "HTTPReply": "_http",
    "HTTPRequest": "_http",
    "Mock": "_mock",
    "OpenAI": "_openai",
    "OpenAIOptions": "_openai",
    "StreamDecoder": "_dialect",
}

__all__ = [
    "AzureBackup",
    "AzureOpenAI",
    "AzureOptions",
    "Dialect",
    "DialectOptions",
    "HTTPClient",
    "HTTPOptions",
    "HTTPReply",
    "HTTPRequest",
    "Mock",
    "OpenAI",
    "OpenAIOptions",
    "StreamDecoder",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    found = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
