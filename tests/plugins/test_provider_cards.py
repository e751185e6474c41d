"""The model cards of Anthropic, Google and Bedrock: whole, found by every name, and portable."""

from __future__ import annotations

import calendar
import datetime as dt
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella._card_book import CardBook
from lamella._cards import CAPABILITIES, ModelCard
from lamella._errors import UnsupportedError
from lamella._money import Money
from lamella._parameter_rules import apply_rules
from lamella._usage import Usage

ROOT = Path(__file__).parents[2]


def sources() -> list[Any]:
    """What the plugins' hooks name."""
    from lamella_anthropic._plugin import lamella_model_cards as anthropic
    from lamella_bedrock._plugin import lamella_model_cards as bedrock
    from lamella_google._cards import google_cards, vertex_cards

    return [*anthropic().values(), *bedrock().values(), google_cards, vertex_cards]


BOOK = CardBook(builtin=False, plugins=sources())
CARDS = BOOK.cards()
CHAT = [card for card in CARDS if "chat" in card.operations]
MILLION = 10**6


def card(provider: str, model: str) -> ModelCard:
    """A card that must be there."""
    found = BOOK.find(provider, model)
    assert found is not None
    return found


def name_of(one: ModelCard) -> str:
    """How a card is called in a test's id."""
    return f"{one.provider}/{one.name}"


def cost(provider: str, model: str, usage: Usage, service: str | None = None) -> Money:
    """What a call costs on the day of the cards."""
    price = card(provider, model).price(dt.date(2026, 11, 21))
    assert price is not None
    return price.cost(usage, service=service)


# Every card


def test_the_files_are_read_without_a_mistake() -> None:
    """All four providers have cards, and no file is broken."""
    assert BOOK.problems == ()
    assert {one.provider for one in CARDS} == {"anthropic", "bedrock", "google", "vertex"}


def test_google_names_its_cards_by_what_gives_them() -> None:
    """The hook leads to the functions, without importing a transport."""
    from lamella_google._plugin import lamella_model_cards

    assert set(lamella_model_cards()) == {"google", "vertex"}


@pytest.mark.parametrize("one", CARDS, ids=name_of)
def test_every_card_says_what_is_needed(one: ModelCard) -> None:
    """Each card has a price for all it does, limits that fit, a source and its day."""
    assert one.operations in ({"chat"}, {"embeddings"})
    assert one.source.startswith(f"as of {one.as_of}, ")
    assert "://" not in one.source
    usage = Usage(uncached_input=1000)
    if "chat" in one.operations:
        usage += Usage(text_output=1000)
    if "reasoning" in one.capabilities:
        usage += Usage(reasoning_output=1000)
    if "prompt_cache" in one.capabilities:
        usage += Usage(cache_read=1000)
    if "chat" in one.operations:
        usage += Usage(
            image_input=1000 * ("image" in one.input), audio_input=1000 * ("audio" in one.input)
        )
    if "image" in one.output:
        usage += Usage(image_output=1000)
    assert one.prices
    for price in one.prices:
        assert price.cost(usage).nano > 0
        assert price.unpriced(Usage(uncached_input=MILLION, text_output=0)) == ()
        for service in price.services:
            assert price.cost(usage, service=service).nano > 0
    assert (one.embedding is not None) == ("embeddings" in one.operations)
    if one.context_window is not None and one.max_output_tokens is not None:
        assert one.max_output_tokens <= one.context_window


@pytest.mark.parametrize("one", CARDS, ids=name_of)
def test_a_bare_request_needs_no_rule(one: ModelCard) -> None:
    """A request that states nothing special is sent as it is, whatever the model."""
    params: dict[str, Any] = {"messages": (), "temperature": None, "tools": None, "n": 1}
    for api in one.operations:
        assert apply_rules(one, api, params) == (params, ())


@pytest.mark.parametrize("one", CHAT, ids=name_of)
def test_ways_to_think_come_with_reasoning(one: ModelCard) -> None:
    """A model with a way to ask for thought can think; one that always does has such a way."""
    ways = {way for way in one.capabilities if way.startswith(("x-thinking-", "x-reasoning-"))}
    assert not ways or "reasoning" in one.capabilities
    assert ways != {"x-thinking-required"}
    assert one.capabilities - CAPABILITIES <= {
        "x-effort",
        "x-late-system",
        "x-prefill",
        "x-reasoning-config",
        "x-reasoning-effort",
        "x-thinking-adaptive",
        "x-thinking-between-tools",
        "x-thinking-budget",
        "x-thinking-level",
        "x-thinking-required",
    }


