"""PII: values come back wherever the model writes their placeholders, however it is cut."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from masking import CARD, EMAIL, TOKEN, ask, noted, pii, sent, stack

from lamella import (
    Channel,
    ChatAnswer,
    ChatRequest,
    ChatResponse,
    Event,
    Finding,
    Finish,
    MediaDelta,
    Message,
    Opaque,
    Pipeline,
    ReasoningDelta,
    RefusalDelta,
    ServerError,
    StreamTruncated,
    TextChannels,
    TextDelta,
    ToolCallDelta,
    Turn,
)
from lamella.testing import Scripted, run_virtual, virtual_ports
from lamella_middlewares.pii._placeholders import Mint
from lamella_middlewares.pii._records import Vault
from lamella_middlewares.pii._restoring import Restoring
from lamella_middlewares.pii._vault import CallVault

pytestmark = pytest.mark.anyio

VALUES = {"email": EMAIL, "card": CARD, "code": 'say "hi"\\ to\nID-1234'}
TEXTS = Channel("text")
JSON = Channel("arguments", json=True, tool="send_mail")


def vault() -> CallVault:
    """One that holds the values."""
    made = CallVault(Mint(b"k" * 32, "acme", None), Vault())
    for kind, value in VALUES.items():
        made.placeholder(kind, value)
    return made


HELD = vault()
EACH = {kind: HELD.known(kind, value) or "" for kind, value in VALUES.items()}
LONGEST = max(map(len, EACH.values()))


def fed(channel: Channel, chunks: Sequence[str]) -> tuple[str, Restoring, int]:
    """The chunks restored, with what did it, and the most that was held back meanwhile."""
    restoring = Restoring(HELD, tools=True)
    one = restoring.filter(channel)
    shown: list[str] = []
    most = 0
    for index, chunk in enumerate(chunks):
        shown.append(one.feed(chunk))
        certain = restored(channel, "".join(chunks[: index + 1]))
        most = max(most, len(certain) - len("".join(shown)))
    return "".join([*shown, one.flush()]), restoring, most


def restored(channel: Channel, text: str) -> str:
    """A whole text restored, by plain replacement."""
    for kind, token in EACH.items():
        value = VALUES[kind]
        text = text.replace(token, json.dumps(value)[1:-1] if channel.json else value)
    return text


def in_two(text: str) -> Iterator[tuple[str, str]]:
    """A text cut at every place, the ends included."""
    for place in range(len(text) + 1):
        yield text[:place], text[place:]


# --- cut anywhere ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("channel", [TEXTS, Channel("reasoning"), JSON], ids=lambda c: c.kind)
def test_cut_in_two_anywhere(channel: Channel, kind: str) -> None:
    """A placeholder cut at any offset comes back, and no more of it than itself is held back."""
    text = f'{{"to": "x{EACH[kind]}y⟦EMAIL_00000000⟧⟦E"}}'
    for chunks in in_two(text):
        shown, restoring, most = fed(channel, chunks)
        assert shown == restored(channel, text)
        assert (restoring.counts, restoring.unknown) == ({kind: 1}, 1)
        assert most < LONGEST


@given(data=st.data(), pieces=st.integers(3, 8), channel=st.sampled_from([TEXTS, JSON]))
def test_cut_into_many(data: st.DataObject, pieces: int, channel: Channel) -> None:
    """Any text of placeholders, pieces of them and anything else, in three to eight chunks."""
    part = st.sampled_from(
        [*EACH.values(), "⟦", "⟧", "⟦EMAIL_", EACH["card"][:9], "a", " ", "_K7Q2"]
    )
    text = "".join(data.draw(st.lists(part, max_size=12)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), min_size=pieces, max_size=pieces)))
    chunks = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    shown, _, most = fed(channel, chunks)
    assert shown == restored(channel, text)
    assert most < LONGEST


ESCAPED = [
    (opened, closed)
    for opened in ("⟦", r"\u27e6", r"\u27E6")
    for closed in ("⟧", r"\u27e7", r"\u27E7")
]


@pytest.mark.parametrize(("opened", "closed"), ESCAPED)
def test_escaped_brackets_cut_anywhere(opened: str, closed: str) -> None:
    """In JSON the brackets may be escapes, in either case, cut at any offset."""
    for kind, token in EACH.items():
        written = token.replace("⟦", opened).replace("⟧", closed)
        text = f'{{"to": "\\u27e5{written}\\u27"}}'
        want = text.replace(written, json.dumps(VALUES[kind])[1:-1])
        for chunks in in_two(text):
            shown, restoring, most = fed(JSON, chunks)
            assert (shown, restoring.counts) == (want, {kind: 1})
            assert most < LONGEST + 10


@given(st.integers(0, 6), st.data())
def test_backslashes_that_escape_each_other_begin_nothing(count: int, data: st.DataObject) -> None:
    r"""After an even number of them `\u27e6` is a bracket, after an odd one it is letters."""
    text = '{"to": "' + "\\" * count + EACH["email"].replace("⟦", r"\u27e6") + '"}'
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), min_size=3, max_size=3)))
    chunks = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    shown, _, _ = fed(JSON, chunks)
    if count % 2:
        assert shown == text
    else:
        assert json.loads(shown)["to"] == "\\" * (count // 2) + EMAIL


def test_restored_json_is_json() -> None:
    """Quotes, backslashes and line breaks of a value are escaped where it is put into JSON."""
    text = json.dumps({"a": EACH["code"], "b": [EACH["code"]]})
    shown, _, _ = fed(JSON, [text])
    assert json.loads(shown) == {"a": VALUES["code"], "b": [VALUES["code"]]}


def test_half_of_a_surrogate_pair_is_escaped_in_json() -> None:
    """What no encoding can send as it is goes back into JSON as the escape that it came as."""
    held = CallVault(Mint(b"k" * 32, None, None), Vault())
    token = held.placeholder("code", "\ud83d \U0001f600")
    one = Restoring(held, tools=True).filter(JSON)
    shown = one.feed(f'["{token}"]') + one.flush()
    assert shown.encode()
    assert json.loads(shown) == ["\ud83d \U0001f600"]


def test_text_without_brackets_passes_as_it_is() -> None:
    """Nothing is copied or held back of a piece that has none."""
    one = Restoring(HELD, tools=True).filter(TEXTS)
    piece = "no brackets here " * 100
    assert one.feed(piece) is piece
    assert one.flush() == ""


def test_only_what_may_become_live_is_held_back() -> None:
    """The beginning of a token that stands for nothing is shown at once."""
    one = Restoring(HELD, tools=True).filter(TEXTS)
    assert one.feed("see ⟦EMAIL_") == "see "
    assert one.feed("00") == "⟦EMAIL_00"
    assert one.feed("000000⟧.") == "000000⟧."


# --- in answers --------------------------------------------------------------------------------

Script = Callable[[str, str], list[Event]]


def reply(make: Script) -> Callable[[Any], Any]:
    """An answer that is made of the two placeholders that the request brought."""

    def step(request: Any) -> Any:
        email, card = TOKEN.findall(request.messages[-1].text)
        return [*make(email, card), Finish("stop")]

    return step


ASKED = f"{EMAIL} {CARD}"


@pytest.mark.parametrize("stream", [False, True])
async def test_every_text_of_an_answer_is_restored(stream: bool) -> None:
    """Text, reasoning, refusals, transcripts, the provider's own data, and earlier turns."""

    def events(email: str, card: str) -> list[Event]:
        return [
            Turn((Message.assistant(f"first {email}"), Message.user("go on"))),
            ReasoningDelta(f"think {email[:5]}"),
            ReasoningDelta(email[5:], signature="sealed"),
            TextDelta(f"text {card[:7]}"),
            TextDelta(card[7:], extra={"cited": [card]}),
            RefusalDelta(f"no {email}"),
            MediaDelta("audio", b"1", transcript=f"spoken {card}"),
            Opaque({"type": "found", "in": [f"a {email}"], "signature": "s" * 40}),
        ]

    pipeline, _ = stack(reply(events))
    response = await ask(pipeline, ASKED, stream=stream)
    first, _, last = response.messages
    assert first.text == f"first {EMAIL}"
    reasoning, text, refusal, audio, opaque = last.parts
    assert (reasoning.text, reasoning.signature) == (f"think {EMAIL}", "sealed")
    assert (text.text, text.extra) == (f"text {CARD}", {"cited": [CARD]})
    assert (refusal.text, audio.transcript) == (f"no {EMAIL}", f"spoken {CARD}")
    assert opaque.data["in"] == [f"a {EMAIL}"]
    assert opaque.data["signature"] == "s" * 40


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("tools", [(), ("send_mail",), True])
async def test_arguments_are_restored_for_the_tools_that_are_named(
    tools: Any, stream: bool
) -> None:
    """Others get placeholders, which are understood when they come back."""

    def events(email: str, card: str) -> list[Event]:
        return [
            ToolCallDelta(0, "1", "send_mail", '{"to": "' + email[:4]),
            ToolCallDelta(1, "2", "look_up", f'{{"card": "{card}"}}'),
            ToolCallDelta(0, arguments=email[4:] + '"}'),
            ToolCallDelta(2, "3", "send_mail", f"to {email}", kind="custom"),
        ]

    pipeline, transport = stack(reply(events), "ok", restore_tools=tools)
    response = await ask(pipeline, ASKED, stream=stream)
    mail, look, custom = response.tool_calls
    restored_mail = bool(tools)
    assert (json.loads(mail.arguments)["to"] == EMAIL) is restored_mail
    assert (custom.arguments == f"to {EMAIL}") is restored_mail
    assert (json.loads(look.arguments)["card"] == CARD) is (tools is True)
    result = Message.tool("2", f"found {json.loads(look.arguments)['card']}")
    asked = [Message.user(ASKED), response.message, result]
    again = await pipeline.run(ChatRequest(messages=asked, model="m"))
    assert "literal" not in repr(again.trace.notes)
    assert transport.requests[1].messages[2].parts[0].content[0].text.startswith("found ⟦CARD_")


