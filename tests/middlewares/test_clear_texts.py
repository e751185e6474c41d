"""PII and Guard: what is clear is looked at once, goes as it is, and leaves nothing behind."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import (
    BlockedError,
    ChatRequest,
    ChatResponse,
    File,
    Finding,
    Image,
    InspectionError,
    Message,
    Pipeline,
    Text,
)
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares.guard import (
    Guard,
    Rule,
    allow,
    block,
    blocked_terms,
    max_length,
    pattern,
)
from lamella_middlewares.guard._rules import Inspection
from lamella_middlewares.pii import PII

pytestmark = pytest.mark.anyio

SECRET = "the code is ID-4711"


class Codes:
    """A detector that remembers what it was asked about."""

    kinds = ("code",)
    reach = 16

    def __init__(self) -> None:
        self.asked: list[str] = []

    def find(self, text: str) -> list[Finding]:
        """Where the code stands."""
        self.asked.append(text)
        place = text.find("ID-4711")
        return [Finding(place, place + 7, "code", 1.0)] if place >= 0 else []


def guarded(layer: Any, answer: str = "Fine.") -> tuple[Pipeline, Any]:
    """A pipeline with one layer, and its transport."""
    transport: Any = Scripted([answer] * 20)
    return Pipeline([layer], transport, ports=virtual_ports()), transport


async def test_a_conversation_is_looked_into_once() -> None:
    """A message in which nothing was found is not looked into at the next turn, nor walked."""
    codes = Codes()
    pipeline, transport = guarded(PII(kinds=(), detectors=(codes,)))
    said = [Message.system("Be kind."), Message.user("How are you?")]
    for turn in range(3):
        request = ChatRequest.of(said, model="m")
        await pipeline.run(request)
        assert transport.requests[-1].messages is request.messages
        said += [Message.assistant("Fine."), Message.user(f"And today, number {turn}?")]
    in_requests = [text for text in codes.asked if text != "Fine."]
    assert len(in_requests) == len(set(in_requests)) == 4


async def test_what_comes_after_the_clear_is_masked() -> None:
    """A new message with something in it is masked, however clear those before it were."""
    pipeline, transport = guarded(PII(kinds=(), detectors=(Codes(),)))
    clear = Message.user("How are you?")
    await pipeline.run(ChatRequest.of([clear], model="m"))
    for found in (
        Message.user(SECRET),
        Message.user([Text("so:"), Text(SECRET)]),
        Message("user", "hello", name="ID-4711"),
        Message.tool("1", SECRET),
    ):
        await pipeline.run(ChatRequest.of([clear, found], model="m"))
        assert "ID-4711" not in repr(transport.requests[-1].messages)
    await pipeline.run(ChatRequest.of([clear], model="m", stop=["ID-4711"]))
    assert "ID-4711" not in repr(transport.requests[-1].stop)


async def test_what_is_too_much_is_refused_however_clear() -> None:
    """The bound on characters holds for what was looked into before as well."""
    from lamella_middlewares.pii import Scan

    pipeline, _ = guarded(PII(kinds=(), detectors=(Codes(),), scan=Scan(max_characters=30)))
    said = [Message.user("a" * 20)]
    await pipeline.run(ChatRequest.of(said, model="m"))
    with pytest.raises(InspectionError, match="30 characters"):
        await pipeline.run(ChatRequest.of([*said, Message.user("b" * 20)], model="m"))


@pytest.mark.parametrize("text", ["How are you?", SECRET])
async def test_a_call_is_gone_when_it_is_over(text: str) -> None:
    """What observers may see makes no ring with the trace: no collector is needed for a call."""

    async def answer(_: ChatRequest) -> ChatResponse:
        return ChatResponse.of("Fine.")

    pipeline = Pipeline([PII(kinds=(), detectors=(Codes(),))], answer, ports=virtual_ports())
    gc.disable()
    try:
        response = await pipeline.run(ChatRequest.of(text, model="m"))
        trace = weakref.ref(response.trace)
        assert response.trace.content
        del response
        assert trace() is None
    finally:
        gc.enable()


RULES = (
    pattern("word", r"\bnev+er\b"),
    pattern("end", r"stop$", action="redact"),
    max_length(12),
    blocked_terms(["never", "c++"]),
)


@settings(max_examples=150, deadline=None)
@given(text=st.text(st.sampled_from("nevrstop c+\u200b\uff4e\n."), max_size=14))
def test_what_is_clear_at_a_glance_passes(text: str) -> None:
    """A rule that says that a text is clear has nothing to say of it when it is asked."""
    scene: Any = None
    for rule in RULES:
        asked = Inspection(
            text, 0, 0, final=True, direction="in", surface=None, channel=None, scene=scene
        )
        verdict: Any = rule.inspect(asked)
        if rule.clears(text):
            assert (verdict.kind, verdict.reason) == ("allow", "")


async def test_rules_are_asked_about_what_is_not_clear() -> None:
    """The glance lets nothing through that a rule objects to, in requests and in answers."""
    pipeline, transport = guarded(Guard(RULES))
    clear = Message.user("hello")
    for _ in range(2):
        response = await pipeline.run(ChatRequest.of([clear], model="m"))
        assert (response.text, transport.requests[-1].messages[0]) == ("Fine.", clear)
    for wrong in (
        Message.user("never"),
        Message.user("far too long to be let through"),
        Message("user", "hello", name="never"),
        Message.user([Text("ever"), Text("never")]),
        Message.user([Text("never"), Image(url="https://example.com/a.png")]),
    ):
        with pytest.raises(BlockedError):
            await pipeline.run(ChatRequest.of([clear, wrong], model="m"))
    pipeline, _ = guarded(Guard(RULES), "never")
    with pytest.raises(BlockedError):
        await pipeline.run(ChatRequest.of([clear], model="m"))


async def test_a_rule_of_somebody_is_always_asked() -> None:
    """Whether a text is clear is for the rule to say: one that does not say it sees each text."""

    class Mine(Rule):
        name = "mine"

        def __init__(self) -> None:
            self.seen = 0

        def inspect(self, inspection: Any) -> Any:
            self.seen += inspection.direction == "in"
            return super().inspect(inspection)

    mine = Mine()
    pipeline, _ = guarded(Guard([max_length(100), mine]))
    request = ChatRequest.of("hello", model="m")
    for _ in range(3):
        await pipeline.run(request)
    assert mine.seen == 3


class Marks:
    """A detector of what reads like what is put in its place."""

    kinds = ("secret",)
    reach = 16

    def find(self, text: str) -> list[Finding]:
        """Where the mark stands."""
        place = text.find("[SECRET]")
        return [Finding(place, place + 8, "secret", 1.0)] if place >= 0 else []


async def test_what_is_found_is_found_again() -> None:
    """What reads as its mask does leaves the request as it was, and is blocked each time."""
    pipeline, transport = guarded(PII(kinds=(), detectors=(Marks(),), strategy="block"))
    request = ChatRequest.of("the [SECRET] plan", model="m")
    for _ in range(3):
        with pytest.raises(BlockedError):
            await pipeline.run(request)
    assert not transport.requests


async def test_what_cannot_be_looked_into_is_never_clear() -> None:
    """A picture is refused at every turn, a document is masked, however clear the rest is."""
    from lamella_middlewares.pii import Scan

    layer = PII(kinds=(), detectors=(Codes(),), scan=Scan(unread="refuse"))
    pipeline, transport = guarded(layer)
    picture = Message.user([Text("look"), Image(data=b"a", media_type="image/png")])
    note = Message.user(File(data=b"all is well", filename="a.txt"))
    for _ in range(2):
        await pipeline.run(ChatRequest.of([note], model="m"))
        assert transport.requests[-1].messages[0] is note
        with pytest.raises(InspectionError):
            await pipeline.run(ChatRequest.of([note, picture], model="m"))
    wrong = Message.user(File(data=SECRET.encode(), filename="a.txt"))
    await pipeline.run(ChatRequest.of([note, wrong], model="m"))
    assert "ID-4711" not in repr(transport.requests[-1].messages[1].parts[0].data)


class NoX(Rule):
    """Refuses one letter."""

    name = "no_x"

    def clears(self, text: str, /) -> bool:
        """Whether it is not there."""
        return "x" not in text

    def inspect(self, inspection: Inspection, /) -> Any:
        """Look for it."""
        return block("x") if "x" in inspection.text else allow()


class NoXNorY(NoX):
    """Refuses another one, too, and says nothing of what is clear."""

    def inspect(self, inspection: Inspection, /) -> Any:
        """Look for both."""
        return block("y") if "y" in inspection.text else super().inspect(inspection)


class Broken(NoX):
    """Cannot say what is clear."""

    def clears(self, text: str, /) -> bool:
        """It fails."""
        raise RuntimeError(text)


@pytest.mark.parametrize(("rule", "word"), [(NoXNorY(), "y"), (Broken(), "x")])
async def test_who_cannot_say_what_is_clear_is_asked(rule: Rule, word: str) -> None:
    """What a rule's base class takes for clear is none of its own; so with one that fails."""
    pipeline, transport = guarded(Guard([rule]), word)
    with pytest.raises(BlockedError):
        await pipeline.run(ChatRequest.of(word, model="m"))
    assert not transport.requests
    with pytest.raises(BlockedError):
        await pipeline.run(ChatRequest.of("fine", model="m"))
