"""PII: what is found in a request is replaced before anything is sent, and comes back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from masking import CARD, EMAIL, KEY, TOKEN, Codes, ask, echo, noted, pii, sent, stack

from lamella import (
    BlockedError,
    ChatRequest,
    ConfigurationError,
    Context,
    EmbeddingRequest,
    EmbeddingResponse,
    Message,
    Outcome,
    Pipeline,
    Secret,
    TokenCountRequest,
    TokenCountResponse,
)
from lamella._parts import (
    Audio,
    File,
    Image,
    Opaque,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
)
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares.pii import PII, Matching, Scan, Vault

pytestmark = pytest.mark.anyio


# --- there and back ----------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_the_provider_gets_placeholders_and_the_caller_the_text(stream: bool) -> None:
    """What was found is replaced on the way in and put back on the way out."""
    pipeline, transport = stack()
    text = f"I am {EMAIL}, my card is {CARD}, my number ID-4711."
    response = await ask(pipeline, text, stream=stream)
    assert response.text == f"You said: {text}"
    asked = transport.requests[0].messages[0].text
    assert [kind.strip("⟦").rpartition("_")[0] for kind in TOKEN.findall(asked)] == [
        "EMAIL",
        "CARD",
        "CODE",
    ]
    assert TOKEN.sub("*", asked) == "I am *, my card is *, my number *."


async def test_nothing_found_is_nothing_changed() -> None:
    """A request without personal data leaves as it is, and its answer comes as it is."""
    pipeline, transport = stack("Fine.")
    request = ChatRequest.of("How are you?", model="m")
    response = await pipeline.run(request)
    assert transport.requests[0].messages is request.messages
    assert (response.text, noted(response, "pii.masked")) == ("Fine.", [])


async def test_the_trace_says_how_much_of_what() -> None:
    """Counts by kind are noted, masked and restored; no value is."""
    pipeline, _ = stack(lambda request: echo(request) + " ⟦EMAIL_00000000⟧")
    response = await ask(pipeline, f"{EMAIL} and {EMAIL} and {CARD}")
    assert noted(response, "pii.masked") == [{"direction": "in", "kinds": {"email": 2, "card": 1}}]
    assert noted(response, "pii.restored") == [{"kinds": {"email": 2, "card": 1}}]
    assert noted(response, "pii.unknown") == [{"count": 1}]
    assert EMAIL not in repr(response.trace.notes)


@pytest.mark.parametrize("stream", [False, True])
async def test_tokens_are_counted_where_nothing_is_to_be_restored_either(stream: bool) -> None:
    """A stale one in the answer to a request without data stays, and is counted as well."""
    pipeline, _ = stack("Ask ⟦EMAIL_00000000⟧ or ⟦no⟧.")
    response = await ask(pipeline, "Whom?", stream=stream)
    assert response.text == "Ask ⟦EMAIL_00000000⟧ or ⟦no⟧."
    assert noted(response, "pii.unknown") == [{"count": 1}]


def everywhere(word: str) -> list[Any]:
    """Requests that hold a word in each place that a provider sees."""
    document = File(data=f"a,{word}\n".encode(), filename="list.csv")
    parts = [
        Message.system(f"about {word}"),
        Message("user", [Text(f"to {word}", extra={"note": [word]})], name="ada"),
        Message("user", [Image(url=f"https://example.org/?q={word}"), document]),
        Message("user", File(data=b"%PDF", filename=f"{word}.pdf", media_type="application/pdf")),
        Message.assistant(
            [
                Reasoning(f"think {word}", signature="sealed"),
                ToolCall("1", "find", json.dumps({"who": word, word: [1]})),
                Refusal(f"not {word}"),
                Opaque({"type": "search", "query": {"text": word}}),
            ]
        ),
        Message.tool("1", Text(json.dumps({"mail": word}))),
    ]
    tool = {"type": "function", "function": {"name": "find", "description": f"finds {word}"}}
    schema = {"type": "object", "properties": {"who": {"type": "string", "default": word}}}
    return [
        ChatRequest(messages=parts, model="m"),
        ChatRequest.of("hi", model="m", tools=[tool], stop=[word]),
        ChatRequest.of("hi", model="m", response_format={"type": "json_schema", "s": schema}),
        ChatRequest.of("hi", model="m", extra={"metadata": {"user": word, "more": [{"x": word}]}}),
    ]


@pytest.mark.parametrize("number", range(4))
async def test_every_place_is_looked_into(number: int) -> None:
    """Messages, parts, tools, schemas, documents, stop words and what one provider knows."""
    pipeline, transport = stack("Fine.")
    await pipeline.run(everywhere(EMAIL)[number])
    assert EMAIL not in sent(transport)
    assert "⟦EMAIL_" in sent(transport)
    request = transport.requests[0]
    documents = [
        p.data for m in request.messages for p in m.parts if isinstance(p, File) and p.data
    ]
    assert not any(EMAIL.encode() in data for data in documents)


async def test_seals_and_ids_go_as_they_came() -> None:
    """What a provider has to recognise again is not changed."""
    pipeline, transport = stack("Fine.")
    await pipeline.run(everywhere(EMAIL)[0])
    reasoning, call, *_ = transport.requests[0].messages[4].parts
    assert (reasoning.signature, call.id, call.name) == ("sealed", "1", "find")
    assert set(json.loads(call.arguments)) - {"who"} != {EMAIL}


async def test_numbers_in_arguments_are_looked_into() -> None:
    """A card's number that is a number in JSON becomes text, and stays JSON."""
    pipeline, transport = stack("Fine.")
    call = ToolCall("1", "pay", '{"card": 4111111111111111, "amount": 12}')
    await pipeline.run(ChatRequest(messages=[Message.assistant([call])], model="m"))
    arguments = json.loads(transport.requests[0].messages[0].tool_calls[0].arguments)
    assert arguments["amount"] == 12
    assert TOKEN.fullmatch(arguments["card"])