class Addresses:
    """Finds what has a line break and quotation marks in it."""

    kinds = ("postal",)
    reach = 40
    value = '12 "High" Road\nLondon'

    def find(self, text: str, /) -> Any:
        place = text.find(self.value)
        return [Finding(place, place + len(self.value), "postal")] if place >= 0 else ()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("escaped", [False, True])
@pytest.mark.parametrize("wanted", [{"type": "json_object"}, {"type": "json_schema"}, None])
async def test_words_that_are_json_stay_json(wanted: Any, escaped: bool, stream: bool) -> None:
    """Where a request asks for JSON, values go into it escaped, and escapes are understood."""

    def answer(request: Any) -> list[Event]:
        (token,) = TOKEN.findall(request.messages[0].text)
        text = json.dumps({"to": token}, ensure_ascii=escaped)
        return [*[TextDelta(one) for one in text], Finish("stop")]

    pipeline, _ = stack(answer, kinds=[], detectors=[Addresses()])
    request = ChatRequest.of(f"to {Addresses.value}", model="m", response_format=wanted)
    response = await ask(pipeline, request, stream=stream)
    if wanted:
        assert json.loads(response.text) == {"to": Addresses.value}
    else:
        assert (response.text == '{"to": "' + Addresses.value + '"}') is not escaped


