"""Transports: handlers that talk to a provider, and the HTTP port beneath them.

Each name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella._lazy import lazily

if TYPE_CHECKING:
    from lamella.transports._azure import AzureBackup, AzureOpenAI, AzureOptions
    from lamella.transports._credentials import (
        Credential,
        Key,
        credential,
        from_environment,
        missing_key,
    )
    from lamella.transports._dialect import (
        BaseDialect,
        Dialect,
        DialectOptions,
        MessageReader,
        StreamDecoder,
    )
    from lamella.transports._endpoints import Endpoint, endpoints, find_endpoint
    from lamella.transports._headers import static_headers, user_agent
    from lamella.transports._http import HTTPClient, HTTPOptions, HTTPReply, HTTPRequest
    from lamella.transports._http_errors import in_band_error, status_error
    from lamella.transports._http_transport import HTTPTransport, TransportOptions, key_header
    from lamella.transports._httpx_client import PooledHTTPClient
    from lamella.transports._losses import Losses
    from lamella.transports._mock import Mock
    from lamella.transports._openai import OpenAI, OpenAIOptions
    from lamella.transports._openai_batch import BatchProgress, OpenAIBatch, OpenAIBatchOptions
    from lamella.transports._place import Place
    from lamella.transports._retry_hints import retry_after
    from lamella.transports._sse import EventReader
    from lamella.transports._stream_source import StreamSource

_HOMES = {
    "AzureBackup": "_azure",
    "AzureOpenAI": "_azure",
    "AzureOptions": "_azure",
    "BaseDialect": "_dialect",
    "BatchProgress": "_openai_batch",
    "Credential": "_credentials",
    "Dialect": "_dialect",
    "DialectOptions": "_dialect",
    "Endpoint": "_endpoints",
    "EventReader": "_sse",
    "HTTPClient": "_http",
    "HTTPOptions": "_http",
    "HTTPReply": "_http",
    "HTTPRequest": "_http",
    "HTTPTransport": "_http_transport",
    "Key": "_credentials",
    "Losses": "_losses",
    "MessageReader": "_dialect",
    "Mock": "_mock",
    "OpenAI": "_openai",
    "OpenAIBatch": "_openai_batch",
    "OpenAIBatchOptions": "_openai_batch",
    "OpenAIOptions": "_openai",
    "Place": "_place",
    "PooledHTTPClient": "_httpx_client",
    "StreamDecoder": "_dialect",
    "StreamSource": "_stream_source",
    "TransportOptions": "_http_transport",
    "credential": "_credentials",
    "endpoints": "_endpoints",
    "find_endpoint": "_endpoints",
    "from_environment": "_credentials",
    "in_band_error": "_http_errors",
    "key_header": "_http_transport",
    "missing_key": "_credentials",
    "retry_after": "_retry_hints",
    "static_headers": "_headers",
    "status_error": "_http_errors",
    "user_agent": "_headers",
}

__all__ = [
    "AzureBackup",
    "AzureOpenAI",
    "AzureOptions",
    "BaseDialect",
    "BatchProgress",
    "Credential",
    "Dialect",
    "DialectOptions",
    "Endpoint",
    "EventReader",
    "HTTPClient",
    "HTTPOptions",
    "HTTPReply",
    "HTTPRequest",
    "HTTPTransport",
    "Key",
    "Losses",
    "MessageReader",
    "Mock",
    "OpenAI",
    "OpenAIBatch",
    "OpenAIBatchOptions",
    "OpenAIOptions",
    "Place",
    "PooledHTTPClient",
    "StreamDecoder",
    "StreamSource",
    "TransportOptions",
    "credential",
    "endpoints",
    "find_endpoint",
    "from_environment",
    "in_band_error",
    "key_header",
    "missing_key",
    "retry_after",
    "static_headers",
    "status_error",
    "user_agent",
]

__getattr__, __dir__ = lazily(__name__, _HOMES)
