"""Model cards: looked up by name and nothing nearly like it, read with all mistakes at once."""

from __future__ import annotations

import datetime as dt
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella._card_book import CardBook
from lamella._card_files import builtin_providers, cards_from
from lamella._cards import CardPatch, ModelCard
from lamella._errors import ConfigurationError, UnsupportedError
from lamella._money import Money
from lamella._parameter_rules import ParameterRule, RuleNote, apply_rules
from lamella._prices import Price
from lamella._usage import Usage

BOOK = CardBook()

HEAD = """
provider = "acme"
as_of = 2026-11-21
source = "Acme's price list"
"""


def card(provider: str, model: str) -> ModelCard:
    """A built-in card that must be there."""
    found = BOOK.find(provider, model)
    assert found is not None
    return found


def read(text: str) -> dict[str, Any]:
    """The tables of a card file with the usual head."""
    return tomllib.loads(HEAD + text)


# Looking up


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-4o", "gpt-4o"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
        ("gpt-4o-mini", "gpt-4o-mini"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("gpt-4-0613", "gpt-4"),
        ("gpt-5.6", "gpt-5.6-sol"),
        ("ft:gpt-4o-mini-2024-07-18:acme::x1", "ft:gpt-4o-mini"),
        ("ft:gpt-4o-2024-08-06:acme::x1", "ft:gpt-4o"),
    ],
)
def test_a_model_is_found_by_name_snapshot_and_prefix(model: str, name: str) -> None:
    """A dated version finds its model, a tuned one the card of tuned ones."""
    assert card("openai", model).name == name


@pytest.mark.parametrize(
    "model",
    [
        "gpt-4o-miniature",
        "gpt-4o-",
        "gpt-4o-2024",
        "gpt-4o-2024-08-06-x",
        "gpt-4o-mini-audio",
        "xgpt-4o",
        "GPT-4O",
        "ft:gpt-3.5-turbo:acme::x1",
        "2024-08-06",
        "-2024-08-06",
        "",
    ],
)
def test_nothing_nearly_right_is_found(model: str) -> None:
    """A name that only resembles a model is unknown, which is not an error."""
    assert BOOK.find("openai", model) is None


def test_models_belong_to_a_provider() -> None:
    """The same name is another model elsewhere, and unknown where nobody describes it."""
    assert BOOK.find("groq", "gpt-4o") is None
    assert BOOK.find("nobody", "gpt-4o") is None


@given(st.text(alphabet="gpt-4o123.mini:", max_size=24))
def test_what_is_found_is_named_by_the_card(model: str) -> None:
    """A card found for a name states that name, or its snapshot, or its prefix."""
    found = BOOK.find("openai", model)
    if found is not None:
        names = (found.name, *found.aliases)
        assert (
            model.startswith(tuple(f"{name}-" for name in names) + found.prefixes) or model in names
        )


def test_layers_rank_code_over_files_over_plugins_over_the_package() -> None:
    """The highest layer that knows a name wins; the others still know theirs."""

    def described(where: str, *names: str) -> list[ModelCard]:
        return [ModelCard(name, "openai", source=where) for name in names]

    book = CardBook(
        files=[lambda: described("file", "gpt-4o", "b", "c")],
        plugins=[lambda: described("plugin", "gpt-4o", "b", "d", "e")],
    )
    book.register(*described("code", "c"))
    sources = {name: getattr(book.find("openai", name), "source", None) for name in "bcde"}
    assert sources == {"b": "file", "c": "code", "d": "plugin", "e": "plugin"}
    assert getattr(book.find("openai", "gpt-4o-2024-08-06"), "source", None) == "file"
    assert book.find("openai", "gpt-4o-mini") == card("openai", "gpt-4o-mini")


def test_a_card_registered_later_is_seen() -> None:
    """What was unknown becomes known when a program registers it."""
    book = CardBook(builtin=False)
    assert book.find("acme", "one") is None
    book.register(ModelCard("one", "acme", aliases=("uno",)))
    assert book.find("acme", "uno-2026-01-01") == ModelCard("one", "acme", aliases=("uno",))
    assert [one.name for one in book.cards()] == ["one"]


def test_an_alias_of_a_higher_layer_hides_a_model_below() -> None:
    """A name means what the highest layer says, be it an alias there."""
    book = CardBook()
    book.register(ModelCard("mine", "openai", aliases=("gpt-4o",)))
    assert getattr(book.find("openai", "gpt-4o"), "name", None) == "mine"