async def test_other_operations_are_masked_too() -> None:
    """Embeddings and token counts leave masked, whatever the request is."""
    vectors = EmbeddingResponse.of([[1.0]])
    pipeline, transport = stack(vectors, TokenCountResponse.of(7))
    await pipeline.run(EmbeddingRequest.of(f"about {EMAIL}", model="e"))
    conversation = ChatRequest.of(f"count {EMAIL}", model="m")
    counted = await pipeline.run(TokenCountRequest(chat=conversation))
    assert counted.tokens == 7
    assert all(EMAIL not in sent(transport, index) for index in (0, 1))


async def test_what_reads_alike_is_found() -> None:
    """Full-width letters and invisible marks hide nothing, and come back as they were written."""
    written = "\uff41\uff44\uff41@exam\u200bple.com"
    pipeline, transport = stack()
    response = await ask(pipeline, f"mail {written}!")
    assert response.text == f"You said: mail {written}!"
    assert TOKEN.sub("*", transport.requests[0].messages[0].text) == "mail *!"


# --- the same for the same ---------------------------------------------------------------------


async def placeholder(tenant: str | None = None, **options: Any) -> str:
    """What stands for one address."""
    pipeline, transport = stack("Fine.", **options)
    context = Context(tenant=tenant, session="s")
    await pipeline.run(ChatRequest.of(EMAIL, model="m", context=context))
    text: str = transport.requests[0].messages[0].text
    return text


async def test_a_value_has_one_placeholder_per_key_tenant_and_scope() -> None:
    """It depends on the key, the tenant, the scope, the kind and the value, and on nothing else."""
    key = Secret.of_value(KEY)
    first = await placeholder("acme", key=key)
    assert first == await placeholder("acme", key=key, strategies={"card": "redact"})
    others = [
        await placeholder("other", key=key),
        await placeholder(None, key=key),
        await placeholder("", key=key),
        await placeholder("acme", key=key, scope="session"),
        await placeholder("acme", key=Secret.of_value(KEY + "!")),
    ]
    assert len({first, *others}) == 6


async def test_a_process_keeps_a_key_of_its_own() -> None:
    """Without a key placeholders are the same as long as the process's stores are."""
    ports = virtual_ports()
    one, there = stack("a", ports=ports)
    other, elsewhere = stack("b", ports=ports)
    await ask(one, EMAIL)
    await ask(other, EMAIL)
    assert sent(there).count("⟦EMAIL_") == 1
    assert there.requests[0].messages == elsewhere.requests[0].messages


