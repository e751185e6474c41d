"""What OpenAI takes of pictures, as its guide "Images and vision" has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lamella._media_types import IMAGES
from lamella.transports._media_limits import MediaLimits

if TYPE_CHECKING:
    from lamella._cards import ModelCard

_LIMITS: Final = MediaLimits(image_types=IMAGES, images=1_500, request_bytes=512 * 1024 * 1024)


def openai_limits(card: ModelCard) -> MediaLimits | None:
    """The limits of OpenAI's own models; None for those of others, of which nobody says.

    Args:
        card: Of the model that is asked.
    """
    return _LIMITS if card.provider == "openai" else None
