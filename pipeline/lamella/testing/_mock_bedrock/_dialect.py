"""Amazon Bedrock's API on the mock server: Converse, token counts, embeddings, lists of models."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from json import JSONDecodeError, loads
from typing import Any, Final, cast
from urllib.parse import unquote

import attrs

from lamella._chat import ChatRequest, ChatResponse
from lamella._chat_answer import fold
from lamella._events import Event
from lamella._messages import Message
from lamella._mock_rejections import Rejection
from lamella._mock_tokens import count, input_usage
from lamella.testing._http_framing import Reply
from lamella.testing._http_wire import Received
from lamella.testing._mock_bedrock._answers import Answer
from lamella.testing._mock_bedrock._cache import PromptCache
from lamella.testing._mock_bedrock._embeddings import embedded
from lamella.testing._mock_bedrock._errors import Failure, in_band, wrong
from lamella.testing._mock_bedrock._frames import EVENT_STREAM, write_frames
from lamella.testing._mock_bedrock._guardrail import Guardrail
from lamella.testing._mock_bedrock._model import CONVERSE, CONVERSE_STREAM, COUNT_TOKENS
from lamella.testing._mock_bedrock._parts import in_words, members
from lamella.testing._mock_bedrock._requests import read_bedrock, wants_thoughts
from lamella.testing._mock_bedrock._rules import check_rules
from lamella.testing._mock_bedrock._signature import check_identity, raw_target
from lamella.testing._mock_dialect import Asked, MockSettings
from lamella.testing._mock_faults import MockFaults
from lamella.testing._mock_openai._requests import JSON
from lamella.testing._mock_replies import answer_events, plain, span, streamed, whole, word_for

MODELS: Final = ("mock", "mock-small", "mock-reasoning", "amazon.titan-embed-text-v1",
                 "amazon.titan-embed-text-v2:0", "cohere.embed-english-v3",
                 "cohere.embed-v4:0")  # fmt: skip

# The model stands in one segment of the path, so that what is in its name is escaped there.
_PLACE: Final = re.compile(
    r"/model/(?P<model>[^/?]+)/(?P<name>converse|converse-stream|count-tokens|invoke)(?:\?.*)?"
)
_LISTS: Final = re.compile(r"/foundation-models(?:/(?P<model>[^/?]+))?(?:\?.*)?")
_REGION: Final = "us-east-1"
_WORDS: Final = ("system", "tools", "messages", "content", "name", "description", "text", "prompt",
                 "inputText", "texts")  # fmt: skip
"""Where a model's own requests have texts."""


