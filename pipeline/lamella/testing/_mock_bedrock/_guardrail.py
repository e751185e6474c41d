"""A guardrail that blocks one word, in what is asked and in what is answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

import attrs

from lamella._chat_answer import fold
from lamella._events import Event, Finish, TextDelta, UsageReport
from lamella._usage import Usage
from lamella.testing._mock_bedrock._errors import wrong
from lamella.testing._mock_bedrock._parts import inner, several
from lamella.testing._mock_bedrock._rules import blocks_of
from lamella.testing._mock_openai._requests import JSON

BLOCKED_WORD: Final = "mock-forbidden"
"""What the guardrail does not let through."""

SAID: Final = "The mock guardrail has blocked this."


@attrs.frozen
class Guardrail:
    """The guardrail that a request names.

    Attributes:
        id: Its name.
        traced: Whether the answer tells what it found.
        guarded: What of the request it looks at.
    """

    id: str
    traced: bool
    guarded: str

    @classmethod
    def of(cls, body: JSON) -> Guardrail | None:
        """The one of a request; None if it names none.

        Raises:
            Rejection: If only one of its identifier and its version is there.
        """
        config = inner(body, "guardrailConfig")
        name, version = config.get("guardrailIdentifier"), config.get("guardrailVersion")
        if bool(name) != bool(version):
            raise wrong("guardrailIdentifier and guardrailVersion must be given together.")
        if not name:
            return None
        traced = config.get("trace") in {"enabled", "enabled_full"}
        return cls(str(name), traced, _guarded(several(body, "messages")))

    def blocks_question(self) -> bool:
        """Whether the model is not even asked."""
        return BLOCKED_WORD in self.guarded

    def blocks_answer(self, events: Sequence[Event]) -> bool:
        """Whether the answer is not given."""
        return BLOCKED_WORD in fold(events).text

    def instead(self, events: Sequence[Event]) -> tuple[Event, ...]:
        """What is said instead of an answer; without one, nothing has been consumed."""
        usage = [event for event in events if isinstance(event, UsageReport)]
        return (
            TextDelta(SAID),
            *(usage or [UsageReport(Usage())]),
            Finish("guardrail_intervened"),
        )

    def trace(self, *, question: bool, answer: bool) -> JSON | None:
        """What it found, if the request wants to know; None if not.

        Args:
            question: Whether it blocked what was asked.
            answer: Whether it blocked what was answered.
        """
        if not self.traced:
            return None
        found: JSON = {"inputAssessment": {self.id: _assessment(found=question)}}
        if not question:
            found["outputAssessments"] = {self.id: [_assessment(found=answer)]}
        if question or answer:
            found["actionReason"] = "Guardrail blocked."
        return {"guardrail": found}


def _assessment(*, found: bool) -> JSON:
    metrics: JSON = {
        "guardrailProcessingLatency": 1,
        "usage": {
            "topicPolicyUnits": 0,
            "contentPolicyUnits": 0,
            "wordPolicyUnits": 1,
            "sensitiveInformationPolicyUnits": 0,
            "sensitiveInformationPolicyFreeUnits": 0,
            "contextualGroundingPolicyUnits": 0,
        },
    }
    if not found:
        return {"invocationMetrics": metrics}
    word = {"match": BLOCKED_WORD, "action": "BLOCKED", "detected": True}
    return {
        "wordPolicy": {"customWords": [word], "managedWordLists": []},
        "invocationMetrics": metrics,
    }


def _guarded(messages: Sequence[JSON]) -> str:
    """The texts that are marked for it; without any, the latest message."""
    marked = [
        given["text"]["text"]
        for message in messages
        for kind, given in blocks_of(message)
        if kind == "guardContent" and given.get("text")
    ]
    if not marked and messages:
        marked = [given for kind, given in blocks_of(messages[-1]) if kind == "text"]
    return "\n".join(cast("list[str]", marked))
