"""Chat Completions: a complete answer of the common shape, read in one step.

Nearly every answer that is not streamed is one choice of text with its usage. `_PlainAnswer` is the
type of just those, and msgspec checks it while it reads: a field that it does not know, or one with
anything in it that has to be passed on, does not fit, and the answer is read the general way
(`ChatDecoder.whole`). Both give the same events.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

from lamella._events import Event, Finish, text_delta, usage_report
from lamella._heads import Head, learned_head
from lamella.transports._openai_chat_choice import FAILURES, REASONS
from lamella.transports._openai_usage import ChatUsage
from lamella.transports._stated_bills import served_as
from lamella.transports._wire_json import NOT_THAT

Nothing: TypeAlias = Annotated[list[Any], msgspec.Meta(max_length=0)] | None
"""A list that may be there, and holds nothing."""


class _PlainMessage(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    content: str
    role: Any = None
    refusal: None = None
    annotations: Nothing = None
    tool_calls: Nothing = None
    function_call: None = None
    audio: None = None
    reasoning: None = None
    reasoning_content: None = None


class _PlainChoice(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    message: _PlainMessage
    finish_reason: str | None = None
    index: Literal[0] = 0
    logprobs: None = None
    stop_reason: None = None
    token_ids: None = None


class _PlainAnswer(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    choices: tuple[_PlainChoice]
    usage: ChatUsage
    id: str | None = None
    object: Any = None
    created: Any = None
    model: str | None = None
    service_tier: Any = None
    system_fingerprint: Any = None
    prompt_logprobs: None = None
    prompt_token_ids: None = None
    kv_transfer_params: None = None
    error: None = None


_PLAIN: Final = msgspec.json.Decoder(_PlainAnswer)


def plain_answer(body: bytes) -> tuple[Sequence[Event], Head] | None:
    """The events of an answer of the common shape, and what is known besides; None for others."""
    try:
        answer = _PLAIN.decode(body)
    except NOT_THAT:
        return None
    usage = answer.usage.usage()
    choice = answer.choices[0]
    if usage is None or answer.object == "error":
        return None
    finish = _FINISHES[choice.finish_reason or "stop"]
    if finish is None:
        return None
    said, service = choice.message.content, answer.service_tier
    if service is not None:
        service = _SERVICES[service] if type(service) is str else served_as(service)
    report = usage_report(usage)
    head = learned_head(answer.model or None, answer.id or None, body, service)
    return [text_delta(said), report, finish] if said else [report, finish], head


class _Finishes(dict[str, Finish | None]):
    """The end for each word that says why an answer is over; None for those of failures."""

    def __missing__(self, reason: str) -> Finish | None:
        finish = None if reason in FAILURES else Finish(REASONS.get(reason, reason))
        if len(self) < _MOST_WORDS and len(reason) < _LONGEST_WORD:  # words come from servers
            self[reason] = finish
        return finish


class _Services(dict[str, str | None]):
    """The class of service that each word names."""

    def __missing__(self, said: str) -> str | None:
        service = served_as(said)
        if len(self) < _MOST_WORDS and len(said) < _LONGEST_WORD:
            self[said] = service
        return service


_MOST_WORDS: Final = 100
_LONGEST_WORD: Final = 100
_FINISHES: Final = _Finishes()
_SERVICES: Final = _Services()
