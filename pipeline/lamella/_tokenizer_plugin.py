"""The tokenizers that this library finds vocabularies for, registered as anybody's are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lamella._exact_counter import ExactCounter

NAMES: Final = (
    "cl100k_base",
    "deepseek_v3",
    "glm4",
    "gpt2",
    "kimi_k2",
    "llama3",
    "mistral_v3",
    "o200k_base",
    "o200k_harmony",
    "olmo2",
    "p50k_base",
    "p50k_edit",
    "phi4",
    "qwen3",
    "r50k_base",
)
"""OpenAI's, whose patterns are in tiktoken, and other byte-pair ones that are in splintr-rs."""


def lamella_tokenizers() -> Mapping[str, Callable[[], ExactCounter]]:
    """Tokenizers by name; nothing is imported or read before one is made."""
    return {name: partial(_made, name) for name in NAMES}


def _made(name: str) -> ExactCounter:
    from lamella._exact_counter import ExactCounter
    from lamella._vocabularies import vocabulary

    return ExactCounter(name, vocabulary(name))
