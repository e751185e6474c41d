"""How many tokens a picture is, by the rules that providers publish. A model's card has its rule.

Rules differ in how they cut a picture (tiles, patches, crops) and in how far they shrink it first;
some go by no size at all. A picture whose size nobody can see here, one by address for instance,
counts as one of 1024 x 1024.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, Protocol

import attrs

from lamella._image_sizes import Size
from lamella._nothing import NOTHING

UNSEEN: Final[Size] = (1_024, 1_024)
"""What a picture is taken to measure that is somewhere else, or of an unknown kind."""

_LARGEST: Final = 65_536
"""Pixels of a side; what encoders write at most, and four times what any provider takes."""
_TILE: Final = 512
_BOX: Final = 2_048
_SHORT_SIDE: Final = 768
_CROPPED: Final = 1.5


class ImageRule(Protocol):
    """Counts the tokens of pictures, for one family of models."""

    def tokens(self, size: Size | None, detail: str | None, /) -> int:
        """What one picture is billed as.

        Args:
            size: Its width and height in pixels; None if unknown.
            detail: What the part asks for: `Image.detail`.
        """
        ...


@attrs.frozen
class TileRule:
    """Squares of 512 pixels, once the picture is shrunk to 2048 x 2048 and 768 on its short side.

    OpenAI, "Images and vision", models up to o3, GPT-4o and GPT-4.1. In low detail it is `base`.

    Attributes:
        base: Tokens of any picture.
        tile: Tokens of each square.
    """

    base: int = 85
    tile: int = 170

    def tokens(self, size: Size | None, detail: str | None, /) -> int:
        """What one picture is billed as."""
        if detail == "low":
            return self.base
        width, height = _within(size or UNSEEN, _BOX)
        scale = min(1.0, _SHORT_SIDE / min(width, height))
        across, down = (math.ceil(round(side * scale, 6) / _TILE) for side in (width, height))
        return self.base + self.tile * max(1, across) * max(1, down)


@attrs.frozen
class PatchRule:
    """Squares of a few pixels, a token each, once the picture is shrunk to a number of them.

    OpenAI, "Images and vision", models with patches of 32; Anthropic, "Vision", patches of 28. In
    low detail OpenAI's models get a picture within 512 x 512; Anthropic's know no detail.

    Attributes:
        side: Pixels of a patch's side.
        most: Patches of a picture at most; 0 for no bound.
        longest: Pixels of its longer side at most; 0 for no bound.
        multiplier: What a patch is billed as.
        original: Patches at most in detail `"original"`; 0 for no bound, None where the model
            knows no such detail.
        original_side: Pixels of the longer side in detail `"original"`; 0 for no bound.
        low_side: Pixels of the longer side in detail `"low"`; 0 where the model does not know it.
        default: The detail of a picture that asks for none, or for `"auto"`.
    """

    side: int = 32
    most: int = 1_536
    longest: int = 2_048
    multiplier: float = 1.0
    original: int | None = None
    original_side: int = 6_000
    low_side: int = 512
    default: str = "high"

    def tokens(self, size: Size | None, detail: str | None, /) -> int:
        """What one picture is billed as."""
        asked = self.default if detail in {None, "auto"} else detail
        most, longest = self.most, self.longest
        if asked == "original" and self.original is not None:
            most, longest = self.original, self.original_side
        elif asked == "low" and self.low_side:
            longest = min(self.low_side, longest or self.low_side)
        width, height = _within(size or UNSEEN, longest)
        count = self._patches(width) * self._patches(height)
        if most and count > most:
            scale = self._scale(width, height, most)
            # Of a picture like a thread one side cannot become smaller: never more than allowed.
            count = min(most, self._patches(width * scale) * self._patches(height * scale))
        return math.ceil(round(count * self.multiplier, 6))

    def _patches(self, pixels: float) -> int:
        return max(1, math.ceil(round(pixels / self.side, 6)))

    def _scale(self, width: float, height: float, most: int) -> float:
        """How far a picture is shrunk so that whole patches of it are no more than allowed."""
        scale = math.sqrt(self.side * self.side * most / (width * height))
        exact = [scale * pixels / self.side for pixels in (width, height)]
        return scale * min([max(1, math.floor(each)) / each for each in exact])


@attrs.frozen
class CropRule:
    """A small picture whole, a larger one in crops of the same number of tokens each.

    Google, "Understand and count tokens", Gemini 2: crops of some two thirds of the short side,
    between 256 and 768 pixels.

    Attributes:
        tokens_each: Tokens of a crop.
        small: Pixels up to which both sides make no crops.
        least: The least side of a crop.
        largest: The greatest one.
    """

    tokens_each: int = 258
    small: int = 384
    least: int = 256
    largest: int = 768

    def tokens(self, size: Size | None, _: str | None, /) -> int:
        """What one picture is billed as."""
        width, height = size or UNSEEN
        if max(width, height) <= self.small:
            return self.tokens_each
        unit = min(self.largest, max(self.least, math.floor(min(width, height) / _CROPPED)))
        return self.tokens_each * math.ceil(width / unit) * math.ceil(height / unit)


@attrs.frozen
class LevelRule:
    """As many tokens as the detail asked for says, whatever the size.

    Google, "Media resolution", Gemini 3 and later.

    Attributes:
        levels: Tokens by detail.
        default: The detail of a picture that asks for none, or for one that is not known.
    """

    levels: Mapping[str, int] = attrs.field(default=NOTHING, hash=False)
    default: str = "high"

    def tokens(self, _: Size | None, detail: str | None, /) -> int:
        """What one picture is billed as."""
        known = None if detail is None else self.levels.get(detail)
        return self.levels[self.default] if known is None else known


ANY_MODEL: Final = TileRule()
"""For models without a card, or whose card has no rule: 765 tokens for a square of 1024 pixels,
where others count 258 to 1,369."""


def plausible(size: Size | None) -> Size | None:
    """A size, shrunk to what pictures may have at most: a header may say anything."""
    if size is None or max(size) <= _LARGEST:
        return size
    width, height = _within(size, _LARGEST)
    return math.ceil(width), math.ceil(height)


def _within(size: Size, longest: int) -> tuple[float, float]:
    """A size, shrunk so that no side is longer; 0 bounds nothing."""
    width, height = size
    scale = min(1.0, longest / max(width, height)) if longest else 1.0
    return width * scale, height * scale