@attrs.define
class MockBedrock:
    """See the module."""

    settings: MockSettings
    _cache: PromptCache = attrs.field(init=False, factory=PromptCache)

    def speaks(self, received: Received) -> bool:
        """Every address below these two."""
        return received.path.startswith(("/model/", "/foundation-models"))

    def model(self, received: Received, body: Any) -> str | None:
        """The model in the path."""
        found = _PLACE.fullmatch(raw_target(received))
        return None if found is None else unquote(found["model"])

    def answer(self, asked: Asked) -> tuple[Reply, float]:
        """The answer of the operation that the path names."""
        received = asked.received
        check_identity(received, self.settings.keys)
        target = raw_target(received)
        place, lists = _PLACE.fullmatch(target), _LISTS.fullmatch(target)
        method = "POST" if place is not None else "GET"
        if (place is None and lists is None) or received.method != method:
            raise Rejection(404, "UnknownOperationException", "There is no such operation.")
        if place is None:
            return self._models(lists["model"] if lists else None), 0.0
        known = self.settings.models
        if known is not None and asked.model not in known:
            message = "Could not resolve the foundation model from the provided model identifier."
            raise Rejection(404, "ResourceNotFoundException", message)
        _must_have_sense(asked.faults)
        match place["name"]:
            case "invoke":
                return self._embeddings(asked), 0.0
            case "count-tokens":
                return self._count(asked), 0.0
            case name:
                return self._converse(asked, stream=name == "converse-stream")

    def refusal(self, rejection: Rejection, received: Received) -> Reply:
        """A message, and the exception's name in a header."""
        return Failure.of(rejection).reply(rejection.status)

    def headers(self, received: Received) -> tuple[tuple[str, str], ...]:
        """The request's id."""
        return (("x-amzn-RequestId", f"00000000-0000-4000-8000-{received.index:012x}"),)

    # --- the operations ----------------------------------------------------------------------

    def _converse(self, asked: Asked, *, stream: bool) -> tuple[Reply, float]:
        faults, pause = asked.faults, self.settings.latency_per_token
        shape = CONVERSE_STREAM if stream else CONVERSE
        request = read_bedrock(asked.body, asked.model, shape=shape)
        told = members(asked.body)
        check_rules(told, asked.model)
        answer = self._answer(told, request)
        failure = in_band(faults.error)
        if stream:
            frames = list(answer.frames(faults))
            reply = streamed(
                frames, failure.frame, faults, pause, kind=EVENT_STREAM, written=write_frames
            )
            return reply, 0.0
        failed = {"__type": failure.name, **failure.document}
        return whole(answer.document(faults), failed, faults), span(answer.events, pause)

    def _answer(self, told: JSON, request: ChatRequest) -> Answer:
        """What the model says, or what a guardrail says in its place."""
        model = request.model or ""
        guardrail = Guardrail.of(told)
        paths = cast("Sequence[str]", told.get("additionalModelResponseFieldPaths") or ())
        if any(not path.startswith("/") for path in paths):
            raise wrong("An additionalModelResponseFieldPath is a JSON Pointer, such as /name.")
        fields: JSON = {n: told[n] for n in ("performanceConfig", "serviceTier") if n in told}
        if guardrail is not None and guardrail.blocks_question():
            trace = guardrail.trace(question=True, answer=False)
            fields |= {"trace": trace} if trace else {}
            return Answer(model=model, events=guardrail.instead(()), fields=fields, asked=paths)
        events, stopped_at = self._events(request)
        cached = self._cache.account(told, model)
        if guardrail is not None:
            blocked = guardrail.blocks_answer(events)
            trace = guardrail.trace(question=False, answer=blocked)
            fields |= {"trace": trace} if trace else {}
            events = guardrail.instead(events) if blocked else events
        return Answer(
            model=model,
            events=events,
            stopped_at=stopped_at,
            cached=cached,
            fields=fields,
            asked=paths,
        )

    def _events(self, request: ChatRequest) -> tuple[tuple[Event, ...], str | None]:
        """What the mind says, and the stop sequence at which it is cut off."""
        given = self.settings.answer
        said = None if given is None else given(request)
        request = for_mind(request)

        def answer(_: ChatRequest) -> str | Message | ChatResponse | None:
            return said

        events = answer_events(request, answer)
        if not request.stop:
            return events, None
        text = fold(answer_events(request.evolve(stop=()), answer)).text
        rest = text[len(fold(events).text) :]
        return events, next((each for each in request.stop if rest.startswith(each)), None)

    def _count(self, asked: Asked) -> Reply:
        COUNT_TOKENS(asked.body, "")
        given = members(asked.body["input"])
        if "converse" in given:
            request = read_bedrock(given["converse"], asked.model)
            check_rules(members(given["converse"]), asked.model)
            tokens = input_usage(for_mind(request)).input_tokens
        else:
            tokens = _invoked_tokens(base64.b64decode(given["invokeModel"]["body"]))
        failure = in_band(asked.faults.error)
        failed = {"__type": failure.name, **failure.document}
        return whole({"inputTokens": tokens}, failed, asked.faults)

    def _embeddings(self, asked: Asked) -> Reply:
        faults = asked.faults
        word = word_for(asked.number, asked.body)
        answer = embedded(asked.body, asked.model, faults, word)
        failure = in_band(faults.error)
        failed = {"__type": failure.name, **failure.document}
        reply = whole(answer.document, failed, faults)
        told = [("X-Amzn-Bedrock-Invocation-Latency", "100")]
        if answer.tokens is not None:
            told.append(("X-Amzn-Bedrock-Input-Token-Count", str(answer.tokens)))
        return attrs.evolve(reply, headers=(*reply.headers, *told))

    def _models(self, name: str | None) -> Reply:
        """As the control plane has them, which is another host of Amazon's."""
        known = MODELS if self.settings.models is None else tuple(self.settings.models)
        if name is None:
            return plain({"modelSummaries": [_summary(each) for each in known]})
        if unquote(name) not in known:
            raise Rejection(404, "ResourceNotFoundException", "There is no such model.")
        return plain({"modelDetails": _summary(unquote(name))})


def for_mind(request: ChatRequest) -> ChatRequest:
    """A request as the embedded provider understands it, which knows no block of this API's own."""
    request = in_words(request)
    return request.evolve(reasoning_effort="medium") if wants_thoughts(request) else request


def _must_have_sense(faults: MockFaults) -> None:
    """Refuse what only server-sent events can do, and usage together with the reason."""
    asked = [name for name in ("ids", "bom", "no_space", "multiline", "line_end")
             if getattr(faults, name)]  # fmt: skip
    if faults.usage == "with_finish":
        asked.append("usage=with_finish")
    if asked:
        message = f"Bedrock's API has no server-sent events: nothing can do {', '.join(asked)}."
        if "usage=with_finish" in asked:
            message = "Bedrock tells usage in an event of its own, never with the reason."
        raise wrong(message)


def _invoked_tokens(body: bytes) -> int:
    """How many tokens the texts in a model's own request have."""
    try:
        given = loads(body)
    except (JSONDecodeError, UnicodeDecodeError, RecursionError):
        raise wrong("The body of invokeModel is not JSON.") from None
    return sum(count(text) for text in _texts(given))


def _texts(given: Any) -> list[str]:
    if isinstance(given, str):
        return [given]
    inner: Sequence[Any] = ()
    if isinstance(given, dict):
        known = cast("JSON", given)
        inner = [known[name] for name in _WORDS if name in known]
    elif isinstance(given, list):
        inner = cast("Sequence[Any]", given)
    return [text for each in inner for text in _texts(each)]


def _summary(model: str) -> JSON:
    embeds = "embed" in model
    return {
        "modelArn": f"arn:aws:bedrock:{_REGION}::foundation-model/{model}",
        "modelId": model,
        "modelName": model,
        "providerName": "Lamella",
        "inputModalities": ["TEXT"] if embeds else ["TEXT", "IMAGE"],
        "outputModalities": ["EMBEDDING"] if embeds else ["TEXT"],
        "responseStreamingSupported": not embeds,
        "inferenceTypesSupported": ["ON_DEMAND"],
        "modelLifecycle": {"status": "ACTIVE"},
    }
