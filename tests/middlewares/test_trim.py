"""Trim: what is sent of a conversation fits; the caller's own stays whole."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from histories import history
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import (
    ChatRequest,
    ChatResponse,
    ConfigurationError,
    ContextLengthError,
    DropToolResults,
    History,
    Message,
    MisuseError,
    Outcome,
    Pipeline,
    Size,
    SlidingWindow,
    Tool,
    ToolCall,
    Truncate,
    input_usage,
    unanswered,
)
from lamella._fingerprints import inside
from lamella.testing import Scripted, run_virtual, virtual_ports
from lamella_middlewares import Structured, Trim

pytestmark = pytest.mark.anyio

WORDS = "some words that take their place in a window " * 10


def turns(count: int) -> list[Message]:
    """A conversation of so many turns of some hundred tokens, and a last question."""
    talk = [Message.system("Be brief.")]
    for number in range(count):
        talk += [Message.user(f"{number}: {WORDS}"), Message.assistant(WORDS)]
    return [*talk, Message.user("And now?")]


@attrs.define
class Target:
    """A transport that keeps what it gets, with the cards of the embedded provider."""

    name: str = "target"
    card_provider: str = "mock"
    requests: list[ChatRequest] = attrs.field(factory=list[ChatRequest])

    async def __call__(self, request: ChatRequest) -> ChatResponse:
        """An answer."""
        self.requests.append(request)
        return ChatResponse.of("yes")


async def sent(
    layer: Any, messages: Sequence[Message], *, model: str = "unknown", **fields: Any
) -> tuple[ChatRequest, Any]:
    """What reaches the transport, and the answer."""
    target = Target()
    async with Pipeline([layer], target, ports=virtual_ports()) as pipeline:
        response = await pipeline.run(ChatRequest.of(messages, model=model, **fields))
    return target.requests[0], response


def tokens(request: ChatRequest) -> int:
    """What a request has."""
    usage = input_usage(request)
    assert usage is not None
    return usage.input_tokens


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"trigger": 1_000}, "trigger=1000"),
        ({"target": 0.5}, "target=0.5"),
        ({"strategies": "summary"}, "'summary'"),
        ({"otherwise": "drop"}, "otherwise='drop'"),
        ({"counter": []}, r"counter=\[\]"),
        ({"trigger": Size(tokens=10), "target": Size(tokens=20)}, "target's tokens"),
    ],
)
def test_wrong_options_are_refused_when_the_layer_is_made(
    options: dict[str, Any], said: str
) -> None:
    """With the option and its value."""
    with pytest.raises(ConfigurationError, match=said):
        Trim(**options)


def test_sizes_may_be_tables_as_files_have_them() -> None:
    """With the same checks."""
    layer: Any = Trim
    assert layer({"tokens": 500}, target={"tokens": 90}) == Trim(Size(tokens=500), Size(tokens=90))
    with pytest.raises(ConfigurationError, match="tokns"):
        layer({"tokns": 500})


async def test_what_is_short_passes_as_it_is() -> None:
    """The very same messages."""
    talk = turns(3)
    request, response = await sent(Trim(Size(tokens=10_000)), talk)
    assert all(new is old for new, old in zip(request.messages, talk, strict=True))
    assert not response.trace.notes


async def test_what_is_too_long_is_cut_to_the_target() -> None:
    """The caller's request stays whole; the trace says what was done, in numbers."""
    talk = turns(12)
    whole = ChatRequest.of(talk, model="m")
    target = Target()
    async with Pipeline([Trim(Size(tokens=1_500))], target, ports=virtual_ports()) as pipeline:
        response = await pipeline.run(whole)
    (request,) = target.requests
    assert whole.messages == tuple(talk)
    assert request.messages == (talk[0], *talk[-len(request.messages) + 1 :])
    assert tokens(request) <= 1_500
    (note,) = response.trace.notes
    assert note.name == "trim.shortened"
    assert note.fields["before"] == tokens(whole)
    assert note.fields["after"] == tokens(request)
    assert (note.fields["messages"], note.fields["kept"]) == (26, len(request.messages))
    assert note.fields["strategies"] == ("sliding_window",)
    assert "words" not in str(note.fields)


async def test_tools_and_the_answers_format_count() -> None:
    """They are sent with every turn, so they take their part of the room."""
    talk = turns(6)
    layer = Trim(Size(tokens=tokens(ChatRequest.of(talk))))
    assert len((await sent(layer, talk))[0].messages) == len(talk)
    tool = Tool("look_up", WORDS, {"type": "object", "properties": {}})
    request, _ = await sent(layer, talk, tools=[tool])
    assert len(request.messages) < len(talk)
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"title": WORDS}}}
    request, _ = await sent(layer, talk, response_format=form)
    assert len(request.messages) < len(talk)


