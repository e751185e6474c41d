"""The rule `moderation`: a classifier judges texts and pictures in the same call."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from lamella import (
    ApprovalRequired,
    BlockedError,
    ChatRequest,
    ChatResponse,
    ConfigurationError,
    EmbeddingRequest,
    EmbeddingResponse,
    File,
    Image,
    InspectionError,
    Message,
    Moderation,
    ModerationRequest,
    ModerationResponse,
    Pipeline,
    RateLimitError,
    Request,
    Response,
    Text,
    ToolCall,
    ToolResult,
)
from lamella.testing import Scripted, ScriptedAnswer, virtual_ports
from lamella.transports import Mock
from lamella_middlewares import Cost, Fallback, Retry
from lamella_middlewares.guard import Guard, blocked_terms, moderation

pytestmark = pytest.mark.anyio

PICTURE = Image(data=b"PNG gore", media_type="image/png")
CALM = {"violence": 0.01, "hate": 0.01}


def scores(given: Any) -> dict[str, float]:
    """How harmful an input is: `bad` is violent, `vile` hateful, a little or much."""
    text = str(given)
    return {
        "violence": 0.9 if "bad" in text else 0.3 if "rough" in text else 0.01,
        "hate": 0.8 if "vile" in text else 0.01,
    }


class Provider:
    """A transport that answers chats, and judges by `scores`."""

    def __init__(self, text: str = "fine", judge: Callable[[Any], Any] = scores) -> None:
        self.text = text
        self.judge = judge
        self.asked: list[tuple[Any, ...]] = []
        self.models: list[str | None] = []
        self.chats: list[ChatRequest] = []

    async def __call__(self, request: Request[Any]) -> Any:
        if isinstance(request, ModerationRequest):
            self.asked.append(request.inputs)
            self.models.append(request.model)
            return ModerationResponse.of([self.judge(one) for one in request.inputs])
        assert isinstance(request, ChatRequest)
        self.chats.append(request)
        return ChatResponse.of(self.text)


def pipe(rule: Any = None, transport: Any = None, **options: Any) -> tuple[Pipeline, Any]:
    """A guarded pipeline and its transport."""
    transport = transport or Provider()
    guard = Guard(rule or moderation(), **options)
    return Pipeline([guard], transport, ports=virtual_ports()), transport


async def test_harmful_requests_are_blocked() -> None:
    """Before the provider answers; the error and the trace name categories, and no text."""
    pipeline, provider = pipe()
    with pytest.raises(BlockedError) as caught:
        await pipeline.run(ChatRequest.of("something bad and vile"))
    assert (caught.value.rule, caught.value.kinds) == ("moderation", ("hate", "violence"))
    assert "something" not in str(caught.value)
    assert not provider.chats
    assert (await pipeline.run(ChatRequest.of("hello"))).text == "fine"


async def test_the_embedded_provider_judges() -> None:
    """With nothing configured; words and pictures."""
    pipeline, _ = pipe(transport=Mock())
    for asked in ("You idiot.", [Message.user([Text("Look"), PICTURE])]):
        with pytest.raises(BlockedError):
            await pipeline.run(ChatRequest.of(asked))
    response = await pipeline.run(ChatRequest.of("mock: say Good morning."))
    branches = [attempt.branch for attempt in response.trace.attempts]
    assert branches == ["/moderation", "", "/moderation"]


async def test_harmful_answers_are_blocked() -> None:
    """Streamed or not; of a stream nothing is seen before."""
    pipeline, _ = pipe(transport=Provider("this is bad"))
    with pytest.raises(BlockedError, match="answer"):
        await pipeline.run(ChatRequest.of("hello"))
    seen: list[Any] = []
    with pytest.raises(BlockedError):
        async with pipeline.stream(ChatRequest.of("hello")) as response:
            seen += [event async for event in response]
    assert not seen


async def test_good_answers_arrive_as_they_were() -> None:
    """After the judgement on each text."""
    steps = Scripted([ModerationResponse.of([CALM]), ChatResponse.of("one two three"),
                      ModerationResponse.of([CALM])])  # fmt: skip
    pipeline, _ = pipe(transport=steps)
    async with pipeline.stream(ChatRequest.of("hello")) as response:
        assert (await response.collect()).text == "one two three"


async def test_texts_are_judged_together_and_pictures_alone() -> None:
    """One request for the texts of all messages, one for each picture; each once."""
    pipeline, provider = pipe(moderation(direction="in"))
    conversation = [
        Message.system("Be brief."),
        Message.user([Text("first"), PICTURE, PICTURE]),
        Message.assistant([ToolCall("1", "look", "{}")]),
        Message("tool", ToolResult("1", (Text("found"), Image(url="https://example.com/a.png")))),
        Message.user([Text("first"), File(data=b"inside", media_type="text/plain")]),
        Message.user("  "),
    ]
    await pipeline.run(ChatRequest.of(conversation))
    texts, *pictures = provider.asked
    assert sorted(texts) == ["first", "found", "inside"]
    assert pictures == [((PICTURE,),), ((Image(url="https://example.com/a.png"),),)]


async def test_roles_and_pictures_are_a_choice() -> None:
    """All texts where no roles are named; no pictures where they are not to be judged."""
    rule = moderation(direction="in", roles=None, images=False)
    pipeline, provider = pipe(rule)
    await pipeline.run(
        ChatRequest.of([Message.system("Be brief."), Message.user([Text("Hi"), PICTURE])])
    )
    assert provider.asked == [("Be brief.", "Hi")]
    pipeline, provider = pipe(moderation(direction="in", roles=["system"], images=False))
    await pipeline.run(ChatRequest.of("Hi"))
    assert not provider.asked


async def test_embeddings_are_judged_where_no_roles_are_named() -> None:
    """They stand in no message."""
    answer = EmbeddingResponse.of([[1.0]])
    pipeline, transport = pipe(
        moderation(roles=None), Scripted([ModerationResponse.of([CALM]), answer])
    )
    await pipeline.run(EmbeddingRequest.of("a text"))
    assert transport.requests[0].inputs == ("a text",)


async def test_a_moderation_is_not_moderated() -> None:
    """Who asks for one gets it."""
    pipeline, provider = pipe()
    assert (await pipeline.run(ModerationRequest.of("bad"))).flagged
    assert len(provider.asked) == 1


async def test_the_same_text_is_judged_once_in_a_call() -> None:
    """Over its turns, and where it comes back; in another call again."""

    async def twice(request: ChatRequest, call_next: Any) -> Any:
        await call_next(request)
        return await call_next(request.turn(1))

    provider = Provider("hello")
    pipeline = Pipeline([twice, Guard(moderation())], provider, ports=virtual_ports())
    await pipeline.run(ChatRequest.of("hello"))
    assert provider.asked == [("hello",)]
    await pipeline.run(ChatRequest.of("hello"))
    assert len(provider.asked) == 2


# --- what counts -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text", "kinds"),
    [
        ({}, "rough", None),
        ({"thresholds": {"violence": 0.3}}, "rough", ("violence",)),
        ({"thresholds": {"violence": 0.31}}, "rough", None),
        ({"thresholds": {"violence": 0.95}}, "bad", None),
        ({"thresholds": {"violence": 0.95}}, "bad vile", ("hate",)),
        ({"thresholds": {"violence": 0}}, "calm", ("violence",)),
        ({"categories": ["hate"]}, "bad", None),
        ({"categories": ["hate"]}, "bad vile", ("hate",)),
        ({"categories": ["violence"], "thresholds": {"violence": 0.2}}, "rough", ("violence",)),
    ],
)
async def test_categories_and_thresholds(
    options: dict[str, Any], text: str, kinds: tuple[str, ...] | None
) -> None:
    """What counts is what was chosen: the provider's flags, or scores from a threshold up."""
    pipeline, _ = pipe(moderation(direction="in", **options))
    if kinds is None:
        await pipeline.run(ChatRequest.of(text))
        return
    with pytest.raises(BlockedError) as caught:
        await pipeline.run(ChatRequest.of(text))
    assert caught.value.kinds == kinds


