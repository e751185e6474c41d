"""What surrounds texts: framing by family, tools, sound, documents; and where cards say so."""

from __future__ import annotations

import struct
import textwrap
import threading
import time
import zlib
from collections.abc import Sequence
from typing import Any, TypeVar

import attrs
import pytest
from media_files import flac, m4a, mp3, ogg, pdf, png, vbr, wav

from lamella import (
    Audio,
    ChatRequest,
    ConfigurationError,
    EmbeddingRequest,
    File,
    Handler,
    Image,
    Message,
    ModelCard,
    Opaque,
    Pipeline,
    Request,
    Response,
    Tool,
    _token_content,
    counted_input,
    input_usage,
    middleware,
)
from lamella import _token_estimate as estimate
from lamella._card_files import cards_from
from lamella._document_pages import MOST_PAGES, document_pages
from lamella._shared_cards import shared_cards
from lamella._sound_lengths import sound_seconds
from lamella._token_framing import MOST_SETS, _counts, framing_of, tools_tokens
from lamella.testing import Scripted

R = TypeVar("R", bound=Response)

WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"},
        "format": {
            "type": "string",
            "enum": ["celsius", "fahrenheit"],
            "description": "The temperature unit to use. Infer this from the users location.",
        },
    },
    "required": ["location", "format"],
}


class Letters:
    """One token for each character; exact."""

    exact = True

    def count(self, texts: Sequence[str], /) -> int:
        """Their characters."""
        return sum(map(len, texts))


class Unhashed(Letters):
    """Another, of which nothing can be remembered."""

    __hash__ = None  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


def card(provider: str, model: str) -> ModelCard:
    """A card that is there."""
    found = shared_cards().find(provider, model)
    assert found is not None
    return found


def total(request: Request[Any], model: ModelCard) -> int:
    """What a request is estimated at."""
    usage = input_usage(request, card=model)
    assert usage is not None
    return usage.input_tokens


def test_estimates_are_near_what_providers_say_of_their_own_examples() -> None:
    """OpenAI's cookbook (101 with a tool) and Anthropic's guide on counting (14; 403 with a tool).

    Above by up to 30 %, below never.
    """
    tool = Tool("get_current_weather", "Get the current weather", WEATHER)
    asked = ChatRequest.of(
        [
            Message.system(
                "You are a helpful assistant that can answer to questions about the weather."
            ),
            Message.user("What's the weather like in Pittsburgh?"),
        ],
        tools=[tool],
    )
    assert 101 <= total(asked, card("openai", "gpt-4o")) <= 131

    claude = card("anthropic", "claude-opus-4-5")
    plain = [Message.system("You are a scientist"), Message.user("Hello, Claude")]
    assert 14 <= total(ChatRequest.of(plain), claude) <= 18
    tool = Tool(
        "get_weather",
        "Get the current weather in a given location",
        {
            "type": "object",
            "properties": {"location": WEATHER["properties"]["location"]},
            "required": ["location"],
        },
    )
    asked = ChatRequest.of("What's the weather like in San Francisco?", tools=[tool])
    assert 403 <= total(asked, claude) <= 460


def test_openai_reads_functions_as_a_namespace() -> None:
    """Descriptions as comments, optional fields marked, definitions by name, others as JSON."""
    schema = {
        "properties": {
            "who": {"$ref": "#/$defs/Person", "description": "Whom\nto call"},
            "when": {"type": ["string", "null"], "default": None},
            "how": {"anyOf": [{"const": "loud"}, {"type": "integer"}]},
            "tags": {"type": "array", "items": {"type": "string"}},
            "deep": {"type": "object", "properties": {"x": {"type": "number"}}},
            "any": {},
        },
        "required": ["who"],
        "$defs": {"Person": {"type": "object", "properties": {"name": {"type": "string"}}}},
    }
    hosted = Opaque({"type": "web_search"})
    written = framing_of("openai").write([Tool("call", "Calls.", schema), Tool("stop"), hosted])
    assert written == textwrap.dedent(
        """\
        # Tools

        ## functions

        namespace functions {

        type Person = {
          name?: string,
        };
        // Calls.
        type call = (_: {
        // Whom
        // to call
        who: Person,
        when?: string | null, // default: null
        how?: "loud" | number,
        tags?: string[],
        deep?: {
          x?: number,
        },
        any?: any,
        }) => any;

        type stop = () => any;

        }
        {"type":"web_search"}"""
    )