async def test_a_share_is_of_what_the_models_window_leaves_for_it() -> None:
    """The room that the answer asks for is taken off first."""
    layer = Trim(Size(share=0.02))
    talk = turns(20)
    wide, _ = await sent(layer, talk, model="mock")  # 2 % of 128,000
    narrow, _ = await sent(layer, talk, model="mock", max_output_tokens=78_000)
    assert 2_000 < tokens(wide) <= 2_560
    assert 600 <= tokens(narrow) <= 1_000


async def test_a_share_of_nobody_knows_what_lets_everything_pass() -> None:
    """And says so."""
    talk = turns(3)
    request, response = await sent(Trim(Size(share=0.001)), talk)
    assert len(request.messages) == len(talk)
    assert [note.name for note in response.trace.notes] == ["trim.skipped"]


async def test_messages_alone_may_be_the_limit() -> None:
    """Then nobody looks at tokens, cards or counters."""
    request, _ = await sent(Trim(Size(messages=9), counter=Nobody()), turns(12))
    assert len(request.messages) == 6  # a cut leaves seven or less, from a question on


class Nobody:
    """A counter that must not be asked."""

    exact = True

    def count(self, texts: Sequence[str], /) -> int:
        """Never."""
        raise AssertionError(texts)


async def test_what_cannot_be_made_to_fit_is_refused_before_it_is_sent() -> None:
    """Instructions, pinned messages and the last question are what they are."""
    target = Target()
    talk = [*turns(2), Message("assistant", WORDS, pinned=True), Message.user(WORDS)]
    async with Pipeline([Trim(Size(tokens=100))], target, ports=virtual_ports()) as pipeline:
        with pytest.raises(ContextLengthError, match=r"model 'm'.*about \d+ tokens") as caught:
            await pipeline.run(ChatRequest.of(talk, model="m"))
    error = caught.value
    assert target.requests == []
    assert (error.phase, error.outcome, error.layer) == ("local", Outcome.NOT_SENT, "trim")
    assert "otherwise='send'" in str(error.hint)
    assert "words" not in str(error)


async def test_what_cannot_be_made_to_fit_may_be_sent_all_the_same() -> None:
    """As short as it could be made; the trace says that it does not fit."""
    talk = [*turns(2), Message.user(WORDS)]
    request, response = await sent(Trim(Size(tokens=20), otherwise="send"), talk)
    assert request.messages == (talk[0], talk[-1])
    assert response.trace.notes[0].fields["fits"] is False


