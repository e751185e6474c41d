"""Whether a server has cut what it was sent to fit the model's window, as far as can be proved.

It says nothing of it: only the count of the tokens that it read is smaller than it should be. How
many there should be is its tokenizer's secret, but tokenizers split at spaces before anything else
(none but experimental ones join words), so that there are no fewer tokens than words. A prompt of
more words than the window has tokens cannot have fitted. A note is written only if the count
agrees, which says that fewer tokens were read than there are words: a server may have a larger
window than was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from lamella._chat import ChatRequest
from lamella._context import is_given
from lamella._embeddings import EmbeddingRequest
from lamella._parts import Text

_SAID = frozenset({"system", "developer", "user"})
"""Whose words every template renders; some leave out earlier thoughts, or tools."""


def note_cut(
    request: ChatRequest | EmbeddingRequest | None,
    window: int | None,
    read: int | None,
    *,
    provider: str,
) -> None:
    """Write into the trace that not all was read, if that is certain.

    Args:
        request: What was asked.
        window: The window that was asked for, in tokens; None if nobody said.
        read: How many tokens the server says it has read; None if it did not.
        provider: Who answered.
    """
    if request is None or not window or not read or not is_given(request.context.trace):
        return
    prompts = [_texts(request)] if isinstance(request, ChatRequest) else _apart(request)
    if not any(_may_be_longer(texts, window) for texts in prompts):
        return
    counts = [sum([len(text.split()) for text in texts]) for texts in prompts]
    if max(counts) > window and read < sum(counts):
        request.context.note(
            provider, "ollama.prompt_cut", num_ctx=window, prompt_eval_count=read, words=sum(counts)
        )


def _texts(request: ChatRequest) -> Sequence[str]:
    return [
        part.text
        for message in request.messages
        if message.role in _SAID
        for part in message.parts
        if isinstance(part, Text)
    ]


def _apart(request: EmbeddingRequest) -> list[Sequence[str]]:
    """Each text has the window for itself."""
    return [(text,) for text in request.inputs]


def _may_be_longer(texts: Sequence[str], window: int) -> bool:
    """Whether counting words is not idle: each takes two letters, its space among them."""
    return sum([len(text) + 1 for text in texts]) > 2 * window