@pytest.mark.parametrize("family", ["openai", None])
def test_tools_are_counted_once(family: str | None) -> None:
    """If they say the same, and anew after any change. Numbers are kept, and never a text."""
    framing = framing_of(family)
    counter = Letters()
    schema: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}}
    first = tools_tokens(framing, [Tool("f", "D", schema)], counter)
    assert first.unseen > 0
    count = first.count()
    again = tools_tokens(framing, [Tool("f", "D", dict(schema))], counter)
    assert (again.unseen, again.count()) == (0, count)
    schema["properties"]["a"]["type"] = "integer"
    schema["properties"]["a"]["description"] = "x"
    assert tools_tokens(framing, [Tool("f", "D", schema)], counter).count() > count
    assert tools_tokens(framing, [Tool("f")], Unhashed()).count() == len(framing.write([Tool("f")]))
    for number in range(MOST_SETS + 9):
        tools_tokens(framing, [Tool(f"f{number}")], counter).count()
    kept = _counts[counter]
    assert len(kept) <= MOST_SETS
    assert {type(each) for key in kept for each in key} == {str, int}
    assert {key[0] for key in kept} == {framing.name}


def test_tools_that_nobody_can_send_are_counted_all_the_same() -> None:
    """They are refused when they are sent, not when they are counted; depth has a bound."""
    knot: dict[str, Any] = {"type": "object"}
    knot["properties"] = {"again": knot}
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(100):
        deep = {"type": "object", "properties": {"x": deep}}
    for schema in (knot, deep, {"enum": [object()]}, {"\ud800": 1}, {"properties": 3}):
        usage = input_usage(
            ChatRequest.of("hi", tools=[Tool("f", "", schema)]), card=card("openai", "gpt-4o")
        )
        assert usage is not None
        assert usage.input_tokens > 0


def test_a_family_frames_messages_in_its_way() -> None:
    """Names and the beginning of the answer count for OpenAI; Google's messages are one token."""
    request = ChatRequest.of([Message("user", "ab", name="me"), Message.user("cd")])
    counts = {
        family: input_usage(request, Letters(), card=ModelCard("m", "p", framing=family))
        for family in ("openai", "anthropic", "google", "x-own", None)
    }
    found = {family: usage and usage.input_tokens for family, usage in counts.items()}
    assert found == {"openai": 18, "anthropic": 14, "google": 8, "x-own": 14, None: 14}


def test_embeddings_have_no_framing() -> None:
    """What is embedded is its text."""
    usage = input_usage(EmbeddingRequest.of(["abc"]), Letters(), card=card("openai", "gpt-4o"))
    assert usage is not None
    assert usage.input_tokens == 3


@pytest.mark.parametrize("make", [wav, mp3, flac])
def test_sound_counts_by_its_length(make: Any) -> None:
    """Headers say how long it is: 10 tokens a second, or what the card says."""
    data = make(12.5)
    assert sound_seconds(data, None) == pytest.approx(12.5, abs=0.05)
    request = ChatRequest.of(Message.user([Audio(data=data, format="wav")]))
    usage, gemini = (
        input_usage(request),
        input_usage(request, card=card("google", "gemini-2.5-pro")),
    )
    assert usage is not None
    assert gemini is not None
    assert (usage.audio_input, gemini.audio_input) == pytest.approx((125, 400), abs=2)
    for cut in range(0, min(len(data), 120), 7):
        assert sound_seconds(data[:cut], None) >= 0


def test_no_header_makes_sound_free() -> None:
    """What a stream's header leaves open, and what a file says of itself that cannot be."""
    honest = wav(20)
    at = honest.index(b"data") + 4
    for size in (0, 0xFFFFFFFF):
        streamed = honest[:at] + struct.pack("<I", size) + honest[at + 4 :]
        assert sound_seconds(streamed, None) == pytest.approx(20)
    lying = honest[:28] + b"\xff" * 4 + honest[32:]  # the bytes of a second, which nobody reads
    assert sound_seconds(lying, None) == pytest.approx(20)
    assert sound_seconds(flac(0) + bytes(16_000), None) == pytest.approx(1, rel=0.01)
    short = flac(0.01) + bytes(44_100 * 4)  # more than so few samples can have: two bytes, stereo
    assert sound_seconds(short, None) >= 1
    assert sound_seconds(ogg(0.1) + ogg(0.1)[:20] + bytes(640_000), None) >= 10


@pytest.mark.parametrize("make", [ogg, m4a, vbr])
def test_compressed_sound_says_how_long_it_is(make: Any) -> None:
    """A voice message has a sixth of the bytes that sound is taken to have."""
    data = make(60.0) + bytes(3_000)
    assert sound_seconds(data, None) == pytest.approx(60, abs=0.1)
    for cut in range(0, 120, 7):
        assert sound_seconds(data[:cut], None) >= 0