@given(
    one=st.sampled_from(CHAT),
    params=st.fixed_dictionaries(
        {},
        optional={
            "temperature": st.floats(0, 2),
            "top_p": st.floats(0, 1),
            "seed": st.integers(),
            "frequency_penalty": st.floats(-2, 2),
            "presence_penalty": st.floats(-2, 2),
            "reasoning_effort": st.sampled_from(
                ["minimal", "low", "medium", "high", "xhigh", "max"]
            ),
            "parallel_tool_calls": st.booleans(),
            "service_tier": st.sampled_from(["auto", "default", "flex", "priority", "scale"]),
            "max_output_tokens": st.integers(1, 1000),
            "stop": st.just(("x",)),
        },
    ),
)
def test_advice_never_stops_a_fallback(one: ModelCard, params: dict[str, Any]) -> None:
    """Whatever only advises is sent, changed or left out with a note, on every model."""
    sent, notes = apply_rules(one, "chat", params)
    assert set(sent) <= set(params)
    changed = {name for name in params if sent.get(name) != params[name]}
    assert changed == {note.parameter for note in notes}
    assert not {"max_output_tokens", "stop"} & changed


@pytest.mark.parametrize("one", CHAT, ids=name_of)
@pytest.mark.parametrize("parameter", ["n", "logprobs"])
def test_what_cannot_be_met_is_refused(one: ModelCard, parameter: str) -> None:
    """Several answers and log probabilities are had, or refused with what to do."""
    if parameter in one.capabilities:
        assert apply_rules(one, "chat", {parameter: 2}) == ({parameter: 2}, ())
        return
    if parameter in {rule.parameter for rule in one.rules}:
        with pytest.raises(UnsupportedError) as caught:
            apply_rules(one, "chat", {parameter: 2})
        assert caught.value.hint
    assert one.missing(frozenset({parameter})) == [parameter]


# Anthropic


def test_all_models_of_the_sdk_have_cards() -> None:
    """The names that the official SDK lists are found."""
    types = pytest.importorskip("anthropic.types.model")
    names, _ = get_args(types.Model)
    for name in get_args(names):
        assert BOOK.find("anthropic", name) is not None, name


def spelt_out(day: str) -> dt.date:
    """The date in words such as "June 15th, 2026"."""
    month, number, year = re.fullmatch(r"(\w+) (\d+)[a-z]+, (\d+)", day).groups()  # type: ignore[union-attr]
    return dt.date(int(year), list(calendar.month_name).index(month), int(number))


def test_dates_of_retirement_are_the_sdks() -> None:
    """Where the SDK warns of a date, the card has it; no other model is said to retire."""
    messages = pytest.importorskip("anthropic.resources.messages.messages")
    known = {name: spelt_out(day) for name, day in messages.DEPRECATED_MODELS.items()}
    found = {name: BOOK.find("anthropic", name) for name in known}
    assert {name: one.retires for name, one in found.items() if one is not None} == {
        name: known[name] for name, one in found.items() if one is not None
    }
    elsewhere = {one.name for one in CARDS if one.provider == "anthropic" and one.retires}
    stated = {one.name for one in found.values() if one is not None}
    assert elsewhere - stated == {"claude-opus-4-1"}  # the SDK has forgotten it


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("claude-opus-4-5-20251101", "claude-opus-4-5"),
        ("claude-opus-4-20250514", "claude-opus-4-0"),
        ("claude-opus-4-1-20250805", "claude-opus-4-1"),
        ("claude-sonnet-4-0", "claude-sonnet-4-0"),
        ("claude-opus-5-5", "claude-opus-5-5"),
        ("claude-opus-5", "claude-opus-5"),
        ("claude-opus-5-2", None),
        ("claude-opus", None),
        ("anthropic.claude-opus-5", None),
    ],
)
def test_claude_is_found_by_name_and_snapshot(model: str, name: str | None) -> None:
    """A date leads to its model, and one version never to another."""
    found = BOOK.find("anthropic", model)
    assert (found.name if found is not None else None) == name


