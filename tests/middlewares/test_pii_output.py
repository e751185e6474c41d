"""PII: what the model brings of its own is masked before anybody is shown it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from masking import CARD, EMAIL, KEY, TOKEN, Codes, ask, noted, pii, stack

from lamella import (
    BlockedError,
    Channel,
    ChatRequest,
    Finding,
    Finish,
    Head,
    InspectionError,
    LamellaError,
    Message,
    Outcome,
    Pipeline,
    ReasoningDelta,
    Secret,
    ServerError,
    StreamTruncated,
    TargetsFailedError,
    TextDelta,
    ToolCallDelta,
    Turn,
)
from lamella.testing import Scripted, ScriptedAnswer, virtual_ports
from lamella_middlewares.fallback import Fallback
from lamella_middlewares.pii import Scan, Vault
from lamella_middlewares.pii._detect._scanner import Scanner
from lamella_middlewares.pii._inspecting import Inspector, Watched
from lamella_middlewares.pii._loading import detectors_of
from lamella_middlewares.pii._placeholders import Mint
from lamella_middlewares.pii._screening import Screening
from lamella_middlewares.pii._vault import CallVault

pytestmark = pytest.mark.anyio

OWN = "bob@example.net"
BOTH: Any = {"direction": "both"}


# --- what is masked ----------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("direction", ["out", "both"])
async def test_what_the_model_brings_is_masked(direction: Any, stream: bool) -> None:
    """The model's own data is replaced; what the caller has told it comes back."""
    pipeline, _ = stack(
        lambda request: f"{request.messages[0].text} or {OWN}, {OWN}.",
        direction=direction,
        strategies={"email": "redact"} if direction == "out" else {},
    )
    response = await ask(pipeline, "Write to whom?", stream=stream)
    assert OWN not in response.text
    assert noted(response, "pii.masked") == [{"direction": "out", "kinds": {"email": 2}}]
    one, other = TOKEN.findall(response.text) if direction == "both" else ("[EMAIL]",) * 2
    assert one == other
    assert response.text == f"Write to whom? or {one}, {one}."
    assert noted(response, "pii.unknown") == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("strategy", ["placeholder", "redact"])
async def test_what_the_caller_has_told_is_the_callers(strategy: Any, stream: bool) -> None:
    """The model may have guessed it: the caller sees a value of the call's own."""

    def guess(request: Any) -> str:
        token = TOKEN.findall(request.messages[0].text)
        return f"{token} {EMAIL} {OWN}"

    pipeline, _ = stack(guess, **BOTH)
    response = await ask(pipeline, f"I am {EMAIL}", stream=stream)
    assert response.text.startswith(f"['{EMAIL}'] {EMAIL} ⟦EMAIL_")
    assert OWN not in response.text


@pytest.mark.parametrize("stream", [False, True])
async def test_every_text_of_an_answer_is_looked_into(stream: bool) -> None:
    """Reasoning, arguments in whatever escapes, earlier turns and the provider's own data."""
    escaped = json.dumps({"to": OWN, "n": 4111111111111111}).replace("@", "\\u0040")
    events: list[Any] = [
        Turn((Message.assistant(f"first {OWN}"),)),
        ReasoningDelta(f"think {OWN[:4]}"),
        ReasoningDelta(OWN[4:]),
        TextDelta("see ", extra={"cited": [OWN]}),
        ToolCallDelta(0, "1", "mail", escaped[:9]),
        ToolCallDelta(0, arguments=escaped[9:]),
        Finish("tool_calls"),
    ]
    pipeline, _ = stack(events, direction="out", strategy="redact")
    response = await ask(pipeline, "hi", stream=stream)
    assert OWN not in repr(response.events)
    assert "4111" not in repr(response.events)
    assert response.messages[0].text == "first [EMAIL]"
    reasoning, text, call = response.message.parts
    assert (reasoning.text, text.extra["cited"]) == ("think [EMAIL]", ["[EMAIL]"])
    assert json.loads(call.arguments) == {"to": "[EMAIL]", "n": "[CARD]"}


