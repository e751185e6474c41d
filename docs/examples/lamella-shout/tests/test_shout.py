"""Shout keeps the contract, and shouts."""

from __future__ import annotations

import pytest
from lamella_shout import Shout, Voice

from lamella import ChatRequest, Pipeline
from lamella.testing import Scripted

pytestmark = pytest.mark.anyio


async def test_it_keeps_the_contract() -> None:
    """The kit runs it streamed and not, cancelled at each step, left, and with errors inside."""
    from lamella.testing import check_middleware

    await check_middleware(Shout)


@pytest.mark.parametrize(
    ("voice", "text"), [("loud", "HELLO, STRASSE."), ("low", "hello, strasse.")]
)
async def test_it_answers_in_one_case(voice: Voice, text: str) -> None:
    """An answer comes in capitals or in small letters, and a stream of it is the same."""
    pipeline = Pipeline([Shout(voice)], Scripted(["Hello, Straße.", "Hello, Straße."]))
    request = ChatRequest.of("hi")
    assert (await pipeline.run(request)).text == text
    async with pipeline.stream(request) as response:
        assert (await response.collect()).text == text


def test_a_voice_that_it_has_not_is_refused() -> None:
    """A wrong option shows when the layer is made."""
    with pytest.raises(ValueError, match="'voice' must be in"):
        Shout("hoarse")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