def test_older_claude_takes_one_sampling_parameter_and_none_while_it_thinks() -> None:
    """4.5 takes a temperature up to 1 or a top_p; with thinking only a high top_p."""
    model = card("anthropic", "claude-sonnet-4-5")
    both = {"temperature": 1.5, "top_p": 0.5}
    assert apply_rules(model, "chat", both)[0] == {"temperature": 1}
    assert apply_rules(model, "chat", {"top_p": 0.5})[0] == {"top_p": 0.5}
    thinking = {"reasoning_effort": "low"}
    assert apply_rules(model, "chat", {"temperature": 0.5, **thinking})[0] == thinking
    assert apply_rules(model, "chat", {"top_p": 0.5, **thinking})[0] == {"top_p": 0.95, **thinking}
    off = {"temperature": 0.5, "reasoning_effort": "none"}
    assert apply_rules(model, "chat", off) == (off, ())


@pytest.mark.parametrize(("provider", "before"), [("anthropic", ""), ("bedrock", "anthropic.")])
def test_newer_claude_takes_no_sampling_parameters(provider: str, before: str) -> None:
    """From 4.7 on they are left out, with or without thinking."""
    for name in ("claude-opus-4-7", "claude-sonnet-5-5", "claude-fable-5-2"):
        model = card(provider, before + name)
        sent, notes = apply_rules(model, "chat", {"temperature": 0.5, "top_p": 0.5})
        assert (sent, [note.parameter for note in notes]) == ({}, ["temperature", "top_p"])


@pytest.mark.parametrize("name", ["claude-fable-5", "claude-opus-5-5", "claude-mythos-5-2"])
def test_some_claude_cannot_be_told_not_to_think(name: str) -> None:
    """To refuse is honest: the thought would be paid for."""
    model = card("anthropic", name)
    assert "x-thinking-required" in model.capabilities
    with pytest.raises(UnsupportedError, match="does not take this value of 'reasoning_effort'"):
        apply_rules(model, "chat", {"reasoning_effort": "none"})


@pytest.mark.parametrize(
    ("name", "takes"),
    [("claude-opus-5", True), ("claude-haiku-5-5", True), ("claude-sonnet-5-5", False)],
)
def test_tools_can_be_forced_on_some_claude(name: str, takes: bool) -> None:
    """Where they cannot, the request is refused before the network, in every form."""
    for choice in ("required", "weather", {"type": "any"}):
        for provider, before in (("anthropic", ""), ("bedrock", "us.anthropic.")):
            model = card(provider, before + name)
            if takes:
                assert apply_rules(model, "chat", {"tool_choice": choice})[1] == ()
            else:
                with pytest.raises(UnsupportedError, match="'tool_choice'"):
                    apply_rules(model, "chat", {"tool_choice": choice})


def test_known_prices_of_claude() -> None:
    """Costs agree with what the price list says of these calls."""
    both = Usage(uncached_input=MILLION, text_output=MILLION)
    assert cost("anthropic", "claude-opus-5", both) == Money.of("30")
    assert cost("anthropic", "claude-opus-5", both, "batch") == Money.of("15")
    assert cost("anthropic", "claude-opus-5", both, "fast") == Money.of("60")
    assert cost("anthropic", "claude-opus-5", both, "standard_only") == Money.of("30")
    written = Usage(cache_write={"5m": MILLION, "1h": MILLION})
    assert cost("anthropic", "claude-opus-5", written) == Money.of("16.25")
    assert cost("anthropic", "claude-fable-5-1", Usage(cache_read=MILLION)) == Money.of("0.25")
    assert cost("anthropic", "claude-haiku-5-5", Usage(uncached_input=100_000)) == Money.of("0.01")
    assert cost("anthropic", "claude-haiku-5-5", Usage(uncached_input=100_002)) == Money.of(
        "0.050001"
    )
    searches = Usage(uncached_input=0, tool_units={"web_search": 3})
    assert cost("anthropic", "claude-haiku-4-5", searches) == Money.of("0.03")


