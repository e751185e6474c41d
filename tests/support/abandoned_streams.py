"""Streams that are abandoned in every way, and a provider that breaks them in the others."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from lamella import ChatRequest, ConnectionLostError, Finish, Pipeline, ServerError
from lamella.testing import Scripted, ScriptedAnswer


def asked(text: str = "hello") -> ChatRequest:
    """A request; its text says what the provider is to do."""
    return ChatRequest.of(text, model="m")


async def abandon(pipe: Pipeline, how: str) -> None:
    """Stream an answer and leave it in some way."""
    if how == "block left":
        async with pipe.stream(asked()) as response:
            await anext(aiter(response))
    elif how == "closed":
        async with pipe.stream(asked()) as response:
            await response.aclose()
    elif how == "cancelled":
        with anyio.move_on_after(1.5):
            async with pipe.stream(asked()) as response:
                await response.collect()
    elif how == "raised":
        with pytest.raises(ZeroDivisionError):
            async with pipe.stream(asked()) as response:
                raise ZeroDivisionError
    elif how == "failed":
        with pytest.raises(ConnectionLostError):
            async with pipe.stream(asked("fail")) as response:
                await response.collect()
    elif how == "refused":
        with pytest.raises(ServerError):
            await pipe.run(asked("refuse"))
    else:
        async with pipe.stream(asked()) as response:
            await response.collect()


WAYS = ("block left", "closed", "cancelled", "raised", "failed", "refused", "read")


def capricious() -> Scripted:
    """A provider that does what it is asked."""

    def answer(request: ChatRequest) -> Any:
        text = request.messages[0].text
        if text == "refuse":
            return ServerError("x", status=500)
        if text == "fail":
            return ScriptedAnswer(["one", ConnectionLostError("x")], gap=1)
        return ScriptedAnswer(["one", " two", " three", Finish("stop")], gap=1)

    return Scripted([answer], repeat=True)