async def test_a_flag_without_a_category_counts() -> None:
    """And categories with other words than ours are named as far as can be."""
    odd = {"flagged": Moderation(flagged=True, categories={"a": False}, scores={"a": 0.1}),
           "words": Moderation.of({"dangerous & criminal": 0.9, "1st": 0.9})}  # fmt: skip
    for name, kinds in (
        ("flagged", ("unspecified",)),
        ("words", ("category_1st", "dangerous___criminal")),
    ):
        pipeline, _ = pipe(transport=Provider(judge=partial(_given, odd[name])))
        with pytest.raises(BlockedError) as caught:
            await pipeline.run(ChatRequest.of("hello"))
        assert caught.value.kinds == kinds


def _given(result: Moderation, _: Any) -> Moderation:
    return result


async def test_findings_can_be_noted_or_asked_about() -> None:
    """A note lets pass, with a mark in the trace; a question needs somebody who agrees."""
    pipeline, _ = pipe(moderation(action="note"))
    response = await pipeline.run(ChatRequest.of("bad"))
    (note,) = [one for one in response.trace.notes if one.name == "guard.noted"]
    assert note.fields["kinds"] == ("violence",)
    asking, provider = pipe(moderation(action="ask"))
    with pytest.raises(ApprovalRequired):
        await asking.run(ChatRequest.of("bad"))
    assert not provider.chats

    async def agree(_: Any) -> bool:
        return True

    agreed, _ = pipe(moderation(action="ask"), approve=agree)
    assert (await agreed.run(ChatRequest.of("bad"))).text == "fine"


async def test_long_texts_are_judged_in_pieces_that_overlap() -> None:
    """So that what stands at an edge is seen whole."""
    text = "x" * 890 + "something bad" + "y" * 2_000
    pipeline, provider = pipe(moderation(direction="in", characters=1_000))
    with pytest.raises(BlockedError):
        await pipeline.run(ChatRequest.of(text))
    (pieces,) = provider.asked
    assert max(map(len, pieces)) == 1_000
    assert sum("something bad" in piece for piece in pieces) >= 1
    joined = pieces[0] + "".join(piece[200:] for piece in pieces[1:])
    assert joined == text


