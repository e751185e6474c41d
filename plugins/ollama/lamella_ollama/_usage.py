"""What an answer of Ollama's consumed.

It states two counts: the tokens of the prompt, whatever a cache served of them, and those of the
answer, thoughts included. A count of zero is left out, and so is the prompt's by servers that had
read all of it before. Counts that cannot be true are cut and the usage is flagged `estimated`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from lamella._usage import Usage
from lamella.transports._estimated_usage import estimated_usage

PROMPT, ANSWER = "prompt_eval_count", "eval_count"


@attrs.define
class Spent:
    """What is known of one answer so far.

    Attributes:
        prompt: Tokens of the prompt; None while nobody has said.
        answer: Tokens of the answer; None while nobody has said.
        doubt: Whether a count could not be true.
        texts: The pieces of text and of calls that came.
        thoughts: The pieces of thinking that came.
    """

    prompt: int | None = None
    answer: int | None = None
    doubt: bool = False
    texts: list[str] = attrs.field(factory=list[str])
    thoughts: list[str] = attrs.field(factory=list[str])

    def state(self, line: Mapping[str, Any]) -> None:
        """Take what a line states; the last statement counts."""
        if PROMPT in line:
            self.prompt = self._count(line[PROMPT], self.prompt)
        if ANSWER in line:
            self.answer = self._count(line[ANSWER], self.answer)

    def stated(self) -> Usage | None:
        """What the server has said; None if nothing."""
        if self.prompt is None and self.answer is None:
            return None
        return Usage(
            uncached_input=self.prompt or 0, text_output=self.answer or 0, estimated=self.doubt
        )

    def usage(self, request: object, *, idle: bool = False) -> Usage | None:
        """What the whole answer consumed; None if nobody says and there is no request.

        Args:
            request: What was asked; with it, what is not stated is estimated.
            idle: Whether the model was only loaded, or taken out of memory.
        """
        stated = self.stated()
        if stated is None and idle:
            return Usage()
        answer = self.answer
        if answer is None and stated is not None and not (self.texts or self.thoughts):
            answer = 0  # which is not written
        if request is None or (self.prompt is not None and answer is not None):
            return stated
        guess = estimated_usage(request, self.texts, self.thoughts)
        if stated is None:
            return guess
        return Usage(
            uncached_input=guess.uncached_input if self.prompt is None else self.prompt,
            text_output=guess.output_tokens if answer is None else answer,
            estimated=True,
        )

    def _count(self, value: Any, before: int | None) -> int | None:
        if value is None:
            return before
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not whole:
            self.doubt = True
            return before
        self.doubt = self.doubt or value < 0
        return max(int(value), 0)
