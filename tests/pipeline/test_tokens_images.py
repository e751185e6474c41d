"""What pictures are billed as: sizes from the first bytes, and the rules that providers publish."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from media_files import bmp, gif, jpeg, png, webp

from lamella import ChatRequest, Image, Message, ModelCard, input_usage
from lamella._image_sizes import Size, image_size
from lamella._image_tokens import (
    ANY_MODEL,
    UNSEEN,
    CropRule,
    ImageRule,
    LevelRule,
    PatchRule,
    TileRule,
)
from lamella._shared_cards import shared_cards

FILES: dict[str, Callable[[int, int], bytes]] = {
    "png": png,
    "jpeg": jpeg,
    "photo": lambda width, height: jpeg(width, height, camera=60_000),
    "gif": gif,
    "bmp": bmp,
    "lossy": lambda width, height: webp("lossy", width, height),
    "lossless": lambda width, height: webp("lossless", width, height),
    "extended": lambda width, height: webp("extended", width, height),
}
CLAUDE = PatchRule(side=28, most=1_568, longest=1_568, low_side=0)
MINI = PatchRule(multiplier=1.62)
GEMINI = LevelRule({"low": 280, "medium": 560, "high": 1_120})
RULES: list[ImageRule] = [TileRule(), PatchRule(), CLAUDE, MINI, CropRule(), GEMINI]


@settings(max_examples=30)
@given(st.sampled_from(sorted(FILES)), st.integers(1, 16_000), st.integers(1, 16_000))
def test_a_size_is_read_from_the_header(kind: str, width: int, height: int) -> None:
    """Of every kind of picture, whatever its size and whatever stands before it."""
    assert image_size(FILES[kind](width, height)) == (width, height)


@settings(max_examples=30)
@given(st.sampled_from(sorted(FILES)), st.data())
def test_what_is_damaged_has_no_size(kind: str, data: st.DataObject) -> None:
    """A file that is cut anywhere, or whose bytes are changed, never raises and never hangs."""
    whole = bytearray(FILES[kind](640, 480)[:200])
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    assert image_size(cut) in {None, (640, 480)}
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    found = image_size(bytes(whole))
    assert found is None or min(found) >= 1


@settings(max_examples=30)
@given(st.binary(max_size=300))
@example(b"\xff\xd8" + b"\xff" * 3_000)
@example(b"\xff\xd8" + b"\xff\xe0\x00\x02" * 3_000)
def test_any_bytes_may_be_asked(data: bytes) -> None:
    """Endless fillings and segments of a JPEG end too."""
    found = image_size(b"\xff\xd8\xff" + data)
    assert found is None or min(found) >= 1


PUBLISHED: list[tuple[ImageRule, Size, str | None, int]] = [
    # OpenAI, "Images and vision": tiles
    (TileRule(), (1_024, 1_024), "high", 765),
    (TileRule(), (2_048, 4_096), "high", 1_105),
    (TileRule(), (4_096, 8_192), "low", 85),
    (TileRule(), (512, 512), None, 255),
    (TileRule(75, 150), (1_024, 1_024), None, 675),
    (TileRule(2_833, 5_667), (1_024, 1_024), None, 25_501),
    # and patches
    (PatchRule(), (1_024, 1_024), "high", 1_024),
    (PatchRule(), (1_800, 2_400), "high", 1_452),
    (MINI, (1_024, 1_024), None, 1_659),
    (PatchRule(most=2_500, original=10_000), (4_096, 2_048), "original", 8_192),
    (PatchRule(original=0, original_side=0, default="original"), (8_192, 8_192), None, 65_536),
    (PatchRule(), (2_000, 2_000), "low", 256),
    # Anthropic, "Vision"
    (CLAUDE, (200, 200), None, 64),
    (CLAUDE, (1_000, 1_000), None, 1_296),
    (CLAUDE, (1_092, 1_092), None, 1_521),
    (CLAUDE, (5_000, 5_000), "low", 1_521),
    # Google, "Understand and count tokens" and "Media resolution"
    (CropRule(), (384, 384), None, 258),
    (CropRule(), (960, 540), None, 258 * 6),
    (GEMINI, (9, 9), None, 1_120),
    (GEMINI, (9_999, 9_999), "low", 280),
    (GEMINI, (9, 9), "original", 1_120),
]


@pytest.mark.parametrize(("rule", "size", "detail", "tokens"), PUBLISHED)
def test_published_examples(rule: ImageRule, size: Size, detail: str | None, tokens: int) -> None:
    """Each rule gives what its provider's guide says."""
    assert rule.tokens(size, detail) == tokens