async def test_masked_text_is_not_masked_again() -> None:
    """Two such layers, with one key or two, undo what each of them has done."""
    for keys in ((KEY, KEY), (KEY, KEY + "!")):
        transport = Scripted([echo])
        layers = [pii(key=Secret.of_value(key)) for key in keys]
        pipeline = Pipeline(layers, transport, ports=virtual_ports())
        response = await ask(pipeline, f"mail {EMAIL}")
        assert response.text == f"You said: mail {EMAIL}"
        assert EMAIL not in sent(transport)


async def test_what_was_found_once_is_masked_wherever_it_stands() -> None:
    """A number that only its context tells is the same number where the context is missing."""

    class Passports:
        kinds = ("travel_document",)
        reach = 40

        def find(self, text: str, /) -> Any:
            from lamella import Finding

            place = text.find("passport ")
            return [Finding(place + 9, place + 17, "travel_document")] if place >= 0 else ()

    pipeline, transport = stack(kinds=[], detectors=[Passports()])
    talk = ["C1234567 it is", "My passport C1234567.", "Not XC12345678, nor C1234567-C1234567!"]
    request = ChatRequest(messages=[Message.user(text) for text in talk], model="m")
    response = await pipeline.run(request)
    assert response.text == "You said: " + " | ".join(talk)
    texts = [TOKEN.sub("*", message.text) for message in transport.requests[0].messages]
    assert texts == ["* it is", "My passport *.", "Not XC12345678, nor *-*!"]


# --- what only looks like a placeholder -----------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_what_looks_like_a_placeholder_comes_back_as_it_was(stream: bool) -> None:
    """A text of that form is masked itself, and is never restored as somebody's data."""
    pipeline, transport = stack()
    text = f"I typed ⟦EMAIL_K7Q2M9XA⟧ and ⟦LITERAL_00000000⟧ and ⟦x⟧ and ⟦⟦ and {EMAIL}"
    response = await ask(pipeline, text, stream=stream)
    assert response.text == f"You said: {text}"
    assert "K7Q2M9XA" not in sent(transport)
    assert noted(response, "pii.unknown") == []


async def test_a_live_placeholder_is_understood() -> None:
    """One that stands for a value of the request stays: a tool has repeated it."""
    key = Secret.of_value(KEY)
    live = await placeholder(key=key)
    pipeline, transport = stack(key=key)
    request = ChatRequest(
        messages=[Message.user(f"The tool says {live}."), Message.user(EMAIL)], model="m"
    )
    response = await pipeline.run(request)
    assert response.text == f"You said: The tool says {EMAIL}. | {EMAIL}"
    assert transport.requests[0].messages[0].text == f"The tool says {live}."


async def test_nothing_is_found_inside_of_a_placeholder() -> None:
    """A detector that would find something in a token, or across it, finds what is around it."""

    class Everything:
        kinds = ("thing",)
        reach = 100

        def find(self, text: str, /) -> Any:
            from lamella import Finding

            return [Finding(0, len(text), "thing")] if text else ()

    pipeline, transport = stack(kinds=[], detectors=[Everything()])
    response = await ask(pipeline, "before ⟦EMAIL_K7Q2M9XA⟧ after")
    asked = transport.requests[0].messages[0].text
    assert [found.partition("_")[0] for found in TOKEN.findall(asked)] == [
        "⟦THING",
        "⟦LITERAL",
        "⟦THING",
    ]
    assert response.text == "You said: before ⟦EMAIL_K7Q2M9XA⟧ after"


# --- strategies --------------------------------------------------------------------------------

WRITTEN = {
    "redact": "[EMAIL] [CARD]",
    "mask": "a***@example.com **** **** **** 1111",
}


@pytest.mark.parametrize("strategy", WRITTEN)
async def test_other_strategies_write_what_does_not_come_back(strategy: Any) -> None:
    """`redact` says what it was, `mask` keeps a little of it; the caller gets that as well."""
    pipeline, transport = stack(strategy=strategy)
    response = await ask(pipeline, f"{EMAIL} {CARD}")
    assert transport.requests[0].messages[0].text == WRITTEN[strategy]
    assert response.text == f"You said: {WRITTEN[strategy]}"


async def test_hash_is_the_same_for_the_same() -> None:
    """A keyed digest: equal values can be told, and nothing else."""
    pipeline, transport = stack(strategy="hash", key=Secret.of_value(KEY))
    await ask(pipeline, f"{EMAIL} {EMAIL} ada@example.org")
    one, again, other = transport.requests[0].messages[0].text.split()
    assert (one == again, one == other) == (True, False)
    assert one.startswith("[EMAIL:")


