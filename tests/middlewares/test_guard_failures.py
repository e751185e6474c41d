"""Guard: rules that fail, hang, or say what cannot be done let nothing pass."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from lamella import (
    BlockedError,
    ChatRequest,
    DeadlineExceeded,
    InspectionError,
    Outcome,
    Pipeline,
)
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares.deadline import Deadline
from lamella_middlewares.guard import (
    Edit,
    Guard,
    Inspection,
    Review,
    Rule,
    Verdict,
    allow,
    block,
    change,
    edit,
    rule,
)

pytestmark = pytest.mark.anyio

SECRET = "swordfish"
ASK = ChatRequest.of("hello", model="m")


def pipeline(layers: list[Any], transport: Any) -> Pipeline:
    """A pipeline with a clock and stores of its own."""
    return Pipeline(layers, transport, ports=virtual_ports())


@rule(look_behind=8)
def no_secret(inspection: Inspection) -> Verdict:
    """The secret does not pass."""
    return block("secret", kinds=["word"]) if SECRET in inspection.text else allow()


class Boom(Exception):
    """A failure that quotes the text."""


def _raises(inspection: Inspection) -> Verdict:
    raise Boom(inspection.text)


async def _raises_later(inspection: Inspection) -> Verdict:
    await anyio.lowlevel.checkpoint()
    raise Boom(inspection.text)


async def _hangs(inspection: Inspection) -> Verdict:
    await anyio.sleep_forever()
    return allow()


def _nonsense(inspection: Inspection) -> Any:
    return inspection.text


def _hidden_coroutine(inspection: Inspection) -> Any:
    return _hangs(inspection)


BROKEN = {
    "raises": (_raises, "Boom"),
    "raises later": (_raises_later, "Boom"),
    "hangs": (_hangs, "longer than 3 s"),
    "no verdict": (_nonsense, "str instead of a verdict"),
    "in a thread": (rule(_raises, blocking=True), "Boom"),
}


@pytest.mark.parametrize("direction", ["in", "out"])
@pytest.mark.parametrize("name", BROKEN)
async def test_what_is_not_inspected_does_not_pass(name: str, direction: Any) -> None:
    """The error says what failed, and nothing that the failure quotes."""
    broken, why = BROKEN[name]
    transport: Any = Scripted([SECRET])
    pipe = pipeline([Guard(broken, direction=direction, timeout=3)], transport)
    with pytest.raises(InspectionError, match=why) as caught:
        await pipe.run(ChatRequest.of(SECRET, model="m"))
    error = caught.value
    assert error.inspector
    assert len(transport.requests) == (direction == "out")
    chain: list[BaseException] = [error]
    for one in chain:
        chain += [other for other in (one.__cause__, one.__context__) if other is not None]
    assert not any(SECRET in str(one) or isinstance(one, Boom) for one in chain)


@pytest.mark.parametrize("direction", ["in", "out"])
@pytest.mark.parametrize("name", BROKEN)
async def test_it_passes_if_that_is_wanted_loudly(
    name: str, direction: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """With a warning, a note, and the other rules in force."""
    broken, _ = BROKEN[name]
    guard = Guard([broken, no_secret], direction=direction, timeout=3, on_failure="pass")
    with caplog.at_level(logging.WARNING, "lamella"):
        response = await pipeline([guard], Scripted(["fine"])).run(ASK)
    assert response.text == "fine"
    assert "has not inspected" in caplog.text
    assert any(note.name == "guard.failed" for note in response.trace.notes)
    with pytest.raises(BlockedError):
        await pipeline([guard], Scripted([SECRET])).run(ChatRequest.of(SECRET, model="m"))


DENY: Any = "deny"
WORDS: Any = SECRET
HAND_MADE: dict[str, Verdict] = {
    "reason": Verdict("block", SECRET + " and more"),
    "kinds": Verdict("ask", "found", (SECRET + "!",)),
    "unknown": Verdict(DENY, "found"),
    "numbers": Verdict("block", "found", numbers={"rule": 3}),
    "texts": Verdict("block", "found", numbers={"what": WORDS}),
    "order": Verdict("change", "found", edits=(Edit(5, 2, ""),)),
    "request": Verdict("change", "found", request=ASK),
}


@pytest.mark.parametrize("name", HAND_MADE)
async def test_verdicts_made_by_hand_are_held_to_the_same(name: str) -> None:
    """One that would quote the text, or that says nothing that is known, is no verdict."""

    def given(_: Inspection) -> Verdict:
        return HAND_MADE[name]

    transport: Any = Scripted(["x"])
    with pytest.raises(InspectionError) as caught:
        await pipeline([Guard(given, direction="in")], transport).run(ASK)
    assert SECRET not in str(caught.value)
    assert transport.requests == []


@pytest.mark.parametrize("verdict", [change("x"), HAND_MADE["unknown"]], ids=["text", "unknown"])
async def test_a_review_that_judges_no_request_lets_nothing_pass(verdict: Verdict) -> None:
    """What it says cannot be done."""

    class Confused(Rule):
        name = "confused"

        def review(self, review: Review, /) -> Verdict:
            return verdict

    transport: Any = Scripted(["x"])
    with pytest.raises(InspectionError, match="confused"):
        await pipeline([Guard(Confused(), direction="in")], transport).run(ASK)
    assert transport.requests == []


async def test_a_rule_that_edits_what_is_not_there_says_so_of_the_request() -> None:
    """Nothing was sent, and the trace knows."""
    beyond = rule(lambda _: edit([(90, 99, "")]), name="beyond")
    transport: Any = Scripted(["x"])
    with pytest.raises(InspectionError, match="request") as caught:
        await pipeline([Guard(beyond)], transport).run(ASK)
    assert caught.value.outcome is Outcome.NOT_SENT
    assert transport.requests == []


async def test_a_plain_function_that_makes_a_coroutine_is_told_so() -> None:
    """Where nothing can be awaited, that is a failure, and nothing is left unawaited."""
    with pytest.raises(InspectionError, match="no async function"):
        await pipeline([Guard(_hidden_coroutine, direction="out")], Scripted(["x"])).run(ASK)


async def test_the_deadline_ends_a_verdict() -> None:
    """As what it is: the call's end, no failure of the rule."""
    pipe = pipeline([Deadline(2), Guard(_hangs, timeout=None)], Scripted(["x"]))
    with pytest.raises(DeadlineExceeded):
        await pipe.run(ASK)