def test_the_premium_of_long_prompts_ended() -> None:
    """Opus 4.6 had a price above 200,000 tokens until 13 March 2026."""
    long = Usage(uncached_input=200_001)
    model = card("anthropic", "claude-opus-4-6")
    before, after = model.price(dt.date(2026, 3, 12)), model.price(dt.date(2026, 3, 13))
    assert before is not None
    assert after is not None
    assert before.cost(long).nano == 2 * after.cost(long).nano


# Google


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gemini-2.5-flash", "gemini-2.5-flash"),
        ("gemini-2.5-flash-preview-09-2025", "gemini-2.5-flash"),
        ("gemini-2.5-flash-lite", "gemini-2.5-flash-lite"),
        ("gemini-2.0-flash-001", "gemini-2.0-flash"),
        ("gemini-flash-latest", "gemini-3.8-flash"),
        ("gemini-3.1-pro-preview-customtools", "gemini-3.1-pro-preview"),
        ("gemini-2.5-flash-image", None),
        ("gemini-3.8-flash-tts", None),
    ],
)
@pytest.mark.parametrize("provider", ["google", "vertex"])
def test_gemini_is_found_by_its_names(provider: str, model: str, name: str | None) -> None:
    """Numbered versions and aliases lead to their model; speech models are none of these."""
    found = BOOK.find(provider, model)
    assert (found.name if found is not None else None) == name


def test_gemini_thinks_by_budget_or_by_level() -> None:
    """2.5 has budgets, later ones levels; only Flash of 2.5 need not think."""
    budget = card("google", "gemini-2.5-flash")
    assert {"x-thinking-budget"} == {way for way in budget.capabilities if "thinking" in way}
    assert apply_rules(budget, "chat", {"reasoning_effort": "none"})[1] == ()
    for name in ("gemini-2.5-pro", "gemini-3.8-flash", "gemini-3-flash-preview"):
        with pytest.raises(UnsupportedError, match="reasoning_effort"):
            apply_rules(card("google", name), "chat", {"reasoning_effort": "none"})
    level = card("google", "gemini-3.8-flash")
    assert apply_rules(level, "chat", {"reasoning_effort": "max"})[0] == {
        "reasoning_effort": "high"
    }
    hydrogen = card("google", "gemini-4-hydrogen")
    assert apply_rules(hydrogen, "chat", {"reasoning_effort": "xhigh"})[1] == ()


def test_vertex_differs_where_it_says_so() -> None:
    """The same model has its own dates, abilities and bounds there, and else the same facts."""
    google, vertex = card("google", "gemini-2.5-pro"), card("vertex", "gemini-2.5-pro")
    assert (google.retires, vertex.retires) == (dt.date(2026, 12, 1), None)
    assert vertex.capabilities - google.capabilities == {"logprobs"}
    assert apply_rules(vertex, "chat", {"logprobs": 2, "seed": 1})[1] == ()
    assert (google.prices, google.context_window) == (vertex.prices, vertex.context_window)
    assert card("vertex", "gemini-2.0-flash").retires == dt.date(2026, 6, 1)
    bounds = [card(one, "gemini-embedding-001").embedding for one in ("google", "vertex")]
    assert [one.max_batch if one is not None else None for one in bounds] == [100, 250]


def test_known_prices_of_gemini() -> None:
    """Costs agree with what the price list says of these calls."""
    both = Usage(uncached_input=100_000, text_output=100_000)
    assert cost("google", "gemini-2.5-pro", both) == Money.of("1.125")
    assert cost("google", "gemini-2.5-pro", Usage(uncached_input=400_000)) == Money.of("1")
    assert cost("google", "gemini-2.5-pro", Usage(uncached_input=400_000), "batch") == Money.of(
        "0.50"
    )
    cached = Usage(cache_read=MILLION)
    assert cost("google", "gemini-2.5-flash", cached, "batch") == Money.of("0.03")
    assert cost("google", "gemini-2.5-flash", cached, "priority") == Money.of("0.054")
    assert cost("google", "gemini-2.5-flash", Usage(audio_input=MILLION)) == Money.of("1")
    assert cost("google", "gemini-3-pro-image", Usage(image_output=1120)) == Money.of("0.1344")
    assert cost("google", "gemini-embedding-2", Usage(uncached_input=MILLION)) == Money.of("0.20")


