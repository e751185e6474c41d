"""Guarded streams: cut anywhere they give what a run gives, and nothing is taken back."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lamella import (
    ApprovalRequired,
    BlockedError,
    ChatRequest,
    ConnectionLostError,
    Event,
    Finish,
    InspectionError,
    LamellaError,
    Message,
    Pipeline,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageReport,
)
from lamella.testing import Scripted, run_virtual, virtual_ports
from lamella_middlewares.guard import (
    Guard,
    Inspection,
    Verdict,
    allow,
    ask,
    block,
    blocked_terms,
    change,
    edit,
    max_length,
    pattern,
    rule,
)

pytestmark = pytest.mark.anyio

ANY: Any = None
ASK = ChatRequest.of("hello", model="m")
FINISH = Finish("stop")


def pipeline(layers: list[Any], transport: Any) -> Pipeline:
    """A pipeline with a clock and stores of its own."""
    return Pipeline(layers, transport, ports=virtual_ports())


def out(rules: Any, **options: Any) -> Guard:
    """A guard of answers."""
    return Guard(rules, direction="out", **options)


async def shown(guard: Guard, pieces: Sequence[Any]) -> tuple[list[str], LamellaError | None]:
    """The pieces of text that a consumer is shown, and what ended them."""
    transport = Scripted([[*pieces, FINISH]])
    texts: list[str] = []
    error: LamellaError | None = None
    async with pipeline([guard], transport).stream(ASK) as response:
        try:
            async for event in response:
                if isinstance(event, TextDelta):
                    texts.append(event.text)
        except LamellaError as failure:
            error = failure
    partial = "".join(texts) if error is None or error.partial is None else error.partial.text
    assert partial == "".join(texts)
    assert transport.open_sources == 0
    return texts, error


async def whole(guard: Guard, text: str) -> str | type[LamellaError]:
    """What `run` makes of the same text."""
    try:
        return (await pipeline([guard], Scripted([text])).run(ASK)).text
    except LamellaError as error:
        return type(error)


# --- cut anywhere --------------------------------------------------------------------------------


def _stars(inspection: Inspection) -> Verdict:
    """A rule that gives the whole text, and looks at pairs of digits."""
    text = inspection.text
    made = text[: inspection.start]
    index = inspection.start
    while index < len(text):
        if text[index : index + 2] in {"00", "11"}:
            made += "**"
            index += 2
        else:
            made += text[index]
            index += 1
    return change(made)


async def _awaited_edits(inspection: Inspection) -> Verdict:
    """A rule that is awaited, and takes out each z."""
    await anyio.lowlevel.checkpoint()
    places = range(inspection.start, len(inspection.text))
    return edit([(at, at + 1, "") for at in places if inspection.text[at] == "z"])


TERMS = ["abba", "ba", "ab c", "00", "\u00e9t\u00e9", "caf\u00e9"]
RULES: dict[str, Callable[[], Any]] = {
    "terms redacted": lambda: blocked_terms(TERMS, action="redact", replacement="[x]"),
    "terms anywhere": lambda: blocked_terms(
        TERMS, action="redact", whole_words=False, replacement=""
    ),
    "terms blocked": lambda: blocked_terms(TERMS),
    "terms as written": lambda: blocked_terms(TERMS, ignore_case=False, whole_words=False),
    "pattern redacted": lambda: pattern("p", "a[bc]{1,3}|0+1?0", action="redact", look_behind=8),
    "pattern with edges": lambda: pattern("p", r"\bab\b|^ba|00$", action="redact"),
    "pattern blocked": lambda: pattern("p", "(?:ab){2}"),
    "pattern without end": lambda: pattern("p", "a.*b", action="redact"),
    "digits run on": lambda: pattern("p", "[0-9]+", action="redact", look_behind=3),
    "cut": lambda: max_length(7, action="cut"),
    "too long": lambda: max_length(7),
    "edits awaited": lambda: rule(_awaited_edits, look_behind=1),
    "several": lambda: [
        rule(_awaited_edits, look_behind=1),
        blocked_terms(["abc"], action="redact", replacement="z"),
        pattern("p", "zz", action="redact", replacement="q"),
        blocked_terms(["00 ab"]),
    ],
}
TEXTS = st.text(st.sampled_from("aabbc 01zZA\u00e9\u0301\u200b\uff41e\n"), max_size=24)


@settings(deadline=None, max_examples=80)
@example(text="00000\u03010 \u200b0", cuts=[7])
@given(text=TEXTS, cuts=st.lists(st.integers(0, 24), max_size=6))
def test_a_stream_gives_what_a_run_gives(text: str, cuts: list[int]) -> None:
    """By each rule, whatever the chunks; where it is blocked, only text that comes before that."""
    places = sorted({0, len(text), *[cut for cut in cuts if cut <= len(text)]})
    pieces = [text[a:b] for a, b in itertools.pairwise(places)]
    guards = {name: out(make()) for name, make in RULES.items()}

    async def both() -> dict[str, tuple[Any, Any]]:
        return {
            name: (await shown(guard, pieces), await whole(guard, text))
            for name, guard in guards.items()
        }

    for name, ((texts, error), want) in run_virtual(both).items():
        if isinstance(want, str):
            assert error is None, name
            assert "".join(texts) == want, name
            continue
        assert type(error) is want is BlockedError, name
        if name != "several":
            inspection = Inspection(
                text, 0, 0, final=True, direction="out", surface=None, channel=None, scene=ANY
            )
            verdict = guards[name].rules[0].inspect(inspection)
            assert isinstance(verdict, Verdict), name
            assert text[: verdict.at].startswith("".join(texts)), name  # not one character of it


@given(text=TEXTS, cut=st.integers(0, 24), behind=st.integers(2, 5))
@settings(deadline=None, max_examples=60)
def test_a_rule_that_gives_the_whole_text(text: str, cut: int, behind: int) -> None:
    """What lies within its look-behind is held until it is settled."""
    guard = out(rule(_stars, look_behind=behind))
    texts, error = run_virtual(lambda: shown(guard, [text[:cut], text[cut:]]))
    assert error is None
    assert len("".join(texts)) == len(text)
    digits = [piece for piece in ("00", "11") if piece in "".join(texts)]
    if "000" not in text and "111" not in text and "001" not in text and "110" not in text:
        assert digits == []


@pytest.mark.parametrize("at", range(1, 9))
@pytest.mark.parametrize("awaited", [False, True])
async def test_a_term_is_met_before_its_first_character(at: int, awaited: bool) -> None:
    """Cut in two at every place, and character by character."""
    rules: list[Any] = [blocked_terms(["swordfish"])]
    if awaited:
        rules.append(rule(_awaited_edits, look_behind=1))
    text = "the swordfish swims"
    for pieces in ([text[: 4 + at], text[4 + at :]], list(text)):
        texts, error = await shown(out(rules), pieces)
        assert isinstance(error, BlockedError)
        assert "the ".startswith("".join(texts))


async def test_only_the_look_behind_is_held_back() -> None:
    """The rest is shown as it comes."""
    texts, _ = await shown(out(blocked_terms(["abcd"])), list("x" * 50))
    assert texts[0] == "x"
    assert len(texts) > 40


async def test_whole_texts_are_shown_at_their_end() -> None:
    """A rule without a look-behind is shown each text once, whole."""
    seen: list[tuple[str, bool]] = []

    def judge(inspection: Inspection) -> Verdict:
        seen.append((inspection.text, inspection.final))
        return allow()

    pieces = [ReasoningDelta("let "), ReasoningDelta("me"), "one ", "two ", "three"]
    texts, _ = await shown(out(judge), pieces)
    assert texts == ["one two three"]
    assert seen == [("let me", True), ("one two three", True)]


# --- blocked, asked, failed ----------------------------------------------------------------------


async def test_a_block_closes_the_provider_s_stream() -> None:
    """The rest is not read, and never comes."""
    transport = Scripted([["so it is, ", "bad ", "and so on", math.inf]])
    error: Any = None
    async with pipeline([out(blocked_terms(["bad"]))], transport).stream(ASK) as response:
        try:
            await response.collect()
        except BlockedError as failure:
            error = failure
    assert error.committed
    assert "so it is, ".startswith(error.partial.text)
    assert transport.open_sources == 0


async def test_asked_in_mid_stream_the_rest_waits_for_its_end() -> None:
    """It is asked about as a whole, whatever the chunks; agreed, it goes on."""
    asked: list[str] = []

    async def approve(approval: Any) -> bool:
        asked.append(approval.preview)
        await anyio.sleep(1)
        return True

    text = "first this, then the wire, and more"
    guard = out(blocked_terms(["wire"], action="ask"), approve=approve, preview=100)
    texts, error = await shown(guard, list(text))
    assert error is None
    assert "".join(texts) == text
    assert len(texts[-1]) >= len("wire, and more")
    assert asked == [text]
    nobody = out(blocked_terms(["wire"], action="ask"))
    ids: set[str] = set()
    for pieces in ([text], list(text), [text[:23], text[23:]]):
        texts, failure = await shown(nobody, pieces)
        assert isinstance(failure, ApprovalRequired)
        assert "wire" not in "".join(texts)
        ids.add(failure.approval_id)
    assert len(ids) == 1


@pytest.mark.parametrize("awaited", [False, True])
async def test_what_is_cut_off_is_inspected_as_the_end(awaited: bool) -> None:
    """What passes is shown, what does not is not; the error is the break."""
    rules: list[Any] = [blocked_terms(["bad word"])]
    if awaited:
        rules.append(rule(_awaited_edits, look_behind=1))
    for last, want in (("fine", "it is fine"), ("bad word", "it")):
        transport = Scripted([["it is ", last, ConnectionLostError("cut")]])
        texts: list[str] = []
        async with pipeline([out(rules)], transport).stream(ASK) as response:
            with pytest.raises(ConnectionLostError):
                async for event in response:
                    assert isinstance(event, TextDelta)
                    texts.append(event.text)
        assert "".join(texts) == want or (last != "fine" and "it is ".startswith("".join(texts)))
        assert "bad" not in "".join(texts)


async def test_a_rule_that_changes_what_was_shown_is_broken() -> None:
    """Nothing is taken back: that is an error, and nothing more is shown."""

    def late(inspection: Inspection) -> Verdict:
        return edit([(0, 1, "z")]) if inspection.start else allow()

    texts, error = await shown(out(rule(late, look_behind=1)), list("abcdef"))
    assert isinstance(error, InspectionError)
    assert "z" not in "".join(texts)


async def test_a_verdict_waits_while_the_stream_is_closed() -> None:
    """Another task that closes the response ends the verdict too."""

    async def forever(inspection: Inspection) -> Verdict:
        await anyio.sleep_forever()
        return allow()

    transport = Scripted([["a", "b", FINISH]])
    guard = out(rule(forever, look_behind=0), timeout=None)
    raised: list[str] = []
    async with pipeline([guard], transport).stream(ASK) as response:

        async def read() -> None:
            try:
                await response.collect()
            except LamellaError as error:
                raised.append(type(error).__name__)

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await anyio.sleep(1)
            await response.aclose()
    assert raised == ["ClosedError"]
    assert transport.open_sources == 0


# --- events --------------------------------------------------------------------------------------


def nothing(_: Inspection) -> Verdict:
    """Allows everything."""
    return allow()


async def nothing_later(_: Inspection) -> Verdict:
    """Allows everything, later."""
    await anyio.lowlevel.checkpoint()
    return allow()


EVENTS: list[Event] = [
    UsageReport(Usage()),
    ReasoningDelta("think", signature="s"),
    TextDelta("one "),
    TextDelta("two", choice=1),
    ToolCallDelta(0, id="c", name="f", arguments='{"a":'),
    TextDelta("three"),
    ToolCallDelta(0, arguments=" 1}"),
    FINISH,
]


@pytest.mark.parametrize("function", [nothing, nothing_later])
@pytest.mark.parametrize("behind", [0, 3, None])
async def test_events_keep_their_order(function: Any, behind: int | None) -> None:
    """The message is the same; rules that are awaited differ in nothing."""
    plain = await pipeline([], Scripted([EVENTS])).run(ASK)
    async with pipeline([out(rule(function, look_behind=behind))], Scripted([EVENTS])).stream(
        ASK
    ) as response:
        await response.collect()
    assert response.choices == plain.choices
    ran = await pipeline([out(rule(function, look_behind=behind))], Scripted([EVENTS])).run(ASK)
    assert ran.choices == plain.choices
    if behind == 0:
        kinds = [type(event) for event in response.events]
        assert kinds[:4] == [UsageReport, ReasoningDelta, TextDelta, TextDelta]
        assert kinds[-1] is Finish


async def test_tool_arguments_come_whole_and_inspected() -> None:
    """Cut within an escape, the string is read all the same."""
    pieces = ['{"a": "\\u00', '73wordfish"}']
    calls: list[Any] = [ToolCallDelta(0, id="c", name="f", arguments=pieces[0])]
    calls.append(ToolCallDelta(0, arguments=pieces[1]))
    _, error = await shown(out(blocked_terms(["swordfish"])), calls)
    assert isinstance(error, BlockedError)
    assert error.partial is None or not isinstance(error.partial, Message)
    redact = out(blocked_terms(["swordfish"], action="redact", replacement='"'))
    response = await pipeline([redact], Scripted([[*calls, FINISH]])).run(ASK)
    assert response.tool_calls[0].arguments == '{"a": "\\""}'


@pytest.mark.parametrize("awaited", [False, True])
async def test_arguments_that_break_off_hide_nothing(awaited: bool) -> None:
    """Who mends broken JSON reads its escapes, and so does the rule."""
    rules: list[Any] = [blocked_terms(["swordfish"])]
    if awaited:
        rules.append(nothing_later)
    for broken in ('{"a": "\\u0073wordfish', '{"a": "sword\\u00adfish', '{"a": "x\\nswordfish'):
        call = ToolCallDelta(0, id="c", name="f", arguments=broken)
        endings: list[Any] = [FINISH, ConnectionLostError("cut")]
        for ending in endings:
            transport = Scripted([[call, ending]])
            async with pipeline([out(rules)], transport).stream(ASK) as response:
                with pytest.raises(LamellaError):
                    await response.collect()
            assert not any(getattr(event, "arguments", "") for event in response.events)
    fine = ToolCallDelta(0, id="c", name="f", arguments='{"a": "\\u0074he \\ud800 end')
    response = await pipeline([out(rules)], Scripted([[fine, FINISH]])).run(ASK)
    assert response.tool_calls[0].arguments == fine.arguments


async def test_long_look_behinds_do_not_read_all_again_for_each_token() -> None:
    """The work grows with the text, not with its square."""
    read = 0

    def count(inspection: Inspection) -> Verdict:
        nonlocal read
        read += len(inspection.text)
        return allow()

    await shown(out(rule(count, look_behind=8000)), ["abcd"] * 10_000)
    assert read < 10 * 40_000


async def test_verdicts_of_unsettled_findings_wait() -> None:
    """A finding at the edge is looked at again with what follows."""

    def unsure(inspection: Inspection) -> Verdict:
        at = inspection.text.find("cat")
        if at < 0 or inspection.text[at : at + 7] == "catalog":
            return allow()
        return block("cat", at=at) if inspection.start % 2 else ask("cat", at=at)

    texts, error = await shown(out(rule(unsure, look_behind=7)), list("a catalog of things"))
    assert error is None
    assert "".join(texts) == "a catalog of things"
