"""The one idea: everything is a handler, `async (Request) -> Response`.

A transport is a handler that talks to a provider. A middleware is given the handler inside it. A
pipeline is middlewares folded around a transport, and is itself a handler. Plain async functions
will do for all of them; no base class is needed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias, TypeVar

from lamella._chat import ChatRequest, ChatResponse
from lamella._embeddings import EmbeddingRequest, EmbeddingResponse
from lamella._moderation import ModerationRequest, ModerationResponse
from lamella._requests import Request
from lamella._responses import Response
from lamella._token_counts import TokenCountRequest, TokenCountResponse

R = TypeVar("R", bound=Response)


class Handler(Protocol):
    """Answers requests of any operation."""

    async def __call__(self, request: Request[R], /) -> R:
        """Answer one request."""
        ...


class Middleware(Protocol):
    """Answers requests of any operation with the help of the handler inside it."""

    async def __call__(self, request: Request[R], call_next: Handler, /) -> R:
        """Answer one request; `call_next` may be awaited never, once or several times."""
        ...


ChatMiddleware: TypeAlias = Callable[[ChatRequest, Handler], Awaitable[ChatResponse]]
"""A middleware for chat only."""

EmbeddingMiddleware: TypeAlias = Callable[[EmbeddingRequest, Handler], Awaitable[EmbeddingResponse]]
"""A middleware for embeddings only."""

TokenCountMiddleware: TypeAlias = Callable[
    [TokenCountRequest, Handler], Awaitable[TokenCountResponse]
]
"""A middleware for token counts only."""

ModerationMiddleware: TypeAlias = Callable[
    [ModerationRequest, Handler], Awaitable[ModerationResponse]
]
"""A middleware for moderation only."""

ChatTransport: TypeAlias = Callable[[ChatRequest], Awaitable[ChatResponse]]
"""A transport for chat only."""

EmbeddingTransport: TypeAlias = Callable[[EmbeddingRequest], Awaitable[EmbeddingResponse]]
"""A transport for embeddings only."""

TokenCountTransport: TypeAlias = Callable[[TokenCountRequest], Awaitable[TokenCountResponse]]
"""A transport for token counts only."""

ModerationTransport: TypeAlias = Callable[[ModerationRequest], Awaitable[ModerationResponse]]
"""A transport for moderation only."""

Layer: TypeAlias = (
    Middleware
    | ChatMiddleware
    | EmbeddingMiddleware
    | TokenCountMiddleware
    | ModerationMiddleware
    | str
)
"""What a pipeline takes as a layer: a middleware, or the name of a registered one."""

Transport: TypeAlias = (
    Handler | ChatTransport | EmbeddingTransport | TokenCountTransport | ModerationTransport | str
)
"""What a pipeline takes as its transport: a handler, or the name of a registered one."""