async def test_choices_are_kept_apart() -> None:
    """Interleaved answers each have their own pieces."""

    def events(email: str, card: str) -> list[Event]:
        return [
            TextDelta(email[:6], 0),
            TextDelta(card[:3], 1),
            TextDelta(email[6:], 0),
            TextDelta(card[3:], 1),
        ]

    pipeline, _ = stack(reply(events))
    response = await ask(pipeline, ASKED, stream=True)
    assert [choice.message.text for choice in response.choices] == [EMAIL, CARD]


async def test_a_stream_flows() -> None:
    """Each piece without a bracket is shown when it comes, not at the end."""

    def events(email: str, card: str) -> list[Any]:
        return [TextDelta("Dear "), 1.0, TextDelta(email), 1.0, TextDelta(", hello.")]

    pipeline, _ = stack(reply(events))
    seen: list[tuple[float, str]] = []
    async with pipeline.stream(ChatRequest.of(ASKED, model="m")) as response:
        async for event in response:
            if isinstance(event, TextDelta):
                seen.append((response.trace.now(), event.text))
    assert seen == [(0.0, "Dear "), (1.0, EMAIL), (2.0, ", hello.")]


# --- answers that break off --------------------------------------------------------------------


async def test_what_was_held_back_is_shown_when_an_answer_breaks_off() -> None:
    """The beginning of a placeholder is part of what came; what is restored is restored in it."""

    def broken(request: Any) -> Any:
        email, card = TOKEN.findall(request.messages[-1].text)
        return [TextDelta(f"{email} and {card[:6]}")]

    pipeline, _ = stack(broken)
    for stream in (False, True):
        with pytest.raises(StreamTruncated) as caught:
            await ask(pipeline, ASKED, stream=stream)
        assert caught.value.partial is not None
        assert caught.value.partial.text == f"{EMAIL} and ⟦CARD_"


@pytest.mark.parametrize("tools", [(), ("send_mail",), True])
@pytest.mark.parametrize("direction", ["in", "both"])
async def test_arguments_of_an_answer_that_breaks_off(tools: Any, direction: Any) -> None:
    """They are restored for the tools that are named, and for no other; escaped as in any."""

    def broken(request: Any) -> Any:
        email, card = TOKEN.findall(request.messages[-1].text)
        calls: list[Event] = [
            ToolCallDelta(0, "1", "send_mail", json.dumps({"to": email})),
            ToolCallDelta(1, "2", "look_up", json.dumps({"card": card})),
            TextDelta(f"see {card}"),
        ]
        return ServerError("gone", status=500, partial=ChatResponse(calls).partial)

    pipeline, _ = stack(broken, restore_tools=tools, direction=direction)
    with pytest.raises(ServerError) as caught:
        await ask(pipeline, ASKED)
    assert isinstance(caught.value.partial, ChatAnswer)
    mail, look = caught.value.partial.tool_calls
    assert (json.loads(mail.arguments)["to"] == EMAIL) is bool(tools)
    assert (json.loads(look.arguments)["card"] == CARD) is (tools is True)
    assert caught.value.partial.text == f"see {CARD}"


