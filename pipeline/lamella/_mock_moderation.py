"""Moderation by a list of words: the same input is always found to be the same.

It knows OpenAI's 13 categories, and a few words for each. A category is flagged where one of its
words occurs as a word, in upper or lower case; those that are looked for in pictures are found in a
picture's address and in its bytes. A line `mock: flag=violence, hate` in a text flags these
categories.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Final

from lamella._events import Event, Moderation
from lamella._mock_rejections import Rejection
from lamella._mock_tokens import Draw
from lamella._moderation import moderation_events
from lamella._parts import Image

if TYPE_CHECKING:
    from lamella._moderation import ModerationInput, ModerationRequest

MODERATION_MODEL: Final = "mock-moderation"

WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "harassment": ("idiot", "worthless"),
    "harassment/threatening": ("you will regret",),
    "hate": ("subhuman", "vermin"),
    "hate/threatening": ("exterminate them",),
    "illicit": ("shoplift", "counterfeit"),
    "illicit/violent": ("pipe bomb",),
    "self-harm": ("self-harm", "hurt myself"),
    "self-harm/instructions": ("how to hurt yourself",),
    "self-harm/intent": ("hurt myself",),
    "sexual": ("porn", "nude"),
    "sexual/minors": ("underage",),
    "violence": ("kill", "murder", "gore"),
    "violence/graphic": ("gore", "bloodbath"),
}
"""The categories, and the words for which each is flagged."""

IN_PICTURES: Final = frozenset(
    {"self-harm", "self-harm/instructions", "self-harm/intent", "sexual", "violence"}
    | {"violence/graphic"}
)
"""The categories that are looked for in pictures; the others are for texts only."""

_NEWER: Final = frozenset({"illicit", "illicit/violent"})
_TEXT_MODELS: Final = "text-moderation"
"""The models that are called so read texts only, and do not know the newer categories."""

_MOST_PICTURES: Final = 1
_ORDER: Final = re.compile(r"^[ \t]*mock:[ \t]*flag[ \t=]+(.*)$", re.MULTILINE | re.IGNORECASE)


def judgements(request: ModerationRequest) -> tuple[Event, ...]:
    """The events of the answer to what is to be judged.

    Raises:
        Rejection: If an input has more than one picture, or the model reads none; or if an order
            names a category that there is not.
    """
    model = request.model or MODERATION_MODEL
    return moderation_events([_judged(given, model) for given in request.inputs])


def _judged(given: ModerationInput, model: str) -> Moderation:
    parts = (given,) if isinstance(given, str) else given
    pictures = [_readable(part) for part in parts if isinstance(part, Image)]
    texts = [
        part if isinstance(part, str) else part.text
        for part in parts
        if not isinstance(part, Image)
    ]
    only_text = model.startswith(_TEXT_MODELS)
    if pictures and only_text:
        message = f"The model {model!r} does not take pictures."
        raise Rejection(400, "invalid_value", message, "input")
    if len(pictures) > _MOST_PICTURES:
        message = f"Number of images ({len(pictures)}) exceeds maximum of {_MOST_PICTURES}"
        raise Rejection(400, "too_many_images", message, "input")
    kinds = (*(("text",) if texts else ()), *(("image",) if pictures else ()))
    names = [name for name in WORDS if not (only_text and name in _NEWER)]
    ordered = _ordered(texts)
    draw = Draw.of(texts, pictures)
    categories: dict[str, bool] = {}
    scores: dict[str, float] = {}
    for name in names:
        seen = [*texts, *pictures] if name in IN_PICTURES else texts
        flagged = name in ordered or any(_pattern(name).search(each) for each in seen)
        chance = draw.number(name, 10_000) / 100_000  # below 0.1
        categories[name] = flagged
        scores[name] = 0.9 + chance if flagged else chance / 100
    applied = {
        name: tuple([kind for kind in kinds if kind == "text" or name in IN_PICTURES])
        for name in names
    }
    return Moderation(any(categories.values()), categories, scores, {} if only_text else applied)


def _ordered(texts: Iterable[str]) -> frozenset[str]:
    """The categories that lines beginning with `mock: flag=` name."""
    found: set[str] = set()
    for text in texts:
        for order in _ORDER.findall(text):
            found.update(name.strip().lower() for name in order.split(",") if name.strip())
    unknown = sorted(found - WORDS.keys())
    if unknown:
        message = (
            f"The mock provider has no category {unknown[0]!r}; it has {', '.join(sorted(WORDS))}."
        )
        raise Rejection(400, "invalid_value", message, "input")
    return frozenset(found)


def _readable(picture: Image) -> str:
    """What of a picture words are looked for in: its bytes, or its address."""
    if picture.data is not None:
        return picture.data.decode("latin-1")
    url = picture.url or ""
    head, comma, payload = url.partition(",")
    if url[:5].lower() != "data:" or not comma or not head.lower().endswith(";base64"):
        return url
    try:
        return base64.b64decode(payload, validate=True).decode("latin-1")
    except (binascii.Error, ValueError):
        raise Rejection(400, "invalid_image_url", "The picture is no base64.", "input") from None


@cache
def _pattern(name: str) -> re.Pattern[str]:
    words = "|".join(map(re.escape, WORDS[name]))
    return re.compile(f"(?<![a-z])(?:{words})(?![a-z])", re.IGNORECASE)