def test_aliases_lead_to_what_replaces_their_model() -> None:
    """A model replaced by the user is replaced under its other names too."""
    book = CardBook()
    book.register(ModelCard("gpt-5.6-sol", "openai", source="mine"))
    assert getattr(book.find("openai", "gpt-5.6"), "source", None) == "mine"


def test_a_broken_plugin_breaks_only_its_own_cards() -> None:
    """A plugin's mistakes are kept for whoever asks; the user's own are raised."""
    broken: dict[str, object] = {"provider": "acme"}
    book = CardBook(plugins=[broken])
    assert book.find("openai", "gpt-4o") is not None
    assert ["as_of is missing" in str(problem) for problem in book.problems] == [True]
    with pytest.raises(ConfigurationError, match="as_of is missing"):
        CardBook(files=[broken]).find("openai", "gpt-4o")


def test_asking_is_lazy() -> None:
    """Importing the modules and making a book reads no file."""
    code = (
        "import sys; before = set(sys.modules);"
        "from lamella._card_book import CardBook; CardBook();"
        "new = set(sys.modules) - before;"
        "print(sorted({'tomllib', 'openai', 'cattrs', 'lamella._card_files'} & new))"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "[]"


def test_each_names_memory_is_bounded() -> None:
    """Names that nobody knows do not pile up."""
    book = CardBook(builtin=False)
    for index in range(300):
        assert book.find(f"provider-{index}", "x") is None
    assert len(book._opened) <= 256


# The package's cards


def test_every_file_is_named_after_its_provider() -> None:
    """A provider's cards are where they are looked for."""
    assert set(builtin_providers()) == {one.provider for one in BOOK.cards()}
    assert {"openai", "mock"} <= set(builtin_providers())


@pytest.mark.parametrize("one", BOOK.cards(), ids=lambda one: f"{one.provider}/{one.name}")
def test_every_card_says_what_is_needed(one: ModelCard) -> None:
    """Each card has operations, a price for text in and out, a source and its day.

    Moderation is free.
    """
    assert one.operations
    assert one.source.startswith(f"as of {one.as_of}, ")
    assert "://" not in one.source
    usage = Usage(uncached_input=1000, cache_read=0)
    if "text" in one.output:
        usage += Usage(text_output=1000)
    if "reasoning" in one.capabilities:
        usage += Usage(reasoning_output=1000)
    for price in one.prices:
        assert (price.cost(usage).nano > 0) == ("moderation" not in one.operations)
        assert price.unpriced(Usage(uncached_input=10**6, text_output=0)) == ()
        for service in price.services:
            assert price.cost(usage, service=service).nano > 0
    assert one.prices
    assert (one.embedding is not None) == ("embeddings" in one.operations)
    if one.context_window is not None and one.max_output_tokens is not None:
        assert one.max_output_tokens <= one.context_window


def test_known_prices() -> None:
    """Costs agree with what the price lists say of these calls."""
    day = dt.date(2026, 11, 18)
    million = 10**6

    def cost(provider: str, model: str, usage: Usage, service: str | None = None) -> Money:
        price = card(provider, model).price(day)
        assert price is not None
        return price.cost(usage, service=service)

    both = Usage(uncached_input=million, text_output=million)
    assert cost("openai", "gpt-4o-mini", both) == Money.of("0.75")
    assert cost("openai", "gpt-4o", both, "batch") == Money.of("6.25")
    assert cost("openai", "gpt-4o", Usage(cache_read=million), "priority") == Money.of("2.125")
    assert cost("openai", "text-embedding-3-small", Usage(uncached_input=million)) == Money.of(
        "0.02"
    )
    assert cost("openai", "gpt-5.4", Usage(uncached_input=272_000)) == Money.of("0.68")
    assert cost("openai", "gpt-5.4", Usage(uncached_input=272_001)) == Money.of("1.360005")
    assert cost("deepseek", "deepseek-v4-pro", both, "off_peak") == Money.of("2.64")


def test_prices_have_a_history() -> None:
    """A call of last summer costs what it cost then."""
    price = card("openai", "gpt-5.6-sol").price(dt.date(2026, 8, 20))
    assert price is not None
    assert price.cost(Usage(uncached_input=10**6 // 4)) == Money.of("1.25")


# Abilities


def test_what_is_missing_is_said() -> None:
    """A gate names what the model lacks, sorted, and nothing it has."""
    embedding = card("openai", "text-embedding-3-large")
    assert embedding.missing(frozenset({"embeddings", "dimensions"})) == []
    assert embedding.missing(frozenset({"chat", "vision", "dimensions"})) == ["chat", "vision"]
    assert card("openai", "gpt-4o").missing(frozenset({"vision", "input:image", "tools"})) == []


def test_a_refusal_names_what_the_model_can_do() -> None:
    """The error comes before the network, with the abilities in its hint."""
    with pytest.raises(UnsupportedError, match="cannot do embeddings") as caught:
        card("openai", "gpt-4o").require(frozenset({"embeddings"}))
    assert "chat" in str(caught.value.hint)
    assert caught.value.outcome == "not_sent"


# Parameters


def test_a_reasoning_model_renames_and_drops() -> None:
    """Each change is noted; what no rule is about passes as it is, and the input stays."""
    params = {"max_output_tokens": 100, "temperature": 0.2, "user": "u"}
    sent, notes = apply_rules(card("openai", "gpt-5-mini"), "chat", params)
    assert sent == {"max_completion_tokens": 100, "user": "u"}
    assert notes == (
        RuleNote("max_output_tokens", "rename", "max_completion_tokens"),
        RuleNote("temperature", "drop", "the model samples at 1 only"),
    )
    assert params == {"max_output_tokens": 100, "temperature": 0.2, "user": "u"}


def test_rules_are_per_api() -> None:
    """The Responses API has `max_output_tokens` itself."""
    params = {"max_output_tokens": 100}
    sent, notes = apply_rules(card("openai", "gpt-5-mini"), "responses", params)
    assert sent is params
    assert notes == ()


@pytest.mark.parametrize(("effort", "kept"), [(None, True), ("none", True), ("low", False)])
def test_conditions_see_other_parameters_and_defaults(effort: str | None, kept: bool) -> None:
    """gpt-5.2 takes a temperature while it does not reason, which is its default."""
    params = {"temperature": 0.2, "reasoning_effort": effort}
    sent, _ = apply_rules(card("openai", "gpt-5.2"), "chat", params)
    assert ("temperature" in sent) is kept


def test_a_refused_parameter_raises_with_what_to_do() -> None:
    """gpt-6-sol calls functions on the Responses API, or on chat without reasoning."""
    tools = [{"type": "function"}]
    model = card("openai", "gpt-6-sol")
    with pytest.raises(
        UnsupportedError, match="on the chat API unless reasoning_effort is none"
    ) as caught:
        apply_rules(model, "chat", {"tools": tools})
    assert "api='responses'" in str(caught.value.hint)
    passing: list[tuple[str, dict[str, Any]]] = [
        ("responses", {"tools": tools}),
        ("chat", {"tools": tools, "reasoning_effort": "none"}),
        ("chat", {"tools": ()}),
    ]
    for api, params in passing:
        assert apply_rules(model, api, params) == (params, ())


def test_a_refused_value_raises_with_those_that_are_taken() -> None:
    """The hint names the values; the message never repeats the one given."""
    with pytest.raises(UnsupportedError, match="It takes 'minimal', 'low'") as caught:
        apply_rules(card("openai", "gpt-5"), "chat", {"reasoning_effort": "secret"})
    assert "secret" not in str(caught.value)


def test_a_models_own_rules_replace_its_bases_for_the_same_parameter() -> None:
    """gpt-5.3-codex knows an effort that the models of its base do not."""
    model = card("openai", "gpt-5.3-codex")
    assert apply_rules(model, "responses", {"reasoning_effort": "xhigh"})[1] == ()


def test_numbers_are_clamped_and_values_replaced() -> None:
    """Bounds and replacements are noted only where they change something."""
    rules = (
        ParameterRule("temperature", "clamp", minimum=0.1, maximum=1.0),
        ParameterRule("reasoning_effort", "replace", replacements={"medium": "high"}),
    )
    model = ModelCard("one", "acme", rules=rules)
    assert apply_rules(model, "chat", {"temperature": 2})[0] == {"temperature": 1.0}
    assert apply_rules(model, "chat", {"temperature": 0})[0] == {"temperature": 0.1}
    assert apply_rules(model, "chat", {"temperature": 0.5}) == ({"temperature": 0.5}, ())
    sent, notes = apply_rules(model, "chat", {"reasoning_effort": "medium"})
    assert sent == {"reasoning_effort": "high"}
    assert notes == (RuleNote("reasoning_effort", "replace", "sent as 'high'"),)


@pytest.mark.parametrize("one", BOOK.cards(), ids=lambda one: f"{one.provider}/{one.name}")
def test_a_bare_request_needs_no_rule(one: ModelCard) -> None:
    """A request that states nothing special is sent as it is, whatever the model."""
    params: dict[str, Any] = {"messages": (), "temperature": None, "tools": None, "n": 1}
    for api in one.operations:
        assert apply_rules(one, api, params) == (params, ())


# Files

ONE_OF_EACH = """
[bases.b]
capabilities = ["tools", "reasonning"]
contxt_window = 1
[bases.unused]
[models.a]
base = "b"
context_window = "128k"
retires = 2026-11-21T00:00:00
max_output_tokens = 0
snapshots = ["latest"]
[[models.a.prices]]
input = 2.5
output = "ten"
reasoning_output = "output"
cache_read = "inptu"
tiers = [
  { above = 10, input = "1", cache_read = "1" },
  { input = "1", cache_read = "1", output = "1" },
]
services = { batch = 0.5, flex = { input = "1", cache_read = "1" } }
[[models.a.rules]]
parameter = "stop"
action = "refuze"
[[models.a.rules]]
parameter = "stop"
action = "rename"
[models.c]
base = "d"
aliases = ["a"]
operations = "chat"
[[models.c.prices]]
"""


def test_all_mistakes_of_a_file_are_named_at_once(tmp_path: Path) -> None:
    """Each mistake stands with the file, the key path, the value and what was expected."""
    path = tmp_path / "cards.toml"
    path.write_text(HEAD + ONE_OF_EACH, "utf-8")
    with pytest.raises(ConfigurationError) as caught:
        CardBook(files=[path]).find("acme", "a")
    text = caught.value.message
    assert text.startswith(f"{path}: 20 mistakes.\n")
    for expected in [
        "bases.b.capabilities: 'reasonning' is not known. Did you mean 'reasoning'",
        "bases.b.contxt_window is not a known key. Did you mean 'context_window'?",
        "bases.unused: nothing has base = 'unused'.",
        "models.a.context_window = '128k': expected a whole number, 1 or more.",
        "models.a.retires = datetime.datetime(2026, 11, 21, 0, 0): expected a date",
        "models.a.max_output_tokens = 0: expected a whole number, 1 or more.",
        "models.a: snapshots has 'latest': expected a separator and digits",
        "models.a.prices[0].input = 2.5: expected a decimal in quotes such as '2.50'",
        "models.a.prices[0].output = 'ten': expected a decimal in quotes",
        "models.a.prices[0].cache_read = 'inptu': expected a decimal in quotes",
        "models.a.prices[0].tiers[0] leaves out 'output': expected it as in the row.",
        "models.a.prices[0].tiers[1].above is missing: expected tokens of the request.",
        "models.a.prices[0].services.batch = 0.5: expected a factor in quotes",
        "models.a.prices[0].services.flex leaves out 'output': expected it as in the row.",
        "models.a.rules[0].action = 'refuze': expected one of rename, drop, refuse",
        "models.a.rules[1]: `rename` needs `to`, the name to send.",
        "models.c.base = 'd': expected the name of a table under [bases]",
        "models.c.operations = 'chat': expected a list of strings.",
        "models.c.prices[0] states no price",
        "models.c: 'a' already means 'a'.",
    ]:
        assert f"\n  {expected}" in text, text


@pytest.mark.parametrize(
    ("content", "says"), [(b"a = ", "not a TOML file"), (b"\xff", "not a TOML file")]
)
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    """A file that cannot be parsed is a configuration error with its path."""
    path = tmp_path / "cards.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=says):
        CardBook(files=[path]).cards()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        CardBook(files=[tmp_path / "absent.toml"]).cards()


VALID = """
[bases.b]
input = ["text", "image"]
billed_as = { reasoning_output = "output" }
[[bases.b.rules]]
parameter = "temperature"
action = "clamp"
apis = ["chat"]
maximum = 1.5
unless = { reasoning_effort = ["none"] }
[models.a]
base = "b"
aliases = ["a2"]
prefixes = ["a:"]
snapshots = ["-####"]
context_window = 5
retires = 2027-01-01
defaults = { reasoning_effort = "low" }
embedding = { dimensions = 5, max_dimensions = 9 }
[[models.a.rules]]
parameter = "reasoning_effort"
action = "replace"
replacements = { low = "high" }
[[models.a.prices]]
from = 2026-01-01
input = "1"
cache_read = "input"
cache_write = { default = "1", "1h" = "2" }
output = "2"
tools = { web_search = "0.01" }
tiers = [{ above = 5, input = "2", cache_write = "4", output = "4" }]
services = { flex = "1/2", batch = { input = "1", cache_write = "1", output = "1" } }
"""


def places(value: object) -> Iterator[tuple[Any, Any]]:
    """Every container and key in nested tables."""
    pairs = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value if isinstance(value, list) else ())
    )
    for key, inner in pairs:
        yield value, key
        yield from places(inner)


ANYTHING: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(
        [None, True, -1, 0.5, "", "input", "x", [], [1], [[]], {}, {"a": {}}, {"input": []}]
    ),
    st.dates(),
    st.text(max_size=3),
)