async def test_of_a_share_only_what_passes_the_whole_window_is_refused() -> None:
    """A share leaves room on purpose; an estimate is taken for half of what it says."""
    question = [Message.user(WORDS * 100)]
    layer = Trim(Size(share=0.01), counter=None)
    size = tokens(ChatRequest.of(question))
    await sent(layer, question, model="mock", max_output_tokens=128_000 - size // 2 - 50)
    most = 128_000 - size // 2 + 50
    with pytest.raises(ContextLengthError, match=f"besides max_output_tokens={most:,}"):
        await sent(layer, question, model="mock", max_output_tokens=most)
    plain: Any = SimpleNamespace(count=lambda texts: sum(map(len, texts)))
    with pytest.raises(ContextLengthError):  # a counter that does not say whether it is exact
        await sent(
            Trim(Size(share=0.01), counter=plain), [Message.user("x" * 300_000)], model="mock"
        )


async def test_an_agents_turn_is_told_how_it_could_fit() -> None:
    """Its results are behind the last question, where nothing is touched unasked."""
    talk = [Message.user("q")]
    for number in range(5):
        talk += [
            Message("assistant", [ToolCall(f"c{number}", "f", "{}")]),
            Message.tool(f"c{number}", WORDS),
        ]
    with pytest.raises(ContextLengthError) as caught:
        await sent(Trim(Size(tokens=300)), talk)
    assert "DropToolResults(current=3)" in str(caught.value.hint)
    with pytest.raises(ContextLengthError, match="11 messages") as caught:
        await sent(Trim(Size(messages=9)), talk)
    assert "DropToolResults" not in str(caught.value.hint)  # a line is a message, too
    layer = Trim(Size(tokens=400), strategies=[DropToolResults(current=2)])
    request, _ = await sent(layer, talk)
    results = [message.text for message in request.messages if message.role == "tool"]
    assert [text == WORDS for text in results] == [False, False, True, True, True]


async def test_a_correction_never_goes_without_the_question() -> None:
    """It is what the user says last, and alone it would have the model make something up."""
    question = Message.user(f"How old is she? {WORDS * 5}")
    wrong = f'{{"age": "{WORDS * 3}"}}'
    size = tokens(ChatRequest.of(question)) + tokens(ChatRequest.of(wrong))
    target = Scripted([wrong, '{"age": 36}'])
    stack: list[Any] = [Structured(), Trim(Size(tokens=size), counter=None)]
    async with Pipeline(stack, target, ports=virtual_ports()) as pipeline:
        response = await pipeline.run(
            ChatRequest.of([*turns(2)[:-1], question], model="mock"), returns=Age
        )
    again = target.requests[1]
    assert isinstance(again, ChatRequest)
    assert response.value == Age(36)
    assert [message.role for message in again.messages] == ["system", "user", "user"]
    assert again.messages[1] == question


@attrs.frozen
class Age:
    """How old somebody is."""

    age: int


async def test_each_turn_begins_as_the_one_before_until_it_is_cut_again() -> None:
    """So that a provider's prompt cache finds most turns' beginning."""
    target = Target()
    talk = turns(0)
    async with Pipeline([Trim(Size(tokens=2_000))], target, ports=virtual_ports()) as pipeline:
        for number in range(40):
            response = await pipeline.run(ChatRequest.of(talk, model="m"))
            talk += [response.message, Message.user(f"{number}: {WORDS}")]
    sents = [request.messages for request in target.requests]
    same = [new[: len(old)] == old for old, new in pairwise(sents)]
    assert all(tokens(request) <= 2_000 for request in target.requests)
    assert same.count(False) >= 3
    assert same.count(True) >= 4 * same.count(False)


async def test_a_strategy_of_ones_own_takes_its_turn() -> None:
    """It needs a name and `shorten`."""

    class Shout:
        name = "shout"

        def shorten(self, history: History, /) -> History:
            return history.replacing(
                {group.start: Message(group.role, "!") for group in history.past}
            )

    request, response = await sent(Trim(Size(tokens=500), strategies=Shout()), turns(4))
    assert [message.text for message in request.messages[1:5]] == ["!"] * 4
    assert response.trace.notes[0].fields["strategies"] == ("shout",)


async def test_a_strategy_that_orphans_a_result_is_named() -> None:
    """Before the provider refuses it in words that nobody understands."""

    class Careless:
        name = "careless"

        def shorten(self, history: History, /) -> History:
            return attrs.evolve(history, messages=history.messages[2:])

    talk = [
        Message.user("q"),
        Message("assistant", [ToolCall("c", "f", "{}")]),
        Message.tool("c", WORDS),
        Message.user(WORDS),
    ]
    with pytest.raises(MisuseError, match=r"'careless'.*'c'"):
        await sent(Trim(Size(tokens=50), strategies=[Careless()]), talk)


async def test_long_conversations_are_counted_in_a_thread_once() -> None:
    """What was counted is remembered, for the next turn."""
    ports = virtual_ports()
    threads: list[object] = []

    async def thread(function: Any, /, *args: Any) -> Any:
        threads.append(function)
        return function(*args)

    ports = attrs.evolve(ports, thread=thread)
    talk = turns(60)
    async with Pipeline([Trim(Size(tokens=50_000))], Target(), ports=ports) as pipeline:
        for number in range(3):
            await pipeline.run(ChatRequest.of([*talk, Message.user(str(number))], model="m"))
    assert len(threads) == 1


async def test_streams_are_trimmed_too() -> None:
    """What is sent does not depend on how the answer is read."""
    target = Target()
    pipeline = Pipeline([Trim(Size(messages=4))], target, ports=virtual_ports())
    async with pipeline.stream(ChatRequest.of(turns(5), model="m")) as response:
        assert [event async for event in response]
    assert len(target.requests[0].messages) < 5


async def test_it_is_part_of_the_keys_of_caches_outside() -> None:
    """Another trigger, another answer."""
    found = set[str]()
    for layer in (
        Trim(Size(tokens=9)),
        Trim(Size(tokens=8)),
        Trim(Size(tokens=9), strategies=[Truncate(200), SlidingWindow()]),
        Trim(Size(tokens=9), strategies=[Truncate(300), SlidingWindow()]),
    ):
        seen: list[str] = []

        async def look(request: ChatRequest, call_next: Any, seen: list[str] = seen) -> Any:
            seen.append(inside(call_next))
            return await call_next(request)

        async with Pipeline([look, layer], Target(), ports=virtual_ports()) as pipeline:
            with pytest.raises(ContextLengthError):
                await pipeline.run(ChatRequest.of(WORDS, model="m"))
        found.update(seen)
    assert len(found) == 4


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), tenth=st.integers(2, 9), share=st.booleans())
def test_any_history_is_sent_whole_or_refused(seed: int, tenth: int, *, share: bool) -> None:
    """Nothing is orphaned, nothing is too long, and what must stay is there."""
    talk = history(seed, words=12)
    size = tokens(ChatRequest.of(talk))
    most = max(1, size * tenth // 10)
    trigger = Size(share=most / 128_000) if share else Size(tokens=most)

    async def main() -> None:
        try:
            request, _ = await sent(Trim(trigger, counter=None), talk, model="mock")
        except ContextLengthError:
            assert not share  # far from the whole window
            return
        assert not unanswered(request.messages)
        kept = {id(message) for message in request.messages}
        assert all(id(one) in kept for one in talk if one.pinned or one.role == "system")
        assert id([one for one in talk if one.role == "user"][-1]) in kept
        if not share:
            assert tokens(request) <= most

    run_virtual(main)