async def test_a_provider_that_quotes_the_prompt_quotes_placeholders() -> None:
    """Errors hold what was sent, and that was masked."""

    def quoting(request: Any) -> Any:
        return ServerError(f"Cannot read {request.messages[-1].text}", status=500)

    pipeline, _ = stack(quoting)
    with pytest.raises(ServerError) as caught:
        await ask(pipeline, ASKED)
    assert EMAIL not in str(caught.value)
    assert len(TOKEN.findall(str(caught.value))) == 2


# --- any conversation --------------------------------------------------------------------------

NAMES = st.from_regex(r"[a-z]{3,9}", fullmatch=True)
EMAILS = st.builds(lambda name, host: f"{name}@{host}.com", NAMES, NAMES)
CODES = st.builds(lambda number: f"ID-{number}", st.integers(1000, 999_999))
PLANTED = st.one_of(EMAILS, CODES, st.sampled_from([CARD, "4111111111111111"]))
PIECES = st.one_of(
    PLANTED,
    st.sampled_from(["⟦EMAIL_K7Q2M9XA⟧", "⟦", "⟧", "⟦EMAIL_", "\\u27e6", '"', "\n", "{", "}"]),
    st.text(st.characters(blacklist_categories=["Cs"]), max_size=12),
)
TALK = st.lists(st.lists(PIECES, min_size=1, max_size=5).map(" ".join), min_size=1, max_size=3)


@given(talk=TALK, size=st.integers(1, 7), in_arguments=st.booleans())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_caller_gets_the_exact_text_and_the_provider_no_value(
    talk: list[str], size: int, in_arguments: bool
) -> None:
    """Whatever is planted wherever: what is sent has none of it, what comes back has all of it."""

    def answer(request: Any) -> Any:
        text = "\n".join(message.text for message in request.messages)
        text = json.dumps({"text": text}, ensure_ascii=size % 2 == 0) if in_arguments else text
        cut = [text[start : start + size] for start in range(0, len(text), size)]
        if in_arguments:
            first = ToolCallDelta(0, "1", "send_mail")
            return [first, *[ToolCallDelta(0, arguments=one) for one in cut], Finish("tool_calls")]
        return [*[TextDelta(one) for one in cut], Finish("stop")]

    async def scenario() -> None:
        transport = Scripted([answer], repeat=True)
        layer = pii(restore_tools=True)
        pipeline = Pipeline([layer], transport, ports=virtual_ports())
        asked = ChatRequest(messages=[Message.user(text) for text in talk], model="m")
        ran = await pipeline.run(asked)
        async with pipeline.stream(asked) as response:
            streamed = await response.collect()
        assert ran.answer == streamed.answer
        found = [json.loads(c.arguments)["text"] for c in ran.tool_calls] if in_arguments else None
        assert (found or [ran.text]) == ["\n".join(talk)]
        leaked = [word for word in _planted(talk) if word in sent(transport)]
        assert leaked == []

    run_virtual(scenario)


def _planted(talk: list[str]) -> list[str]:
    """What the layer's detectors find in the texts, seen as a whole."""
    from lamella_middlewares.pii._inspecting import apart
    from lamella_middlewares.pii._loading import detectors_of

    layer = pii()
    found: list[str] = []
    for text in talk:
        for detector in [*layer.strangers, *detectors_of(layer.kinds)]:
            for finding in apart(text, detector.find(text)):
                found.append(text[finding.start : finding.end])
    return [value for value in found if len(value) > 3]


def test_events_keep_their_order() -> None:
    """What was held back stands in the part that it belongs to."""
    restoring = Restoring(HELD, tools=True)
    channels = TextChannels(restoring.filter)
    token = EACH["email"]
    events: list[Event] = [
        TextDelta(token[:5]),
        ReasoningDelta("hm"),
        TextDelta(token[5:], index=1),
    ]
    shown = [event for one in events for event in channels.feed(one)] + channels.flush()
    assert shown == [TextDelta(token[:5]), ReasoningDelta("hm"), TextDelta(token[5:], index=1)]


async def test_notes_count_what_was_restored_in_all_channels() -> None:
    """Each place where a value was put back counts."""

    def events(email: str, card: str) -> list[Event]:
        return [ReasoningDelta(email), TextDelta(f"{email} {email} {card}")]

    pipeline, _ = stack(reply(events))
    response = await ask(pipeline, ASKED, stream=True)
    assert noted(response, "pii.restored") == [{"kinds": {"email": 3, "card": 1}}]