@given(st.data())
def test_no_value_anywhere_is_more_than_a_mistake(data: st.DataObject) -> None:
    """Whatever stands in a file, it is read, or refused as a configuration error with its place."""
    tables = read(VALID)
    assert len(cards_from(tables)) == 1
    found = list(places(tables))
    container, key = found[data.draw(st.integers(0, len(found) - 1))]
    container[key] = data.draw(ANYTHING)
    refused = ""
    try:
        cards_from(tables, place="cards.toml")
    except ConfigurationError as error:
        refused = error.message
    assert not refused or re.match(r"cards.toml: \d+ mistakes?\.\n  \S", refused)


def test_an_amendment_changes_only_what_it_states() -> None:
    """A price of one's own leaves the rest of a card as it is."""
    tables = tomllib.loads(
        HEAD.replace("acme", "openai")
        + '[models.gpt-4o]\namend = true\n[[models.gpt-4o.prices]]\ninput = "2"\noutput = "8"\n'
    )
    book = CardBook(files=[tables])
    mine, theirs = book.find("openai", "gpt-4o-2024-08-06"), card("openai", "gpt-4o")
    assert mine is not None
    assert mine.price() == Price.of(input="2", output="8")
    assert (mine.context_window, mine.rules) == (theirs.context_window, theirs.rules)
    assert mine.source == "as of 2026-11-21, Acme's price list"