@settings(max_examples=30)
@given(
    st.sampled_from(RULES),
    st.tuples(st.integers(1, 60_000), st.integers(1, 60_000)),
    st.sampled_from([None, "auto", "low", "high", "original", "?"]),
)
@example(PatchRule(), (1, 60_000), None)
@example(CLAUDE, (60_000, 1), None)
def test_rules_count_any_size(rule: ImageRule, size: Size, detail: str | None) -> None:
    """At least one token, no more than the rule's bound, and the same lying as standing."""
    tokens = rule.tokens(size, detail)
    assert tokens >= 1
    assert tokens == rule.tokens((size[1], size[0]), detail)
    if isinstance(rule, PatchRule):
        assert tokens <= rule.most * rule.multiplier + 1
    if isinstance(rule, TileRule):
        assert tokens <= rule.base + 8 * rule.tile


def test_no_header_makes_a_picture_endless() -> None:
    """One that says billions of pixels counts as the largest that there are: sums stay small."""
    bomb = png(2**31 - 1, 2**31 - 1), png(1, 2**31 - 1)
    for rule in (*RULES, PatchRule(most=0, longest=0, original=0, original_side=0)):
        model = ModelCard("m", "p", image_tokens=rule)
        pictures = Message.user([Image.of(data) for data in bomb])
        usage = input_usage(ChatRequest.of(pictures), card=model)
        assert usage is not None
        assert 0 < usage.image_input < 10_000_000
    assert PatchRule(longest=0).tokens((1, 60_000), None) <= PatchRule().most


def test_a_picture_that_nobody_sees_counts_as_a_usual_one() -> None:
    """By address, or of an unknown kind: 1024 x 1024."""
    for rule in RULES:
        assert rule.tokens(None, None) == rule.tokens(UNSEEN, None)
    assert ANY_MODEL.tokens(None, None) == 765


@pytest.mark.parametrize(
    ("provider", "model", "tokens"),
    [
        ("openai", "gpt-4o", 765),
        ("openai", "gpt-4o-mini-2024-07-18", 25_501),
        ("openai", "o3", 675),
        ("openai", "gpt-5", 630),
        ("openai", "gpt-5-mini", 1_659),
        ("openai", "gpt-5.4", 1_229),
        ("anthropic", "claude-sonnet-4-5", 1_369),
        ("google", "gemini-2.5-flash", 1_032),
        ("google", "gemini-3.5-flash", 1_120),
        ("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", 1_369),
    ],
)
def test_cards_say_which_rule_holds(provider: str, model: str, tokens: int) -> None:
    """For a square of 1,024 pixels."""
    card = shared_cards().find(provider, model)
    assert card is not None
    assert card.image_tokens is not None
    assert card.image_tokens.tokens((1_024, 1_024), None) == tokens


def test_cards_of_models_with_eyes_have_a_rule() -> None:
    """Of the providers whose rules are public, but for models that draw."""
    lacking = [
        card.name
        for provider in ("openai", "anthropic", "google")
        for card in shared_cards().cards(provider)
        if "image" in card.input and "chat" in card.operations and card.image_tokens is None
    ]
    assert lacking == []