async def test_the_raw_answer_goes_where_it_was_changed() -> None:
    """What was masked does not stand in `raw`; what was not changed stays."""
    for text, kept in ((f"I am {OWN}.", False), ("I am nobody.", True)):
        answer = ScriptedAnswer([text, Finish("stop")], head=Head(raw=text.encode()))
        pipeline, _ = stack(answer, direction="out")
        response = await ask(pipeline, "Who?")
        assert (response.raw is not None) is kept


# --- a stream is what the whole is -------------------------------------------------------------


class Far:
    """Finds `key` and a digit where the word `card` stands at most 20 characters before it."""

    kinds = ("far",)
    reach = 30

    def find(self, text: str, /) -> Iterable[Finding]:
        place = text.find("key")
        while place >= 0:
            if text[place + 3 : place + 4].isdigit() and "card" in text[max(0, place - 20) : place]:
                yield Finding(place, place + 4, "far")
            place = text.find("key", place + 1)


class Shy:
    """A detector that does not say how far it looks."""

    kinds = ("shy",)

    def find(self, text: str, /) -> Iterable[Finding]:
        return [Finding(0, 1, "shy")] if text.endswith("!") else ()


def screening(detectors: Sequence[Any], **options: Any) -> Screening:
    """What looks into an answer with these detectors."""
    watched = [Watched(one, type(one).__name__) for one in detectors]
    inspector = Inspector(Scanner([*watched, *detectors_of(("email", "card"))]), watched)
    vault = CallVault(Mint(b"k" * 32, None, None), Vault())
    given: Any = {"most": 10**6, "look_behind": None, **options}
    return Screening(inspector, vault, lambda _: "redact", **given)


def in_pieces(made: Screening, chunks: Iterable[str]) -> list[str]:
    """What is shown for each chunk, and at the end."""
    one = made.filter(Channel("text"))
    return [*[one.feed(chunk) for chunk in chunks], one.flush()]


WORDS = st.sampled_from(
    [OWN, EMAIL, CARD, "ID-1234", "ID-12345678", "card", "key1", "key", "4111", "@", ".", " ", "\n",
     "no one", "a@b.co", "⟦EMAIL_K7Q2M9XA⟧", "⟦EMA", "\u200b", "\u0301", "\uff41@example.com",
     "x" * 40]
)  # fmt: skip


@given(
    words=st.lists(WORDS, max_size=30),
    cuts=st.lists(st.integers(1, 9), min_size=1, max_size=20),
    far=st.booleans(),
)
@settings(deadline=None, max_examples=300)
def test_what_is_shown_of_a_stream_is_what_is_shown_of_the_whole(
    words: list[str], cuts: list[int], far: bool
) -> None:
    """However a text is cut, it is shown as if it had come at once, and nothing is taken back."""
    text = " ".join(words) if far else "".join(words)
    detectors: list[Any] = [Codes(), *([Far()] if far else [])]
    whole = screening(detectors).text(text)
    chunks: list[str] = []
    place = 0
    while place < len(text):
        size = cuts[len(chunks) % len(cuts)]
        chunks.append(text[place : place + size])
        place += size
    assert "".join(in_pieces(screening(detectors), chunks)) == whole


def test_plain_text_is_held_back_by_what_detectors_ask_for() -> None:
    """Prose is shown as far behind as something may begin in it; not when it ends."""
    made = screening([Codes()])
    (card,) = detectors_of(("card",))
    one = made.filter(Channel("text"))
    prose = "It was a bright cold day in April, and the clocks were striking thirteen. " * 4
    behind = 0
    shown = ""
    for index, character in enumerate(prose, 1):
        shown += one.feed(character)
        behind = max(behind, index - len(shown))
    assert prose.startswith(shown)
    assert behind <= card.reach + 32
    assert shown + one.flush() == prose