async def test_keys_of_json_stay_apart() -> None:
    """Two addresses that are keys of one object do not become one key."""
    pipeline, transport = stack("ok", strategy="redact")
    extra = {"limits": {"a@example.com": 1, "b@example.com": 2}}
    await pipeline.run(ChatRequest.of("hi", model="m", extra=extra))
    assert sorted(transport.requests[0].extra["limits"].values()) == [1, 2]
    assert "example.com" not in sent(transport)


@pytest.mark.parametrize("stream", [False, True])
async def test_block_sends_nothing(stream: bool) -> None:
    """The error names the kinds, and nothing left this process."""
    pipeline, transport = stack(strategies={"card": "block", "code": "block"})
    with pytest.raises(BlockedError) as caught:
        await ask(pipeline, f"{EMAIL} {CARD} ID-1234", stream=stream)
    error = caught.value
    assert (error.kinds, error.rule, error.layer) == (("card", "code"), "pii", "pii")
    assert (error.outcome, error.retryable) == (Outcome.NOT_SENT, False)
    assert transport.requests == []
    assert "4111" not in str(error)
    assert await ask(pipeline, EMAIL)


# --- what stays --------------------------------------------------------------------------------


async def test_what_is_allowed_stays() -> None:
    """Texts whatever their case, and whole matches of patterns."""
    allow = ["Support@Example.com", Matching(r".*@example\.org")]
    pipeline, transport = stack("ok", allow=allow)
    text = "support@example.com sales@example.org"
    await ask(pipeline, f"{text} {EMAIL} x@example.org.uk")
    asked = transport.requests[0].messages[0].text
    assert TOKEN.sub("*", asked) == f"{text} * *"


async def test_parts_that_cannot_be_looked_into_are_counted() -> None:
    """Pictures and sound pass with a note, or are refused."""
    parts: list[Any] = [Image(data=b"1", media_type="image/png"), Audio(data=b"2", format="wav")]
    request = ChatRequest(messages=[Message("user", parts)], model="m")
    pipeline, _ = stack("ok")
    assert noted(await pipeline.run(request), "pii.unread") == [{"count": 2}]
    strict, transport = stack("ok", scan=Scan(unread="refuse"))
    with pytest.raises(Exception, match="2 of the parts") as caught:
        await strict.run(request)
    assert (type(caught.value).__name__, transport.requests) == ("InspectionError", [])


# --- what observers see ------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("direction", ["in", "out", "both"])
async def test_observers_see_masked_texts(direction: Any, stream: bool) -> None:
    """`trace.content` has request and answer without anybody's data, the model's own included."""
    pipeline, _ = stack(lambda _: f"Or write to bob@example.net, {CARD}.", direction=direction)
    response = await ask(pipeline, f"I am {EMAIL}.", stream=stream)
    shown = response.trace.content[""].to_dict()
    assert "example.com" not in json.dumps(shown)
    assert "example.net" not in json.dumps(shown)
    assert "4111" not in json.dumps(shown)
    assert "Or write to" in shown["answer"][0]["content"]


async def test_observers_see_what_was_blocked_without_it() -> None:
    """A request that was not sent is shown too, with what was blocked left out."""
    pipeline, _ = stack(strategy="block")
    seen: list[Any] = []

    async def watch(request: Any, call_next: Any) -> Any:
        try:
            return await call_next(request)
        finally:
            seen.append(request.context.trace.content[""].to_dict())

    watched = Pipeline([watch, *pipeline.layers], pipeline.transport, ports=virtual_ports())
    with pytest.raises(BlockedError):
        await ask(watched, f"I am {EMAIL}.")
    assert seen == [{"messages": [{"role": "user", "content": "I am [EMAIL]."}]}]


# --- options -----------------------------------------------------------------------------------

MAKE: Any = PII  # wrong on purpose