async def test_requests_are_bounded() -> None:
    """Many texts go in batches; too many are blocked unasked."""
    rule = moderation(direction="in", max_inputs=40)
    pipeline, provider = pipe(rule)
    await pipeline.run(ChatRequest.of([Message.user(f"text {n}") for n in range(40)]))
    assert [len(inputs) for inputs in provider.asked] == [32, 8]
    with pytest.raises(BlockedError, match="too_many"):
        await pipeline.run(ChatRequest.of([Message.user(f"text {n}") for n in range(41)]))
    assert len(provider.asked) == 2


# --- what fails --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (RateLimitError("secret"), "RateLimitError"),
        (ModerationResponse.of([]), "missing_results"),
        (ModerationResponse.of([CALM, CALM]), "missing_results"),
        (ScriptedAnswer([math.inf]), "2 s"),
        (ChatResponse.of("no"), "could not inspect"),
    ],
)
async def test_what_cannot_be_judged_does_not_pass(step: Any, why: str) -> None:
    """The classifier fails, is late, or does not answer what was asked."""
    transport = Scripted([step])
    pipeline, _ = pipe(transport=transport, timeout=2)
    with pytest.raises(InspectionError, match=why) as caught:
        await pipeline.run(ChatRequest.of("hello"))
    assert "secret" not in str(caught.value)
    assert len(transport.requests) == 1


async def test_a_category_that_there_is_not_does_not_pass() -> None:
    """A slip of the pen must not switch a check off."""
    wrong = moderation(categories=["voilence"]), moderation(thresholds={"voilence": 0.5})
    for rule in wrong:
        pipeline, _ = pipe(rule)
        with pytest.raises(InspectionError, match="unknown_category"):
            await pipeline.run(ChatRequest.of("hello"))


async def test_a_provider_without_a_classifier_is_told() -> None:
    """And another pipeline can be asked in its place, in the same call."""

    async def chat_only(request: ChatRequest) -> Response:
        if not isinstance(request, ChatRequest):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise RateLimitError("not this")
        return ChatResponse.of("fine")

    pipeline, _ = pipe(transport=chat_only)
    with pytest.raises(InspectionError):
        await pipeline.run(ChatRequest.of("hello"))
    judge = Provider()
    async with Pipeline([Retry()], judge) as other:
        pipeline, _ = pipe(moderation(model="judge-1", pipeline=other), chat_only)
        response = await pipeline.run(ChatRequest.of("hello"))
        assert response.text == "fine"
        assert judge.asked == [("hello",), ("fine",)]
        assert judge.models == ["judge-1"] * 2
        assert len(response.trace.attempts) == 3
        with pytest.raises(BlockedError):
            await pipeline.run(ChatRequest.of("bad"))
        await pipeline.aclose()
        assert (await other.run(ModerationRequest.of("bad"))).flagged  # still open


async def test_the_layers_inside_see_the_question() -> None:
    """It is retried and priced as any request; and falls back to whoever can judge."""
    flaky = Mock(script=["status=503", None])
    pipeline = Pipeline(
        [Guard(moderation()), Retry(), Cost(unknown="note")], flaky, ports=virtual_ports()
    )
    response = await pipeline.run(ChatRequest.of("mock: say Good morning."))
    assert response.text == "Good morning."
    assert len(response.trace.attempts) == 4

    async def chat_only(request: Request[Any]) -> Any:
        raise RateLimitError("Too many.")

    pipeline = Pipeline(
        [Guard(moderation()), Fallback([Mock(model="mock-small")])],
        chat_only,
        ports=virtual_ports(),
    )
    assert (await pipeline.run(ChatRequest.of("mock: say Hi."))).text == "Hi."


async def test_it_judges_what_earlier_rules_have_left() -> None:
    """What a rule before it has taken out is not sent to be judged."""
    rules: Sequence[Any] = [blocked_terms(["vile"], action="redact"), moderation(direction="in")]
    provider = Provider()
    pipeline = Pipeline([Guard(rules)], provider, ports=virtual_ports())
    await pipeline.run(ChatRequest.of("how vile"))
    assert provider.asked == [("how [removed]",)]


# --- options -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"action": "redact"},
        {"categories": []},
        {"categories": "violence"},
        {"categories": [""]},
        {"thresholds": {"violence": 1.1}},
        {"thresholds": {"violence": "0.5"}},
        {"thresholds": {"violence": math.nan}},
        {"categories": ["hate"], "thresholds": {"violence": 0.5}},
        {"pipeline": Mock()},
        {"roles": "user"},
        {"characters": 999},
        {"max_inputs": 0},
        {"max_inputs": True},
        {"direction": "out of"},
        {"name": ""},
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    """When the rule is made."""
    with pytest.raises(ConfigurationError):
        moderation(**options)


async def test_a_file_can_name_it() -> None:
    """As a table, with its options."""
    rule = {"use": "moderation", "categories": ["hate"], "direction": "in"}
    pipeline, _ = pipe(rule)
    with pytest.raises(BlockedError):
        await pipeline.run(ChatRequest.of("vile"))
