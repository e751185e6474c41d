"""Seals on thoughts: given with an answer, and checked when the thought comes back.

A seal depends on the text alone, so that whoever changes a letter of either is found out.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

from lamella.testing._mock_bedrock._errors import wrong
from lamella.testing._mock_openai._requests import JSON

_UNSIGNED: Final = ("deepseek", "openai.", "gpt-oss", "qwen")
_HIDDEN: Final = b"mock-redacted:"
_DIGEST: Final = 32


def signs(model: str) -> bool:
    """Whether a model seals its thoughts: those of some makers do not."""
    return not any(name in model for name in _UNSIGNED)


def signature(text: str) -> str:
    """The seal on a thought that is shown."""
    return base64.b64encode(b"mock-thought:" + _digest(text.encode("utf-8", "replace"))).decode()


def hidden(text: str) -> str:
    """A thought that is withheld: base64 that only the model itself can read."""
    data = text.encode("utf-8", "replace")
    return base64.b64encode(_HIDDEN + _digest(data) + data[::-1]).decode()


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=_DIGEST, person=b"mock-bedrock").digest()


def _is_hidden(content: str) -> bool:
    data = base64.b64decode(content)
    rest = data.removeprefix(_HIDDEN)
    return data.startswith(_HIDDEN) and rest[:_DIGEST] == _digest(rest[_DIGEST:][::-1])


def check_thoughts(messages: Sequence[JSON], model: str) -> None:
    """Refuse thoughts that this server cannot have had.

    Raises:
        Rejection: If a seal is missing, or is not that of its text.
    """
    for place, message in enumerate(messages):
        for index, block in enumerate(message["content"]):
            given = block.get("reasoningContent")
            if given is not None:
                _check(given, f"messages.{place}.content.{index}.reasoningContent", model)


def _check(given: Mapping[str, Any], path: str, model: str) -> None:
    content = given.get("redactedContent")
    if content is not None:
        if not _is_hidden(content):
            raise wrong(f"{path}: Invalid `data` in `redacted_thinking` block")
        return
    shown = given["reasoningText"]
    seal = shown.get("signature")
    if seal is None:
        if signs(model):
            raise wrong(f"{path}.reasoningText.signature: Field required")
    elif seal != signature(shown["text"]):
        raise wrong(f"{path}: Invalid `signature` in `thinking` block")
