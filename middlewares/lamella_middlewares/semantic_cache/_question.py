"""What is compared of a request, and what has to be the same."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import attrs

from lamella import ChatRequest, Text, request_key
from lamella._canonical import encode, form

VERSION: Final = 1
"""Of the partitions: another one finds nothing of what was kept before."""


@attrs.frozen
class Question:
    """A request taken apart.

    Attributes:
        text: What is compared: the text of the last message, which is the user's.
        partition: A digest of all the rest, within which texts are compared.
        key: The key of this very question, in its partition; it begins with that.
    """

    text: str = attrs.field(repr=False)
    partition: str
    key: str


def text_of(request: ChatRequest, most: int) -> tuple[str, ...] | str:
    """The texts that are compared, or why none are.

    Args:
        request: The request.
        most: How many characters they may have.
    """
    messages = request.messages
    if not messages or messages[-1].role != "user":
        return "the last message is not a user's"
    texts = tuple([part.text for part in messages[-1].parts if isinstance(part, Text)])
    length = sum([len(text) for text in texts])
    if length > most:
        return "longer than max_characters"  # a part of it would be compared as if it were all
    if not length or not any(text.strip() for text in texts):
        return "no text"
    return texts


def question_of(
    request: ChatRequest, texts: tuple[str, ...], tenant: str, *, decisive: tuple[Any, ...]
) -> Question:
    """The request as a question.

    Args:
        request: The request.
        texts: Its texts that are compared.
        tenant: Whose it is.
        decisive: What else decides the answer, in a form to digest: what stands inside, first.

    Raises:
        TypeError: If a field has no canonical form, as `request_key` does.
    """
    last = request.messages[-1]
    parts = [attrs.evolve(part, text="") if isinstance(part, Text) else part for part in last.parts]
    blank = request.evolve(
        messages=(*request.messages[:-1], attrs.evolve(last, parts=parts)),
        context=request.context.evolve(tenant=tenant),
    )
    rest = request_key(blank, inside=decisive[0])
    try:
        partition = _digest([VERSION, rest, *[form(one) for one in decisive[1:]]])
        asked = _digest(list(texts))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        what = type(error).__name__
        raise TypeError(
            f"Its text, or what it varies by, has no canonical form ({what})."
        ) from None
    return Question("\n".join(texts), partition, f"{partition}-{asked}")


def _digest(form: Any) -> str:
    return hashlib.sha256(encode(form), usedforsecurity=False).hexdigest()[:32]
