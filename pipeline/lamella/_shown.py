"""What observers may see of prompts and answers: only what a redacting layer has shown them."""

from __future__ import annotations

from typing import Any

import attrs

from lamella._answer import Answer
from lamella._chat import ChatRequest
from lamella._chat_answer import ChatAnswer
from lamella._requests import Request
from lamella._surfaces import Surface, map_texts


@attrs.define(eq=False)
class Shown:
    """One model turn as a redacting layer lets it be seen; the values of `trace.content`.

    It is kept as objects and written out only for who asks, so that a call that nobody observes
    pays nothing for it.

    Attributes:
        request: The request, redacted.
        answer: The answer, redacted; None until there is one.
    """

    request: Request[Any] = attrs.field(repr=False)
    answer: Answer | None = attrs.field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """As JSON: `messages` and `answer` of a chat, as OpenAI-style dicts; else `texts`."""
        request, answer = self.request, self.answer
        if isinstance(request, ChatRequest):
            shown: dict[str, Any] = {"messages": [one.to_dict() for one in request.messages]}
            if isinstance(answer, ChatAnswer):
                shown["answer"] = [one.to_dict() for one in answer.messages]
            return shown
        texts: list[str] = []

        def note(text: str, surface: Surface) -> str:
            if surface.form != "key":
                texts.append(text)
            return text

        map_texts(request, note)
        return {"texts": texts}