def test_an_amendment_of_nothing_is_a_card() -> None:
    """Where no layer below knows the model, what is stated is all that is known."""
    book = CardBook(builtin=False)
    book.register(CardPatch("acme", "one", {"context_window": 5}))
    assert getattr(book.find("acme", "one"), "context_window", None) == 5


def test_a_file_says_what_code_can_say() -> None:
    """A card from a file equals the one made in code with the same names."""
    (found,) = cards_from(
        read(
            """
            [models.one]
            aliases = ["uno"]
            capabilities = ["tools", "x-flies"]
            [[models.one.prices]]
            input = "2.50"
            output = "10"
            services = { batch = "1/2" }
            """
        )
    )
    assert found == ModelCard(
        "one",
        "acme",
        aliases=("uno",),
        capabilities=frozenset({"tools", "x-flies"}),
        prices=(Price.of(input="2.50", output="10", services={"batch": "1/2"}),),
        source="as of 2026-11-21, Acme's price list",
        as_of=dt.date(2026, 11, 21),
    )


@pytest.mark.parametrize("wrong", ["latest", "-", "", "####", "a-####"])
def test_snapshots_begin_with_a_separator(wrong: str) -> None:
    """A pattern without a separator, or without digits, could match another model."""
    with pytest.raises(ValueError, match="snapshots"):
        ModelCard("one", "acme", snapshots=(wrong,))


@pytest.mark.parametrize("wrong", ["gpt-4o-", "gpt", ""])
def test_prefixes_end_in_a_separator_that_no_name_has(wrong: str) -> None:
    """`gpt-4o-` would match gpt-4o-mini."""
    with pytest.raises(ValueError, match="prefixes"):
        ModelCard("one", "acme", prefixes=(wrong,))
