"""The layer."""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

from lamella import ChatRequest, ChatResponse, Handler, middleware

Voice: TypeAlias = Literal["loud", "low"]


@middleware(phase="shape", requests=ChatRequest, effects=["changes events"])
@attrs.frozen
class Shout:
    """Answers in one case, streamed or not.

    Args:
        voice: `"loud"` answers in capitals, `"low"` in small letters.
    """

    voice: Voice = attrs.field(default="loud", validator=attrs.validators.in_(["loud", "low"]))

    async def __call__(self, request: ChatRequest, call_next: Handler) -> ChatResponse:
        """Pass the request on, and change what comes back."""
        response = await call_next(request)
        # Both change each letter by itself, so it does not matter where a stream is cut. With
        # `str.lower` it would: what it makes of a Greek sigma depends on what stands beside it.
        return response.map_text(str.upper if self.voice == "loud" else str.casefold)