class Reaching(Codes):
    """One that says of itself how far it looks, whatever that is."""

    def __init__(self, reach: Any) -> None:
        self.reach = reach


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "no such kind": (lambda: MAKE(["emails"]), "names out of"),
    "kinds as text": (lambda: MAKE("email"), "a list of names"),
    "nothing at all": (lambda: MAKE([]), "looks for nothing"),
    "no such strategy": (lambda: MAKE(strategy="hide"), "one of 'placeholder'"),
    "strategy of no kind": (
        lambda: MAKE(["email"], strategies={"card": "mask"}),
        "looked for: email",
    ),
    "no direction": (lambda: MAKE(direction="up"), "one of 'in'"),
    "no key": (lambda: MAKE(scope="session"), "needs a key"),
    "a session of answers": (
        lambda: MAKE(scope="session", key="env:K", direction="out"),
        "would keep nothing",
    ),
    "tools": (lambda: MAKE(restore_tools=[1]), "names of tools"),
    "a detector that is none": (lambda: MAKE(detectors=[object()]), "is no detector"),
    "a detector's class": (lambda: MAKE(detectors=[Codes]), "is no detector"),
    "an unknown detector": (lambda: MAKE(detectors=["nobody-has-this"]), "no detectors?"),
    "a detector's reach": (lambda: MAKE(detectors=[Reaching("far")]), "reach='far'"),
    "a detector's reach back": (lambda: MAKE(detectors=[Reaching(-1)]), "reach=-1"),
    "allow": (lambda: MAKE(allow=[3]), "no entry"),
    "allow a pattern": (lambda: MAKE(allow=[Matching("(")]), "regular expression"),
    "scan": (lambda: MAKE(scan=3), "Scan"),
    "look behind": (lambda: Scan(look_behind=0), "1 or more"),
    "timeout": (lambda: Scan(timeout=0), "above 0"),
    "vault": (lambda: Vault(max_values=0), "1 or more"),
    "ttl": (lambda: Vault(ttl=-1), "above 0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_option_is_refused_at_once(name: str) -> None:
    """The message says which option and what to give."""
    make, words = WRONG[name]
    with pytest.raises(ConfigurationError, match=words):
        make()


async def test_a_short_key_is_refused() -> None:
    """A key that could be guessed protects nothing."""
    pipeline, transport = stack(key=Secret.of_value("short"))
    with pytest.raises(ConfigurationError, match="16 characters"):
        await ask(pipeline, EMAIL)
    assert transport.requests == []


async def test_a_file_can_say_it_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All options by the same names, records as tables."""
    monkeypatch.setenv("PII_TEST_KEY", KEY)
    file = tmp_path / "lamella.toml"
    file.write_text(
        """
        [presets.private]
        transport = "mock"
        [[presets.private.layers]]
        use = "pii"
        kinds = ["email", "card"]
        strategy = "redact"
        strategies = { card = "mask" }
        direction = "both"
        key = "env:PII_TEST_KEY"
        restore_tools = ["send_mail"]
        allow = ["a@example.com", { pattern = '.*@example\\.org', ignore_case = true }]
        on_failure = "refuse"
        scan = { timeout = 3, look_behind = 64, unread = "refuse" }
        vault = { max_values = 10, ttl = 60 }
        """
    )
    pipeline = Pipeline.preset("private", config=file)
    (layer,) = pipeline.layers
    assert layer.kinds == ("email", "card")
    assert layer.strategies == {"card": "mask"}
    assert layer.scan == Scan(timeout=3, look_behind=64, unread="refuse")
    assert layer.vault == Vault(max_values=10, ttl=60)
    assert layer.allow == ("a@example.com", Matching(r".*@example\.org", ignore_case=True))
    assert attrs.fields_dict(type(layer))["allow"].repr is False
    assert KEY not in repr(layer)


async def test_a_registered_detector_goes_by_its_name() -> None:
    """A name, or a table with options; an object is taken as it is."""
    from lamella import registry

    registry().add(detectors={"test-codes": Codes, "ready-codes": Codes()})
    for given in ("test-codes", {"use": "test-codes"}, "ready_codes", Codes()):
        pipeline, transport = stack(kinds=[], detectors=[given])
        await ask(pipeline, "It is ID-4711.")
        assert TOKEN.sub("*", transport.requests[0].messages[0].text) == "It is *."
    described = {"use": "regex", "kind": "staff", "expression": "S-[0-9]{6}"}
    pipeline, transport = stack(kinds=[], detectors=[described])
    await ask(pipeline, "It is S-123456.")
    assert TOKEN.sub("*", transport.requests[0].messages[0].text) == "It is *."
    with pytest.raises(ConfigurationError, match="takes no options"):
        PII(detectors=[{"use": "ready-codes", "x": 1}])