def test_introductory_prices_end() -> None:
    """From 2027 on Flash costs twice as much."""
    price = card("google", "gemini-3.8-flash").price(dt.date(2027, 1, 1))
    assert price is not None
    assert price.cost(Usage(uncached_input=MILLION)) == Money.of("1.50")


# Bedrock


@pytest.mark.parametrize("before", ["", "us.", "eu.", "apac.", "au.", "jp.", "global.", "us-gov."])
def test_a_profile_has_the_facts_of_its_model(before: str) -> None:
    """Every inference profile leads to the same facts; only the price may differ."""
    plain = card("bedrock", "anthropic.claude-haiku-5-5")
    found = card("bedrock", f"{before}anthropic.claude-haiku-5-5")
    assert (found.context_window, found.capabilities, found.rules, found.input) == (
        plain.context_window,
        plain.capabilities,
        plain.rules,
        plain.input,
    )


@pytest.mark.parametrize(
    ("before", "dollars"),
    [("global.", "5"), ("", "5.50"), ("us.", "5.50"), ("jp.", "5.50"), ("us-gov.", "6")],
)
def test_a_profile_has_its_own_price(before: str, dollars: str) -> None:
    """What stays in an area costs a tenth more than what may go anywhere."""
    usage = Usage(uncached_input=MILLION)
    assert cost("bedrock", f"{before}anthropic.claude-opus-5", usage) == Money.of(dollars)


@pytest.mark.parametrize("before", ["", "us.", "eu.", "apac.", "global."])
def test_older_models_cost_the_same_everywhere(before: str) -> None:
    """The difference began with Claude 4.5."""
    usage = Usage(uncached_input=MILLION)
    model = f"{before}anthropic.claude-sonnet-4-20250514-v1:0"
    assert cost("bedrock", model, usage) == Money.of("3")


@pytest.mark.parametrize(
    "model", ["claude-opus-5", "xx.anthropic.claude-opus-5", "us.anthropic.claude-opus-5-6", "us."]
)
def test_nothing_nearly_right_is_found(model: str) -> None:
    """A name that only resembles one is unknown, which is not an error."""
    assert BOOK.find("bedrock", model) is None


def test_claude_on_bedrock_is_the_claude_of_anthropic() -> None:
    """Ways to think, limits and global prices agree wherever both have the model."""
    seen = 0
    for one in CARDS:
        if one.provider != "bedrock" or not one.name.startswith("global.anthropic."):
            continue
        name = one.name.removeprefix("global.anthropic.")
        there = BOOK.find("anthropic", name.removesuffix("-v1:0").removesuffix("-v1"))
        assert there is not None, name
        seen += 1
        ways = [{way for way in each.capabilities if "thinking" in way} for each in (one, there)]
        assert ways[0] == ways[1], name
        assert one.context_window == there.context_window
        prices = [each.price(dt.date(2026, 11, 21)) for each in (one, there)]
        usage = Usage(uncached_input=10, cache_read=10, cache_write={"1h": 10}, text_output=10)
        assert len({price.cost(usage) for price in prices if price is not None}) == 1, name
    assert seen > 15


def test_embedding_models_say_what_they_take() -> None:
    """Lengths of vectors, where they may be chosen, and inputs a request."""
    titan = card("bedrock", "amazon.titan-embed-text-v2:0")
    assert titan.embedding is not None
    assert (titan.embedding.adjustable, titan.embedding.max_batch) == ((256, 1024), 1)
    assert apply_rules(titan, "embeddings", {"dimensions": 512})[1] == ()
    with pytest.raises(UnsupportedError, match="dimensions"):
        apply_rules(titan, "embeddings", {"dimensions": 700})
    for name in ("amazon.titan-embed-text-v1", "cohere.embed-english-v3"):
        fixed = card("bedrock", name)
        assert fixed.embedding is not None
        assert fixed.embedding.adjustable is None
        with pytest.raises(UnsupportedError, match="dimensions"):
            apply_rules(fixed, "embeddings", {"dimensions": 256})


# The pages


def test_the_pages_say_what_the_cards_say() -> None:
    """The tables of providers and models are those that the generator makes."""
    done = subprocess.run(
        [sys.executable, str(ROOT / ".ci" / "providers.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