def test_a_detector_that_needs_whole_texts_gets_them() -> None:
    """Without a reach nothing is shown before the end, unless a bound says so."""
    chunks = ["a", " long", " text", " of four or five words", " and", " more!"]
    shown = in_pieces(screening([Shy()]), chunks)
    assert shown == [""] * 6 + ["[SHY] long text of four or five words and more!"]
    early = in_pieces(screening([Shy()], look_behind=8), chunks)
    assert "".join(early) == "a long text of four or five words and more!"
    assert any(early[:-1])


def test_a_bound_shows_text_earlier() -> None:
    """`look_behind` holds back no more than it says, and a few characters."""
    made = screening([Codes()], look_behind=10)
    one = made.filter(Channel("text"))
    text = "x" * 500
    shown = ""
    for index in range(len(text)):
        shown += one.feed(text[index])
        assert index + 1 - len(shown) <= 10 + 16 + 3
    assert shown + one.flush() == text


def test_long_texts_take_linear_time() -> None:
    """How much is looked at grows with the text, not with its square."""

    class Counting(Codes):
        seen = 0

        def find(self, text: str, /) -> Iterable[Finding]:
            Counting.seen += len(text)
            return super().find(text)

    looked: list[int] = []
    for size in (2_000, 8_000):
        Counting.seen = 0
        in_pieces(screening([Counting()]), ["@" * 8] * (size // 8))
        looked.append(Counting.seen)
    assert looked[1] < 6 * looked[0]


# --- block -------------------------------------------------------------------------------------


async def test_a_blocked_answer_shows_nothing() -> None:
    """With `block` for any kind, a stream is read to its end before the first word is shown."""
    script: list[Any] = [
        ReasoningDelta("hm"),
        TextDelta("Dear "),
        1.0,
        TextDelta(OWN),
        Finish("stop"),
    ]
    pipeline, transport = stack(script, direction="out", strategies={"email": "block"})
    for stream in (False, True):
        with pytest.raises(BlockedError) as caught:
            await ask(pipeline, "hi", stream=stream)
        error = caught.value
        assert (error.kinds, error.outcome, error.committed) == (("email",), Outcome.FAILED, False)
        assert (error.partial, error.retryable) == (None, False)
        assert OWN not in repr(vars(error))
    assert transport.open_sources == 0


async def test_errors_within_errors_are_masked_too() -> None:
    """What each target had said before it failed is looked into like any other answer."""
    broken: list[Any] = [TextDelta(f"{OWN}, "), ServerError("gone", status=500)]
    layers: list[Any] = [pii(direction="out"), Fallback(["other"])]
    pipeline = Pipeline(layers, Scripted([broken], repeat=True), ports=virtual_ports())
    with pytest.raises(TargetsFailedError) as caught:
        await ask(pipeline, "hi")
    errors: list[Any] = [caught.value, *caught.value.errors]
    assert len(errors) == 3
    for error in errors:
        assert OWN not in repr(error.partial)
        assert error.partial is None or error.partial.text.startswith("\u27e6EMAIL_")


async def test_an_answer_that_is_not_blocked_comes_whole() -> None:
    """The price of `block` is the time to the first word."""
    script = [TextDelta("Dear "), 1.0, TextDelta("Ada"), Finish("stop")]
    pipeline, _ = stack(script, direction="out", strategies={"email": "block"})
    async with pipeline.stream(ChatRequest.of("hi", model="m")) as response:
        assert (response.complete, response.text) == (True, "Dear Ada")
    assert [attempt.committed for attempt in response.trace.attempts] == [True]


async def test_what_breaks_while_nothing_is_shown_is_not_committed() -> None:
    """So that it may be tried again, or elsewhere."""
    pipeline, _ = stack(
        [TextDelta(f"{OWN} "), ServerError("gone", status=500)],
        direction="out",
        strategies={"card": "block"},
    )
    with pytest.raises(ServerError) as caught:
        await ask(pipeline, "hi", stream=True)
    assert (caught.value.committed, caught.value.retryable) == (False, True)
    assert OWN not in repr(caught.value.partial)


# --- answers that go wrong ---------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("direction", ["out", "both"])
async def test_a_partial_answer_is_masked_too(direction: Any, stream: bool) -> None:
    """What comes with an error is what would have been shown, restored and masked."""

    def broken(request: Any) -> Any:
        return [TextDelta(f"{request.messages[0].text} and {OWN}, and")]

    pipeline, _ = stack(broken, direction=direction)
    with pytest.raises(StreamTruncated) as caught:
        await ask(pipeline, f"To {EMAIL}", stream=stream)
    partial = caught.value.partial
    assert partial is not None
    assert OWN not in repr(partial)
    assert partial.text.endswith(", and")
    assert (EMAIL in partial.text) is (direction == "both")


class Dies:
    """A detector that cannot look into answers, and quotes what it saw."""

    kinds = ("dies",)
    reach = 5

    def find(self, text: str, /) -> Iterable[Finding]:
        if "boom" in text:
            raise ValueError(f"what is {text}?")
        return ()


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_nobody_can_look_into_is_not_shown(stream: bool) -> None:
    """The stream ends there; of a run nothing is shown. The error says nothing of the text."""
    words = [TextDelta("all is well so far, as you can see. " * 4), TextDelta("boom " * 9)]
    pipeline, transport = stack([*words, Finish("stop")], direction="out", detectors=[Dies()])
    with pytest.raises(InspectionError) as caught:
        await ask(pipeline, "hi", stream=stream)
    error = caught.value
    assert (error.inspector, error.outcome) == ("Dies", Outcome.FAILED)
    assert (error.committed, error.retryable) == (stream, False)
    assert "boom" not in _all_of(error)
    assert transport.open_sources == 0
    lenient, _ = stack(
        [*words, Finish("stop")], direction="out", detectors=[Dies()], on_failure="pass"
    )
    response = await ask(lenient, "hi", stream=stream)
    assert response.text.endswith("boom ")
    assert noted(response, "pii.passed") == [{"error": "InspectionError", "inspector": "Dies"}]


def _all_of(error: BaseException | None) -> str:
    """The error with all that hangs on it."""
    if error is None:
        return ""
    held = vars(error) if isinstance(error, LamellaError) else {}
    return f"{error!r} {held} {_all_of(error.__cause__)} {_all_of(error.__context__)}"


async def test_a_long_answer_is_looked_into_in_a_thread() -> None:
    """More than some thousand characters hold up nobody; more than the bound is refused."""
    text = "word " * 10_000 + OWN
    pipeline, _ = stack(text, direction="out", strategy="redact")
    assert (await ask(pipeline, "hi")).text.endswith(" [EMAIL]")
    small, _ = stack(text, direction="out", scan=Scan(max_characters=1000))
    for stream in (False, True):
        with pytest.raises(InspectionError, match="1000 characters"):
            await ask(small, "hi", stream=stream)


class Slow(Codes):
    """One that blocks."""

    blocking = True


@pytest.mark.parametrize("stream", [False, True])
async def test_a_detector_that_blocks_is_asked_once_the_answer_is_there(stream: bool) -> None:
    """It runs in a thread, and never between two pieces of a stream."""
    pipeline, _ = stack(
        ["It is ", 1.0, "ID-47", "11.", Finish("stop")],
        detectors=[Slow()],
        direction="both",
        key=Secret.of_value(KEY),
    )
    response = await ask(pipeline, "My ID-1234?", stream=stream)
    assert TOKEN.sub("*", response.text) == "It is *."
    assert response.trace.content[""].to_dict()["answer"][0]["content"] == response.text


async def test_observers_get_no_answer_where_looking_blocks() -> None:
    """With requests only, a detector that blocks is not asked about the answer for a log."""
    pipeline, _ = stack("It is ID-4711.", detectors=[Slow()])
    response = await ask(pipeline, "hi")
    assert "answer" not in response.trace.content[""].to_dict()
    assert pii().blocks is False
