"""Pictures and documents that a provider would refuse are refused before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest
from media_files import bmp, png

from lamella import (
    ChatRequest,
    File,
    Image,
    InvalidRequestError,
    Message,
    ModelCard,
    Pipeline,
    Request,
    Text,
    ToolResult,
    UnsupportedError,
)
from lamella.testing import MockServer
from lamella.transports._media_limits import MediaLimits, check_media
from lamella.transports._openai_chat import OpenAIChat
from lamella.transports._openai_responses import OpenAIResponses
from lamella_anthropic import Anthropic
from lamella_anthropic._messages import AnthropicMessages

LIMITS = MediaLimits(
    image_types=frozenset({"image/png", "image/jpeg"}),
    images=3,
    image_bytes=200,
    image_side=1_000,
    crowd=2,
    crowd_side=500,
    files=1,
    request_bytes=400,
)
PICTURE = Image.of(png())
SMALL = Image.of(png(9, 9))
PAPER = File(data=b"x" * 30, media_type="text/plain")


@pytest.mark.parametrize(
    ("parts", "place", "says"),
    [
        ([Image(data=bmp(), media_type="image/bmp")], "parts[0]", "type 'image/bmp', and 'acme'"),
        ([Text("?"), Image.of(png() + bytes(200))], "parts[1]", "a picture of 245 bytes"),
        ([Image.of(png(1_001, 9))], "parts[0]", "a picture of 1001 x 9 pixels"),
        ([SMALL, SMALL, PICTURE], "parts[2]", "a picture of 640 x 480 pixels"),
        ([SMALL] * 4, "parts[3]", "one more than 3 pictures"),
        ([PAPER, SMALL, PAPER], "parts[2]", "one more than 1 documents"),
        ([File(data=bytes(301))], "parts[0]", "have 404 bytes, in base64"),
    ],
)
def test_the_first_that_does_not_fit_is_named(parts: list[Any], place: str, says: str) -> None:
    """With its place in the request, what is wrong with it, and what to do."""
    request = ChatRequest.of([Message.system("s"), Message.user(parts)])
    with pytest.raises(UnsupportedError) as caught:
        check_media(request, LIMITS, provider="acme")
    assert str(caught.value).startswith(f"messages[1].{place}: ")
    assert says in str(caught.value)
    assert caught.value.hint
    assert caught.value.code in {"unsupported_media", "media_too_large", "too_many_media"}


def test_results_of_tools_are_looked_into() -> None:
    """A picture in one has its place too."""
    result = ToolResult("c", (Text("see"), Image.of(png(2_000, 1))))
    with pytest.raises(UnsupportedError, match=r"messages\[0\]\.parts\[0\]\.content\[1\]"):
        check_media(ChatRequest.of([Message("tool", result)]), LIMITS, provider="acme")


@pytest.mark.parametrize(
    "parts",
    [
        [],
        "text",
        [PICTURE, Text("?"), PICTURE],
        [SMALL, SMALL, SMALL, PAPER],
        [Image(url="https://x/y.bmp", media_type="image/bmp")],
        [Image(data=b"no header", media_type="image/jpg; q=1")],
        [Image(data=b"who knows")],
    ],
)
def test_what_fits_or_is_somewhere_else_passes(parts: Any) -> None:
    """Also what nobody can tell the size or kind of: the provider says it."""
    check_media(ChatRequest.of(Message.user(parts)), LIMITS, provider="acme")
    check_media(Request(model="m"), LIMITS, provider="acme")
    check_media(ChatRequest.of(Message.user(parts)), MediaLimits(), provider="acme")


def test_each_api_has_its_limits() -> None:
    """By the model's card: a smaller window takes fewer pictures, others' models have none."""
    small = ModelCard("m", "anthropic", context_window=200_000)
    large = ModelCard("m", "anthropic", context_window=1_000_000)
    claude = AnthropicMessages()
    for model, most in ((small, 100), (large, 600), (ModelCard("m", "anthropic"), 600)):
        found = claude.media_limits(model)
        assert found is not None
        assert found.images == most
    assert claude.media_limits(ModelCard("m", "deepseek")) is None
    for dialect in (OpenAIChat(), OpenAIResponses()):
        limits = dialect.media_limits(ModelCard("m", "openai"))
        assert limits is not None
        assert limits.images == 1_500
        assert dialect.media_limits(ModelCard("m", "groq")) is None


@pytest.mark.anyio
async def test_nothing_is_sent() -> None:
    """A model without a card is asked: there the provider says what it takes."""
    request = ChatRequest.of(Message.user([Image(data=bmp(), media_type="image/bmp")]))
    async with (
        MockServer() as server,
        Pipeline([], Anthropic("any", base_url=server.url)) as pipeline,
    ):
        with pytest.raises(UnsupportedError, match=r"messages\[0\]\.parts\[0\]"):
            await pipeline.run(request.evolve(model="claude-sonnet-4-5"))
        assert not server.requests
        with pytest.raises(InvalidRequestError):
            await pipeline.run(request.evolve(model="nobody-knows-it"))
        assert len(server.requests) == 1