def test_sound_without_a_header_counts_by_its_bytes() -> None:
    """Bare samples by their rate, everything else as compressed at 16 kB a second."""
    assert sound_seconds(bytes(48_000), "pcm16") == 1
    assert sound_seconds(b"?" * 48_000, None) == 3
    assert sound_seconds(b"RIFF" + bytes(4) + b"WAVE" + b"fmt ", None) < 1


def test_documents_count_as_what_they_are() -> None:
    """Text as its text, pictures as pictures, PDFs by page where the card says, else by bytes."""
    claude = card("anthropic", "claude-opus-4-5")
    text = "Some words of a report.\n" * 40

    def of(part: File, model: ModelCard) -> int:
        return total(ChatRequest.of(Message.user([part])), model)

    for kind in ("text/plain; charset=utf-8", "application/json"):
        counted = of(File(data=text.encode(), media_type=kind), claude) - 4
        assert counted == estimate.tokens(text)
    image = File(data=png(1_000, 1_000), media_type="image/png")
    assert of(image, claude) == 1_296 + 4
    paper = File(data=pdf(3), media_type="application/pdf")
    assert of(paper, claude) == 3 * 3_000 + 4
    assert of(paper, ModelCard("m", "p")) == -(-len(pdf(3)) // 20) + 4
    assert of(File(data=b"%PDF-1.7 sealed", media_type="application/pdf"), claude) == 4 + 1
    kinds = {"text/plain": text.encode(), "image/png": png(), "audio/wav": wav(9)}
    for unsaid in (None, "application/octet-stream"):
        for same, data in kinds.items():
            assert of(File(data=data, media_type=unsaid), claude) == of(
                File(data=data, media_type=same), claude
            )
    assert of(File(data=wav(10), media_type="audio/x-wav"), claude) == 100 + 4
    assert of(File(url="https://x/y.pdf"), claude) == 4


def test_pages_are_found_wherever_they_stand() -> None:
    """At the end of a long document, and in compressed objects, as most writers store them."""
    late = pdf(1) + bytes(3_000_000) + pdf(40)
    assert document_pages(late) == document_pages(bytes(bytearray(late))) == 41
    objects = zlib.compress(b"<< /Type /Pages >> " + b"<</Type/Page/Parent 1 0 R>>" * 7)
    head = b"<</Type/ObjStm/N 8/First 60/Filter/FlateDecode/Length 99>>stream"
    for end in (b"\r\n", b"\n"):
        packed = pdf(1) + (head + end + objects + b"\nendstream\n") * 3
        assert document_pages(packed) == 22
    sealed = pdf(0) + head + b"\n" + b"?" * 99 + b"endstream" + head + head
    assert document_pages(sealed) is None
    assert document_pages(b"no pdf") is None
    assert document_pages(pdf(4) + bytes(5_000), most=5_000) is None


def test_no_document_takes_long() -> None:
    """Pages, what is inflated, and what is remembered have bounds; no byte is seen twice."""
    assert document_pages(pdf(MOST_PAGES + 5)) == MOST_PAGES
    bomb = zlib.compress(bytes(20_000_000) + b"/Type/Page", 1)
    assert document_pages(b"%PDF-/ObjStm>>stream\n" + bomb + b"endstream") is None
    started = time.process_time()
    for hostile in (b"/Type" + b" " * 200_000, b"/ObjStm stream\n" * 20_000, b"/ObjStm" * 40_000):
        document_pages(b"%PDF-" + hostile)
    assert time.process_time() - started < 1


def test_estimates_of_longer_texts_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a hash: the same words are gone through once, and never a short text."""
    seen: list[str] = []
    real = estimate._count

    def counted(text: str) -> int:
        seen.append(text)
        return real(text)

    monkeypatch.setattr(estimate, "_count", counted)
    text = "A sentence that nobody has written before, number 7.\n" * 9
    assert estimate.tokens(text) == estimate.tokens("".join(list(text))) > 0
    assert seen == [text]


@attrs.frozen
@middleware(phase="attempt", rank=90)
class Counting:
    """Counts what passes, as layers do."""

    found: list[int] = attrs.field(factory=list)

    async def __call__(self, request: Request[R], call_next: Handler) -> R:
        """Count, and go on."""
        usage = await counted_input(request)
        assert usage is not None
        self.found.append(usage.input_tokens)
        return await call_next(request)


class Watched:
    """A counter that notes which threads it is called in, and how long texts are."""

    exact = True

    def __init__(self) -> None:
        self.threads: list[int] = []

    def count(self, texts: Sequence[str], /) -> int:
        """Their characters."""
        self.threads.append(threading.get_ident())
        return sum(map(len, texts))


class Gemini(Scripted):
    """A transport to models that have cards."""

    card_provider = "google"


@pytest.mark.anyio
async def test_layers_count_by_the_card_of_the_model_that_is_asked() -> None:
    """A picture is what the model's provider bills; one model's rule is not another's."""
    layer = Counting()
    request = ChatRequest.of(Message.user([Image.of(png(1_024, 1_024))]))
    async with Pipeline([layer], Gemini(["a", "b", "c"])) as pipeline:
        for model in ("gemini-2.5-pro", "gemini-3.5-flash", "nobody-knows-it"):
            await pipeline.run(request.evolve(model=model))
    assert layer.found == [1_032 + 1, 1_120 + 1, 765 + 4]


@pytest.mark.anyio
async def test_long_documents_are_gone_through_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text files for a vocabulary, PDFs for their pages; the estimator looks at a sample."""
    seen: list[int] = []

    def pages(data: bytes, *, most: int | None = None) -> int | None:
        seen.append(threading.get_ident())
        return document_pages(data, most=most)

    monkeypatch.setattr(_token_content, "document_pages", pages)
    counter = Watched()
    text = File(data=b"word " * 40_000, media_type="text/plain")
    paper = File(data=pdf(2) + bytes(200_000), media_type="application/pdf")

    @attrs.frozen
    @middleware(phase="attempt", rank=90)
    class Counts:
        async def __call__(self, request: Request[R], call_next: Handler) -> R:
            usage = await counted_input(request, counter)
            assert usage is not None
            assert usage.uncached_input == 1 + 200_000 + 2 * 258
            assert await counted_input(request) is not None
            return await call_next(request)

    request = ChatRequest.of(Message.user([text, paper]), model="gemini-2.5-pro")
    async with Pipeline([Counts()], Gemini(["a"])) as pipeline:
        await pipeline.run(request)
    assert len(seen) == 2
    assert threading.get_ident() not in {*seen, *counter.threads}


def test_a_long_text_file_is_sampled() -> None:
    """As the same words in a message are, and without decoding all of it."""
    words = "some words, ünd 1234 numbers\n" * 40_000
    assert estimate.tokens_of_bytes(words.encode()) == pytest.approx(
        estimate.tokens(words), rel=0.1
    )


def test_a_card_file_states_how_a_model_counts() -> None:
    """Rules are read by name, with what each takes."""
    (found,) = cards_from(
        {
            "provider": "acme",
            "as_of": card("openai", "gpt-4o").as_of,
            "source": "s",
            "models": {
                "m": {
                    "framing": "x-acme",
                    "image_tokens": {"rule": "levels", "levels": {"high": 7}},
                    "audio_tokens": 5,
                    "page_tokens": 6,
                    "tool_tokens": 8,
                }
            },
        }
    )
    assert isinstance(found, ModelCard)
    assert (found.framing, found.audio_tokens, found.page_tokens) == ("x-acme", 5, 6)
    assert found.image_tokens is not None
    assert found.image_tokens.tokens(None, "low") == 7
    asked = ChatRequest.of("", tools=[Tool("f")])
    assert total(asked, found) - total(asked, ModelCard("m", "acme")) == 8


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"framing": "acme"}, "framing = 'acme': expected one of 'anthropic', 'google', 'openai'"),
        (
            {"image_tokens": {"rule": "stamps"}},
            "rule = 'stamps': expected one of 'tiles', 'patches'",
        ),
        ({"image_tokens": {"base": 3}}, "rule is missing"),
        ({"image_tokens": {"rule": "tiles", "bass": 3}}, "bass is not a known key"),
        ({"image_tokens": {"rule": "tiles", "tile": 0}}, "tile = 0: expected a whole number, 1"),
        (
            {"image_tokens": {"rule": "patches", "multiplier": 0}},
            "multiplier = 0: expected a number",
        ),
        ({"image_tokens": {"rule": "levels"}}, "levels is missing: expected the tokens of each"),
        (
            {"image_tokens": {"rule": "levels", "levels": {"low": 1}}},
            "expected the tokens of 'high' too",
        ),
    ],
)
def test_mistakes_in_card_files_are_told(fields: dict[str, Any], says: str) -> None:
    """With the place, and what was expected."""
    tables = {
        "provider": "acme",
        "as_of": card("openai", "gpt-4o").as_of,
        "source": "s",
        "models": {"m": fields},
    }
    with pytest.raises(ConfigurationError) as caught:
        cards_from(tables)
    assert says in str(caught.value)
