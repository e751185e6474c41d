"""Card files and sources that are wrong: what would bill wrongly or break calls is told first."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Protocol

import pytest

from lamella import Registry
from lamella._card_book import CardBook
from lamella._card_files import cards_from, read_card_file
from lamella._cards import CardPatch, ModelCard
from lamella._errors import ConfigurationError
from lamella._registry import using
from lamella._shared_cards import shared_cards


class Site(Protocol):
    """See conftest.py."""

    def plugin(self, name: str, source: str, **more: str) -> None: ...
    def registry(self, *allow: str) -> Registry: ...


ROW = '[models.a]\n[[models.a.prices]]\ninput = "1"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[models.a]\namend = true\nsnapshots = ["x"]\n', "models.a: snapshots has 'x'"),
        (f'currency = "usd"\n{ROW}', "currency = 'usd': expected an ISO 4217 code"),
        (
            f'{ROW}tiers = [{{ above = 9, input = "2" }}, {{ above = 9, input = "3" }}]\n',
            "models.a.prices[0]: Price.tiers has several tiers above 9 tokens",
        ),
        (
            f'{ROW}services = {{ auto = "1/2" }}\n',
            "models.a.prices[0]: Price.services has 'auto': that is the ordinary service",
        ),
        (
            "[models.a]\nembedding = { dimensions = 5, min_dimensions = 3, max_dimensions = 2 }\n",
            "models.a.embedding.min_dimensions = 3: expected at most max_dimensions, 2",
        ),
        (
            "models.a.rules = [{ parameter = 'n', action = 'clamp', minimum = 2, maximum = 1 }]\n",
            "models.a.rules[0]: `minimum` is above `maximum`",
        ),
        (
            "[models.a]\nrules = [{ parameter = 'n', action = 'clamp', minimum = nan }]\n",
            "models.a.rules[0].minimum = nan: expected a number",
        ),
    ],
)
def test_what_would_do_nothing_or_harm_is_a_mistake(text: str, says: str) -> None:
    """What could only be found out by a wrong bill, or a call that fails, is found in the file."""
    head = "provider = 'acme'\nas_of = 2026-11-21\nsource = 'a test'\n"
    with pytest.raises(ConfigurationError) as caught:
        cards_from(tomllib.loads(head + text))
    assert says in str(caught.value)


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 5000])
def test_what_python_itself_refuses_names_the_file(tmp_path: Path, value: str) -> None:
    """A number or a nesting beyond all bounds is a mistake of the file."""
    file = tmp_path / "cards.toml"
    file.write_text(f"x = {value}\n")
    with pytest.raises(ConfigurationError, match=r"cards\.toml: not a TOML file"):
        read_card_file(file)


def test_a_file_may_begin_with_a_mark(tmp_path: Path) -> None:
    """What an editor puts before the first letter does not count."""
    file = tmp_path / "cards.toml"
    text = "provider = 'acme'\nas_of = 2026-11-21\nsource = 'a test'\n[models.a]\n"
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert [one.name for one in read_card_file(file)] == ["a"]


def _nothing() -> Any:
    return 5


def _other() -> Any:
    return [5]


def _failing() -> Any:
    raise RuntimeError("no disk")


@pytest.mark.parametrize("source", [5, None, [1], _nothing, _other, _failing])
def test_sources_of_any_shape_are_told(source: Any) -> None:
    """A source that gives no cards is an error for the user, and a problem of the plugin."""
    with pytest.raises(ConfigurationError, match=r"model cards|expected a ModelCard"):
        CardBook(files=[source]).find("openai", "gpt-4o-mini")
    book = CardBook(plugins=[source])
    assert book.find("openai", "gpt-4o-mini") is not None
    assert len(book.problems) == 1
    if not callable(source):
        with pytest.raises(ConfigurationError, match="expected a ModelCard"):
            book.register(source)


def test_an_amendment_of_an_alias_amends_its_model() -> None:
    """Another name of a model leads to the card that changes, which keeps what it said."""
    low = ModelCard("a", "acme", aliases=("latest",), context_window=9)
    book = CardBook(builtin=False)
    book.register(low, CardPatch("acme", "latest", {"max_output_tokens": 3}))
    for name in ("a", "latest"):
        found = book.find("acme", name)
        assert found is not None
        assert (found.name, found.context_window, found.max_output_tokens) == ("a", 9, 3)


def test_the_file_in_the_documentation_is_one() -> None:
    """What the page on models shows can be copied; what comes later there is added to the file."""
    page = Path(__file__).parents[2].joinpath("docs", "models.md").read_text("utf-8")
    text, *more = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert more
    book = CardBook(files=[tomllib.loads(text)])
    whole = CardBook(files=[tomllib.loads("\n".join([text, *more]))])
    added = whole.find("openai", "my-finetune")
    assert added is not None
    assert [rule.parameter for rule in added.rules] == ["top_p"]
    assert whole.find("openai", "us.acme.one") is not None
    mine, theirs = book.find("openai", "my-finetune"), book.find("openai", "gpt-4o-mini")
    assert mine is not None
    assert theirs is not None
    known = CardBook().find("openai", "gpt-4o-mini")
    assert known is not None
    assert (mine.context_window, theirs.prices[0].rates.uncached_input) == (32768, 120_000_000)
    assert theirs.context_window == known.context_window


def test_a_plugins_broken_cards_do_not_stop_calls(site: Site) -> None:
    """Cards that cannot be had are left out; models of others still have theirs."""
    source = """
    def lamella_model_cards():
        return {"a": "no_such_module:CARDS", "b": lambda: 1 / 0, "c": 5, "d": lambda: [5]}
    """
    site.plugin("lamella-cards", source)
    with using(site.registry()):
        book = shared_cards.__wrapped__()
    assert book.find("openai", "gpt-4o-mini") is not None
    assert len(book.problems) == 3
